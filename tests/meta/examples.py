"""The examples of a page, run in order as a reader would run them.

Blocks marked ``python`` share one namespace and one event loop, with ``await`` at top level as in a
notebook.  Blocks marked ``sh`` run in a shell; one that starts a server is left running until
the page ends.  A block marked ``json`` or ``text`` is what the example before it prints; ``...`` in
it stands for anything, and space in JSON for none.  Ports from 8000 to 8099 become free ones.
"""

from __future__ import annotations

import ast
import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, redirect_stdout
from inspect import CO_COROUTINE
from pathlib import Path

BLOCK = re.compile(r"^```(python|sh|json|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"\b80[0-9]{2}\b")
SERVERS = ("cacher serve", "-m cacher.semantic.server")
START_SECONDS = 60


def run_page(page: Path, folder: Path) -> int:
    """Run all examples of a page in a folder; return how many there are."""
    with ExitStack() as ending:
        examples = Examples(page.name, folder, ending)
        printed = None
        for kind, block in BLOCK.findall(page.read_text()):
            if kind in ("json", "text"):
                assert printed is not None, f"output of nothing: {block}"
                check_output(examples.here(block), printed, spaced=kind == "text")
                printed = None
            else:
                printed = examples.run(kind, examples.here(block))
        return examples.count


def check_output(shown: str, printed: str, *, spaced: bool) -> None:
    """Check that a page shows what an example prints."""
    if not spaced:
        shown, printed = (re.sub(r"\s", "", text) for text in (shown, printed))
    pattern = re.escape(shown.strip()).replace(re.escape("..."), ".*?")
    matches = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    assert matches, f"the page shows\n{shown}\nprinted was\n{printed}"


class Examples:
    """What the examples of one page share."""

    def __init__(self, name: str, folder: Path, ending: ExitStack) -> None:
        self.count = 0
        self._name = name
        self._folder = folder
        self._ending = ending
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._loop = ending.enter_context(asyncio.Runner())
        self._ports: dict[str, int] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path}

    def here(self, block: str) -> str:
        """Return a block with the ports of this run."""
        return PORT.sub(lambda port: str(self._port(port[0])), block)

    def run(self, kind: str, block: str) -> str:
        """Run an example; return what it prints."""
        self.count += 1
        if kind == "python":
            return self._python(block)
        if any(words in block for words in SERVERS):
            self._serve(block)
            return ""
        done = subprocess.run(
            ["bash", "-ec", block], cwd=self._folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, block
        return done.stdout

    def _python(self, block: str) -> str:
        compiled = compile(block, self._name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with redirect_stdout(io.StringIO()) as printed:
            result = eval(compiled, self._names)
            if compiled.co_flags & CO_COROUTINE:
                self._loop.run(result)
        return printed.getvalue()

    def _serve(self, command: str) -> None:
        (port,) = re.findall(r"--port (\d+)", command)
        child = subprocess.Popen(
            ["bash", "-c", command], cwd=self._folder, env=self._environment,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._ending.callback(_stop, child)
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert child.poll() is None, f"it ended: {command}"
            assert time.monotonic() < deadline, f"it does not answer: {command}"
            try:
                urllib.request.urlopen(f"http://localhost:{port}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)

    def _port(self, shown: str) -> int:
        if shown not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[shown] = probe.getsockname()[1]
        return self._ports[shown]


def _stop(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGTERM)
    child.wait(START_SECONDS)
