"""Write niels-gpt checkpoints (``.pt``), of the structure that torch writes, without torch.

    python tests/models/niels.py FOLDER    # writes {small,seen}{1,2}.pt there

``small`` are the two models of the documented test vectors, ``seen`` have a documented size and
random weights.  Two empty modules stand under torch's name while a checkpoint is pickled.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Size:
    """The fields of ``model_cfg`` that decide about shapes; the defaults are the test vectors'."""

    V: int = 256
    T: int = 24
    C: int = 8
    L: int = 2
    H: int = 2
    d_ff: int = 16


SMALL = Size()
SEEN = {1: Size(256, 256, 256, 4, 4, 1024), 2: Size(16000, 512, 384, 8, 6, 1152)}
VECTOR_SCALE = {1: 2.0, 2: 2.5}

# Class of a storage in the pickle -> how its numbers look to numpy (bfloat16: as its bits).
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}


def shapes(generation: int, size: Size = SMALL) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors but the tied head, in the order of the test vectors."""
    out: dict[str, tuple[int, ...]] = {"tok_emb.weight": (size.V, size.C)}

    def norm(name: str) -> None:
        out[f"{name}.weight"] = (size.C,)
        if generation == 1:
            out[f"{name}.bias"] = (size.C,)

    def linear(name: str, rows: int, columns: int) -> None:
        out[f"{name}.weight"] = (rows, columns)
        out[f"{name}.bias"] = (rows,)

    for i in range(size.L):
        block = f"blocks.{i}"
        norm(f"{block}.ln1")
        out[f"{block}.attn.qkv.weight"] = (3 * size.C, size.C)
        out[f"{block}.attn.proj.weight"] = (size.C, size.C)
        norm(f"{block}.ln2")
        for inner in ("fc1",) if generation == 1 else ("fc_a", "fc_g"):
            linear(f"{block}.mlp.{inner}", size.d_ff, size.C)
        linear(f"{block}.mlp.{'fc2' if generation == 1 else 'fc_out'}", size.C, size.d_ff)
    norm("ln_f")
    return out


def _is_norm_weight(name: str) -> bool:
    return name.endswith(("ln1.weight", "ln2.weight", "ln_f.weight"))


def vector_tensors(
    generation: int, size: Size = SMALL, scale: float | None = None
) -> dict[str, Array]:
    """Tensors by the formula of the test vectors, which gives the same numbers everywhere."""
    scale = VECTOR_SCALE[generation] if scale is None else scale
    mask = np.uint64(2**31 - 1)
    out: dict[str, Array] = {}
    for k, (name, shape) in enumerate(shapes(generation, size).items()):
        i = np.arange(np.prod(shape), dtype=np.uint64)
        a = (np.uint64(k * 1000003 + 12345) + i * np.uint64(7919)) & mask
        b = (a * np.uint64(1103515245) + np.uint64(12345)) & mask
        c = b ^ (b >> np.uint64(15))
        d = (c * np.uint64(1103515245) + np.uint64(12345)) & mask
        value = (d.astype(np.float64) / 2**31 - 0.5) * scale
        value += 1.0 if _is_norm_weight(name) else 0.0
        out[name] = value.astype(np.float32).reshape(shape)
    return out


def random_tensors(
    generation: int, size: Size, seed: int = 0, scale: float = 0.15
) -> dict[str, Array]:
    """Normal weights of this deviation, norms around 1; a seed gives the same bytes always."""
    rng = np.random.default_rng(seed)
    return {
        name: (
            rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
            + np.float32(_is_norm_weight(name))
        )
        for name, shape in shapes(generation, size).items()
    }


def model_cfg(size: Size = SMALL, **more: Any) -> dict[str, Any]:
    """The ``model_cfg`` of a checkpoint; ``more`` adds and replaces fields."""
    fields = {"V": size.V, "T": size.T, "C": size.C, "L": size.L, "H": size.H, "d_ff": size.d_ff}
    return fields | {"dropout": 0.1, "rope_theta": 10000.0} | more


# ---- the file


class Storage:
    """Numbers under one key.  ``claim`` is the count that the pickle names, if not the true one."""

    def __init__(self, data: Array, kind: str = "FloatStorage", claim: int | None = None) -> None:
        self.data = np.ascontiguousarray(data, dtype=DTYPES[kind]).reshape(-1)
        self.kind = kind
        self.claim = self.data.size if claim is None else claim
        self.location = "cpu"


class Tensor:
    """A view of a storage; offset, shape and strides count numbers."""

    def __init__(
        self,
        storage: Storage,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
    ) -> None:
        if strides is None:
            strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        self.arguments = (storage, offset, tuple(shape), strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def tensor(array: Array, kind: str = "FloatStorage") -> Tensor:
    """A tensor with a storage of its own; float numbers are converted to the kind."""
    if kind == "BFloat16Storage":  # round to nearest even
        bits = array.astype(np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return Tensor(Storage(rounded.astype(np.uint16), kind), array.shape)
    return Tensor(Storage(array.astype(DTYPES[kind]), kind), array.shape)


@contextmanager
def _torch_names() -> Iterator[None]:
    """Modules with torch's names that hold just what a pickle refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in DTYPES:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = lambda *args: args  # type: ignore[attr-defined]
    utils._rebuild_tensor_v2.__module__ = "torch._utils"  # type: ignore[attr-defined]
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"  # type: ignore[attr-defined]
    utils._rebuild_tensor_v2.__name__ = "_rebuild_tensor_v2"  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)
        self.storages: list[Storage] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        if obj not in self.storages:
            self.storages.append(obj)
        kind = getattr(sys.modules["torch"], obj.kind)
        return "storage", kind, str(self.storages.index(obj)), obj.location, obj.claim


