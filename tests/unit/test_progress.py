from __future__ import annotations

import io
import sys

import pytest

import cacher
from cacher.progress import LONG_TEXT, reading


def test_a_callback_sees_the_tokens_read(model: cacher.Model) -> None:
    model.drop_cached()
    seen: list[tuple[int, int]] = []
    model.state([300] * 1000).forward(progress=lambda done, total: seen.append((done, total)))
    assert len(seen) >= 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (1000, 1000)


def test_an_exception_in_a_callback_ends_the_call_and_comes_out(model: cacher.Model) -> None:
    model.drop_cached()
    state = model.state([301] * 1000)

    def fail(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.forward(progress=fail)
    assert state.head_position == 0
    assert state.forward().head_position == 1000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_appears_for_long_texts_where_somebody_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for stream, total, progress, shown in [
        (Terminal(), LONG_TEXT + 1, None, True),
        (Terminal(), LONG_TEXT, None, False),
        (io.StringIO(), LONG_TEXT + 1, None, False),
        (io.StringIO(), 5, True, True),
        (Terminal(), LONG_TEXT + 1, False, False),
    ]:
        monkeypatch.setattr(sys, "stderr", stream)
        with reading(progress, total) as callback:
            assert (callback is not None) == shown
            if callback is not None:
                callback(total, total)
        assert ("reading" in stream.getvalue()) == shown
