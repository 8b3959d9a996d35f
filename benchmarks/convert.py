"""A model folder in every form that the peers load.

Run in the peers' environment: ``python benchmarks/convert.py FOLDER OUT``.  Files that are there
are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf_model
from ctranslate2.converters import TransformersConverter

CTRANSLATE2 = {"f32": "float32", "int8": "int8"}  # what it computes in on a CPU


class Ids:
    """A tokenizer in as far as CTranslate2's converter asks for one: token i is written "i"."""

    bos_token = eos_token = unk_token = "0"

    def __init__(self, n: int) -> None:
        self._n = n

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(self._n)}


class Converter(TransformersConverter):
    """CTranslate2's, for a model without a tokenizer."""

    def load_tokenizer(self, _kind: Any, path: str, **_options: Any) -> Ids:
        return Ids(json.loads((Path(path) / "config.json").read_text())["vocab_size"])


def convert(folder: Path, out: Path) -> None:
    """Write what is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for kind in gguf_model.KINDS:
        target = out / f"{kind}.gguf"
        if not target.exists():
            gguf_model.convert(folder, target, kind)
    for dtype, name in CTRANSLATE2.items():
        target = out / f"ctranslate2-{dtype}"
        if not (target / "config.json").exists():
            Converter(str(folder)).convert(str(target), quantization=name, force=True)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
