"""The fixture writer and the reference: the documented vectors hold without cacher."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.models import niels
from tests.niels_gpt.vectors import PROMPT, VECTORS, Vectors
from tests.reference import niels as reference


@pytest.mark.parametrize("generation", [1, 2])
def test_the_formula_gives_the_documented_weights(generation: int) -> None:
    weights, want = niels.vector_tensors(generation), VECTORS[generation]
    assert len(weights) == {1: 23, 2: 22}[generation]
    begin = {name: weights[name].reshape(-1)[: len(row)] for name, row in want.weights.items()}
    for name, row in want.weights.items():
        np.testing.assert_allclose(begin[name], row, atol=1e-6)


@pytest.mark.parametrize("generation", [1, 2])
def test_the_reference_gives_the_documented_numbers(generation: int) -> None:
    weights, want = niels.vector_tensors(generation), VECTORS[generation]
    logits, attention = reference.forward(weights, niels.SMALL, PROMPT)
    check_logits(logits, want)
    row = attention[1, 0, -1]
    np.testing.assert_allclose(np.r_[row[:8], row[-4:]], want.attention, atol=5e-4)
    assert reference.greedy(weights, niels.SMALL, PROMPT, 12) == want.greedy


def check_logits(logits: np.ndarray, want: Vectors) -> None:
    np.testing.assert_allclose(logits[-1][list(want.logits)], list(want.logits.values()), atol=1e-3)
    best = np.argsort(-logits[-1])[:5]
    assert best.tolist() == list(want.best)
    np.testing.assert_allclose(logits[-1][best], list(want.best.values()), atol=1e-3)
    ((token, value),) = want.first.items()
    assert int(np.argmax(logits[0])) == token
    assert logits[0][token] == pytest.approx(value, abs=1e-3)


def test_entries_are_aligned_and_stored(tmp_path: Path) -> None:
    path = niels.write_checkpoint(tmp_path / "best.pt", 1)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names[0] == "best/data.pkl"
        assert {"best/byteorder", "best/version", "best/data/0", "best/data/22"} < set(names)
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            start = path.read_bytes().find(archive.read(info))
            assert start % 64 == 0 or info.file_size < 64
