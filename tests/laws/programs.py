"""Random programs against a straight-line run: the laws of docs/architecture.md in one test.

A program creates, appends to, generates on, forks, rolls back, saves, exports, evicts, batches,
sends through an engine and deletes states on models that differ in threads and instruction set. A
mirror in plain Python holds each state's tokens. The oracle computes the same token sequences on
one thread with the portable kernels, each from nothing, in one piece, and guesses nothing; of a
state whose context slides, it computes the window alone. Logits, KV entries, log-probabilities and
drawn tokens must be equal bit for bit, and at the end no page may be alive.

    python -m tests.laws.programs 10000      # last line: programs 10000 mismatches 0
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import cacher
from cacher import _core
from cacher.facts import Dtype, KVDtype
from tests.models.make_tiny import CONFIGS, VOCAB, make_tiny

ISAS = ("generic", "avx2", "avx512", "avx512bf16", "amx")
LIMIT = 120  # tokens of a state at most
NO_SCORES = {"store_logits": "none"}


class Format(NamedTuple):
    """What a model's weights and pages are held in."""

    dtype: Dtype = "f32"
    kv_dtype: KVDtype = "f32"

    def load(self, source: Path, **options: object) -> cacher.Model:
        """Open a model in this format."""
        return cacher.load(source, dtype=self.dtype, kv_dtype=self.kv_dtype, **options)


FORMATS = (Format(), Format("bf16"), Format("int8"), Format(kv_dtype="bf16"))


@dataclass(frozen=True)
class Truth:
    """What a straight-line run says about a token sequence."""

    logits: bytes
    keys: bytes
    values: bytes


class Oracle:
    """Computes from nothing: one state, one thread, portable kernels, nothing reused."""

    def __init__(self, folder: Path, isa: str = "generic", form: Format = FORMATS[0]) -> None:
        self.model = form.load(folder, threads=1, isa=isa)
        self.model.set_prompt_lookup(False)
        self._seen: dict[tuple[int, ...], Truth] = {}

    def truth(self, tokens: list[int]) -> Truth:
        """Logits after the last token; keys and values of the last layer."""
        key = tuple(tokens)
        if key not in self._seen:
            self.model.drop_cached()
            state = self.model.state(tokens, config=NO_SCORES)
            self._seen[key] = read(state, self.model.info.n_layers - 1)
        return self._seen[key]

    def continuation(
        self, tokens: list[int], count: int, sampling: dict, limit: int | None
    ) -> tuple[list[int], bytes]:
        """Token ids and the bits of their log-probabilities."""
        self.model.drop_cached()
        if limit is not None:
            return self._sliding(tokens, count, sampling, limit)
        done = self.model.state(tokens, config=NO_SCORES).generate(count, **sampling)
        return list(done.token_ids), np.asarray(done.logprobs, dtype=np.float32).tobytes()

    def _sliding(
        self, tokens: list[int], count: int, sampling: dict, limit: int
    ) -> tuple[list[int], bytes]:
        """Token by token: logits of the window, drawn for the position in the whole."""
        params = cacher.StateConfig().sampling(sampling)
        whole, logprobs = list(tokens), []
        for done in range(count):
            logits = self.model.state(window(whole, limit), config=NO_SCORES).logits()
            drawn = _core.sample(logits, whole, params.core(done=done, max_tokens=count))
            if drawn[0] in self.model.info.eos_token_ids:
                break
            whole.append(drawn[0])
            logprobs.append(drawn[2])
        return whole[len(tokens) :], np.asarray(logprobs, dtype=np.float32).tobytes()

    def forget(self) -> None:
        """Drop what was remembered, so that memory stays flat over many programs."""
        self._seen.clear()


def window(tokens: list[int], limit: int | None) -> list[int]:
    """The tokens in a context of `limit` that drops its older half whenever it is full."""
    start = 0
    for n in range(len(tokens) + 1):
        if limit is not None and n - start == limit:
            start += limit // 2
    return tokens[start:]


def read(state: cacher.State, layer: int) -> Truth:
    """Read what can be seen of a state's evaluation."""
    logits = state.logits().tobytes()
    if len(state) == 0:
        return Truth(logits, b"", b"")
    keys, values = state.kv(layer)
    return Truth(
        logits, np.ascontiguousarray(keys).tobytes(), np.ascontiguousarray(values).tobytes()
    )


