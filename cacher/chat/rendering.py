"""Renders chat templates in a process of their own, which cannot take more than its share.

A thread cannot be ended, and there is no end to the ways in which a template can be made to compute
for ever.  So `Renderer` keeps a process (`cacher.chat._render`) that the system ends when a request
has computed for `SECONDS`, and starts another one for the next request.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from cacher.errors import ModelError, ModelFormatError, ParameterError

SECONDS = 1.0  # of computing, for a request
WAIT_S = 10.0  # for an answer, where the machine is busy
MEMORY = 512 << 20  # bytes of the process
MOST_CHARACTERS = 4 << 20  # of a rendered text
PROGRAM = Path(__file__).with_name("_render.py")


class Renderer:
    """A process that renders, started when it is first needed.

    It may be used by several threads, one of which is served at a time, and by forked children,
    each of which gets a process of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def check(self, source: str) -> None:
        """Compile a template.

        Raises:
            ModelFormatError: It is none, or takes more than it may.
            ModelError: No process could be started.
        """
        try:
            self._ask(source, None)
        except ParameterError as error:
            raise ModelFormatError(str(error)) from error

    def render(self, source: str, variables: dict[str, Any]) -> str:
        """Return what a template makes of variables.

        Raises:
            ModelFormatError: It is none.
            ParameterError: It refuses the variables, or takes more than it may; they are no JSON.
            ModelError: No process could be started.
        """
        return self._ask(source, variables)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, source: str, variables: dict[str, Any] | None) -> str:
        try:
            line = json.dumps({"source": source, "variables": variables}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ParameterError(f"messages must be what JSON can hold: {error}") from error
        with self._lock:
            try:
                answer: dict[str, str] = json.loads(self._exchange(line + b"\n"))
            except BaseException:  # a keyboard's, too: an answer that comes late is nobody's
                self._end()
                raise
        if "unreadable" in answer:
            raise ModelFormatError(f"the chat template cannot be read: {answer['unreadable']}")
        if "refused" in answer:
            raise ParameterError(f"the chat template refuses the messages: {answer['refused']}")
        return answer["text"]

    def _exchange(self, line: bytes) -> bytes:
        """Send a request, and wait for its answer."""
        process = self._process
        if process is None or process.poll() is not None:
            self._end()
            process = self._process = _start()
        pipes = cast(tuple[IO[bytes], IO[bytes]], (process.stdin, process.stdout))
        with suppress(BrokenPipeError):
            pipes[0].write(line)
            pipes[0].flush()
        answer = _read(pipes[1])
        if answer is None:
            raise ParameterError(f"the chat template gives no answer within {WAIT_S:g} s")
        if not answer.endswith(b"\n"):
            status = process.wait()  # its output has ended
            if status == -signal.SIGPROF:
                raise ParameterError(f"the chat template computes for over {SECONDS:g} s")
            raise ParameterError(f"the chat template ends its process, with status {status}")
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with process:  # waits
                for pipe in (process.stdin, process.stdout):
                    with suppress(BrokenPipeError):  # a request that nobody reads any more
                        cast(IO[bytes], pipe).close()

    def _forget(self) -> None:
        """In a forked child: the process is the parent's."""
        self._lock = threading.Lock()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    limits = (str(SECONDS), str(MEMORY), str(MOST_CHARACTERS))
    folders = [os.path.abspath(folder) for folder in sys.path]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), *limits, *folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's signals are not for it
        )
    except OSError as error:
        raise ModelError(f"no process for chat templates could be started: {error}") from error


def _read(pipe: IO[bytes]) -> bytes | None:
    """Read a line, or what there is of it when the pipe ends; None: nothing came in time."""
    poll, until, parts = select.poll(), time.monotonic() + WAIT_S, [b""]
    poll.register(pipe, select.POLLIN)
    while not parts[-1].endswith(b"\n"):
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            return None
        part = os.read(pipe.fileno(), 1 << 20)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


renderer = Renderer()
