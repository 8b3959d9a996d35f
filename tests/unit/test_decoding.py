from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacher
from cacher.decoding import StopMatcher, continuation_pieces


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (("ab",), ["xa", "by"], [None, "ab"]),
        (("b", "ab"), ["ab"], ["b"]),
        (("ab", "b"), ["ab"], ["ab"]),
        (("abc",), ["a", "b", "", "c"], [None, None, None, "abc"]),
        (("aab",), ["aa", "ab"], [None, "aab"]),
        (("ab", "xyz"), ["ab", "c"], ["ab", None]),
        ((), ["ab"], [None]),
    ],
)
def test_a_match_ends_with_the_piece_that_completes_it(
    stops: tuple[str, ...], pieces: list[str], expected: list[str | None]
) -> None:
    matcher = StopMatcher(stops)
    assert [matcher.push(piece) for piece in pieces] == expected


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple),
    pieces=st.lists(st.text("ab", max_size=3), max_size=12),
)
def test_the_first_match_is_that_of_a_search_in_the_whole_text(
    stops: tuple[str, ...], pieces: list[str]
) -> None:
    matcher, text = StopMatcher(stops), ""
    for piece in pieces:
        text += piece
        found = matcher.push(piece)
        assert (found is not None) == any(stop in text for stop in stops)
        if found is not None:
            ends = [(text.find(s) + len(s), i) for i, s in enumerate(stops) if s in text]
            assert found == stops[min(ends)[1]]
            return


def test_a_character_begun_by_the_state_is_finished_by_the_continuation(
    model: cacher.Model,
) -> None:
    ids = model.tokenizer.encode("🦊")
    state = model.state(ids[:-1])
    assert continuation_pieces(state, ids[-1:]) == ["🦊"]
