"""``make bench-chat``: the chat service beside the documented one in torch, with the same weights.

Both servers run at once and are asked in turns.  Writes docs/benchmarks-chat.md with a picture.
Names each bar that is missed; the last line is ``worst ratio R (cell)``.  ``--dry`` writes nothing,
``--tokens 16 --rounds 1`` is only good for a look.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import chat_page
from cells import Cell
from facts import Fact
from processes import SETTLE_S
from serving import ROOT, Connection, Server, running, stream_text
from tracing import traced_over_plain

import cacher

sys.path.insert(0, str(ROOT))
from tests.models import niels, pieces

PEER = ROOT / "build" / "peer-chat" / "bin" / "python"
FOLDER = ROOT / "build" / "bench" / "chat"
GENERATION = 2
SIZE = niels.SEEN[GENERATION]
TOKENS = 256  # new ones of a stream, as the documents have it
PROMPTS = (20, 100, 240)  # words, of a token each; with the new tokens the window of 512 holds them
LONG = 600  # words of a prompt from which on each step reads the window anew
NEXT = 20  # words of an answer, and of the next message behind it
STREAMS = 16
LAYER = SIZE.L // 2
FIRST_BAR, RATE_BAR, STREAMS_BAR, TRACE_BAR = 3.0, 5.0, 5.0, 1.10
CHECKED = 8  # greedy tokens that both must give
READY_S = 60.0


class Seen(NamedTuple):
    """What a client saw of some streams that ran together."""

    tokens: int
    first_s: float
    seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Service:
    """A running server, and how many prompts it was sent."""

    def __init__(self, server: Server) -> None:
        self.port = server.port
        self._number = 0

    def body(self, words: int, tokens: int, **more: Any) -> dict[str, Any]:
        """Return a request whose prompt no other has: its number is among the first tokens."""
        self._number += 1
        text = " ".join(
            pieces.WORDS[(self._number + i * i) % len(pieces.WORDS)] for i in range(words)
        )
        messages = [{"role": "user", "content": f"{self._number} {text}"}]
        seed = self._number
        return {"messages": messages, "max_new_tokens": tokens, "trace_layer": LAYER, "seed": seed,
                **more}  # fmt: skip

    def run(self, words: int, tokens: int, streams: int = 1) -> Seen:
        """Run streams with new prompts together."""
        return self._run([self.body(words, tokens) for _ in range(streams)])

    def go_on(self, words: int) -> Seen:
        """Run a stream of one token for the message that follows a prompt of so many words."""
        body = self.body(words, 1)
        self._run([body])
        text = " ".join(pieces.WORDS[:NEXT])
        more = [{"role": "assistant", "content": text}, {"role": "user", "content": text}]
        return self._run([{**body, "messages": [*body["messages"], *more]}])

    def _run(self, bodies: list[dict[str, Any]]) -> Seen:
        time.sleep(SETTLE_S)
        asked_for = sum(body["max_new_tokens"] for body in bodies)

        async def all_of_them() -> list[tuple[bytes, float]]:
            asked = (stream_text(self.port, "/chat/stream", body) for body in bodies)
            return await asyncio.gather(*asked)

        started = time.perf_counter()
        answers = asyncio.run(all_of_them())
        seconds = time.perf_counter() - started
        for text, _ in answers:
            if b"event: done" not in text:
                raise RuntimeError(f"a stream broke off: {text[-500:]!r}")
        made = sum(text.count(b"event: trace\n") for text, _ in answers)
        if made < 0.9 * asked_for:
            raise RuntimeError(f"{made} tokens of {asked_for} came")
        return Seen(made, statistics.median(first for _, first in answers), seconds)

    def events(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the data of all events."""
        connection = HTTPConnection("127.0.0.1", self.port)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/chat/stream", json.dumps(body), headers)
        text = connection.getresponse().read().decode()
        connection.close()
        return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


Both = tuple[Service, Service]  # ours, the peer


def checkpoint() -> Path:
    """Return the checkpoint of both, with its tokenizer beside it; written once."""
    path = FOLDER / "best.pt"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        pieces.write_model(FOLDER / "spm.model", SIZE.V)
        weights = niels.random_tensors(GENERATION, SIZE, scale=0.05)
        tokens = cacher.Tokenizer.open(FOLDER / "spm.model").chat_tokens
        weights["tok_emb.weight"][tokens["eot"]] = 0.0  # never likely: no stream ends early
        half = niels.write_checkpoint(FOLDER / "half", GENERATION, size=SIZE, weights=weights)
        os.replace(half, path)
    return path


@contextmanager
def services(path: Path) -> Iterator[Both]:
    """Give both, ready to answer."""
    settings = {
        "CKPT_PATH": str(path), "API_HOST": "127.0.0.1", "API_PORT": "PORT",
        "RATE_LIMIT_PER_MIN": "6000000", "RATE_LIMIT_BURST": "1000000",
    }  # fmt: skip
    command = [sys.executable, "-m", "cacher.niels_gpt"]
    peer = [str(PEER), str(ROOT / "benchmarks" / "chat_peer.py"), str(path), "PORT"]
    with ExitStack() as stack:
        ours = stack.enter_context(running("cacher", command, settings))
        theirs = stack.enter_context(running("the peer", peer, {}))
        deadline = time.monotonic() + READY_S
        while b'"model_ready":true' not in Connection(ours.port).ask("GET", "/health")[1]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the model was not ready in {READY_S} s")
            time.sleep(SETTLE_S)
        yield Service(ours), Service(theirs)


