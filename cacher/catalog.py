"""What is known of a model from its folder alone, in the words that all families share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cacher.errors import ModelFormatError

if TYPE_CHECKING:
    from pathlib import Path

    from cacher.model import Model

MAX_CONFIG_BYTES = 4 * 2**20
MAX_LABELS = 65_536  # of a model the core opens
ENCODERS = frozenset({"bert", "modernbert"})
TYPE_WORDS = {
    "causal_lm": "causal language model",
    "sequence_classification": "sequence classification model",
    "encoder": "sentence encoder",
}
# Keys that every model's facts have, with the names that families use for them.
COMMON_KEYS = {
    "vocab_size": ("vocab_size",),
    "n_ctx": ("n_ctx", "n_positions", "max_position_embeddings"),
    "n_embd": ("n_embd", "hidden_size"),
    "n_layer": ("n_layer", "num_hidden_layers"),
    "n_head": ("n_head", "num_attention_heads"),
    "bos_token_id": ("bos_token_id",),
    "eos_token_id": ("eos_token_id",),
    "model_type": ("model_type",),
}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model without loading it.

    Attributes:
        model_id: Its id.
        description: A line for people.
        model_type: ``"causal_lm"``, ``"sequence_classification"`` or ``"encoder"``.
        default: Whether it is used where none is named.
        config: Its configuration, with the keys that every model has.
    """

    model_id: str
    description: str
    model_type: str
    default: bool
    config: dict[str, Any]


def model_type(config: dict[str, Any]) -> str:
    """Return what a configuration makes of a model: as the core reads it, or an encoder.

    Example:
        >>> from cacher.catalog import model_type
        >>> model_type({"architectures": ["GPT2ForSequenceClassification"]})
        'sequence_classification'
    """
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if isinstance(name, str) and name.endswith("ForSequenceClassification"):
        return "sequence_classification"
    return "encoder" if config.get("model_type") in ENCODERS else "causal_lm"


def folder_config(folder: Path, model_id: str) -> dict[str, Any]:
    """Return a folder's config.json with the common keys, None where it says nothing.

    Keys that begin with an underscore are left out: they tell of the machine a model was made on.
    A classifier's labels have names, whether the file names them or not.

    Raises:
        ModelFormatError: The file is damaged, or too large.
    """
    try:
        with open(folder / "config.json", "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        raw = json.loads(data, parse_constant=_refuse) if len(data) <= MAX_CONFIG_BYTES else None
    except (OSError, ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise ModelFormatError(f"model {model_id!r} has a damaged config.json")
    config = {key: value for key, value in raw.items() if not key.startswith("_")}
    for key, names in COMMON_KEYS.items():
        config[key] = next((raw[name] for name in names if raw.get(name) is not None), None)
    if model_type(config) == "sequence_classification" and not config.get("id2label"):
        n_labels = config.get("num_labels")
        count = n_labels if type(n_labels) is int and 0 < n_labels <= MAX_LABELS else 2
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(count)}
    return config


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def opened_config(model: Model) -> dict[str, Any]:
    """Return the common keys of a model that has no folder to read them from."""
    info = model.info
    labels = {str(i): label for i, label in enumerate(info.labels)}
    return ({"id2label": labels} if labels else {}) | {
        "vocab_size": info.vocab_size,
        "n_ctx": info.n_ctx,
        "n_embd": info.hidden_size,
        "n_layer": info.n_layers,
        "n_head": info.n_heads,
        "bos_token_id": info.bos_token_id,
        "eos_token_id": info.eos_token_ids[0] if info.eos_token_ids else None,
        "model_type": info.architecture,
    }


def models_below(root: str) -> Iterator[str]:
    """Yield the ids of the folders that hold a model, up to two levels deep as hub ids are."""
    for name in _subfolders(root):
        if os.path.isfile(os.path.join(root, name, "config.json")):
            yield name
            continue
        for inner in _subfolders(os.path.join(root, name)):
            if os.path.isfile(os.path.join(root, name, inner, "config.json")):
                yield f"{name}/{inner}"


def _subfolders(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
