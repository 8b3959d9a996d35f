"""``cacher cache``, as a shell runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cacher.pipelines import Cache
from cacher.pipelines.portable import export_samples, import_samples

KEYS = ["ab" * 32, "ac" * 32, "a question of two words"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cacher", "cache", *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Cache(tmp_path / "answers") as cache:
        for n, key in enumerate(KEYS):
            cache.add([(key, 0, [f"answer {n}", ("pair", n)])])
    return tmp_path / "answers"


def test_keys_and_samples_are_shown(folder: Path) -> None:
    done = run("ls", folder)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, total = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [*KEYS[:2], f'"{KEYS[2]}"']
    assert all(" 2 samples" in line for line in lines)
    assert total.startswith("3 keys, 6 samples, ")
    done = run("show", folder, "ac")
    assert list(map(json.loads, done.stdout.splitlines())) == [
        {"index": 0, "sample": "answer 1"},
        {"index": 1, "sample": {"$tuple": ["pair", 1]}},
    ]


def test_keys_are_pruned(folder: Path) -> None:
    assert run("prune", folder, KEYS[2]).stdout.startswith("1 of 3 keys removed")
    assert run("prune", folder, "--older-than", "1").stdout.startswith("0 of 2 keys removed")
    assert run("prune", folder, "--max-bytes", "250").stdout.startswith("1 of 2 keys removed")
    with Cache(folder) as cache:
        assert list(cache) == [KEYS[1]]
    assert run("prune", folder, "--older-than", "-1").stdout == (
        "1 of 1 keys removed, 0 bytes are left\n"
    )


def test_samples_go_to_another_store(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    assert run("export", folder, file).stdout == f"6 samples written to {file}\n"
    other = tmp_path / "other"
    other.mkdir()
    with Cache(other) as cache:
        cache.add([(KEYS[0], 1, ["another"])])
    done = run("import", other, file)
    assert done.returncode == 1
    assert done.stdout.startswith("5 samples added, 0 were there, 1 left out")
    with Cache(other) as cache, Cache(folder) as source:
        assert cache[KEYS[0]] == ["answer 0", "another"]
        assert [cache[key] for key in KEYS[1:]] == [source[key] for key in KEYS[1:]]
    done = run("import", folder, file)
    assert (done.returncode, done.stdout.split(",")[:2]) == (
        0, ["0 samples added", " 6 were there"]
    )  # fmt: skip


HEADER = '{"format": "cacher-samples", "version": 1}\n'
GOOD = '{"key": "k", "index": 0, "sample": "s"}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: it is empty"),
        ("x\n", "line 1: it is not JSON"),
        ('{"format": "cacher-samples", "version": 2}\n', "line 1: it says"),
        (HEADER + GOOD + "\n", "line 3: it is not JSON"),
        (HEADER + GOOD + '{"key": 1, "index": 0, "sample": 1}\n', "line 3"),
        (HEADER + GOOD + '{"key": "k", "index": -1, "sample": 1}\n', "line 3: index is -1"),
        (HEADER + GOOD + '{"key": "k", "index": 1}\n', "line 3: it has no sample"),
        (HEADER + GOOD + '{"key": "k", "index": 1, "sample": {"$pickle": "x"}}\n', "line 3: no"),
        (HEADER + GOOD + '{"key": "k", "index": 1, "sample": {"$set": [[1]]}}\n', "line 3: no"),
        (HEADER + GOOD + '{"key": "k", "index": 1, "sample": {"$bytes": "?"}}\n', "line 3: "),
    ],
)
def test_a_bad_file_is_named_by_its_line(tmp_path: Path, text: str, words: str) -> None:
    from cacher.errors import ParameterError

    file = tmp_path / "samples.jsonl"
    file.write_text(text)
    with Cache(tmp_path / "store") as cache:
        with pytest.raises(ParameterError) as error:
            import_samples(cache, file)
        assert str(error.value).startswith(f"{file}, {words}")
        assert len(cache) == 0, "it is checked before anything is stored"


def test_what_cannot_be_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(HEADER + "?\n")
    for arguments, words in (
        (("ls", tmp_path / "none"), "allowed: a folder that is there"),
        (("show", folder, "a"), "3 keys begin with a"),
        (("show", folder, "zzz"), "0 keys begin with zzz"),
        (("prune", folder), "nothing to remove"),
        (("export", folder, tmp_path), "not a regular file"),
        (("import", folder, tmp_path / "none"), "cannot be read"),
        (("import", folder, tmp_path / "bad.jsonl"), "line 2"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("cacher: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_progress_is_told(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Cache(folder) as cache, Cache(tmp_path / "new") as new:
        export_samples(
            cache, tmp_path / "f", progress=lambda done, total: told.append((done, total))
        )
        assert told == [(n, 6) for n in range(1, 7)]
        told.clear()
        import_samples(new, tmp_path / "f", progress=lambda done, total: told.append((done, total)))
        assert told == [(6, 6)]
        assert new.stats()["samples"] == 6
    assert os.stat(tmp_path / "f").st_mode & 0o077 == 0
