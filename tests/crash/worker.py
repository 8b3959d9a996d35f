"""A process that changes states through a store, and says what it does, until it is killed.

python -m tests.crash.worker FOLDER SEED NAME WORKERS
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

import cacher
from cacher import State, StateBusyError, StateNotFoundError
from cacher.document import encode
from cacher.states import States
from cacher.stores.files import FileStore
from tests.crash.ledger import digest

MOST = 12  # states at once
LEASE_S = 0.3


def say(verb: str, name: str, **what: object) -> None:
    """Report; see `tests.crash.ledger`."""
    sys.stdout.write(json.dumps({verb: name, **what}) + "\n")
    sys.stdout.flush()


def alter(state: State, rng: random.Random) -> None:
    """Do something to a state that is a revision."""
    kind = rng.randrange(6)
    if kind == 0 and len(state) < 300:
        state.append([300 + rng.randrange(500) for _ in range(rng.randrange(1, 40))])
    elif kind == 1 and len(state) < 300:
        state.generate(rng.randrange(1, 4), seed=rng.randrange(100))
    elif kind == 2:
        state.checkpoint(f"c{rng.randrange(3)}")
        state.truncate(rng.randrange(len(state) + 1))
    elif kind == 3:
        state.rollback(revision=rng.choice(state.history).revision)
    elif kind == 4 and state.checkpoints:
        state.rollback(checkpoint=rng.choice(state.checkpoints).name)
    else:
        state.edit(config={"temperature": rng.random()}, metadata={"n": rng.randrange(1000)})


async def make(states: States, rng: random.Random, name: str, known: list[str]) -> None:
    """Make a state, or fork one."""
    model = cacher.load("tales", threads=1)
    if known and rng.random() < 0.5:
        state = (await states.get(rng.choice(known))).fork(state_id=name)
    else:
        state = model.state([300 + rng.randrange(500) for _ in range(20)], state_id=name)
    what = {"number": 1, "digest": digest(encode(state))}
    say("will", name, **what)
    await states.add(state)
    say("did", name, **what)


async def change(states: States, rng: random.Random, name: str) -> None:
    """Change a state."""
    what: dict[str, object] = {}
    try:
        async with states.change(name) as state:
            alter(state, rng)
            what = {"number": state.revision, "digest": digest(encode(state))}
            say("will", name, **what)
    except StateBusyError:
        if what:
            say("not", name, **what)
        raise
    say("did", name, **what)


async def remove(states: States, name: str) -> None:
    """Delete a state."""
    say("will", name, gone=True)
    await states.delete(name)
    say("did", name, gone=True)


async def main(folder: str, seed: int, me: str, workers: int) -> None:
    """Change states until killed."""
    rng = random.Random(seed)
    model = cacher.load("tales", threads=1)
    options = {"shared": workers > 1, "lease_s": LEASE_S, "max_in_memory": 4}
    async with States(lambda _: model, FileStore(folder), **options) as states:
        made = 0
        while True:
            found, _total = await states.list_states()
            known = [summary.state_id for summary in found]
            try:
                if len(known) < 3 or (rng.random() < 0.2 and len(known) < MOST):
                    made += 1
                    await make(states, rng, f"{me}-{made}", known)
                elif rng.random() < 0.1:
                    await remove(states, rng.choice(known))
                else:
                    names = rng.sample(known, k=min(3, len(known)))
                    await asyncio.gather(*(change(states, rng, name) for name in names))
            except (StateNotFoundError, StateBusyError):
                if workers == 1:
                    raise  # there is nobody else


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