@dataclass
class Live:
    """A state and what it must contain."""

    model: cacher.Model
    state: cacher.State
    tokens: list[int]
    past: dict[int, list[int]] = field(default_factory=dict)  # by revision
    marked: list[int] | None = None  # by the checkpoint

    @property
    def limit(self) -> int | None:
        """The context limit of a state that slides."""
        slides = self.state.config.context_strategy == "slide"
        return self.state.context_limit if slides else None


@dataclass
class Program:
    """One random program; ``run`` returns a description of the first mismatch, or None."""

    rng: random.Random
    models: list[cacher.Model]
    oracle: Oracle
    folder: Path
    live: list[Live] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def run(self, steps: int) -> str | None:
        operations: list[Callable[[], None]] = [
            self.create, self.create, self.append, self.generate, self.generate, self.fork,
            self.roll_back, self.go_back, self.checkpoint, self.save_and_restore, self.transfer,
            self.evict, self.delete, self.batch, self.engine, self.look,
        ]  # fmt: skip
        try:
            self.create()
            for _ in range(steps):
                self.rng.choice(operations)()
                for live in self.live:
                    live.past[live.state.revision] = list(live.tokens)
            for live in self.live:
                self.check(live)
            del live
            self.finish()
        except MismatchError as mismatch:
            return f"{mismatch}; program: {' | '.join(self.log)}"
        return None

    # ---- operations

    def create(self) -> None:
        model = self.rng.choice(self.models)
        count = self.rng.choice((0, 1, 5, 15, 16, 17, 33, 60))
        known = [live.tokens for live in self.live] or [[]]
        prefix = self.rng.choice(known)[: self.rng.randrange(64)] if self.rng.random() < 0.5 else []
        tokens = prefix + self.random_tokens(count)
        config: dict[str, object] = (
            NO_SCORES if self.rng.random() < 0.5 else {"store_logits": "top_k", "top_k_logits": 5}
        )
        limit = self.rng.choice((None, None, 2, 16, 33, 50))
        if limit is not None:
            config = {**config, "context_size": limit, "context_strategy": "slide"}
        self.note("create", len(tokens), limit, model.info.isa, model.info.n_threads)
        salt = self.rng.choice((None, None, "a", "b"))
        piece = limit or len(tokens) or 1  # as long as a piece may be
        state = model.state(tokens[:piece], config=config, cache_salt=salt)
        for at in range(piece, len(tokens), piece):
            state.append(tokens[at : at + piece])
        self.live.append(Live(model, state, list(tokens)))

    def append(self) -> None:
        live = self.pick()
        if live is None or len(live.tokens) > LIMIT:
            return
        tokens = self.random_tokens(self.rng.choice((1, 2, 16, 20)))[: live.limit]
        self.note("append", len(tokens))
        live.state.append(tokens)
        live.tokens += tokens

    def generate(self) -> None:
        live = self.pick()
        if live is None or len(live.tokens) > LIMIT:
            return
        count, sampling = self.rng.choice((1, 3, 18)), self.random_sampling()
        self.note("generate", count, sampling)
        self.compare_generation(live, live.state.generate(count, **sampling), count, sampling)

    def fork(self) -> None:
        live = self.pick()
        if live is None:
            return
        at = self.rng.randrange(len(live.tokens) + 1)
        self.note("fork", at, len(live.tokens))
        self.live.append(Live(live.model, live.state.fork(at=at), live.tokens[:at]))

    def roll_back(self) -> None:
        live = self.pick()
        if live is None:
            return
        to = self.rng.randrange(len(live.tokens) + 1)
        self.note("rollback", to, len(live.tokens))
        live.state.rollback(to)
        del live.tokens[to:]

    def go_back(self) -> None:
        """To a revision of the past, or to the checkpoint."""
        live = self.pick()
        if live is None or not live.past:
            return
        if live.marked is not None and self.rng.random() < 0.5:
            self.note("checkpointed")
            live.state.rollback(checkpoint="mark")
            live.tokens = list(live.marked)
            return
        revision = self.rng.choice(sorted(live.past))
        self.note("revision", revision, live.state.revision)
        live.state.rollback(revision=revision)
        live.tokens = list(live.past[revision])

    def checkpoint(self) -> None:
        live = self.pick()
        if live is not None:
            self.note("checkpoint", len(live.tokens))
            live.state.checkpoint("mark")
            live.marked = list(live.tokens)

    def transfer(self) -> None:
        live = self.pick()
        if live is None:
            return
        form = self.rng.choice(("json", "binary"))
        data = cacher.export_states(live.state, format=form)
        live.model = self.rng.choice(self.models)
        self.note("transfer", form, live.model.info.isa, live.model.info.n_threads)
        (live.state,) = cacher.import_states(data, live.model)

    def save_and_restore(self) -> None:
        live = self.pick()
        if live is None:
            return
        path = self.folder / "state.json"
        live.state.save(path)
        live.model = self.rng.choice(self.models)
        self.note("restore", live.model.info.isa, live.model.info.n_threads)
        live.state = live.model.restore(path)

    def evict(self) -> None:
        live = self.pick()
        if live is None:
            return
        whole = self.rng.random() < 0.3
        self.note("evict", "all" if whole else "one")
        for other in self.live if whole else [live]:
            other.state.evict()
        if whole:
            live.model.drop_cached()

    def delete(self) -> None:
        if len(self.live) > 1:
            self.note("delete")
            self.live.pop(self.rng.randrange(len(self.live)))

    def batch(self) -> None:
        """Several states of one model generate together, with parameters of their own."""
        model, rows = self.some_rows()
        if not rows:
            return
        count, chunk = self.rng.choice((1, 4, 17)), self.rng.choice((1, 3, 16, 50, 512))
        samplings = [self.random_sampling() for _ in rows]
        self.note("batch", len(rows), count, f"chunk={chunk}", samplings)
        states = [live.state for live in rows]
        results = model.generate_all(states, max_tokens=count, params=samplings, chunk_tokens=chunk)
        for live, result, sampling in zip(rows, results, samplings, strict=True):
            self.compare_generation(live, result, count, sampling)

    def engine(self) -> None:
        """Requests run in an engine at once; some leave before their end."""
        model, rows = self.some_rows()
        if not rows:
            return
        count = self.rng.choice((1, 4, 17))
        samplings = [self.random_sampling() for _ in rows]
        leaving = [self.rng.choice((None, None, 1, 5)) for _ in rows]
        self.note("engine", len(rows), count, samplings, leaving)

        async def run() -> list[cacher.Generation]:
            async with cacher.Engine(model, max_running=self.rng.choice((1, 2, 8))) as engine:
                runs = zip(rows, samplings, leaving, strict=True)
                return await asyncio.gather(
                    *(request(engine, live.state, count, *how) for live, *how in runs)
                )

        for live, result, sampling in zip(rows, asyncio.run(run()), samplings, strict=True):
            self.compare_generation(live, result, count, sampling)

    def look(self) -> None:
        live = self.pick()
        if live is not None:
            self.note("look", len(live.tokens))
            self.check(live)

    # ---- comparisons

    def compare_generation(
        self, live: Live, got: cacher.Generation, count: int, sampling: dict
    ) -> None:
        want_ids, want_bits = self.oracle.continuation(live.tokens, count, sampling, live.limit)
        if got.finish_reason == "cancelled":
            want_ids = want_ids[: len(got)]
            want_bits = want_bits[: 4 * len(got)]
        if list(got.token_ids) != want_ids:
            raise MismatchError(f"tokens {list(got.token_ids)} instead of {want_ids}")
        if np.asarray(got.logprobs, dtype=np.float32).tobytes() != want_bits:
            raise MismatchError("log-probabilities differ")
        live.tokens += want_ids

    def check(self, live: Live) -> None:
        if live.state.token_ids != live.tokens:
            raise MismatchError(f"the state holds {live.state.token_ids} instead of {live.tokens}")
        got = read(live.state, live.model.info.n_layers - 1)
        want = self.oracle.truth(window(live.tokens, live.limit))
        for name in ("logits", "keys", "values"):
            if getattr(got, name) != getattr(want, name):
                raise MismatchError(f"{name} differ after {len(live.tokens)} tokens")
        live.model.check()

    def finish(self) -> None:
        self.live.clear()
        for model in self.models:
            model.check()
            if model.stats.pages_live != 0:
                raise MismatchError(f"{model.stats.pages_live} pages live though no state is")
            if self.rng.random() < 0.2:
                model.drop_cached()

    # ---- randomness

    def pick(self) -> Live | None:
        return self.rng.choice(self.live) if self.live else None

    def some_rows(self) -> tuple[cacher.Model, list[Live]]:
        """A model and a few states of it that have room."""
        model = self.rng.choice(self.models)
        rows = [live for live in self.live if live.model is model and len(live.tokens) <= LIMIT]
        self.rng.shuffle(rows)
        return model, rows[:3]  # more might need more pages at once than the budget holds

    def random_tokens(self, count: int) -> list[int]:
        period = self.rng.choice((count, count, 3, 10))  # what repeats itself is guessed
        tokens = [self.rng.randrange(2, VOCAB) for _ in range(period)]
        return [tokens[i % period] for i in range(count)]

    def random_sampling(self) -> dict:
        return {
            "seed": self.rng.randrange(5),
            "temperature": self.rng.choice((0.0, 0.7, 1.5)),
            "top_p": self.rng.choice((0.5, 0.9, 1.0)),
            "top_k": self.rng.choice((0, 0, 20)),
            "min_p": self.rng.choice((0.0, 0.0, 0.05)),
            "repetition_penalty": self.rng.choice((1.0, 1.0, 1.3)),
            "no_repeat_ngram_size": self.rng.choice((0, 0, 3)),
            "temperature_schedule": self.rng.choice((None, None, {"start": 2.0, "end": 0.0})),
            "adaptive_top_p": self.rng.random() < 0.3,
        }

    def note(self, *words: object) -> None:
        self.log.append(" ".join(map(str, words)))


