"""From a model id to a model: the order of places, one load each, and ids that are paths."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

import cacher
from cacher import ModelError, ModelNotFoundError, ParameterError, hub, registry
from cacher.config import Settings
from cacher.registry import Registry
from tests.models.make_tiny import CLASSIFIERS, make_tiny
from tests.unit.test_hub import cached_snapshot


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cache of the user's, no models that other tests registered."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(registry, "_registered", {})


def models_dir(tmp_path: Path, *ids: str) -> Settings:
    for model_id in ids:
        shutil.copytree(hub.find("tales"), tmp_path / "models" / model_id)
    return Settings(MODELS_DIR=str(tmp_path / "models"), OFFLINE=True)


def test_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = cached_snapshot(tmp_path, "someone/stories")
    settings = models_dir(tmp_path, "mine", "a/b", "tales")
    models = Registry(settings)
    assert models.resolve("tales").folder == hub.find("tales")  # built in before the folder
    assert models.resolve("mine").folder == tmp_path / "models/mine"
    assert models.resolve("a/b").folder == tmp_path / "models/a/b"
    assert models.resolve("someone/stories").folder == snapshot
    shutil.copytree(tmp_path / "models/mine", tmp_path / "models/someone/stories")
    assert models.resolve("someone/stories").place == "in the models folder"
    registry.register_model("tales", lambda: cacher.load("tales"))
    assert models.resolve("tales").place == "registered"


def test_aliases_are_applied_once() -> None:
    models = Registry(Settings(MODEL_ALIASES={"gpt2": "tales", "tales": "other"}))
    assert models.resolve("gpt2").model_id == "tales"
    with pytest.raises(ModelNotFoundError, match=r"'other' \(the alias 'tales'\)"):
        models.resolve("tales")
    assert models.load("gpt2").name == "tales"


def test_downloads_are_for_ids_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert Registry(Settings()).resolve("gpt2").place == "from the hub"
    with pytest.raises(ModelNotFoundError, match="CACHER_HUB_MODELS"):
        Registry(Settings()).resolve("someone/else")
    with pytest.raises(ModelNotFoundError, match="offline"):
        Registry(Settings(OFFLINE=True)).resolve("gpt2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="offline"):
        Registry(Settings()).resolve("gpt2")


@pytest.mark.parametrize("model_id", ["../tales", "a/../../b", "..", "/etc", "a\n", "", "ä", "-x"])
def test_ids_that_are_none(model_id: str) -> None:
    with pytest.raises(ParameterError, match="model_id"):
        Registry(Settings()).load(model_id)


@pytest.mark.parametrize("model_id", ["mine/", "./mine", "mine/.", "a//b", "a/./b"])
def test_a_folder_has_one_spelling(tmp_path: Path, model_id: str) -> None:
    models = Registry(models_dir(tmp_path, "mine", "a/b"))
    with pytest.raises((ModelNotFoundError, ParameterError)):
        models.resolve(model_id)


def test_a_model_is_loaded_once() -> None:
    models = Registry(Settings())
    found: list[cacher.Model] = []
    threads = [
        threading.Thread(target=lambda: found.append(models.load("tales"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(model) for model in found}) == 1
    assert models.loaded() == {"tales": found[0]}


def test_states_begin_with_the_settings() -> None:
    settings = Settings(
        DEFAULT_TEMPERATURE=0.2, DEFAULT_SEED=None, LOGITS_STORAGE="none", KV_BUDGET_MB=64,
        DTYPE="bf16", KV_DTYPE="bf16",
        MODEL_CONFIG={"tales": {"max_length": 100, "top_p": 0.5}},
    )  # fmt: skip
    model = Registry(settings).load("tales")
    config = model.state().config
    assert (config.temperature, config.top_p, config.seed) == (0.2, 0.5, None)
    assert config.store_logits == "none"
    assert model.state().context_limit == 100
    assert model.stats.kv_budget_bytes == 64 * 2**20
    assert (model.info.dtype, model.info.kv_dtype) == ("bf16", "bf16")


def test_the_default_model(tmp_path: Path) -> None:
    assert Registry(Settings()).default == "tales"
    assert Registry(Settings(MODEL_NAME="x", MODEL_ALIASES={"x": "y"})).default == "y"
    assert Registry(models_dir(tmp_path, "gpt2")).default == "gpt2"


def test_what_can_be_loaded(tmp_path: Path) -> None:
    settings = models_dir(tmp_path, "mine", "a/b", "broken", "-bad")
    (tmp_path / "models/broken/config.json").write_text("{")
    registry.register_model("other", lambda: cacher.load("tales"), "A friend's")
    facts = {known.model_id: known for known in Registry(settings).available()}
    own = [model_id for model_id in hub.built_in() if model_id != "tales"]
    assert list(facts) == ["tales", *own, "other", "a/b", "mine"]
    assert facts["tales"].default
    assert facts["other"].description == "A friend's"
    assert facts["mine"].description == "llama, causal language model, in the models folder"


def test_facts_have_the_common_keys(tmp_path: Path) -> None:
    settings = models_dir(tmp_path, "mine")
    path = tmp_path / "models/mine/config.json"
    config = json.loads(path.read_text())
    config |= {
        "_name_or_path": "/home/somebody",
        "architectures": ["LlamaForSequenceClassification"],
    }
    del config["bos_token_id"]
    path.write_text(json.dumps(config))
    models = Registry(settings)
    facts = models.facts("mine")
    assert (facts.model_type, facts.default) == ("sequence_classification", False)
    assert models.loaded() == {}
    assert (facts.config["n_layer"], facts.config["bos_token_id"]) == (6, None)
    assert "somebody" not in str(facts)
    assert facts.config["hidden_size"] == facts.config["n_embd"] == 256


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_tells_its_labels(name: str, tmp_path: Path) -> None:
    make_tiny(name, tmp_path / "models")
    models = Registry(Settings(MODELS_DIR=str(tmp_path / "models"), OFFLINE=True))
    known = models.facts(name)
    labels = models.load(name).labels
    assert known.model_type == models.facts(name).model_type == "sequence_classification"
    assert known.config["id2label"] == {str(i): label for i, label in enumerate(labels)}
    registry.register_model("mine", lambda: cacher.load(str(tmp_path / "models" / name)))
    mine = models.facts("mine")
    assert (mine.model_type, mine.config["id2label"]) == (
        known.model_type,
        known.config["id2label"],
    )
    assert mine.config["model_type"] == known.config["model_type"]
    assert "id2label" not in models.facts("tales").config


def test_registered_models_have_their_id() -> None:
    models = Registry(Settings())
    registry.register_model("mine", lambda: cacher.load("tales"))
    assert models.load("mine").name == "mine"
    assert models.facts("mine").config["n_ctx"] == 1024
    registry.register_model("wrong", lambda: 1)  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match="returned a int"):
        models.load("wrong")
    with pytest.raises(TypeError, match="callable"):
        registry.register_model("x", 1)  # type: ignore[arg-type]
