"""Reading checkpoints: what is accepted and as what, what is refused and with which words."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import resource
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import _core
from cacher.niels_gpt.checkpoint import read_checkpoint
from tests.models import niels
from tests.niels_gpt.vectors import PROMPT, VECTORS

Array = np.ndarray


def logits(path: Path) -> Array:
    """Logits after the prompt of the test vectors."""
    model = cacher.load(path, threads=1)
    return np.asarray(model.state(PROMPT).logits())


def numbers(path: Path) -> dict[str, Array]:
    tensors = read_checkpoint(path)["tensors"]
    return {name: np.asarray(values).reshape(shape) for name, (shape, values) in tensors.items()}


def write(path: Path, state: Any, cfg: dict[str, Any] | None = None, **more: Any) -> Path:
    value = niels.checkpoint(state, niels.model_cfg() if cfg is None else cfg, **more)
    return niels.write_archive(path, *niels.pickled(value))


def refused(path: Path, *words: str) -> str:
    """Opening fails by both ways, with a message that holds the words."""
    with pytest.raises(cacher.ModelError) as error:
        cacher.load(path)
    with pytest.raises(cacher.ModelError) as same:
        read_checkpoint(path)
    assert str(same.value) == str(error.value)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


# ---- what a file holds


@pytest.mark.parametrize("generation", [1, 2])
def test_reading_gives_what_was_written(tmp_path: Path, generation: int) -> None:
    path = niels.write_checkpoint(tmp_path / "best.pt", generation, step=7, best_val_loss=None)
    found = read_checkpoint(path)
    assert found["generation"] == generation
    assert found["model_cfg"] == niels.model_cfg()
    assert found["step"] == 7
    assert found["best_val_loss"] is None
    assert found["train_cfg"]["sources"] == {"wiki": 0.5, "chat": 0.5}
    tensors, want = numbers(path), niels.vector_tensors(generation)
    assert set(tensors) == {*want, "lm_head.weight"}
    for name, array in want.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_plain_values_of_all_kinds(tmp_path: Path) -> None:
    shared = [1, 2]
    train = {
        "big": 2**200, "negative": -(2**70), "edge": [-(2**63), 2**63 - 1, 255, 256, 65536, -1],
        "float": 1e-300, "none": None, "flags": [True, False], "text": "Größe\n\u2028",
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "same": [shared, shared],
        "long": "x" * 70000, 3: "int key",
    }  # fmt: skip
    path = niels.write_checkpoint(tmp_path / "a.pt", 1, train_cfg=train)
    found = read_checkpoint(path)["train_cfg"]
    assert found == train
    assert found["same"][0] is found["same"][1]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_newer_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    """Frames, short texts, memoization and names from the stack; bytes of protocol 3."""
    value = {"a": ["text", "text"], "f": OrderedDict(x=1), "n": list(range(300))}
    if protocol > 2:
        value["b"] = b"bytes" * 100
    state = {"model_cfg": niels.model_cfg(), "model_state": {}, "train_cfg": value}
    path = niels.write_archive(tmp_path / "a.pt", pickle.dumps(state, protocol), [])
    refused(path, "blocks.0.mlp.fc1.weight")  # read to its end: only then are tensors missed


# ---- 95, 96: numbers


@pytest.mark.parametrize("generation", [1, 2])
def test_95_other_float_types(tmp_path: Path, generation: int) -> None:
    plain = logits(niels.write_checkpoint(tmp_path / "f.pt", generation))
    for kind, tolerance in (("DoubleStorage", 0), ("HalfStorage", 2e-2), ("BFloat16Storage", 0.2)):
        path = niels.write_checkpoint(tmp_path / f"{kind}.pt", generation, kind=kind)
        np.testing.assert_allclose(logits(path), plain, atol=tolerance)
        assert numbers(path)["ln_f.weight"].dtype == np.float32


@pytest.mark.parametrize("generation", [1, 2])
def test_96_offsets_and_strides(tmp_path: Path, generation: int) -> None:
    weights = niels.vector_tensors(generation)
    plain = niels.write_checkpoint(tmp_path / "plain.pt", generation)
    # All tensors in one storage, behind 5 numbers that belong to none.
    joined = niels.Storage(
        np.concatenate([np.zeros(5, "f4"), *(w.reshape(-1) for w in weights.values())])
    )
    state: OrderedDict[str, Any] = OrderedDict()
    at = 5
    for name, array in weights.items():
        state[name] = niels.Tensor(joined, array.shape, offset=at)
        at += array.size
    shared = write(tmp_path / "shared.pt", state)
    # Every matrix transposed, every vector with its numbers three apart.
    state = OrderedDict()
    for name, array in weights.items():
        if array.ndim == 2:
            storage, strides = niels.Storage(array.T.copy()), (1, len(array))
        else:
            storage, strides = niels.Storage(np.repeat(array, 3)), (3,)
        state[name] = niels.Tensor(storage, array.shape, strides)
    state["lm_head.weight"] = niels.tensor(weights["tok_emb.weight"], "DoubleStorage")
    strided = write(tmp_path / "strided.pt", state)
    for path in (shared, strided):
        found = numbers(path)
        for name, array in weights.items():
            np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(logits(path), logits(plain))
        assert cacher.load(path).fingerprint == cacher.load(plain).fingerprint


def test_weights_that_are_no_numbers_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = niels.vector_tensors(1)
    weights["blocks.0.mlp.fc1.bias"][[2, 5]] = np.nan, np.inf
    path = niels.write_checkpoint(tmp_path / "a.pt", 1, weights=weights)
    assert np.isnan(logits(path)).any()
    assert "2 of the weights are NaN or infinite" in caplog.text


# ---- 97 to 99: what a model must have


def test_97_the_head(tmp_path: Path) -> None:
    weights = niels.vector_tensors(1)
    state = niels.model_state(weights)
    del state["lm_head.weight"]
    plain = niels.write_checkpoint(tmp_path / "a.pt", 1)
    np.testing.assert_array_equal(logits(write(tmp_path / "b.pt", state)), logits(plain))
    state["lm_head.weight"] = niels.tensor(weights["tok_emb.weight"])  # a copy of its own
    np.testing.assert_array_equal(logits(write(tmp_path / "c.pt", state)), logits(plain))
    other = weights["tok_emb.weight"].copy()
    other[255, 7] = np.nextafter(other[255, 7], np.float32(9))
    state["lm_head.weight"] = niels.tensor(other)
    refused(write(tmp_path / "d.pt", state), "lm_head.weight", "differs")


def test_98_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = logits(niels.write_checkpoint(tmp_path / "a.pt", 2))

    def with_cfg(**fields: Any) -> Path:
        cfg = {k: v for k, v in niels.model_cfg(**fields).items() if v is not ...}
        return niels.write_checkpoint(tmp_path / "b.pt", 2, cfg=cfg)

    same = with_cfg(_raw={"any": ["thing", None]}, _x=1, D=4, rope_theta=..., dropout=...)
    np.testing.assert_array_equal(logits(same), plain)
    assert not caplog.records
    assert np.abs(logits(with_cfg(rope_theta=500)) - plain).max() > 1e-3
    np.testing.assert_array_equal(logits(with_cfg(extra=1, more=2)), plain)
    assert "unknown fields: extra, more" in caplog.text
    for fields, word in (
        ({"D": 8}, "D of model_cfg"), ({"D": "4"}, "D of model_cfg"), ({"H": 3}, "H 3"),
        ({"C": 6, "H": 2}, "even head size"), ({"V": 0}, "V of model_cfg is 0"),
        ({"T": ...}, "no T"),
        ({"L": True}, "L of model_cfg is a bool"), ({"d_ff": 16.0}, "d_ff of model_cfg is a float"),
        ({"T": 2**40}, "1099511627776"), ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"), ({"rope_theta": "1"}, "a text"),
        ({"L": 1025}, "1024"), ({"L": 1}, "blocks.1.ln1.weight"),
    ):  # fmt: skip
        refused(with_cfg(**fields), word)


def test_99_tensors_by_name(tmp_path: Path) -> None:
    weights = niels.vector_tensors(1)
    state = niels.model_state(weights)
    state["blocks.0.attn.mask"] = niels.tensor(np.ones((1, 1, 24, 24), "u1"), "BoolStorage")
    state["blocks.1.attn.rope_sin"] = niels.tensor(np.zeros((24, 2), "f4"))
    assert "blocks.0.attn.mask" not in numbers(write(tmp_path / "ok.pt", state))

    def changed(**tensors: Any) -> Path:
        new = OrderedDict(niels.model_state(weights))
        for name, value in tensors.items():
            name = name.replace("__", ".")
            new[name] = value
            if value is None:
                del new[name]
        return write(tmp_path / "bad.pt", new)

    vector = niels.tensor(np.ones(8, "f4"))
    refused(changed(blocks__1__ln2__bias=None), "blocks.1.ln2.bias", "missing")
    refused(changed(blocks__2__ln2__bias=vector), "blocks.2.ln2.bias", "layer 2")
    refused(changed(wpe__weight=vector), "wpe.weight", "no part of")
    refused(
        changed(ln_f__weight=niels.tensor(np.ones((4, 2), "f4"))), "ln_f.weight", "[4, 2]", "[8]"
    )
    refused(changed(ln_f__bias=niels.tensor(np.ones(8), "LongStorage")), "ln_f.bias", "I64")
    all_three = refused(
        changed(blocks__1__ln2__bias=None, wpe__weight=vector, blocks__0__attn__proj__weight=vector)
    )
    for name in ("blocks.1.ln2.bias", "wpe.weight", "blocks.0.attn.proj.weight"):
        assert name in all_three
    both = changed(blocks__0__mlp__fc_a__weight=niels.tensor(weights["blocks.0.mlp.fc1.weight"]))
    refused(both, "both blocks.0.mlp.fc1.weight and blocks.0.mlp.fc_a.weight")
    refused(changed(blocks__0__mlp__fc1__weight=None), "neither")


# ---- 100 to 104: hostile files


def calling(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls module.name(argument) and gives a dict."""
    text = argument.encode()
    return (
        b"\x80\x02}(X\x01\x00\x00\x00a" + f"c{module}\n{name}\n".encode()
        + b"(X" + struct.pack("<I", len(text)) + text + b"tRu."
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["os system", "builtins eval", "torch.nn.modules.linear Linear", "posix system", "torch load",
     "collections OrderedDictionary", "torch._utils _rebuild_tensor", "collections\u00e9 x"],
)  # fmt: skip
def test_100_no_code_runs(tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"
    module, function = name.split()
    data = calling(
        module, function, f"touch {ran}" if function == "system" else f"open({str(ran)!r}, 'w')"
    )
    message = refused(niels.write_archive(tmp_path / "a.pt", data, []), "is not imported")
    assert name.encode("ascii", "replace").decode() in message.replace("??", "?")
    by_stack = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c"
    by_stack += bytes([len(function)]) + function.encode() + b"\x93)R."
    if module.isascii():
        refused(niels.write_archive(tmp_path / "b.pt", by_stack, []), name)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "0x81"),  # NEWOBJ
        (b"\x80\x02\x82\x01.", "0x82"),  # EXT1
        (b"I1\n.", "0x49"),
        (b"(dS'a'\n.", "0x53"),
        (b"\x80\x06}.", "protocol 6"),
        (b"\x80\x02}}b.", "sets attributes of a dict"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls FloatStorage"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "calls OrderedDict"),
        (b"\x80\x02K\x01Q.", "other than a storage"),
        (b"\x80\x02]q\x00h\x00a.", "nested"),
        (b"\x80\x02]q\x00]q\x01h\x00ah\x00h\x01a.", "no cycle"),
        (b"\x80\x02" + b"]" * 102 + b"a" * 101 + b".", "100 deep"),
        (b"\x80\x02(" + b"N" * 1_000_001 + b"t.", "more than 1000000 objects"),
        (b"\x80\x02h\x07.", "memo 7"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "memo 4294967295"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "ends within"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.", "ends within"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x02(}N.", "2 values"),
        (b"\x80\x02}", "without saying so"),
        (b"\x80\x02a.", "needs 2 values"),
        (b"\x80\x02t.", "never began"),
        (b"\x80\x02}]K\x01s.", "a list as a key"),
        (b"\x80\x02K\x01K\x02a.", "adds 1 values to an int"),
        (b"\x80\x02(K\x01d.", "a dict of 1"),
        (b"\x80\x02K\x01.", "expected a dict"),
        (b"\x80\x02}.", "model_state is missing"),
        (b"", "without saying so"),
    ],
)
def test_instructions_that_checkpoints_do_not_use(tmp_path: Path, data: bytes, word: str) -> None:
    refused(niels.write_archive(tmp_path / "a.pt", data, []), word)


