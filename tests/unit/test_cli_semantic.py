"""``cacher semantic``, as a shell runs it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cacher import SemanticCache
from tests.unit.test_cli import run

PAIRS = Path(__file__).parents[2] / "benchmarks/semantic_pairs.csv"


def test_a_threshold_is_chosen_or_the_pairs_are_too_few() -> None:
    done = run("semantic", "calibrate", str(PAIRS), "--max-wrong", "0.1", "--model", "minilm")
    assert done.returncode == 0
    assert done.stdout.startswith("threshold 0.")
    assert "95% sure" in done.stdout
    done = run("semantic", "calibrate", str(PAIRS), "--max-wrong", "0.001", "--model", "minilm")
    assert done.returncode == 1
    assert done.stdout.startswith("no threshold")
    assert "2995 hits without a wrong one are needed" in done.stdout
    done = run("semantic", "calibrate", str(PAIRS), "--max-wrong", "0.1", "--no-guard")
    assert done.returncode == 1


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("query,other,same\na,b,maybe\n")
    for arguments, words in (
        ([str(path)], "line 2: same is 'maybe'"),
        ([str(tmp_path / "none.csv")], "cannot be read: No such file"),
        ([str(PAIRS), "--max-wrong", "2"], "max_wrong is 2.0, allowed: above 0"),
        ([str(PAIRS), "--model", "no such"], "no such"),
        ([str(PAIRS), "--model", "tales"], "encoder"),
    ):
        done = run("semantic", "calibrate", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("cacher: ")
        assert done.stderr.count("\n") == 1
        assert words in done.stderr


def test_what_is_whole_of_a_database_is_saved(tmp_path: Path) -> None:
    database, target = tmp_path / "entries.sqlite3", tmp_path / "saved.jsonl"
    with SemanticCache("minilm", store=f"sqlite:{database}") as cache:
        cache.put("What is a fox?", "An animal.")
        cache.put("What is rain?", "Water.")
    db = sqlite3.connect(database)
    db.execute("UPDATE entries SET response = 'forged' WHERE query = 'What is rain?'")
    db.execute("UPDATE entries SET vector = zeroblob(1536) WHERE query = 'What is a fox?'")
    db.commit()
    db.close()
    done = run("semantic", "rescue", str(database), str(target))
    assert done.returncode == 0
    assert done.stdout == (
        f"1 entries saved to {target}, 1 of them without their vectors; 1 others are damaged\n"
    )
    with SemanticCache("minilm") as cache:
        assert cache.load(target) == 1
        assert cache.get("What's a fox?") is not None
    done = run("semantic", "rescue", str(tmp_path / "none"), str(target))
    assert done.returncode == 1
    assert "cannot be read at all" in done.stderr
