"""The hub without a network: a cache folder in its layout stands for what was downloaded before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cacher
from cacher import ModelNotFoundError, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached_snapshot(home: Path, name: str) -> Path:
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file in hub.find("tales").iterdir():
        (snapshot / file.name).symlink_to(file)
    return snapshot


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )


def test_a_snapshot_of_the_local_cache_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    cached_snapshot(tmp_path, "someone/stories")
    code = "import cacher; m = cacher.load('someone/stories'); print(m.name, m.n_ctx)"
    done = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert done.stdout == "someone/stories 1024\n", done.stderr


def test_offline_and_not_cached_says_what_was_tried(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    code = (
        "import cacher\n"
        "try: cacher.load('someone/else')\n"
        "except cacher.ModelNotFoundError as e: print(e)"
    )
    done = run(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    for words in ("'someone/else'", "built-in model (", "tales)", "no folder", "local cache"):
        assert words in done.stdout, done.stdout + done.stderr


def test_without_the_extra_there_is_one_sentence_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(cacher.MissingExtraError, match=r"pip install 'cacher\[hub\]'") as caught:
        cacher.load("someone/stories")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b/c", "a/../b", "...", "-x", "a//b", "a\n", "https://x.y/z"])
def test_what_is_no_id_is_not_asked_for(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="neither"):
        hub.find(name)