def test_a_pickle_of_more_than_64_mib(tmp_path: Path) -> None:
    data = b"\x80\x02" + b"N0" * (33 << 20) + b"N."
    refused(niels.write_archive(tmp_path / "a.pt", data, []), "67108864")


def test_101_an_optimizer_costs_nothing(tmp_path: Path) -> None:
    moments = {
        i: {"step": 1000, "exp_avg": niels.tensor(np.ones(1 << 20, "f4")), "betas": (0.9, 0.99)}
        for i in range(40)
    }
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-3, "params": list(range(40))}]}
    path = niels.write_checkpoint(tmp_path / "a.pt", 1, optimizer_state=optimizer)
    assert path.stat().st_size > 160 << 20
    before, peak = _core.live_bytes(), resident()
    began = time.process_time()
    model = cacher.load(path, threads=1)
    assert time.process_time() - began < 0.5
    assert _core.live_bytes() - before < 1 << 20
    assert resident() - peak < 32 << 20
    assert model.vocab_size == 256


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("claim", [2049, 2**40, 2**62, -1])
def test_102_storages_that_claim_too_much(tmp_path: Path, claim: int) -> None:
    weights = niels.vector_tensors(1)
    state = niels.model_state(weights)
    storage = niels.Storage(weights["tok_emb.weight"], claim=claim)
    state["tok_emb.weight"] = niels.Tensor(storage, (256, 8))
    path = write(tmp_path / "a.pt", state)
    before, began = _core.live_bytes(), time.process_time()
    refused(path, "tok_emb.weight", f"claims {claim} numbers")
    assert time.process_time() - began < 0.5
    assert _core.live_bytes() == before


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "word"),
    [
        ((256, 8), (8, 1), 1, "reaches out"),
        ((256, 8), (9, 1), 0, "reaches out"),
        ((256, 8), (8, 1), -1, "reaches out"),
        ((256, 8), (-8, 1), 0, "reaches out"),
        ((256, 8), (2**62, 2**62), 0, "reaches out"),
        ((2**40, 2**40), (0, 0), 0, "reaches out"),
        ((-1, 8), (8, 1), 0, "reaches out"),
        ((2**30, 8), (0, 0), 0, "more numbers than the file has bytes"),
        ((1,) * 9, (1,) * 9, 0, "9 dimensions"),
        ((256, 9), (8, 1), 0, "reaches out"),
    ],
)
def test_tensors_that_reach_out(
    tmp_path: Path, shape: Any, strides: Any, offset: int, word: str
) -> None:
    weights = niels.vector_tensors(1)
    state = niels.model_state(weights)
    storage = niels.Storage(weights["tok_emb.weight"])
    state["tok_emb.weight"] = niels.Tensor(storage, shape, strides, offset)
    refused(write(tmp_path / "a.pt", state), "tok_emb.weight", word)


