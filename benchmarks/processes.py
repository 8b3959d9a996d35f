"""Processes that are asked for a measurement by a line, and answer with a line."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

SETTLE_S = 0.1  # lets another process's spinning threads go to sleep


class Process:
    """A process that answers each line it is sent with one line."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"this process died: {self._process.args}")
        return line.strip()

    def send(self, line: str) -> None:
        if self._process.stdin:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def ask(self, line: str) -> str:
        time.sleep(SETTLE_S)
        self.send(line)
        return self.read()

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
