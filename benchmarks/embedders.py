"""One embedder in one process: reads a cell per line on stdin, answers with the seconds it took.

    python benchmarks/embedders.py NAME MODEL_FOLDER PEER_FOLDER N_THREADS

A process of its own for each keeps their thread pools apart: while one is measured, the others wait
on their pipes.  A cell is {"texts": [...], "repeat": n, "vectors": bool}; the answer gives the
seconds of each time from texts to unit vectors, tokenizer included, and the vectors when they are
asked for.
PEER_FOLDER holds the model as onnxruntime and CTranslate2 want it (`export`, which fills it).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Embed = Callable[[list[str]], np.ndarray]


def cacher(folder: Path, _peer: Path, threads: int) -> Embed:
    import cacher

    return cacher.load(folder, threads=threads).embed


def sentence_transformers(folder: Path, _peer: Path, threads: int) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False)


def tokenized(folder: Path) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray]]:
    """Return what makes padded ids and their mask, with the tokenizers library."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = tokenizer.encode_batch(texts)
        return np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])

    return encode


def pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Unit vectors in the direction of the mean of the tokens."""
    sums = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def onnxruntime(folder: Path, peer: Path, threads: int) -> Embed:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(
        str(peer / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    encode = tokenized(folder)
    names = [given.name for given in session.get_inputs()]

    def embed(texts: list[str]) -> np.ndarray:
        ids, mask = encode(texts)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = session.run(None, {name: given[name] for name in names})
        return pooled(hidden, mask)

    return embed


def ctranslate2(folder: Path, peer: Path, threads: int) -> Embed:
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(peer / "ctranslate2"), intra_threads=threads, compute_type="float32"
    )
    encode = tokenized(folder)

    def embed(texts: list[str]) -> np.ndarray:
        ids, mask = encode(texts)
        lengths = mask.sum(axis=1).astype(np.int32)
        given = ctranslate2.StorageView.from_array(ids.astype(np.int32))
        found = encoder.forward_batch(given, ctranslate2.StorageView.from_array(lengths))
        return pooled(np.array(found.last_hidden_state), mask)

    return embed


def export(folder: Path, peer: Path, _threads: int) -> None:
    """Write the model for onnxruntime, with its fusions for BERT, and for CTranslate2."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.model(**dict(zip(names, inputs, strict=True))).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "texts", 1: "tokens"} for name in (*names, "hidden")}
    peer.mkdir(parents=True, exist_ok=True)
    plain = str(peer / "plain.onnx")
    torch.onnx.export(
        Hidden(), (ids, ids, 0 * ids), plain, input_names=names, output_names=["hidden"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    fused = optimizer.optimize_model(
        plain, model_type="bert", num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"], opt_level=1,
    )  # fmt: skip
    fused.save_model_to_file(str(peer / "model.onnx"))
    TransformersConverter(str(folder)).convert(str(peer / "ctranslate2"), force=True)


EMBEDDERS = {
    made.__name__: made for made in (cacher, sentence_transformers, onnxruntime, ctranslate2)
}


def serve(embed: Embed) -> None:
    """Answer cells until stdin ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        cell = json.loads(line)
        seconds = []
        for _ in range(cell["repeat"]):
            began = time.perf_counter()
            vectors = embed(cell["texts"])
            seconds.append(time.perf_counter() - began)
        shown = np.asarray(vectors).tolist() if cell["vectors"] else None
        print(json.dumps({"seconds": seconds, "vectors": shown}), flush=True)


if __name__ == "__main__":
    name, *folders, count = sys.argv[1:]
    where = [Path(folder) for folder in folders]
    if name == "export":
        export(*where, int(count))
    else:
        serve(EMBEDDERS[name](*where, int(count)))