def check(both: Both) -> None:
    """Refuse to compare what does not answer alike."""
    ours, theirs = ([*s.events(s.body(50, CHECKED, temperature=0))] for s in both)
    tokens, others = ([e["token_id"] for e in found[:-1:2]] for found in (ours, theirs))
    if tokens != others:
        raise RuntimeError(f"greedy tokens differ: {tokens}, {others}")
    rows = zip(ours[1]["attn"], theirs[1]["attn"], strict=True)
    gap = max(abs(a - b) for pair in rows for a, b in zip(*pair, strict=True))
    if gap > 1e-4:
        raise RuntimeError(f"rows of attention differ by {gap}")


def in_turns(both: Both, rounds: int, run: Callable[[Service], Seen]) -> tuple[list[Seen], ...]:
    """Run the same on both; each begins every other round."""
    found: tuple[list[Seen], ...] = ([], [])
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 else (1, 0):
            found[side].append(run(both[side]))
    return found


def middle(seen: list[Seen], what: str) -> float:
    return statistics.median(getattr(one, what) for one in seen)


def first_event(what: str, sides: tuple[list[Seen], ...]) -> Cell:
    ours, theirs = (1e3 * middle(side, "first_s") for side in sides)
    return Cell(f"time to the first event, {what}", "ms", ours, theirs, FIRST_BAR, is_rate=False)


def measure_one(both: Both, rounds: int, tokens: int) -> Iterator[Cell]:
    """Measure a stream alone."""
    for words in PROMPTS:
        sides = in_turns(both, 3 * rounds, lambda service, n=words: service.run(n, 1))
        yield first_event(f"prompt of {words}", sides)
    sides = in_turns(both, 3 * rounds, lambda service: service.go_on(PROMPTS[-1]))
    yield first_event("next message of a chat", sides)
    for words in PROMPTS:
        sides = in_turns(both, rounds, lambda service, n=words: service.run(n, tokens))
        ours, theirs = (middle(side, "rate") for side in sides)
        yield Cell(f"traced tokens a second, prompt of {words}", "tok/s", ours, theirs, RATE_BAR)


def measure_many(both: Both, rounds: int, tokens: int) -> Iterator[Cell | Fact]:
    """Measure streams together, beside one and beside the peer's."""
    words = PROMPTS[1]
    one, many = [], []
    for _ in range(rounds):
        one.append(both[0].run(words, tokens))
        many.append(both[0].run(words, tokens, STREAMS))
    rate = middle(many, "rate")
    yield Cell(
        f"{STREAMS} streams beside one, together", "tok/s", rate, middle(one, "rate"), STREAMS_BAR
    )
    theirs = both[1].run(words, max(1, tokens // 4), STREAMS)
    yield Fact(f"{STREAMS} streams together", "tok/s", rate, theirs.rate)
    first = (1e3 * seen for seen in (middle(many, "first_s"), theirs.first_s))
    yield Fact(f"time to the first event, {STREAMS} streams", "ms", *first)
    past = in_turns(both, rounds, lambda service: service.run(LONG, max(1, tokens // 8)))
    yield Fact("past the window, one stream", "tok/s", *(middle(side, "rate") for side in past))


def measure_trace(path: Path, rounds: int, tokens: int) -> Iterator[Fact]:
    """Measure what a trace adds to decoding, without HTTP; the tokens must be the same."""
    model = cacher.load(path)
    state = model.state(config={"context_size": model.n_ctx, "store_logits": "none"})
    state.forward([300 + i for i in range(PROMPTS[1])])

    cost = traced_over_plain(state, LAYER, tokens, 5 * rounds)
    yield Fact("traced decoding over plain decoding", "", cost, None, TRACE_BAR)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a stream")
    parser.add_argument("--dry", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    path = checkpoint()
    cells: list[Cell] = []
    facts: list[Fact] = []

    def note(found: Cell | Fact) -> None:
        print(found, flush=True)
        (cells if isinstance(found, Cell) else facts).append(found)  # type: ignore[arg-type]

    with services(path) as both:
        check(both)
        for service in both:  # the first requests of a process are slower
            service.run(PROMPTS[1], 4)
        for measure in (measure_one, measure_many):
            for found in measure(both, options.rounds, options.tokens):
                note(found)
    for fact in measure_trace(path, options.rounds, options.tokens):
        note(fact)
    if not options.dry:
        version = "import torch; print('torch', torch.__version__.partition('+')[0])"
        peer = subprocess.check_output([PEER, "-c", version], text=True).strip()
        chat_page.write(cells[:-1], cells[-1], facts, peer)
    for missed in [one for one in (*cells, *facts) if not one.is_met]:
        print(f"missed: {missed}")
    worst = min(cells, key=lambda cell: cell.ratio)
    print(f"worst ratio {worst.ratio:.2f} ({worst.cell})")


if __name__ == "__main__":
    main()
