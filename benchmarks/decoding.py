"""``make bench-decoding``: what guessing ahead, searching and tracing cost and bring.

Each cell is decoding with something beside decoding without it, in short turns; who begins changes
from turn to turn, and the ratio is the median of the turns' ratios.  What both draw must be equal.
Writes docs/benchmarks-decoding.md, and the numbers to docs/benchmarks-decoding.json; the last line
is ``worst ratio R (cell)``.  ``--only repeats`` measures the cells with that in their names and
keeps the others; ``--dry`` writes nothing; ``--turns 1`` is only good for a look.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import decoding_page
import models
from decoding_page import Turns
from serving import prompt
from tracing import measure_tracing

import cacher
from cacher.facts import Dtype
from cacher.state import State

THREADS = 2
CONFIG: dict[str, Any] = {"store_logits": "none"}
WIDTH = 8
PERIOD = 7  # tokens after which a text repeats itself
GUESSING = 0.97  # bars: with guesses beside without
SEARCHING = 0.77  # 1 / 1.3
TRACING = 0.91  # 1 / 1.1
SETS = 2  # of texts: turns use one after the other, each time with other seeds
# Tokens of a turn by states that draw together: a sixth of a second, or two passes.
TOKENS = {
    "tales": {1: 150, 2: 100, 4: 60, 8: 40, 32: 20},
    models.GPT2: {1: 24, 2: 16, 4: 10, 8: 4, 32: 2},
}

Run = Callable[[], tuple[int, Any]]  # tokens, and what must be equal


@functools.cache
def load(name: str, dtype: Dtype = "f32") -> cacher.Model:
    """Open a model once."""
    folder = name if name == "tales" else models.folder(name)
    return cacher.load(folder, dtype=dtype, threads=THREADS)


def take_turns(what: str, bar: float, n: int, pair: Callable[[int], tuple[Run, Run]]) -> Turns:
    """Measure a cell: `pair` gives the runs of a turn, with and without."""
    seconds: list[list[float]] = []
    tokens = 0
    for turn in range(n + 1):  # the first warms up
        runs, took, found = pair(turn), [0.0, 0.0], [None, None]
        for which in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            tokens, found[which] = runs[which]()
            took[which] = time.perf_counter() - started
        if found[0] != found[1]:
            raise RuntimeError(f"{what}: {found[0]!r:.80} is not {found[1]!r:.80}")
        if turn > 0:
            seconds.append(took)
    rates = [tokens / statistics.median(column) for column in zip(*seconds, strict=True)]
    ratio = statistics.median(without / with_ for with_, without in seconds)
    return Turns(what, "tok/s", rates[0], rates[1], bar, in_turns=ratio)


# ---- guessing ahead


@dataclass(frozen=True)
class Text:
    """States of a model to go on with, and how."""

    what: str
    name: str
    temperature: float
    make: Callable[[cacher.Model, int], State]
    batches: tuple[int, ...] = (1, 2, 4, 8, 32)
    dtype: Dtype = "f32"

    def cell(self, batch: int) -> str:
        dtype = "" if self.dtype == "f32" else f" {self.dtype}"
        return f"guessing, {self.name}{dtype}, {self.what}, batch {batch}"

    def measure(self, batch: int, turns: int) -> Turns:
        model, tokens = load(self.name, self.dtype), TOKENS[self.name][batch]
        computed = {True: [0, 0], False: [0, 0]}

        def run(states: list[State], turn: int, on: bool) -> tuple[int, Any]:
            model.set_prompt_lookup(on)
            sampling = [
                {"temperature": self.temperature, "seed": turn * batch + i, "min_tokens": tokens}
                for i in range(batch)
            ]
            before = model.stats
            drawn = model.generate_all([s.fork() for s in states], tokens, sampling)
            computed[on][0] += model.stats.forwards - before.forwards
            computed[on][1] += model.stats.tokens_computed - before.tokens_computed
            return batch * tokens, [(one.token_ids, one.logprobs) for one in drawn]

        sets = [
            [self.make(model, SETS * i + k).forward() for i in range(batch)] for k in range(SETS)
        ]

        def pair(turn: int) -> tuple[Run, Run]:
            states = sets[turn % SETS]
            return lambda: run(states, turn, True), lambda: run(states, turn, False)

        cell = take_turns(self.cell(batch), GUESSING, turns, pair)
        passes, rows = (computed[True][i] / computed[False][i] for i in (0, 1))
        return replace(cell, passes=passes, computed=rows)


def tale(model: cacher.Model, number: int) -> State:
    """Return the beginning of a story that no other number has."""
    return model.state(prompt(number), config=CONFIG)


def refrain(model: cacher.Model, number: int) -> State:
    """Return a text that says the same again and again."""
    return model.state((prompt(number) + ". ") * 4, config=CONFIG)


def period(model: cacher.Model, number: int) -> State:
    """Return the same tokens again and again."""
    return model.state([300 + 11 * number % 40_000 + i % PERIOD for i in range(42)], config=CONFIG)


def noise(model: cacher.Model, number: int) -> State:
    """Return ids in which no pair comes twice."""
    ids = [300 + (7919 * number + i * i) % 40_000 for i in range(40)]
    return model.state(ids, config=CONFIG)


TEXTS = [
    Text("repeats", "tales", 0.0, refrain),
    Text("prose, temperature 0", "tales", 0.0, tale),
    Text("prose, temperature 0.7", "tales", 0.7, tale),
    Text("prose, temperature 1", "tales", 1.0, tale),
    Text("prose, temperature 0.7", "tales", 0.7, tale, (1, 2), "int8"),
    Text("repeats", models.GPT2, 0.0, period),
    Text("random, temperature 1", models.GPT2, 1.0, noise),
]


# ---- search and several continuations


def story(name: str, turn: int) -> State:
    """Return what is searched from."""
    return (tale if name == "tales" else noise)(load(name), turn).forward()


def beams(name: str, turns: int) -> Turns:
    """Measure a step of beam search beside one of sampling as many continuations."""
    tokens = TOKENS[name][WIDTH]

    def pair(turn: int) -> tuple[Run, Run]:
        state = story(name, turn)

        def search() -> tuple[int, Any]:
            found = state.beam(WIDTH, tokens, min_tokens=tokens)
            return WIDTH * tokens, [len(beam.token_ids) for beam in found]

        def sample() -> tuple[int, Any]:
            drawn = state.multi(WIDTH, tokens, temperature=1.0, seed=turn, min_tokens=tokens)
            return WIDTH * tokens, [len(one) for one in drawn]

        return search, sample

    return take_turns(f"beam width 8, {name}, beside sampling 8", SEARCHING, turns, pair)


def several(name: str, turns: int) -> Turns:
    """Measure continuations in one batch beside one after the other."""
    tokens = TOKENS[name][WIDTH]

    def pair(turn: int) -> tuple[Run, Run]:
        state = story(name, turn)
        sampling: Any = {"temperature": 1.0, "min_tokens": tokens}

        def together() -> tuple[int, Any]:
            states = [state.fork() for _ in range(WIDTH)]
            params = [{**sampling, "seed": WIDTH * turn + i} for i in range(WIDTH)]
            drawn = state.model.generate_all(states, tokens, params)
            return WIDTH * tokens, [one.token_ids for one in drawn]

        def apart() -> tuple[int, Any]:
            seeds = range(WIDTH * turn, WIDTH * (turn + 1))
            drawn = [state.fork().generate(tokens, seed=seed, **sampling) for seed in seeds]
            return WIDTH * tokens, [one.token_ids for one in drawn]

        return together, apart

    return take_turns(f"8 continuations, {name}, beside one by one", 1.0, turns, pair)


def best_of(name: str, turns: int) -> Turns:
    """Measure the likeliest of 8 beside all 8."""
    tokens = TOKENS[name][WIDTH]

    def pair(turn: int) -> tuple[Run, Run]:
        state = story(name, turn)
        sampling: Any = {"temperature": 1.0, "seed": turn, "min_tokens": tokens}

        def best() -> tuple[int, Any]:
            drawn = state.multi(1, tokens, best_of=WIDTH, **sampling)
            return WIDTH * tokens, drawn[0].token_ids

        def every() -> tuple[int, Any]:
            drawn = state.multi(WIDTH, tokens, **sampling)
            return WIDTH * tokens, max(drawn, key=lambda one: sum(one.logprobs)).token_ids

        return best, every

    return take_turns(f"best of 8, {name}, beside all 8", GUESSING, turns, pair)


# ---- traces


def tracing(name: str, turns: int) -> Turns:
    """Measure traced decoding beside plain: how much of a token's time is not the trace's."""
    (trace,) = measure_tracing((name,), [THREADS], turns)["traces"]
    return Turns(f"traced, {name}, beside plain", "", 1 / trace["ratio"], 1.0, TRACING)


# ---- all of it


def cells(turns: int) -> Iterator[tuple[str, Callable[[], Turns]]]:
    """Yield all cells by name, not yet measured."""
    for text in TEXTS:
        for batch in text.batches:
            yield text.cell(batch), functools.partial(text.measure, batch, turns)
    for name in ("tales", models.GPT2):
        yield f"beam width 8, {name}", functools.partial(beams, name, turns)
        yield f"8 continuations, {name}", functools.partial(several, name, max(7, turns // 3))
        yield f"best of 8, {name}", functools.partial(best_of, name, turns)
    for name in models.NAMES:
        yield f"traced, {name}", functools.partial(tracing, name, 7)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells with this in their names")
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    found = []
    for name, measure in cells(options.turns):
        if options.only in name:
            found.append(measure())
            print(found[-1], flush=True)
    if not found:
        parser.error(f"no cell has {options.only!r} in its name")
    if not options.dry:
        decoding_page.write(found)
    worst = min(found, key=lambda cell: cell.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.what})")


if __name__ == "__main__":
    main()
