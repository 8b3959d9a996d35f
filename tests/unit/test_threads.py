"""The GIL, two threads on one state, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import cacher
from cacher import StateBusyError


def test_other_threads_run_while_the_model_computes(model: cacher.Model) -> None:
    """Ticks of another thread fall into a computation: impossible if it held the GIL."""
    model.drop_cached()
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    state = model.state([300] * 1000)
    started = time.perf_counter()
    state._core.eval(0, 1000)
    ended = time.perf_counter()
    stop.set()
    thread.join()
    assert sum(started < t < ended for t in ticks) >= 2


def test_a_second_thread_on_a_state_is_refused_at_once(model: cacher.Model) -> None:
    model.drop_cached()
    state = model.state([302] * 1000)
    reading, release = threading.Event(), threading.Event()

    def wait(_done: int, _total: int) -> None:
        reading.set()
        release.wait(30)

    thread = threading.Thread(target=lambda: state.forward(progress=wait))
    thread.start()
    assert reading.wait(30)
    try:
        for use in (
            lambda: state.generate(1), lambda: state.append(" x"), lambda: state.fork(),
            lambda: state.rollback(1), lambda: state.token_ids, lambda: state.logits(),
            lambda: next(state.stream(1)), lambda: state.beam(2, 2), lambda: state.save("x.json"),
        ):  # fmt: skip
            with pytest.raises(StateBusyError):
                use()
    finally:
        release.set()
        thread.join()
    assert state.head_position == 1000
    assert not os.path.exists("x.json")


def test_states_of_one_model_run_in_threads(model: cacher.Model) -> None:
    want = [model.state("Once upon a time").generate(30, seed=i).token_ids for i in range(4)]
    got: dict[int, list[int]] = {}

    def run(i: int) -> None:
        got[i] = model.state("Once upon a time").generate(30, seed=i).token_ids

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(4)] == want


def test_an_evaluation_is_cancelled_from_another_thread(model: cacher.Model) -> None:
    model.drop_cached()
    state = model.state([303] * 1000)
    with pytest.raises(cacher.GenerationCancelled):
        state._core.eval(0, 16, lambda _done, _total: state._core.cancel())
    assert state.forward().head_position == 1000


INTERRUPTED = """
import os, signal, sys, threading, time
import cacher
model = cacher.load("tales", threads=1)
state = model.state([7] * 1000, config={"store_logits": "full"})
action = sys.argv[1]

computing = threading.Event()

def interrupt():
    computing.wait()
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
started = time.perf_counter()
try:
    computing.set()
    while True:
        if action == "forward":
            model.drop_cached()
            state.evict()
            state._core.eval(20, 1000)
        elif action == "generate":
            model.state("Once").generate(1000, temperature=1.0, min_tokens=1000)
        elif action == "beam":
            model.state("Once").beam(64, 900, early_stopping=False, stop="never this")
        elif action == "stream":
            for token in model.state("Once").stream(1000, temperature=1.0, min_tokens=1000):
                pass
        elif action == "attention":
            state.attention(3)
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - started)
state.generate(1) if len(state) < 1000 else state.logits()
print("usable", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize("action", ["forward", "generate", "beam", "stream", "attention"])
def test_ctrl_c_ends_a_computation_and_leaves_everything_usable(action: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, action], capture_output=True, text=True, timeout=60
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("interrupted"), done.stderr
    assert second == "usable True"


SWALLOWED = """
import os, signal, threading, time
import cacher
signal.signal(signal.SIGINT, lambda *_: None)
state = cacher.load("tales", threads=1).state([7] * 1000)

def interrupt():
    while True:  # one may come between two calls
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    while True:
        state.evict()
        state._core.eval(0, 1000)
except cacher.GenerationCancelled as error:
    print("cancelled")
"""


def test_a_handler_that_raises_nothing_still_ends_the_call() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "cancelled\n", done.stderr


def test_the_default_action_of_the_signal_is_left_alone() -> None:
    code = INTERRUPTED.replace(
        "action = ", "signal.signal(signal.SIGINT, signal.SIG_DFL); action = "
    )
    done = subprocess.run([sys.executable, "-c", code, "forward"], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGINT


def test_threads_on_one_stream_get_each_token_once_or_are_refused(model: cacher.Model) -> None:
    state = model.state("Once upon a time")
    stream = state.stream(40, temperature=1.0, min_tokens=40)
    got: list[int] = []
    errors: list[BaseException] = []

    def read() -> None:
        while len(got) < 40:
            try:
                got.append(next(stream).token_id)
            except StopIteration:
                return
            except BaseException as error:
                errors.append(error)
                time.sleep(0.001)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(error) for error in errors} <= {StateBusyError}
    assert sorted(got) == sorted(state.token_ids[4:])
    assert len(stream.result) == len(got) >= 40


INTERRUPTED_STREAM = """
import os, random, signal, threading, time
import cacher

model = cacher.load("tales", threads=1)
options = {"temperature": 1.0, "min_tokens": 60}
want = model.state("Once upon a time").generate(60, **options).token_ids
random.seed(1)
for _ in range(20):
    state = model.state("Once upon a time")
    stream = state.stream(60, **options)
    timer = threading.Timer(random.uniform(0.0, 0.02), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        for token in stream:
            pass
        timer.join()
        time.sleep(1)  # for the signal, should it come late
    except KeyboardInterrupt:
        pass
    assert stream.result.token_ids == state.token_ids[4:]
    for token in stream:
        pass
    assert stream.result.token_ids == state.token_ids[4:] == want
print("whole")
"""


def test_a_stream_that_was_interrupted_goes_on_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_STREAM], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "whole\n", done.stderr
