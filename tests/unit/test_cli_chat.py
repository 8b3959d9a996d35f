"""The terminal chat, in a real pseudo-terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

import cacher
from cacher.chat import Conversation
from tests.models.niels import write_checkpoint
from tests.unit.test_cli import run

COMMAND = [sys.executable, "-m", "cacher.chat"]
PATIENCE_S = 60
AGAIN_S = 4
STOPPED = re.compile(r"\[\d+ tokens read, \d+ written.*: stopped\]")
FACTS = re.compile(r"\[\d+ tokens read, (\d+) written.*\]\n")


class Session:
    """A chat at the other end of a pseudo-terminal."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._end, theirs = pty.openpty()
        self._child = subprocess.Popen(
            [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=lambda: os.login_tty(theirs),
            env={**os.environ, "TERM": "dumb", "NO_COLOR": "1", **environment},
        )  # fmt: skip
        os.close(theirs)
        self._unread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._end)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._end, text.encode())

    def until(self, pattern: str, pressing: str = "") -> str:
        """Return what is shown up to a pattern, and that with it; press a key until it comes."""
        deadline = time.monotonic() + PATIENCE_S
        again = time.monotonic()
        while (found := re.search(pattern, self._unread)) is None:
            now = time.monotonic()
            assert now < deadline, f"{pattern!r} did not come: {self._unread[-2000:]!r}"
            if now >= again:
                self.type(pressing)
                again = now + AGAIN_S
            if select.select([self._end], [], [], max(0.0, again - now))[0]:
                self._unread += os.read(self._end, 65536).decode().replace("\r", "")
        shown, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return shown

    def say(self, line: str) -> str:
        """Type a line; return what is shown up to the next prompt, without the echo."""
        self.type(line + "\n")
        self.until(re.escape(line) + "\n")
        return self.until(r"(?m)^> ").removesuffix("> ")

    def ended(self) -> int:
        return self._child.wait(PATIENCE_S)


def answer(shown: str) -> str:
    """What the model said, of what was shown."""
    found = FACTS.search(shown)
    assert found, shown
    assert shown.endswith(found[0])
    return shown[: found.start()].strip()


@pytest.fixture
def session() -> Iterator[Session]:
    with Session("--max-tokens", "12", "--seed", "5") as started:
        assert "tales; /help" in started.until(r"(?m)^> ")
        yield started


def test_a_conversation_with_all_commands(session: Session, model: cacher.Model) -> None:
    here = Conversation(model, max_tokens=12, seed=5)
    assert answer(session.say("Who is there?")) == here.ask("Who is there?").read().strip()
    assert answer(session.say("/retry")) == here.retry().read().strip()
    assert answer(session.say("/edit Who was it?")) == here.edit("Who was it?").read().strip()
    fork = here.fork("other")
    assert session.say("/fork other") == "now in other\n"
    assert answer(session.say("Why?")) == fork.ask("Why?").read().strip()
    assert session.say("/go main") == "now in main\n"
    assert answer(session.say("//go on")) == here.ask("/go on").read().strip()
    drawn = session.say("/go")
    assert re.fullmatch(r"main \(\d+ tokens\) \*\n└── other \(\d+ tokens\)\n", drawn)
    shown = session.say("/attn 2 5").splitlines()
    weights = sorted(here.attention(2, 5), reverse=True)[:12]
    assert [float(line.split("%")[0]) for line in shown] == pytest.approx(
        [100 * weight for weight in weights], abs=0.051
    )
    for name in ("/help", "/retry", "/edit TEXT", "/fork", "/go", "/attn", "/quit"):
        assert name in session.say("/help")
    session.type("/quit\n")
    assert session.ended() == 0


def test_mistakes_are_said_and_change_nothing(session: Session, model: cacher.Model) -> None:
    for line, words in {
        "/retry": "no message yet",
        "/attn": "no tokens",
        "/dance": "no command /dance: /help",
        "/edit": "/edit needs",
        "/go nowhere": "no branch nowhere, there: main",
        "/fork main": "branch main already",
        "/fork a b": "'a b'",
        "/attn 1 2 3": "two numbers, got '1 2 3'",
        "/attn x": "got 'x'",
        "": "",
    }.items():
        assert words in session.say(line)
    here = Conversation(model, max_tokens=12, seed=5)
    assert answer(session.say("Who is there?")) == here.ask("Who is there?").read().strip()
    assert "layer is 6, allowed: 0 to 5" in session.say("/attn 6")
    assert "head is 8, allowed: 0 to 7" in session.say("/attn 0 8")


def test_ctrl_c_ends_an_answer_and_ctrl_d_the_chat() -> None:
    # The likeliest tokens go round in a circle: this answer ends with Ctrl-C only.
    with Session("--max-tokens", "1000000", "--temperature", "0") as session:
        session.until(r"(?m)^> ")
        session.type("Tell me everything.\n")
        session.until(r"(?s)Tell me everything\.\n.{40}")
        assert STOPPED.search(session.until(r"(?m)^> ", pressing="\x03"))
        session.type("half a line")
        session.until("half a line")
        # A signal that comes just before Python waits for a key is seen with the next key only.
        assert "stopped" not in session.until(r"\n> $", pressing="\x03")
        assert session.say("/attn").count("%") == 12
        session.type("\x04")
        assert session.ended() == 0


def test_attention_is_coloured_where_colours_are_wanted() -> None:
    with Session("--max-tokens", "8", NO_COLOR="") as session:
        session.until(r"(?m)^> ")
        session.say("Who is there?")
        shown = session.say("/attn")
        assert "\x1b[97;48;5;21m" in shown
        assert "Who is there?" in re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_a_pipe_gets_answers_and_no_prompts(model: cacher.Model) -> None:
    done = subprocess.run(
        [*COMMAND, "--max-tokens", "8"], capture_output=True, timeout=PATIENCE_S,
        input=b"Who is there?\n\xff\n/quit\nnever said\n",
    )  # fmt: skip
    assert done.returncode == 0
    here = Conversation(model, max_tokens=8).ask("Who is there?").read().strip()
    assert answer(done.stdout.decode()) == here
    assert "U+DCFF" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_what_a_model_writes_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    bytes_only = write_checkpoint(tmp_path / "best.pt", 1)  # it writes any bytes, and slides
    done = run("chat", "--model", str(bytes_only), "--temperature", "5", typed="hi\n")
    assert done.returncode == 0, done.stderr
    shown = answer(done.stdout)
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown) == []
    assert re.search("[\u2400-\u241f]", shown), "their pictures are shown"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "nan"], "temperature is nan"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--model", "minilm"], "an encoder"),
        (["--model", "no such"], "'no such' is neither"),
    ],
)
def test_a_wrong_option_ends_it_with_one_line(arguments: list[str], words: str) -> None:
    done = run("chat", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
