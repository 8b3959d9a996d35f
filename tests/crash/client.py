"""A client that changes states of its own and knows what must come of it.

Whatever it asks of the server it also does in this process, to a state of its own: a call is a pure
function, so both must give the same bits, before a kill and after it.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import cacher
from cacher import Model, State, export_states, import_states
from tests.crash.ledger import digest

MOST_STATES = 4  # of a client
MOST_TOKENS = 300
CHECKPOINTS = ("c1", "c2", "c3")
WORDS = (" the fox", " and then", ".", " a king", " was", " no")
TIMES = {"created_at", "modified_at", "last_modified", "at"}  # only the server knows them

numbers = itertools.count(1)


class Asking(Protocol):
    """What a client needs of a server."""

    def ask(
        self, method: str, path: str, body: object = None, read: Callable[[bytes], Any] = json.loads
    ) -> tuple[int, Any]:
        """Send a request; return status and answer; OSError where the server went away."""


@cache
def model() -> Model:
    """Return the model that the server has, too."""
    return cacher.load("tales", threads=1)


def content(document: Any) -> Any:
    """Return JSON without its times."""
    if isinstance(document, list):
        return [content(value) for value in document]
    if not isinstance(document, dict):
        return document
    return {key: content(value) for key, value in document.items() if key not in TIMES}


def digest_of(exported: Any) -> str:
    """Return a hash of an exported state, but for its times."""
    return digest(json.dumps(content(exported), sort_keys=True).encode())


@dataclass
class Mirror:
    """What a state must be: as acknowledged, and as it is when what is under way happens."""

    state: State
    draft: State | None = None

    def settle(self, seen: str) -> None:
        """Go on with what was found after a kill."""
        if self.draft is not None and seen == digest_of(json.loads(export_states(self.draft))):
            self.state = self.draft
        self.draft = None


class Client(threading.Thread):
    """Changes states of its own, one request after another, and keeps the books."""

    def __init__(self, server: Asking, name: str, mirrors: dict[str, Mirror], seed: int) -> None:
        super().__init__()
        self.server, self.me, self.mirrors = server, name, mirrors
        self.known = list(mirrors)
        self.rng = random.Random(seed)
        self.lines: list[bytes] = []
        self.wrong: list[str] = []
        self.made = 0
        self.ways = (
            self.append, self.configure, self.tag, self.remember, self.go_back, self.forward,
            self.generate, self.generate, self.stream,
        )  # fmt: skip

    def run(self) -> None:
        try:
            while not self.wrong:
                self.step()
        except OSError:
            return  # the server was killed
        except Exception as error:
            self.wrong.append(f"{self.me}: {error!r}")

    def step(self) -> None:
        """Make, change or delete a state."""
        rng = self.rng
        if len(self.known) < 2 or (rng.random() < 0.15 and len(self.known) < MOST_STATES):
            self.made += 1
            ways = (self.create, self.fork, self.bring, self.merge)
            rng.choice(ways if len(self.known) > 1 else ways[:1])(f"{self.me}-{self.made}")
        elif rng.random() < 0.05:
            self.remove(rng.choice(self.known))
        else:
            name = rng.choice(self.known)
            full = len(self.mirrors[name].state) > MOST_TOKENS
            (self.go_back if full else rng.choice(self.ways))(name)

    # ---- new states

    def create(self, name: str) -> None:
        config, tags = {"temperature": self.rng.random()}, {"by": self.me}
        made = model().state("Once upon a time", config=config, metadata=tags, state_id=name)
        body = {"model_id": "tales", "text": "Once upon a time", "config": config}
        self.tell(made, "POST", "/states", body | {"metadata": tags, "state_id": name})

    def fork(self, name: str) -> None:
        parent = self.rng.choice(self.known)
        at = self.rng.randrange(1, len(self.mirrors[parent].state) + 1)
        made = self.mirrors[parent].state.fork(at, state_id=name)
        self.tell(made, "POST", f"/states/{parent}/fork", {"at": at, "state_id": name})

    def merge(self, name: str) -> None:
        parents = self.rng.sample(self.known, 2)
        body = {"state_ids": parents, "strategy": "longest", "state_id": name}
        made = cacher.merge(
            [self.mirrors[parent].state for parent in parents], strategy="longest", state_id=name
        )
        self.tell(made, "POST", "/states/merge", body)

    def bring(self, name: str) -> None:
        """Import a state under a new name, or over one that is there."""
        old = self.mirrors[self.rng.choice(self.known)].state
        packed = old._twin() if self.rng.random() < 0.5 else old.fork(state_id=name)
        packed.checkpoint("packed")
        data = export_states(packed, format="binary", compress="gzip")
        (made,) = import_states(data, packed.model)
        self.tell(made, "POST", "/states/import?on_conflict=replace", data)

    # ---- changes

    def append(self, name: str) -> None:
        words = self.rng.choice(WORDS)
        after = self.draft(name).edit(append_text=words)
        self.tell(after, "PATCH", f"/states/{name}", {"append_text": words})

    def configure(self, name: str) -> None:
        config = {"temperature": self.rng.random(), "seed": self.rng.randrange(100)}
        after = self.draft(name).edit(config=config)
        self.tell(after, "POST", "/states/config", {"state_id": name, "config": config})

    def tag(self, name: str) -> None:
        tags = {"n": self.rng.randrange(1000)}
        after = self.draft(name).edit(metadata=tags)
        self.tell(after, "PATCH", f"/states/{name}", {"metadata": tags})

    def remember(self, name: str) -> None:
        after, checkpoint = self.draft(name), self.rng.choice(CHECKPOINTS)
        after.checkpoint(checkpoint)
        self.tell(after, "POST", f"/states/{name}/checkpoints", {"name": checkpoint})

    def go_back(self, name: str) -> None:
        after, body = self.draft(name), dict[str, Any]()
        if after.checkpoints and self.rng.random() < 0.5:
            body["checkpoint"] = self.rng.choice(after.checkpoints).name
        else:
            body["revision"] = self.rng.choice(after.history[-20:]).revision
        self.tell(after.rollback(**body), "POST", f"/states/{name}/rollback", body)

    def forward(self, name: str) -> None:
        words = self.rng.choice(WORDS)
        after = self.draft(name).forward(words)
        self.tell(after, "POST", "/forward", {"state_id": name, "text_input": words})

    def generate(self, name: str) -> None:
        after, n = self.draft(name), self.rng.randrange(1, 6)
        made = after.generate(n)
        answer = self.tell(after, "POST", "/generate/token", {"state_id": name, "max_tokens": n})
        if (answer["token_ids"], answer["logprobs"]) != (made.token_ids, made.logprobs):
            self.wrong.append(f"{name} torn: {answer}, but it is {made}")

    def stream(self, name: str) -> None:
        after, n = self.draft(name), self.rng.randrange(1, 6)
        made = after.generate(n)
        body = {"state_id": name, "max_tokens": n, "stream": True}
        answer = self.tell(after, "POST", "/generate/token", body, read=lines)
        tokens = [record["token_id"] for record in answer if record["token_id"] is not None]
        if tokens != made.token_ids:
            self.wrong.append(f"{name} torn: {answer}, but it is {made}")

    def draft(self, name: str) -> State:
        """Return a copy of a state to change."""
        return self.mirrors[name].state._twin()

    # ---- asking

    def tell(
        self, after: State, method: str, path: str, body: object,
        read: Callable[[bytes], Any] = json.loads,
    ) -> Any:  # fmt: skip
        """Ask for a change that makes a state what `after` is; returns the answer."""
        name = after.id
        mirror = self.mirrors.setdefault(name, Mirror(after))
        mirror.draft = after
        what = {"number": next(numbers), "digest": digest_of(json.loads(export_states(after)))}
        self.note("will", name, **what)
        status, answer = self.server.ask(method, path, body, read)
        if status != 200:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        self.note("did", name, **what)
        mirror.state, mirror.draft = after, None
        if name not in self.known:
            self.known.append(name)
        if "revision" in answer and "checkpoints" not in path:
            must = json.loads(json.dumps(after.to_dict(), default=str))
            if content(answer) != content(answer) | content(must):
                self.wrong.append(f"{name} torn: the answer is {answer}, but it is {must}")
        return answer

    def remove(self, name: str) -> None:
        self.known.remove(name)
        self.note("will", name, gone=True)
        status, answer = self.server.ask("DELETE", f"/states/{name}")
        if status != 200:
            raise AssertionError(f"DELETE {name}: {status} {answer}")
        self.note("did", name, gone=True)
        del self.mirrors[name]

    def note(self, verb: str, name: str, **what: object) -> None:
        self.lines.append(json.dumps({verb: name, **what}).encode() + b"\n")


def lines(data: bytes) -> list[Any]:
    """Read newline-delimited JSON."""
    return [json.loads(line) for line in data.splitlines()]
