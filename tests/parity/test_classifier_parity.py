"""Labels and rewards within 2e-4 of transformers (float32, eager), for every kind of head."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cacher  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from models.make_random import CLASSIFIERS, make_random  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 2e-4
LENGTHS = (1, 2, 15, 16, 17, 60, 230)
REWARDS = [name for name in CLASSIFIERS if name.endswith("-reward")]
PADDED = [name for name, (_, options, _) in CLASSIFIERS.items() if options.get("pad_token_id")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the models are made; CACHER_PARITY_MODELS keeps them between runs."""
    kept = os.environ.get("CACHER_PARITY_MODELS")
    return Path(kept) if kept else tmp_path_factory.mktemp("random-classifiers")


def opened(name: str, folder: Path) -> tuple[Any, cacher.Model]:
    path = make_random(name, folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    return theirs.eval(), cacher.load(str(path), threads=2)


def texts(model: cacher.Model) -> list[list[int]]:
    rng = np.random.default_rng(11)
    pad = model.info.pad_token_id
    return [[i for i in rng.integers(8, model.vocab_size, n).tolist() if i != pad] for n in LENGTHS]


def run(theirs: Any, rows: list[list[int]], mask: list[list[int]] | None = None) -> np.ndarray:
    inputs = {"input_ids": torch.tensor(rows)}
    if mask is not None:
        inputs["attention_mask"] = torch.tensor(mask)
    with torch.no_grad():
        return theirs(**inputs).logits.numpy()


def logits(model: cacher.Model, found: cacher.Classification) -> np.ndarray:
    if found.reward is not None:
        return np.array([found.reward])
    by_label = {score.label: score.logit for score in found.scores}
    return np.array([by_label[label] for label in model.labels])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_label_of_several_texts(name: str, folder: Path) -> None:
    theirs, model = opened(name, folder)
    assert list(model.labels) == [theirs.config.id2label[i] for i in range(len(model.labels))]
    several = texts(model)
    want = np.concatenate([run(theirs, [ids]) for ids in several])
    got = np.stack([logits(model, found) for found in model.state().classify_all(several)])
    assert got.shape == want.shape == (len(LENGTHS), theirs.config.num_labels)
    worst, largest = float(np.abs(got - want).max()), float(np.abs(want).max())
    print(f"\n{name:18} worst difference {worst:.2e}, largest logit {largest:.1f}")
    assert largest > 1, "logits this small would hide a mistake"
    assert worst <= TOLERANCE
    for ids, row in zip(several, want, strict=True):
        found = model.state(ids).classify()
        if found.reward is None:
            scores = torch.softmax(torch.tensor(row, dtype=torch.float64), 0).numpy()
            best = int(np.argmax(row))
            assert found.label == theirs.config.id2label[best]
            assert found.score == pytest.approx(scores[best], abs=TOLERANCE)


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_overlooked_as_in_transformers(name: str, folder: Path) -> None:
    theirs, model = opened(name, folder)
    pad, several = theirs.config.pad_token_id, texts(model)
    assert model.info.pad_token_id == pad
    longest = max(map(len, several))
    rows = [ids + [pad] * (longest - len(ids)) for ids in several]
    mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in several]
    want = run(theirs, rows, mask)
    for given in (several, rows):
        got = np.stack([logits(model, found) for found in model.state().classify_all(given)])
        assert np.abs(got - want).max() <= TOLERANCE
    inner = [*several[3], pad, pad, *several[2], pad]
    for ids in (inner, [pad, pad, pad]):
        got = logits(model, model.state(ids).classify())
        assert np.abs(got - run(theirs, [ids])[0]).max() <= TOLERANCE


@pytest.mark.parametrize("name", REWARDS)
def test_every_prefix_has_the_reward_that_transformers_gives_it(name: str, folder: Path) -> None:
    theirs, model = opened(name, folder)
    ids = texts(model)[-2]
    pad = model.info.pad_token_id
    if pad is not None:
        ids = [*ids[:9], pad, pad, *ids[9:], pad]
    want = [float(run(theirs, [ids[: n + 1]])[0, 0]) for n in range(len(ids))]
    found = model.state(ids).classify(per_token=True)
    assert found.per_token is not None
    assert np.abs(np.array(found.per_token.rewards) - want).max() <= TOLERANCE
    assert found.reward == found.per_token.rewards[-1]
