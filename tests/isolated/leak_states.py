"""What states do, each many times in a fresh interpreter: nothing stays."""

import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cacher
from cacher import _core

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.models.make_tiny import make_tiny
from tests.models.niels import write_checkpoint

ROUNDS = 50
# Free lists of the interpreter fill up; one reference per round would be ROUNDS.
NOISE = ROUNDS // 2
PATIENCE = 10


def operations(model: cacher.Model, path: Path) -> dict[str, Callable[[], object]]:
    state = model.state("Once upon a time").forward()
    state.save(path)
    return {
        "create": lambda: model.state("Once upon a time", metadata={"a": 1}).id,
        "generate": lambda: state.fork().generate(2, seed=1),
        "stream": lambda: [token.top_tokens for token in state.fork().stream(2)],
        "leave a stream": lambda: next(state.fork().stream(5)),
        "multi": lambda: state.multi(2, 2),
        "beam": lambda: state.beam(2, 2, trace=True, stop="zzz"),
        "branch": lambda: cacher.merge([state, state.fork(at=2).rollback(-1).append(" ago")]),
        "diff": lambda: cacher.diff(state, state.fork(at=2)),
        "save": lambda: state.save(path),
        "restore": lambda: model.restore(path),
        "numbers": lambda: (state.logits(), state.logprobs(), state.entropy(), state.top_tokens()),
        "insides": lambda: (state.attention(0), state.kv(1), state.hidden()),
        "analyses": lambda: (
            state.analyze_tokens(include_logits=True, top=3),
            state.analyze_attention(),
            state.head_importance(),
            state.inspect_cache(format="list"),
        ),
        "picture": lambda: state._repr_html_(),
        "judge": lambda: state.classify(labels=["merry", "sad"], multi_label=True),
    }


def judgements(model: cacher.Model) -> dict[str, Callable[[], object]]:
    """What a reward model does."""
    state = model.state(range(20))
    return {
        "classify": lambda: state.classify(per_token=True),
        "classify all": lambda: state.classify_all([[5], [6, 7]]).label_correlation(),
        "facts": lambda: model.info.labels,
        "refused tokens": lambda: refused(state.logits),
        "refused labels": lambda: refused(lambda: state.classify(labels=["merry", "sad"])),
        "refused states": lambda: refused(lambda: model._core.classify([state._core, 3])),
        "refused twice": lambda: refused(lambda: model._core.classify([state._core] * 2)),
    }


def readings(model: cacher.Model, path: Path) -> dict[str, Callable[[], object]]:
    """What the model of a checkpoint does past its window, and what reads the file."""
    state = model.state(range(24), config={"context_strategy": "slide"})
    state.generate(3, seed=1)
    return {
        "checkpoint": lambda: _core.read_checkpoint(path),
        "load": lambda: cacher.load(path, threads=1).info,
        "roll": lambda: state.fork().generate(3, seed=1),
        "refused by name": lambda: refused(lambda: _core.Model(path, tokenizer="/nowhere")),
    }


def refusals(model: cacher.Model) -> dict[str, Callable[[], object]]:
    state = model.state("Hello")
    beam = (2, 3, 1.0, 1, 1, 0.0, 0, 1.0, False)
    return {
        "ids": lambda: state.append([99999]),
        "wide ids": lambda: state._core.append([2**40]),
        "no ids": lambda: state._core.append([1.5]),
        "text": lambda: state.append("\ud800"),
        "options": lambda: state.generate(1, temperature=-1),
        "layer": lambda: state.attention(99),
        "positions": lambda: state._core.kv(0, 5, 5),
        "file": lambda: model.restore("/nowhere"),
        "model": lambda: _core.Model("/nowhere", 1, 0, None),
        "tokenizer": lambda: _core.Tokenizer("/nowhere"),
        "checkpoint": lambda: _core.read_checkpoint("/nowhere"),
        "batch": lambda: _core.Batch(model._core, -1),
        "row": lambda: _core.Batch(model._core).add(state._core, (1.0,)),
        "beam": lambda: state._core.beam((1, 2)),
        "progress": lambda: state.fork().append(" world")._core.eval(0, 0, lambda *_: 1 // 0),
        "stop": lambda: state._core.beam(beam, lambda _ids: 1 // 0),
    }


def refused(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return
    raise AssertionError("nothing was refused")


def check(name: str, call: Callable[[], object], model: cacher.Model) -> None:
    def measure() -> tuple[int, int, int, int]:
        for _ in range(ROUNDS):
            call()
        cycles = gc.collect()
        model.drop_cached()
        return cycles, sys.getallocatedblocks(), _core.live_bytes(), model.stats.pages_live

    # Imports and caches of the interpreter grow for a while; a leak grows every time.
    cycles, before, *owned = measure()
    for _ in range(PATIENCE):
        cycles, blocks, *owned_after = measure()
        if cycles < NOISE and blocks - before < NOISE:
            break
        before, owned = blocks, owned_after
    assert cycles < NOISE, f"{name}: {cycles} objects in reference cycles"
    assert blocks - before < NOISE, f"{name}: {blocks - before} blocks more"
    assert owned_after == owned, f"{name}: bytes, pages {owned_after} were {owned}"


def main() -> None:
    model = cacher.load("tales", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        for name, call in operations(model, Path(folder) / "state.json").items():
            check(name, call, model)
        for name, call in refusals(model).items():
            check(f"refused {name}", lambda call=call: refused(call), model)
        classifier = cacher.load(make_tiny("qwen3-reward", Path(folder)), threads=1)
        for name, call in judgements(classifier).items():
            check(name, call, classifier)
        checkpoint = write_checkpoint(Path(folder) / "best.pt", 2)
        chat = cacher.load(checkpoint, threads=1)
        for name, call in readings(chat, checkpoint).items():
            check(name, call, chat)
    del call  # it holds a state
    assert model.stats.pages_live == classifier.stats.pages_live == chat.stats.pages_live == 0


main()