def pickled(value: Any) -> tuple[bytes, list[Storage]]:
    """A pickle of protocol 2 with persistent storages, and the storages by key."""
    file = io.BytesIO()
    with _torch_names():
        pickler = _Pickler(file)
        pickler.dump(value)
    return file.getvalue(), pickler.storages


def write_archive(
    path: Path,
    data_pkl: bytes,
    storages: list[Storage],
    *,
    top: str | None = None,
    byteorder: str | None = "little",
    compression: int = zipfile.ZIP_STORED,
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the container; padding in the extra fields aligns data to 64 bytes, as torch does.

    Args:
        top: name of the folder in the archive; the file's stem by default.
        byteorder: content of that entry; None leaves it out, as older files do.
        extra: more entries, by name below the folder.
    """
    top = path.stem if top is None else top
    entries: dict[str, bytes] = {"data.pkl": data_pkl}
    if byteorder is not None:
        entries["byteorder"] = byteorder.encode()
    for key in sorted(range(len(storages)), key=str):
        entries[f"data/{key}"] = storages[key].data.tobytes()
    entries["version"] = b"3\n"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in (entries | dict(extra or {})).items():
            info = zipfile.ZipInfo(f"{top}/{name}")
            info.compress_type = compression
            start = archive.fp.tell() + 30 + len(info.filename) + 4  # type: ignore[union-attr]
            padding = -start % 64
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, data)
    return path


def model_state(weights: Mapping[str, Array], kind: str = "FloatStorage") -> OrderedDict[str, Any]:
    """Tensors for a ``model_state``, the head tied by sharing the embeddings' storage."""
    state: OrderedDict[str, Any] = OrderedDict(
        (name, tensor(array, kind)) for name, array in weights.items()
    )
    state["lm_head.weight"] = state["tok_emb.weight"]
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


def checkpoint(state: Mapping[str, Any], cfg: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The pickled object; ``more`` adds and replaces keys."""
    return {
        "model_cfg": dict(cfg),
        "train_cfg": {
            "seed": 42,
            "lr": 3e-4,
            "sources": {"wiki": 0.5, "chat": 0.5},
            "betas": [0.9, 0.95],
        },
        "model_state": state,
        "optimizer_state": None,
        "step": 1000,
        "best_val_loss": 1.5,
    } | more


def write_checkpoint(
    path: Path,
    generation: int,
    *,
    size: Size = SMALL,
    weights: Mapping[str, Array] | None = None,
    kind: str = "FloatStorage",
    cfg: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write a whole checkpoint and return its path.

    Args:
        weights: tensors by name; those of the test vectors' formula by default.
        kind: class of the storages.
        cfg: ``model_cfg``; that of the size by default.
        more: keys of the checkpoint to add or replace.
    """
    if weights is None:
        weights = vector_tensors(generation, size)
    state = model_state(weights, kind)
    return write_archive(
        path, *pickled(checkpoint(state, model_cfg(size) if cfg is None else cfg, **more))
    )


def main(folder: Path) -> None:
    """Write the four files that the module's docstring names."""
    folder.mkdir(parents=True, exist_ok=True)
    for generation in (1, 2):
        write_checkpoint(folder / f"small{generation}.pt", generation)
        size = SEEN[generation]
        weights = random_tensors(generation, size, scale=0.05)
        write_checkpoint(folder / f"seen{generation}.pt", generation, size=size, weights=weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
