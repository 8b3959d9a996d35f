"""Forked children, other interpreters, and the end of the program."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKED = """
import os, sys
import cacher

model = cacher.load("tales", threads=2)
state = model.state("Once upon a time").forward()
stream = state.fork().stream(5)
next(stream)
child = os.fork()
if child == 0:
    calls = [
        lambda: state.generate(1), lambda: state.fork(), lambda: state.text, lambda: repr(state),
        lambda: next(stream), lambda: model.state("x"), lambda: model.info, lambda: model.check(),
        lambda: state.append("x"), lambda: state.rollback(0), lambda: state.save("x"),
    ]
    for call in calls:
        try:
            call()
        except cacher.ModelError as error:
            assert "forked" in str(error)
        else:
            os._exit(1)
    assert model.tokenizer.decode(model.tokenizer.encode("Hello")) == "Hello"
    own = cacher.load("tales", threads=2).state("Once upon a time").generate(3, seed=1)
    del stream, state
    assert own.text
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(next(stream).text) > 0, len(state.generate(2)))
"""

AT_EXIT = """
import gc
import cacher

gc.disable()
model = cacher.load("tales", threads=2)
stream = model.state("Once").stream(10)
next(stream)
class Cycle: pass
cycle = Cycle()
cycle.me, cycle.model, cycle.stream = cycle, model, model.state("Hello").stream(5)
next(cycle.stream)
model = None
"""

INTERPRETER = """
import _xxsubinterpreters as interpreters
import cacher

code = '''
import cacher
print(cacher.load("tales", threads=1).state("Hello").generate(3, seed=1).token_ids)
try:
    cacher.load("tales").state([99999])
except cacher.TokenIdError:
    print("refused")
'''
one = interpreters.create()
interpreters.run_string(one, code)
interpreters.destroy(one)
print(cacher.load("tales", threads=1).state("Hello").generate(3, seed=1).token_ids)
"""


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_forked_child_is_told_so_and_opens_its_own() -> None:
    done = run(FORKED)
    assert done.stdout == "7\nTrue 2\n", done.stderr


def test_the_program_ends_quietly_with_anything_open() -> None:
    done = run(AT_EXIT, "-X", "dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module has another name")
def test_another_interpreter_has_its_own_module() -> None:
    done = run(INTERPRETER)
    first, refused, second = done.stdout.splitlines()
    assert (first, refused) == (second, "refused"), done.stderr
