"""Models that judge texts, over HTTP: section 2.5 and checklist 102, 103."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import cacher
from tests.models.make_tiny import CLASSIFIERS, make_tiny, write_tokenizer
from tests.server.conftest import Api, over_socket

TEXT = "It was fine"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifiers")
    for name in CLASSIFIERS:
        write_tokenizer(make_tiny(name, folder))
    return folder


@pytest.fixture(scope="module")
def _served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    states = tmp_path_factory.mktemp("states")
    settings = {"MODELS_DIR": str(models), "OFFLINE": True, "CACHE_DIR": str(states)}
    with over_socket(**settings) as address:
        yield address


@pytest.fixture(params=[("", ""), ("/v1", "/")], ids=["U", "V"])
def judge(_served: str, request: pytest.FixtureRequest) -> Iterator[Api]:
    with httpx.Client(base_url=_served, timeout=60) as http:
        yield Api(http, *request.param)


def made(judge: Api, model_id: str, text: str = TEXT) -> str:
    state_id: str = judge.post("/states", model_id=model_id, text=text)["state_id"]
    return state_id


def test_models_tell_their_type_and_labels(judge: Api) -> None:
    listed = {model["model_id"]: model["model_type"] for model in judge.get("/models")}
    built_in = {"tales": "causal_lm", "minilm": "encoder"}
    assert listed == dict.fromkeys(CLASSIFIERS, "sequence_classification") | built_in
    config = judge.get("/models/gpt2-labels")["config"]
    assert config["id2label"] == {"0": "bad", "1": "so so", "2": "good"}
    assert judge.get("/models/mistral-labels")["config"]["id2label"]["19"] == "LABEL_19"


def test_a_state_that_cannot_be_analysed_is_not_made(judge: Api) -> None:
    total = judge.get("/states")["total"]
    body = {"model_id": "gpt2-labels", "text": TEXT, "token_analysis": True}
    judge.refused(400, "wrong_model_type", "/states", **body)
    for path in ("/forward", "/generate"):
        body = {"model_id": "gpt2-labels", "text_input": TEXT}
        judge.refused(400, "wrong_model_type", path, **body)
    assert judge.get("/states")["total"] == total


def test_102_a_known_label_and_scores_that_sum_to_one(judge: Api, models: Path) -> None:
    state_id = made(judge, "gpt2-labels")
    found = judge.post("/analyze/classify", state_id=state_id)
    assert found["label"] in ("bad", "so so", "good")
    assert 0 <= found["score"] <= 1
    assert sum(score["score"] for score in found["scores"]) == pytest.approx(1)
    assert found["reward"] is None
    assert "per_token" not in found
    want = cacher.load(str(models / "gpt2-labels")).state(TEXT).classify()
    assert [(s["label"], s["score"], s["logit"]) for s in found["scores"]] == [
        (s.label, s.score, s.logit) for s in want.scores
    ]
    other = judge.post("/analyze/classify", state_id=state_id, text="It was bad")
    assert other["scores"] != found["scores"]
    judge.refused(400, "empty_input", "/analyze/classify", state_id=state_id, text="")
    judge.refused(422, "validation_error", "/analyze/classify", state_id=state_id, threshold=2)


def test_103_one_output_is_a_reward(judge: Api) -> None:
    state_id = made(judge, "qwen3-reward")
    found = judge.post("/analyze/classify", state_id=state_id, per_token=True)
    assert found["score"] == pytest.approx(1 / (1 + math.exp(-found["reward"])), abs=1e-6)
    assert found["label"] == ("positive" if found["score"] >= 0.5 else "negative")
    tokens = found["per_token"]
    assert "".join(tokens["tokens"]) == f"<s>{TEXT}</s>"
    assert tokens["start_positions"] == [-1, *range(len(TEXT)), -1]
    assert tokens["rewards"][-1] == found["reward"]
    assert tokens["average"] == pytest.approx(tokens["cumulative"][-1] / len(tokens["tokens"]))


def test_several_texts_and_how_their_labels_go_together(judge: Api) -> None:
    state_id = made(judge, "gpt2-labels")
    texts = ["It was fine", "It was bad", "So so."]
    several = judge.post(
        "/analyze/classify", state_id=state_id, texts=texts, include_correlation=True
    )
    alone = [judge.post("/analyze/classify", state_id=state_id, text=text) for text in texts]
    assert several["results"] == [
        {key: value for key, value in one.items() if key != "state_id"} for one in alone
    ]
    correlation = several["label_correlation"]
    assert correlation["labels"] == ["bad", "so so", "good"]
    assert [correlation["matrix"][i][i] for i in range(3)] == [1.0, 1.0, 1.0]


def test_operations_must_fit_the_model(judge: Api) -> None:
    state_id = made(judge, "qwen3-reward")
    wrong = (400, "wrong_model_type")
    for path in ("/generate/token", "/generate/multi", "/generate/beam", "/generate", "/forward"):
        judge.refused(*wrong, path, state_id=state_id, text_input=" indeed")
    judge.refused(*wrong, f"/states/{state_id}/top_tokens", "GET")
    judge.refused(*wrong, f"/analysis/tokens/{state_id}", "GET")
    judge.refused(*wrong, f"/analysis/cache/{state_id}")
    judge.refused(*wrong, "/analyze/classify", state_id=state_id, labels=["a", "b"])
    assert judge.get(f"/states/{state_id}")["revision"] == 1
    judge.post("/analyze/embedding", state_id=state_id)
    judge.post(f"/analysis/attention/{state_id}")
    story = made(judge, "tales")
    judge.refused(*wrong, "/analyze/classify", state_id=story)
    for model_id, model_type in (
        ("tales", "sequence_classification"), ("gpt2-labels", "causal_lm"),
    ):  # fmt: skip
        judge.refused(*wrong, "/states", model_id=model_id, model_type=model_type)
    body = judge.post("/states", model_id="gpt2-labels", model_type="sequence_classification")
    assert body["model_type"] == "sequence_classification"
    judge.refused(400, "empty_state", "/analyze/classify", state_id=body["state_id"])
