"""Models opened and closed, the module imported twice: nothing stays, nothing is shared."""

import gc
import importlib
import sys


def main() -> None:
    import cacher
    from cacher import _core

    types = {name: sys.getrefcount(getattr(_core, name)) for name in ("State", "Array", "Batch")}
    before = _core.live_bytes()
    for _ in range(10):
        model = cacher.load("tales", threads=2)
        array = model.state("Hello").attention(0)
        decoder = model.tokenizer.stream_decoder()
        del model
        assert array.sum() > 0
        assert decoder.push(300) is not None
        del array, decoder
    gc.collect()
    assert _core.live_bytes() == before
    after = {name: sys.getrefcount(getattr(_core, name)) for name in types}
    assert after == types, (types, after)

    del sys.modules["cacher._core"]
    from cacher import errors

    second = importlib.import_module("cacher._core")

    assert second.State is not _core.State, "per-module state: types of their own"
    assert issubclass(errors.StateBusyError, errors.CacherError)


main()
