"""``cacher story``: the tour behind ``make demo``.

A story is told by the built-in model, forked into two endings, searched by beams, coloured by
probability, saved, and resumed by a new process whose bits must equal ours.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cacher.cli.styles import BOLD, DIM, coloured, styled
from cacher.hub import load
from cacher.params import SamplingOptions

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.state import State

OPENING = "Once upon a time there was a little fox who"
WIDTH = 96
SURPRISES = 8


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    parser = commands.add_parser("story", help="a tour: tell, fork, search, colour, save, resume")
    parser.add_argument("--opening", default=OPENING, help="how the story begins")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--resume", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the tour; 0 on success, 1 when the resumed bits differ."""
    if arguments.resume is not None:
        print(_continuation(load("tales").restore(arguments.resume)))
        return 0
    started = time.perf_counter()
    model = load("tales")
    _heading(f"the model: {model.info.architecture}, {model.info.n_parameters / 1e6:.1f} M weights")
    print(
        f"loaded in {1e3 * (time.perf_counter() - started):.0f} ms, "
        f"{model.info.isa} kernels, {model.info.n_threads} threads"
    )
    story = _tell(model, arguments.opening, arguments.seed)
    _two_endings(story)
    _search(story)
    _think(story)
    return _save_and_resume(story)


def _heading(text: str) -> None:
    print("\n" + styled(text, BOLD))


def _sampling(seed: int) -> SamplingOptions:
    return {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.15, "seed": seed}


def _tell(model: Model, opening: str, seed: int) -> State:
    _heading("a story")
    state = model.state(opening)
    sys.stdout.write(opening)
    started, count = time.perf_counter(), 0
    for token in state.stream(160, **_sampling(seed)):
        sys.stdout.write(token.text)
        sys.stdout.flush()
        count += 1
    seconds = time.perf_counter() - started
    print("\n" + styled(f"{count} tokens, {count / seconds:,.0f} tokens per second", DIM))
    return state


def _two_endings(story: State) -> None:
    _heading("one fork, two endings (the story's pages are shared, not copied)")
    for name, seed in (("one ending", 1), ("another", 2)):
        ending = story.fork().generate(48, **_sampling(seed))
        text = " ".join(ending.text.split())
        print(textwrap.fill(f"{name}: ...{text}", WIDTH, subsequent_indent="    "))


def _search(story: State) -> None:
    _heading("beam search: the likeliest next words, 4 beams")
    for beam in story.beam(num_beams=4, max_tokens=14, no_repeat_ngram_size=3):
        print(f"  {beam.score:7.3f}  {' '.join(beam.text.split())}")


def _think(story: State) -> None:
    if coloured():
        _heading(
            "what it was thinking: each token by its probability (red: a surprise, green: certain)"
        )
        print(story.ansi())
        return
    _heading(
        "what it was thinking: its greatest surprises (a terminal shows every token in colour)"
    )
    for token in sorted(story, key=lambda token: token.logprob)[:SURPRISES]:
        print(f"  {token.probability:8.4%}  {token.text!r} at {token.position}")


def _continuation(state: State) -> str:
    """Return a digest of the next logits, bit for bit, and of a sampled continuation."""
    bits = hashlib.sha256(state.logits().tobytes()).hexdigest()[:16]
    text = state.fork().generate(24, **_sampling(3)).text
    return f"{bits}  ...{' '.join(text.split())}"


def _save_and_resume(story: State) -> int:
    _heading("saved, and resumed by a new process")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "story.json"
        story.save(path)
        size = path.stat().st_size
        command = [sys.executable, "-m", "cacher", "story", "--resume", str(path)]
        there = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()
    here = _continuation(story)
    print(f"  {len(story)} tokens in {size:,} bytes of JSON\n  here:  {here}\n  there: {there}")
    print("  the bits agree" if here == there else "  THE BITS DIFFER")
    return 0 if here == there else 1