async def request(
    engine: cacher.Engine, state: cacher.State, count: int, sampling: dict, leaves: int | None
) -> cacher.Generation:
    """Send a state through an engine; `leaves`: after how many tokens it is cancelled."""
    if leaves is None:
        return await engine.generate(state, count, **sampling)
    stream = engine.stream(state, count, **sampling)
    for _ in range(leaves):
        if await anext(stream, None) is None:
            break
    await stream.aclose()
    return stream.result


class MismatchError(Exception):
    """A law was broken."""


class Bench:
    """Each tiny model in some formats with every instruction set and 1 or 2 threads."""

    def __init__(
        self, folder: Path, formats: tuple[Format, ...] = FORMATS[:1], kv_pages: int = 40
    ) -> None:
        self.folder = folder
        self.families = []
        for name in CONFIGS:
            source = make_tiny(name, folder)
            for form in formats:
                budget = kv_pages * form.load(source, threads=1).info.page_bytes
                for isas in equal_isas(source, form):
                    # Budgets so small that programs evict each other's pages.
                    models = [
                        form.load(source, threads=n, isa=isa, kv_budget=budget)
                        for isa in isas
                        for n in (1, 2)
                    ]
                    self.families.append((models, Oracle(source, isas[0], form)))

    def run(self, seed: int) -> str | None:
        """Run the program with this seed."""
        rng = random.Random(seed)
        models, oracle = rng.choice(self.families)
        chosen = rng.sample(models, k=min(3, len(models)))
        oracle.forget()
        found = Program(rng, chosen, oracle, self.folder).run(steps=rng.randrange(4, 16))
        return None if found is None else f"program {seed}: {found}"


def available_isas(source: Path) -> list[str]:
    """Return the instruction sets this CPU has."""
    found = []
    for isa in ISAS:
        try:
            cacher.load(source, isa=isa)
        except ValueError:
            continue
        found.append(isa)
    return found


def equal_isas(source: Path, form: Format) -> list[list[str]]:
    """Return instruction sets in groups that give the same bits: those of a fingerprint."""
    groups: dict[str, list[str]] = {}
    for isa in available_isas(source):
        model = form.load(source, isa=isa, threads=1)
        groups.setdefault(model.fingerprint, []).append(isa)
    return list(groups.values())


def main(count: int) -> int:
    """Run programs 0..count-1 in f32, every fourth in fewer bits, too; return mismatches."""
    mismatches = 0
    with tempfile.TemporaryDirectory() as folder:
        bench, fewer_bits = Bench(Path(folder)), Bench(Path(folder), FORMATS[1:])
        for seed in tqdm(range(count), unit="program", disable=None):
            for found in (bench.run(seed), fewer_bits.run(seed) if seed % 4 == 0 else None):
                if found is not None:
                    mismatches += 1
                    print(found)
    print(f"programs {count} mismatches {mismatches}")
    return mismatches


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000) > 0)