def test_tensors_that_share_one_storage_many_times(tmp_path: Path) -> None:
    size = niels.Size(C=64, L=400, d_ff=256)
    big = niels.Storage(np.zeros(64, "f4"))
    state = OrderedDict(
        (name, niels.Tensor(big, shape, (0,) * len(shape)))
        for name, shape in niels.shapes(1, size).items()
    )
    small = write(tmp_path / "a.pt", state, niels.model_cfg(size))
    refused(small, "more numbers than the file has bytes")


def test_103_files_of_other_kinds(tmp_path: Path) -> None:
    data, storages = niels.pickled(
        niels.checkpoint(niels.model_state(niels.vector_tensors(1)), niels.model_cfg())
    )
    path = tmp_path / "a.pt"
    niels.write_archive(path, data, storages, compression=zipfile.ZIP_DEFLATED)
    messages = {refused(path, "compressed")}
    niels.write_archive(path, data, storages, byteorder="big")
    messages.add(refused(path, 'byteorder is "big"'))
    whole = niels.write_archive(path, data, storages).read_bytes()
    for cut, word in ((whole[: len(whole) // 2], "cut off"), (b"", "no ZIP"), (data[:2], "no ZIP"),
                      (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "old file"),
                      (b"GGUF" * 100, "no ZIP")):  # fmt: skip
        path.write_bytes(cut)
        messages.add(refused(path, word))
    assert len(messages) == 5  # those that are no ZIP say the same
    older = niels.write_archive(path, data, storages, byteorder=None, top="archive")
    assert cacher.load(older).vocab_size == 256
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", data)
    refused(path, "without a folder")
    niels.write_archive(path, data, storages, extra={"../other/data.pkl": b""})
    assert cacher.load(path).vocab_size == 256
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", data)
    refused(path, "two folders")
    niels.write_archive(path, data, storages[:-1])
    refused(path, "storage 22", "missing")


def test_an_archive_with_64_bit_records(tmp_path: Path) -> None:
    """As torch writes them: streamed entries whose local headers hold no sizes."""

    class Stream:
        """A file that cannot seek, so that zipfile streams."""

        def __init__(self, path: Path) -> None:
            self.file = path.open("wb")
            self.write, self.flush = self.file.write, self.file.flush

    data, storages = niels.pickled(
        niels.checkpoint(niels.model_state(niels.vector_tensors(2)), niels.model_cfg())
    )
    path = tmp_path / "a.pt"
    stream = Stream(path)
    with zipfile.ZipFile(stream, "w") as archive:  # type: ignore[call-overload]
        entries = {"data.pkl": data} | {
            f"data/{i}": s.data.tobytes() for i, s in enumerate(storages)
        }
        for name, content in entries.items():
            with archive.open(f"best/{name}", "w", force_zip64=True) as entry:
                entry.write(content)
    stream.file.close()
    assert np.argsort(-logits(path))[0] == VECTORS[2].greedy[0]
    plain = path.read_bytes()
    end = len(plain) - 22
    count, size, at = struct.unpack("<HII", plain[end + 10 : end + 20])
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    saturated = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(plain[:end] + end64 + locator + saturated)
    assert np.argsort(-logits(path))[0] == VECTORS[2].greedy[0]
    wrong = struct.pack("<4sIQI", b"PK\6\7", 0, 2**63, 1)
    path.write_bytes(plain[:end] + end64 + wrong + saturated)
    refused(path, "64-bit end record")


def test_104_truncated_anywhere(tmp_path: Path) -> None:
    whole = niels.write_checkpoint(tmp_path / "a.pt", 2).read_bytes()
    rng = random.Random(104)
    for at in [*range(8), *(rng.randrange(len(whole)) for _ in range(100))]:
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[:at])
        refused(path, str(path))


def test_damaged_anywhere(tmp_path: Path) -> None:
    """Bytes changed at random: refused or read, never a crash, and nothing stays behind."""
    whole = niels.write_checkpoint(tmp_path / "a.pt", 1).read_bytes()
    rng = random.Random(105)
    path = tmp_path / "damaged.pt"
    ends = (0, len(whole)), (0, 8000), (whole.rfind(b"PK\1\2") - 2000, len(whole))
    before, read = _core.live_bytes(), 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(*rng.choice(ends))] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(cacher.ModelError):
            cacher.load(path, threads=1)
            read += 1
        assert _core.live_bytes() == before
    assert 0 < read < 300


