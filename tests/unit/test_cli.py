"""The command line, as a shell runs it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

import cacher


def run(
    *arguments: str, typed: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cacher", *arguments], capture_output=True, text=True, timeout=120,
        input=typed, env={**os.environ, **environment},
    )  # fmt: skip


def run_in_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal would be sent."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "cacher", *arguments],
        stdout=theirs,
        env={**os.environ, **environment},
    )
    os.close(theirs)
    sent = b""
    try:
        while part := os.read(ours, 65536):
            sent += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait(120) == 0
    return sent.decode().replace("\r\n", "\n")


def test_help_and_version() -> None:
    for arguments in (["--help"], ["run", "--help"], ["story", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: cacher")
    assert run("--version").stdout == f"cacher {cacher.__version__}\n"


def test_a_text_is_continued() -> None:
    done = run("run", "Once upon a time", "--max-tokens", "5", "--seed", "3")
    want = cacher.load("tales").state("Once upon a time").generate(5, seed=3).text
    assert (done.returncode, done.stdout) == (0, f"Once upon a time{want}\n")


def test_a_text_is_continued_in_fewer_bits() -> None:
    options = ("--max-tokens", "60", "--dtype", "int8", "--kv-dtype", "bf16")
    small = cacher.load("tales", dtype="int8", kv_dtype="bf16").state("Once upon a time")
    want = small.generate(60, seed=42).text
    assert run("run", "Once upon a time", *options).stdout == f"Once upon a time{want}\n"
    assert want != cacher.load("tales").state("Once upon a time").generate(60, seed=42).text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "COMMAND"),
        (["dance"], 2, "invalid choice: 'dance'"),
        (["run"], 2, "text"),
        (["run", "x", "--max-tokens", "many"], 2, "invalid int value: 'many'"),
        (["run", "x", "--dtype", "f16"], 2, "invalid choice: 'f16'"),
        (["serve", "--kv-dtype", "int8"], 2, "invalid choice: 'int8'"),
        (["run", "x", "--max-tokens", "0"], 1, "max_tokens is 0"),
        (["run", "x", "--temperature", "nan"], 1, "temperature is nan"),
        (["run", "x", "--seed", "-1"], 1, "seed is -1"),
        (["run", "x", "--model", "no such"], 1, "'no such' is neither"),
        (["run", "x" * 5000], 1, "context of 1024"),
        (["run", b"\xff".decode(errors="surrogateescape")], 1, "U+DCFF"),
        (["story", "--seed", "-1"], 1, "seed is -1"),
        (["story", "--resume", "no such"], 1, "No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], status: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.startswith("cacher: ")
        assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "cacher", "run", "Once", "--max-tokens", "900"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(4)
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(120) == 128 + 13
    child.stderr.close()


def test_a_plain_terminal_gets_what_it_can_show() -> None:
    done = run("run", "Caf\u00e9", "--max-tokens", "1", PYTHONIOENCODING="ascii")
    assert done.stdout.startswith("Caf?")


def test_the_tour_is_coloured_only_in_a_terminal_that_wants_it() -> None:
    done = run("story")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "the bits agree" in done.stdout
    assert len(re.findall(r"^ +\d+\.\d+%  '", done.stdout, re.MULTILINE)) == 8
    plain = run_in_terminal("story", NO_COLOR="1")
    assert "\x1b" not in plain
    colourful = run_in_terminal("story", NO_COLOR="")
    assert "\x1b[38;5;" in colourful
    story = cacher.load("tales").state("Once upon a time there was a little fox who")
    story.generate(160, seed=7, repetition_penalty=1.15)
    assert story.text in re.sub(r"\x1b\[[0-9;]*m", "", colourful)
