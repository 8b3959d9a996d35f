"""Analysis over HTTP: checklist 84 to 107."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

import httpx
import numpy as np
import pytest

import cacher
from tests.models.make_tiny import make_tiny
from tests.server.conftest import Api, over_socket

SPELLINGS = ("/analysis", "/analyze", "/v1/analysis", "/v1/analyze")


def test_84_86_tokens(api: Api) -> None:
    state_id = api.new("Hello world, and")
    found = api.get(f"/analysis/tokens/{state_id}")
    assert "".join(token["text"] for token in found["tokens"]) == "Hello world, and"
    assert [token["position"] for token in found["tokens"]] == [0, 1, 2, 3]
    logprobs = [token["logprob"] for token in found["tokens"]]
    assert all(logprob <= 0 for logprob in logprobs)
    assert found["perplexity"] == pytest.approx(exp(-sum(logprobs[1:]) / 3))
    assert found["total_logprob"] == pytest.approx(sum(logprobs))
    assert found["tokens"][0].keys() == {
        "text", "position", "logprob", "probability", "token_id", "rank", "entropy",
    }  # fmt: skip
    empty = api.get(f"/analysis/tokens/{api.new(None)}")
    assert (empty["tokens"], empty["perplexity"]) == ([], None)


def test_more_about_tokens(api: Api) -> None:
    state_id = api.new("the cat and the cat and the cat")
    query = {"top": 3, "ngrams": 2, "histogram": True, "correlation": "true"}
    found = api.get(f"/analysis/tokens/{state_id}", **query)
    assert [len(token["top_tokens"]) for token in found["tokens"]] == [3] * found["token_count"]
    assert found["ngrams"][0]["count"] >= 2
    assert [part["from"] for part in found["histogram"]] == pytest.approx(np.arange(10) / 10)
    assert sum(part["count"] for part in found["histogram"]) == found["token_count"]
    assert found["correlation"].keys() == {"logprob_entropy_pearson", "logprob_lag1"}
    for bad in ({"top": 101}, {"ngrams": 1}, {"ngrams": 6}, {"histogram": "maybe"}):
        answer = api.call("GET", f"/analysis/tokens/{state_id}", params=bad)
        assert (answer.status_code, answer.json()["detail"][0]["loc"][0]) == (422, "query")


@pytest.mark.parametrize("root", SPELLINGS)
def test_85_all_spellings(http: httpx.Client, root: str) -> None:
    state_id = Api(http, "", "").new()
    for slash in ("", "/"):
        for method, path in (
            ("GET", f"/tokens/{state_id}"), ("POST", f"/attention/{state_id}"),
            ("GET", f"/attention/{state_id}/heatmap"), ("GET", f"/attention/{state_id}/heads"),
            ("GET", "/cache/stats"), ("POST", f"/cache/{state_id}"),
        ):  # fmt: skip
            assert http.request(method, root + path + slash).status_code == 200
        for path in ("/attention", "/cache/inspect", "/embedding"):
            answer = http.post(root + path + slash, json={"state_id": state_id})
            assert answer.status_code == 200


def test_87_stored_logits(api: Api) -> None:
    state_id = api.new(config={"top_k_logits": 3})
    before = api.get(f"/analysis/tokens/{state_id}", include_logits=True)["tokens"]
    assert [token["top_logits"] for token in before] == [None, None]
    api.post("/forward", state_id=state_id, text_input="")
    for token in api.get(f"/analysis/tokens/{state_id}", include_logits=True)["tokens"]:
        logits = [entry["logit"] for entry in token["top_logits"]]
        assert len(logits) == 3
        assert logits == sorted(logits, reverse=True)
    state_id = api.new(config={"store_logits": "none"})
    api.post("/forward", state_id=state_id, text_input="")
    tokens = api.get(f"/analysis/tokens/{state_id}", include_logits=True)["tokens"]
    assert [token["top_logits"] for token in tokens] == [None, None]
    state_id = api.new(config={"store_logits": "full"})
    api.post("/forward", state_id=state_id, text_input="")
    tokens = api.get(f"/analysis/tokens/{state_id}", include_logits=True)["tokens"]
    assert [len(token["top_logits"]) for token in tokens] == [4096, 4096]


def test_88_89_93_94_attention(api: Api) -> None:
    state_id = api.new()
    path = f"/analysis/attention/{state_id}"
    plain = api.call("POST", path).json()
    assert plain == api.post(path) == api.post("/analysis/attention", state_id=state_id)
    assert plain == api.post(path, state_id=state_id)
    refusal = api.refused(400, "state_id_mismatch", path, state_id="other")
    assert state_id in refusal["detail"]
    matrix = plain["attention_pattern"]
    assert matrix == plain["attention_matrix"] == plain["attention_patterns"][0]["patterns"]
    assert np.shape(matrix) == (2, 2)
    assert plain["tokens"] == ["Hello", " world"]
    assert {"model", "threshold", "max_attention", "min_attention"} <= plain["metadata"].keys()
    assert plain["metadata"]["cross_attention"] is None
    found = api.post(path, layer=5, head=0)
    assert (found["layer"], found["head"]) == (5, 0)
    api.refused(400, "layer_out_of_range", path, layer=9999)
    api.refused(400, "layer_out_of_range", path, layer=-1)
    api.refused(400, "head_out_of_range", path, head=9999)
    for bad in ({"threshold": 1.5}, {"layer": "x"}, {"position_range": [1, 0]}, {"normalize": 1}):
        api.refused(422, "validation_error", path, **bad)


def test_90_to_92_thresholds(api: Api) -> None:
    state_id = api.new("Once upon a time there was a little fox")
    path = f"/analysis/attention/{state_id}"
    full = np.array(api.post(path, threshold=0.0)["attention_matrix"])
    assert full.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert (np.triu(full, 1) == 0).all()
    cut = np.array(api.post(path, threshold=0.1)["attention_matrix"])
    assert not ((cut > 0) & (cut <= 0.1)).any()
    assert (cut[full > 0.1] == full[full > 0.1]).all()
    default = np.array(api.post(path)["attention_matrix"])
    assert (default == (full if api.dialect == "V" else cut)).all()
    again = np.array(api.post(path, threshold=0.1, renormalize=True)["attention_matrix"])
    sums = again.sum(axis=1)
    assert all(s == pytest.approx(1) or s == 0 for s in sums)


def test_95_means_and_expansion(api: Api) -> None:
    state_id = api.new("Once upon a time")
    path = f"/analysis/attention/{state_id}"
    mean = np.array(api.post(path, layer=2, threshold=0.0)["attention_matrix"])
    heads = [
        api.post(path, layer=2, head=head, threshold=0.0)["attention_matrix"] for head in range(8)
    ]
    assert np.mean(heads, axis=0) == pytest.approx(mean, abs=1e-4)
    found = api.post(path, layer=2, per_head=True, threshold=0.0)["attention_patterns"]
    assert [(one["layer"], one["head"]) for one in found] == [(2, head) for head in range(8)]
    assert np.array(found[3]["patterns"]) == pytest.approx(np.array(heads[3]))
    part = api.post(path, layer=2, position_range=[1, 2])
    assert part["tokens"] == [" upon", " a"]


def test_heads_and_heat_map(api: Api) -> None:
    state_id = api.new("Once upon a time")
    heads = api.get(f"/analysis/attention/{state_id}/heads", layer=1)["heads"]
    assert [(head["layer"], head["head"]) for head in heads] == [(1, i) for i in range(8)]
    assert all(0 <= head["importance"] <= 1 for head in heads)
    answer = api.call("GET", f"/analysis/attention/{state_id}/heatmap", params={"layer": 0})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.text


def test_96_97_cache_objects(http: httpx.Client) -> None:
    api = Api(http, "", "")
    path = f"/analysis/cache/{api.new()}"
    data = api.call("POST", path).json()["cache_data"]
    assert np.ndim(data["keys"]) == np.ndim(data["values"]) == 2
    assert len(data["keys"]) == len(data["values"]) == len(data["layers"]) == 6
    assert data["layer_data"][0]["keys"].keys() == {"mean", "std", "min", "max", "norm"}
    two = api.post(path, layer_range=[0, 1])
    assert (two["layers_returned"], len(two["cache_data"]["keys"])) == ([0, 1], 2)
    assert api.post(path, layer_range=[0, 999])["layers_returned"] == list(range(6))
    for bad in ([2, 1], [0], [-1, 2], [0, 1, 2], "x"):
        api.refused(422, "validation_error", path, layer_range=bad)
    api.refused(400, "layer_out_of_range", path, layer_range=[99, 100])
    api.refused(400, "layer_out_of_range", path, layer=6)
    api.refused(400, "head_out_of_range", path, head=99)
    assert api.post(path, key_name="keys")["cache_data"]["values"] == []


def test_98_to_100_cache_lists(http: httpx.Client) -> None:
    u, v = Api(http, "", ""), Api(http, "/v1", "/")
    state_id = u.new()
    found = v.post("/analyze/cache/inspect", state_id=state_id, layer=0, key_name="k")
    assert found["axes"] == ["head", "position", "dim"]
    assert list(np.shape(found["cache_data"])) == found["shape"] == [4, 2, 32]
    body = {"state_id": state_id, "layer": 0, "key_name": "k"}
    assert u.post("/analysis/cache/inspect", **body, format="list") == found
    plain = u.post("/analysis/cache/inspect", **body)
    assert v.post("/analysis/cache/inspect", **body, format="object") == plain
    for api in (u, v):
        placeholder = api.post(
            f"/analysis/cache/{state_id}", key_name="optional_key", layer_range=[0, 5]
        )
        assert (placeholder["matched"], placeholder["available_keys"]) == (False, ["k", "v"])


def test_101_unknown_and_empty_states(api: Api) -> None:
    empty = api.new(None)
    for method, path in (
        ("GET", "/analysis/tokens/{}"), ("POST", "/analysis/attention/{}"),
        ("POST", "/analysis/cache/{}"), ("GET", "/analysis/attention/{}/heads"),
        ("GET", "/analysis/attention/{}/heatmap"),
    ):  # fmt: skip
        api.refused(404, "state_not_found", path.format("nobody"), method)
        if "tokens" not in path:
            api.refused(400, "empty_state", path.format(empty), method)
    for path in ("/analysis/attention", "/analysis/cache/inspect", "/analysis/embedding"):
        api.refused(404, "state_not_found", path, state_id="nobody")
        api.refused(422, "validation_error", path)
    api.refused(404, "state_not_found", "/analyze/classify", state_id="nobody")


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with a classifier and a reward model in its models folder."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = cacher.hub.find("tales") / "tokenizer.json"
    for name in ("gpt2-labels", "qwen3-reward"):
        folder = make_tiny(name, root, vocab_size=4096)
        (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    with (
        over_socket(MODELS_DIR=str(root)) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        yield Api(http, "", "")


def test_102_classifiers(judges: Api) -> None:
    model_id = "gpt2-labels"
    assert judges.get(f"/models/{model_id}")["config"]["id2label"]["0"] == "bad"
    state = judges.post("/states", model_id=model_id, text="Hello world")
    assert state["model_type"] == "sequence_classification"
    state_id = state["state_id"]
    found = judges.post("/analyze/classify", state_id=state_id)
    assert found["label"] in ("bad", "so so", "good")
    assert sum(score["score"] for score in found["scores"]) == pytest.approx(1)
    assert 0 <= found["score"] <= 1
    assert found["reward"] is None
    assert judges.post("/analyze/classify", state_id=state_id, text="Hello world") == found
    for path in ("/generate/token", "/generate/multi", "/generate/beam"):
        judges.refused(400, "wrong_model_type", path, state_id=state_id)
    judges.refused(400, "wrong_model_type", "/forward", state_id=state_id, text_input="x")
    judges.refused(400, "wrong_model_type", f"/analysis/tokens/{state_id}", "GET")
    judges.refused(400, "wrong_model_type", f"/states/{state_id}/top_tokens", "GET")
    judges.refused(400, "wrong_model_type", f"/analysis/cache/{state_id}")
    judges.refused(400, "wrong_model_type", "/states", model_id=model_id, model_type="causal_lm")
    assert judges.post(f"/analysis/attention/{state_id}", layer=0)["layer"] == 0
    assert judges.post("/analyze/embedding", state_id=state_id)["dimension"] > 0


def test_103_reward_models(judges: Api) -> None:
    state_id = judges.post("/states", model_id="qwen3-reward", text="Hello world")["state_id"]
    found = judges.post("/analyze/classify", state_id=state_id, per_token=True)
    assert found["score"] == pytest.approx(1 / (1 + exp(-found["reward"])), abs=1e-6)
    assert found["label"] == ("positive" if found["score"] >= 0.5 else "negative")
    per_token = found["per_token"]
    assert per_token["tokens"] == ["Hello", " world"]
    assert per_token["rewards"][-1] == pytest.approx(found["reward"])


def test_104_zero_shot(api: Api) -> None:
    state_id = api.new()
    found = api.post("/analyze/classify", state_id=state_id, labels=["happy", "sad", "cold"])
    assert {score["label"] for score in found["scores"]} == {"happy", "sad", "cold"}
    assert sum(score["score"] for score in found["scores"]) == pytest.approx(1)
    assert found["label"] == found["scores"][0]["label"]
    several = api.post(
        "/analyze/classify", state_id=state_id, labels=["a", "b"], texts=["x y", "z"],
        include_correlation=True, multi_label=True,
    )  # fmt: skip
    assert len(several["results"]) == 2
    assert several["label_correlation"]["labels"] == ["a", "b"]
    api.refused(400, "wrong_model_type", "/analyze/classify", state_id=state_id)
    labels = ["a", "b"]
    api.refused(400, "empty_input", "/analyze/classify", state_id=state_id, labels=labels, text="")
    for bad in (
        {"labels": ["a"]}, {"labels": ["a", "a"]}, {"labels": ["a", ""]}, {"template": "no slot"},
        {"threshold": 2}, {"texts": []}, {"texts": ["x"] * 65},
    ):  # fmt: skip
        body = {"state_id": state_id, "labels": labels, **bad}
        api.refused(422, "validation_error", "/analyze/classify", **body)


def test_105_embeddings(api: Api) -> None:
    state_id = api.new()
    found = api.post("/analyze/embedding", state_id=state_id, token_index=0)
    assert found["dimension"] == len(found["embedding"]) == 256
    last = api.post("/analyze/embedding", state_id=state_id, token_index=-1)
    assert (last["token"], last["token_index"]) == (" world", -1)
    one = api.post("/analyze/embedding", state_id=state_id, token_index=1)
    assert last["embedding"] == one["embedding"]
    mean = api.post("/analyze/embedding", state_id=state_id)
    assert (mean["token"], mean["token_index"]) == (None, None)
    table = api.post("/analyze/embedding", state_id=state_id, token_index=0, kind="input")
    assert table["embedding"] != found["embedding"]
    for index in (2, -3):
        api.refused(
            400, "token_index_out_of_range", "/analyze/embedding", state_id=state_id,
            token_index=index,
        )  # fmt: skip
    api.refused(400, "layer_out_of_range", "/analyze/embedding", state_id=state_id, layer=7)


def test_107_looking_changes_nothing(api: Api) -> None:
    state_id = api.new()
    before = api.get(f"/states/{state_id}")
    api.get(f"/states/{state_id}/top_tokens")
    api.post("/generate/multi", state_id=state_id)
    api.post("/generate/beam", state_id=state_id, max_length=2)
    api.get(f"/analysis/tokens/{state_id}")
    api.post(f"/analysis/attention/{state_id}")
    api.post(f"/analysis/cache/{state_id}")
    api.post("/analyze/embedding", state_id=state_id)
    api.post("/analyze/classify", state_id=state_id, labels=["a", "b"])
    assert api.get(f"/states/{state_id}") == before
    assert len(api.get(f"/states/{state_id}/history")["events"]) == 1


def test_cache_stats(api: Api) -> None:
    api.new()
    stats = api.get("/analysis/cache/stats")
    assert stats["states_in_memory"] > 0
    assert stats["files"]["total_files"] == stats["states_on_disk"] > 0
    assert stats["files"]["newest_file"]["name"].endswith(".json")
    assert 0 <= stats["hit_rate"] <= 1