# ---- 105: time and memory


def test_105_loading_is_quick(tmp_path: Path) -> None:
    size = niels.SEEN[1]
    weights = niels.random_tensors(1, size)
    path = niels.write_checkpoint(tmp_path / "a.pt", 1, size=size, weights=weights)
    file_bytes = path.stat().st_size
    before = _core.live_bytes()
    began = time.process_time()
    model = cacher.load(path)
    assert time.process_time() - began < 1.0
    assert model.info.n_parameters == 3_220_992
    assert _core.live_bytes() - before < 1.5 * file_bytes


def test_105_the_peak_of_memory(tmp_path: Path) -> None:
    """In a process of its own, whose high-water mark is that of loading."""
    size = niels.SEEN[1]
    path = niels.write_checkpoint(
        tmp_path / "a.pt", 1, size=size, weights=niels.random_tensors(1, size)
    )
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident()
        cacher.load(path, threads=1)
        peak = next(
            int(line.split()[1]) << 10
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        os._exit(0 if peak - before < 3 * path.stat().st_size else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_any_path_may_be_a_checkpoint(tmp_path: Path) -> None:
    path = niels.write_checkpoint(tmp_path / "best.pt", 1).rename(tmp_path / "best.bin")
    assert cacher.load(path).name == "best.bin"
    with pytest.raises(cacher.ModelNotFoundError):
        cacher.load(str(path))  # a string that does not end in .pt may be a hub id


def test_a_folder_without_and_a_name_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(cacher.ModelNotFoundError):
        cacher.load(str(tmp_path / "none.pt"))
    with pytest.raises(cacher.FileError, match="none"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(cacher.FileError):
        read_checkpoint(tmp_path)
