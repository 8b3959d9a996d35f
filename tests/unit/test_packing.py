"""Packed folders are the same models as their sources; that damage is found is shown in C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cacher
from cacher import hub, packing
from cacher.facts import DTYPES, Dtype
from tests.models import make_tiny as tiny
from tests.models.niels import write_checkpoint

TEXT = "Once upon a time there was a little fox"
IDS = [5, 9, 20, 31, 7]
FAMILIES = [*tiny.CONFIGS, *tiny.CLASSIFIERS, *tiny.ENCODERS]


def results(model: cacher.Model, text: Any) -> bytes:
    """What a model of any type makes of a text."""
    if model.model_type == "encoder":
        return np.asarray(model.embed([text])).tobytes()
    state = model.state(text)
    if model.model_type == "causal_lm":
        return np.asarray(state.logits(first=0)).tobytes()
    return repr(state.classify()).encode()  # its scores as they are


def weights_of(folder: Path) -> Path:
    return folder / packing.WEIGHTS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_and_dtype_is_the_same_model(name: str, dtype: Dtype, tmp_path: Path) -> None:
    source = tiny.make_tiny(name, tmp_path)
    packed = cacher.pack(source, tmp_path / "packed", dtype=dtype)
    want, got = cacher.load(source, dtype=dtype), cacher.load(packed)
    facts = {field: getattr(want.info, field) for field in want.info.__slots__}
    assert {field: getattr(got.info, field) for field in facts} == facts | {"name": "packed"}
    assert got.fingerprint == want.fingerprint
    assert results(got, IDS) == results(want, IDS)
    assert got.embedding_input(7).tobytes() == want.embedding_input(7).tobytes()
    again = cacher.pack(packed, tmp_path / "again")
    assert weights_of(again).read_bytes() == weights_of(packed).read_bytes()


@pytest.mark.parametrize("name", ["tales", "minilm"])
def test_tokenizers_and_what_lies_beside_the_weights_come_along(name: str, tmp_path: Path) -> None:
    packed = cacher.pack(name, tmp_path / "packed")
    model, got = cacher.load(name), cacher.load(str(packed), dtype="f32")
    assert got.fingerprint == model.fingerprint
    assert got.tokenizer.encode(TEXT) == model.tokenizer.encode(TEXT)
    assert results(got, TEXT) == results(model, TEXT)
    own = {"tales": "generation_config.json", "minilm": "1_Pooling/config.json"}
    for file in (own[name], "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (packed / file).read_bytes() == (hub.find(name) / file).read_bytes()


def test_chat_templates_come_along(tmp_path: Path) -> None:
    source = tiny.make_tiny("qwen3", tmp_path)
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (source / "pytorch_model.bin").write_bytes(b"never read")
    packed = cacher.pack(source, tmp_path / "packed")
    assert sorted(os.listdir(packed)) == ["chat_template.jinja", "config.json", "model.packed"]


def test_states_and_what_they_computed_carry_over(tmp_path: Path) -> None:
    model = cacher.load("tales", dtype="int8")
    state = model.state(TEXT)
    want = state.fork().generate(8, seed=4)
    state.forward()
    state.save(tmp_path / "state.json")
    got = cacher.load(cacher.pack("tales", tmp_path / "packed", dtype="int8"))
    restored = got.restore(tmp_path / "state.json")
    assert restored.generate(8, seed=4).token_ids == want.token_ids


def test_the_source_may_go_and_the_folder_be_only_read(tmp_path: Path) -> None:
    source = tiny.make_tiny("gpt2", tmp_path)
    tiny.write_tokenizer(source)
    want = results(cacher.load(source), IDS)
    packed = cacher.pack(source, tmp_path / "packed")
    shutil.rmtree(source)
    for file in packed.iterdir():
        file.chmod(0o444)
    packed.chmod(0o555)
    try:
        assert results(cacher.load(packed), IDS) == want
        assert not [file for file in packed.iterdir() if file.suffix == ".tmp"]
    finally:
        packed.chmod(0o755)


def test_a_model_outlives_its_files_and_processes_share_them(tmp_path: Path) -> None:
    packed = cacher.pack("tales", tmp_path / "packed")
    want = results(cacher.load("tales"), TEXT)
    program = (
        "import sys, cacher; model = cacher.load(sys.argv[1]); print('open', flush=True);"
        "input(); sys.stdout.buffer.write(model.state(sys.argv[2]).logits(first=0).tobytes())"
    )
    command = [sys.executable, "-c", program, str(packed), TEXT]
    others = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
    size = weights_of(packed).stat().st_size
    mapped = Path(f"/proc/{others[0].pid}/smaps").read_text().split(packing.WEIGHTS)[1]
    shared = next(line for line in mapped.splitlines() if line.startswith("Shared_Clean:"))
    assert int(shared.split()[1]) * 1024 > 0.9 * size
    shutil.rmtree(packed)
    for other in others:
        assert other.communicate(b"\n", timeout=60)[0] == want


def test_another_dtype_than_it_holds_is_refused(tmp_path: Path) -> None:
    packed = cacher.pack("tales", tmp_path / "packed", dtype="bf16")
    assert cacher.load(packed).info.dtype == "bf16"
    with pytest.raises(
        cacher.ParameterError, match=r'dtype is "int8", but .*model.packed holds weights in "bf16"'
    ):
        cacher.load(packed, dtype="int8")
    with pytest.raises(cacher.ParameterError, match="holds weights in"):
        cacher.pack(packed, tmp_path / "again", dtype="f32")
    assert not (tmp_path / "again").exists()


def test_damage_is_refused(tmp_path: Path) -> None:
    packed = cacher.pack(tiny.make_tiny("mistral", tmp_path), tmp_path / "packed")
    file, whole = weights_of(packed), weights_of(packed).read_bytes()
    for damaged, words in (
        (whole[:-64], "has .* bytes, its header says"),
        (whole[:100], "ends at byte 100"),
        (whole[:8] + b"\1" + whole[9:], "is of version 1, allowed: 2; pack the model again"),
        (whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "is damaged behind its header"),
        (b"\0" * len(whole), "holds no packed weights"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(cacher.CacherError, match=words) as caught:
            cacher.load(packed)
        assert isinstance(caught.value, cacher.ModelFormatError | cacher.UnsupportedModelError), (
            words
        )
    file.write_bytes(whole)
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"vocab_size": 96}))
    with pytest.raises(cacher.ModelFormatError, match="bytes are more than config"):
        cacher.load(packed)


def test_what_cannot_be_packed_leaves_nothing(tmp_path: Path) -> None:
    source = tiny.make_tiny("qwen3", tmp_path)
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    for target, words in (
        (full, "it is there, and not an empty folder"),
        (full / "file", "it is there, and not an empty folder"),
        (tmp_path / "none" / "packed", "No such file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(cacher.FileError, match=words):
            cacher.pack(source, target)
    checkpoint = write_checkpoint(tmp_path / "m.pt", 2)
    with pytest.raises(cacher.UnsupportedModelError, match=r"m.pt is a checkpoint"):
        cacher.pack(checkpoint, tmp_path / "packed")
    with pytest.raises(cacher.UnsupportedModelError, match="a checkpoint has no packed form"):
        cacher.load(checkpoint)._core.pack(tmp_path / "model.packed")
    with pytest.raises(cacher.ModelNotFoundError):
        cacher.pack("no such model", tmp_path / "packed")
    assert sorted(os.listdir(tmp_path)) == ["full", "m.pt", "qwen3"]
    assert (full / "file").read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    source = tiny.make_tiny("qwen3", tmp_path)
    program = (
        "import resource, signal, sys, cacher;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "cacher.pack(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "packed")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "cacher.errors.FileError" in done.stderr
    assert "model.packed: File too large" in done.stderr
    assert os.listdir(tmp_path) == ["qwen3"]


def test_a_source_that_changes_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "BESIDE", ("config.json",))  # as if its tokenizer were gone
    with pytest.raises(cacher.ModelFormatError, match="changed while it was packed"):
        cacher.pack("tales", tmp_path / "packed")
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    command = [sys.executable, "-m", "cacher", "pack", "tales", str(packed), "--dtype", "int8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    size = weights_of(packed).stat().st_size
    assert done.stdout == f"{size} bytes of weights written to {weights_of(packed)}\n"
    assert cacher.load(packed).fingerprint == cacher.load("tales", dtype="int8").fingerprint
    story = [*command[:3], "run", "Once", "--model", str(packed), "--max-tokens", "2"]
    done = subprocess.run(story, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("Once")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it is there, and not an empty folder" in done.stderr
