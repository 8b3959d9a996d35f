"""A threshold from labelled pairs: the counts, the bound, the choice, and files that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacher.errors import FileError, ParameterError
from cacher.semantic import pairs as module
from cacher.semantic.bounds import hits_needed, upper_bound
from cacher.semantic.calibrate import Calibration, calibrate, similarities
from cacher.semantic.pairs import Pair, read_pairs


class Angles:
    """Embeds "<degrees> words" as that angle, so that a pair's similarity is known."""

    name = "angles"
    dimension = 2

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.array([math.radians(float(text.split()[0])) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def pair(similarity: float, *, same: bool, word: str = "") -> Pair:
    """A pair of that similarity."""
    return Pair(f"0 {word}", f"{math.degrees(math.acos(similarity))!r} {word}", same)


def found(*pairs: Pair, **options: object) -> Calibration:
    return calibrate(pairs, embedder=Angles(), guard=False, **options)  # type: ignore[arg-type]


def test_hits_and_wrong_hits_are_counted_at_every_threshold() -> None:
    result = found(
        pair(0.955, same=True),
        pair(0.855, same=True),
        pair(0.905, same=False),
        pair(0.2, same=False),
    )
    assert (result.n_pairs, result.n_same, len(result.steps)) == (4, 2, 101)
    counts = {step.threshold: (step.hits, step.wrong) for step in result.steps}
    assert counts[1.0] == (0, 0)
    assert counts[0.95] == (1, 0)
    assert counts[0.9] == (2, 1)
    assert counts[0.85] == (3, 1)
    assert counts[0.0] == (4, 2)
    assert result.at(0.9).wrong_rate == 0.5
    assert result.hit_rate(0.9) == 0.5
    assert result.hit_rate(0.85) == 1.0


def test_a_threshold_counts_inclusively_and_equal_texts_are_one() -> None:
    result = found(Pair("7 a", "7 a", True))
    assert result.at(1.0).hits == 1


def test_the_lowest_threshold_that_is_sure_is_chosen() -> None:
    pairs = [pair(0.855, same=True)] * 400 + [pair(0.805, same=False)] * 20
    result = found(*pairs)
    assert result.threshold == 0.81
    assert result.likely == 0.81
    assert result.at(0.81).bound < 0.01 < result.at(0.8).bound
    assert "95% sure" in str(result)
    assert "400 of 400 pairs of one meaning hit (100.0%), with 0 wrong hits" in str(result)


def test_too_few_pairs_choose_nothing_and_say_how_many_it_takes() -> None:
    result = found(*[pair(0.855, same=True)] * 50)
    assert result.threshold is None
    assert result.likely == 0.5
    assert "299 hits without a wrong one are needed; of these 50 pairs at most 50 hit" in str(
        result
    )
    assert "Up to 5.8% of hits may be wrong" in str(result)


def test_near_misses_above_all_paraphrases_leave_no_guess() -> None:
    result = found(*[pair(0.855, same=True)] * 9, *[pair(0.955, same=False)] * 9)
    assert (result.threshold, result.likely) == (None, None)
    assert str(result).startswith("no threshold")


def test_thresholds_below_half_are_never_chosen() -> None:
    assert found(*[pair(0.2, same=True)] * 400).threshold is None
    assert found(*[pair(0.855, same=True)] * 400).threshold == 0.5


def test_the_guard_turns_hits_into_misses() -> None:
    pairs = [Pair("0 turn it on", "0 turn it off", False), Pair("0 open", "0 open!", True)]
    assert calibrate(pairs, embedder=Angles(), guard=False).at(0.9).wrong == 1
    guarded = calibrate(pairs, embedder=Angles())
    assert (guarded.at(0.9).hits, guarded.at(0.9).wrong) == (1, 0)
    assert guarded.guarded


def test_similarity_is_that_of_the_model() -> None:
    assert similarities([pair(0.25, same=True)], embedder=Angles())[0] == pytest.approx(0.25)


def test_progress_is_told_and_may_end_the_call() -> None:
    seen: list[tuple[int, int]] = []
    pairs = [Pair(f"{i} a", f"{i} b", True) for i in range(50)]
    calibrate(pairs, embedder=Angles(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 100), (100, 100)]

    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="64 of 100"):
        calibrate(pairs, embedder=Angles(), progress=stop)


def probability_of_at_most(wrong: int, hits: int, share: float) -> float:
    return math.fsum(
        math.comb(hits, k) * share**k * (1 - share) ** (hits - k) for k in range(wrong + 1)
    )


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_bound_is_exact(hits: int, part: float, confidence: float) -> None:
    wrong = min(int(part * hits), hits - 1)
    bound = upper_bound(wrong, hits, confidence)
    assert wrong / hits < bound <= 1
    assert probability_of_at_most(wrong, hits, bound) == pytest.approx(1 - confidence, rel=1e-6)


def test_the_bound_at_its_ends() -> None:
    assert upper_bound(0, 0, 0.95) == 1.0
    assert upper_bound(5, 5, 0.95) == 1.0
    assert upper_bound(0, 10, 0.95) == pytest.approx(1 - 0.05**0.1)
    assert upper_bound(0, 10**6, 0.95) == pytest.approx(1 - 0.05**1e-6, rel=1e-6)
    assert upper_bound(5000, 10**6, 0.95) == pytest.approx(0.0051175, rel=1e-3)


@pytest.mark.parametrize("max_wrong", [0.001, 0.01, 0.1])
def test_hits_needed_are_just_enough(max_wrong: float) -> None:
    needed = hits_needed(max_wrong, 0.95)
    assert upper_bound(0, needed, 0.95) <= max_wrong < upper_bound(0, needed - 1, 0.95)


@pytest.mark.parametrize(
    ("pairs", "options", "error", "words"),
    [
        ([], {}, ParameterError, "pairs is empty"),
        ([("0 a", "0 b")], {}, TypeError, "pair 0 must be"),
        ([("0 a", "0 b", 1)], {}, TypeError, "same of pair 0 must be True or False, got int"),
        ([("0 a", "  ", True)], {}, ParameterError, "white space"),
        ([("0 a", 5, True)], {}, TypeError, "string"),
        ([("0 a", "0 b", True)], {"max_wrong": 0}, ParameterError, "max_wrong is 0"),
        ([("0 a", "0 b", True)], {"max_wrong": math.nan}, ParameterError, "max_wrong is nan"),
        ([("0 a", "0 b", True)], {"confidence": 1}, ParameterError, "confidence is 1"),
        ([("0 a", "0 b", True)], {"guard": 1}, TypeError, "guard must be"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    pairs: list[Pair], options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        calibrate(pairs, embedder=Angles(), **options)  # type: ignore[arg-type]


def test_a_notebook_shows_curves_and_the_verdict() -> None:
    html = found(*[pair(0.855, same=True)] * 50)._repr_html_()
    assert html.count("<polyline") == 2
    assert "299 hits" in html
    assert "<script" not in html
    assert "steps" not in repr(found(pair(0.9, same=True)))


def test_a_threshold_outside_0_to_1_has_no_counts() -> None:
    with pytest.raises(ParameterError, match=r"threshold is 1.1, allowed: 0 to 1"):
        found(pair(0.9, same=True)).at(1.1)


def test_pairs_are_read_in_any_order_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('﻿kind,same,other,query\nx,YES,"b, ""c""\nd",a\ny,0,é,f\n', "utf-8")
    assert read_pairs(path) == [Pair("a", 'b, "c"\nd', True), Pair("f", "é", False)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1: no column query, other, same"),
        (b"query,same\na,1\n", "line 1: no column other in 'query,same'"),
        (b"query;other;same\na;b;1\n", "line 1: no column query, other, same"),
        (b"query,other,same\n", "holds no pairs below its header"),
        (b"query,other,same\na,b,1\nc,d,maybe\n", "line 3: same is 'maybe', allowed: 1 or 0"),
        (b"query,other,same\na,b,\n", "line 2: same is ''"),
        (b"query,other,same\na,b\n", "line 2: fewer fields"),
        (b"query,other,same\n ,b,1\n", "line 2, query: .*white space"),
        (b"query,other,same\na," + b"b" * 40000 + b",1\n", "line 2, other: .*40000 characters"),
        (b"query,other,same\na," + b"b" * 200000 + b",1\n", "line 2: no CSV"),
        (b'query,other,same\na,"b"c,1\n', "line 2: no CSV"),
        (b'query,other,same\na,"b,1\n', "no CSV: unexpected end of data"),
        (b"query,other,same\na,b\xe9,1\n", "line 2: the byte 0xe9 is not UTF-8"),
        ("query,other,same\na,b,1\n".encode("utf-16"), "line 1: the byte 0xff is not UTF-8"),
    ],
    ids=range(14),
)
def test_files_without_such_pairs_are_refused_by_line(
    data: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(data)
    with pytest.raises(ParameterError, match=f"pairs.csv.*{words}"):
        read_pairs(path)


def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match=r"nothing.csv cannot be read: No such file"):
        read_pairs(tmp_path / "nothing.csv")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read_pairs(tmp_path)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    path = tmp_path / "pairs.csv"
    path.write_text("query,other,same\na,b,1\n")
    with pytest.raises(FileError, match=r"pairs.csv has more than 10 bytes"):
        read_pairs(path)


def test_the_labelled_set_of_the_project_is_what_it_says() -> None:
    pairs = read_pairs(Path(__file__).parents[2] / "benchmarks/semantic_pairs.csv")
    assert len(pairs) == len(set(pairs)) >= 300
    assert 0.4 < sum(pair.same for pair in pairs) / len(pairs) < 0.6


def test_the_default_setting_keeps_wrong_hits_below_one_percent() -> None:
    pairs = read_pairs(Path(__file__).parents[2] / "benchmarks/semantic_pairs.csv")
    step = calibrate(pairs, embedder="minilm").at(0.8)
    assert step.wrong_rate < 0.01
    assert step.hits > 200
    assert calibrate(pairs, embedder="minilm", guard=False).at(0.8).wrong_rate > 0.3
