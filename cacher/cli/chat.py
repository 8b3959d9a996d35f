"""``cacher chat``, also ``python -m cacher.chat``: talk with a model in a terminal.

Each branch is a `Conversation`; what is typed is said to the present one, unless it is a command.
Text of the model is shown without characters that would act on the terminal.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from cacher.branches import tree
from cacher.cli.formats import add_formats, formats
from cacher.cli.styles import DIM, coloured, styled
from cacher.errors import CacherError, ParameterError
from cacher.hub import load
from cacher.params import SamplingParams

if TYPE_CHECKING:
    from cacher.chat import Answer, Conversation

PROMPT = "> "
FIRST_BRANCH = "main"
SHOWN_TOKENS = 12  # of those that are attended to most
BAR = 40  # characters of a whole attention weight


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    usual = SamplingParams()
    parser = commands.add_parser(
        "chat", help="talk with a model", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--model", default="tales", help="built-in name, folder, checkpoint or hub id"
    )
    add_formats(parser)
    parser.add_argument("--system", help="what the model is told before the first message")
    parser.add_argument("--max-tokens", type=int, default=256, help="of an answer at most")
    parser.add_argument(
        "--temperature", type=float, default=usual.temperature, help="0 or more; 0 is greedy"
    )
    parser.add_argument("--top-p", type=float, default=usual.top_p, help="0 to 1; 1 is off")
    parser.add_argument("--top-k", type=int, default=usual.top_k, help="0 is off")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the first answer")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Talk until the input ends or ``/quit``; 0 then."""
    from cacher.chat import Conversation

    first = Conversation(
        load(arguments.model, **formats(arguments)),
        system=arguments.system,
        name=FIRST_BRANCH,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=arguments.seed,
    )
    terminal = Terminal(first)
    prompt = _prepared(f"{first.state.model.name}; /help lists the commands, Ctrl-D ends")
    while terminal.open:
        try:
            terminal.take(input(prompt))
        except EOFError:
            break
        except KeyboardInterrupt:  # what was begun is given up
            print()
        except CacherError as error:
            print(error, file=sys.stderr)
    return 0


def _prepared(greeting: str) -> str:
    """Prepare for input; return the prompt, which only somebody at a terminal sees."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(
            errors="surrogateescape"
        )  # what is no text is refused where it is read
    if not sys.stdin.isatty():
        return ""
    with suppress(ImportError):
        import readline  # noqa: F401 - from now on input() edits lines and remembers them
    print(greeting)
    return PROMPT


class Command(NamedTuple):
    """What a line that begins with a slash does."""

    run: Callable[[str], None]
    usage: str
    help: str


class Terminal:
    """Branches of a conversation, and what lines do to the present one.

    Args:
        first: The branch to begin with.

    Attributes:
        open: Whether there is more to take.
        present: The branch that is talked to.
    """

    def __init__(self, first: Conversation) -> None:
        self.open = True
        self.present = first
        self._branches = {first.state.id: first}
        self._commands = {
            "/help": Command(self._help, "", "this list"),
            "/retry": Command(self._retry, "", "answer again, with the next seed"),
            "/edit": Command(self._edit, "TEXT", "put TEXT in place of your last message"),
            "/fork": Command(self._fork, "[NAME]", "go on in a copy; what there is stays"),
            "/go": Command(self._go, "[NAME]", "go to another branch; without NAME, show all"),
            "/attn": Command(
                self._attn, "[LAYER [HEAD]]", "what the last token attends to; else: last, mean"
            ),
            "/quit": Command(self._quit, "", "end"),
        }

    def take(self, line: str) -> None:
        """Do what a line says.

        Raises:
            CacherError: It cannot be done; nothing was changed.
        """
        if line.startswith("/") and not line.startswith("//"):
            name, _, rest = line.partition(" ")
            if name not in self._commands:
                raise ParameterError(f"there is no command {name}: /help lists those there are")
            self._commands[name].run(rest.strip())
        elif line.strip():
            self._show(self.present.ask(line[1:] if line.startswith("//") else line))

    def _show(self, answer: Answer) -> None:
        """Print an answer as it is made; Ctrl-C ends it."""
        from cacher.display import PICTURES

        begun = False
        try:
            for piece in answer:
                shown = piece if begun else piece.lstrip()
                begun = begun or bool(shown)
                sys.stdout.write(shown.translate(PICTURES))
                sys.stdout.flush()
        except KeyboardInterrupt:
            answer.close()
        print("\n" + styled(_facts(answer), DIM))

    def _help(self, _rest: str) -> None:
        width = max(len(f"{name} {c.usage}") for name, c in self._commands.items())
        for name, command in self._commands.items():
            print(f"{f'{name} {command.usage}':{width}}  {command.help}")
        print(f"{'//TEXT':{width}}  say /TEXT; Ctrl-C stops an answer, Ctrl-D ends")

    def _retry(self, _rest: str) -> None:
        self._show(self.present.retry())

    def _edit(self, rest: str) -> None:
        if not rest:
            raise ParameterError("/edit needs the text that takes the place of your last message")
        self._show(self.present.edit(rest))

    def _fork(self, rest: str) -> None:
        name = rest or f"branch-{len(self._branches)}"
        if name in self._branches:
            raise ParameterError(f"there is a branch {name} already: /go {name} goes there")
        self.present = self._branches[name] = self.present.fork(name)
        print(f"now in {name}")

    def _go(self, rest: str) -> None:
        if rest and rest not in self._branches:
            raise ParameterError(f"there is no branch {rest}, there: {', '.join(self._branches)}")
        if rest:
            self.present = self._branches[rest]
            print(f"now in {rest}")
        else:
            states = [branch.state for branch in self._branches.values()]
            print(tree(self.present.state, states))

    def _attn(self, rest: str) -> None:
        from cacher.display import attention_ansi

        state, numbers = self.present.state, rest.split()
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            raise ParameterError(f"/attn takes a layer and a head, two numbers, got {rest!r}")
        weights = self.present.attention(*map(int, numbers))
        pieces = state._seen_pieces()
        if coloured():
            print(attention_ansi(pieces, weights))
        for at in sorted(range(len(weights)), key=lambda at: -weights[at])[:SHOWN_TOKENS]:
            bar = "\u2588" * round(BAR * weights[at])
            line = f"{weights[at]:7.1%} {state.dropped_tokens + at:6}  {pieces[at]!r:16} {bar}"
            print(line.rstrip())

    def _quit(self, _rest: str) -> None:
        self.open = False


def _facts(answer: Answer) -> str:
    """Say how an answer came about."""
    tokens = len(answer.result.token_ids)
    rate = f", {tokens / answer.seconds:,.0f} per second" if answer.seconds > 0 else ""
    end = {"length": ": as many as allowed", "closed": ": stopped"}.get(answer.end or "", "")
    return f"[{answer.read_tokens} tokens read, {tokens} written{rate}{end}]"
