"""A run of 2,000 requests that is killed, and run again.

What was answered is not paid for again, and all answers are those of a run that nobody killed.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.crash.pipeline_worker import REQUESTS, expected

LONGEST_S = 0.05  # from an answer to the kill
PROGRAM = ("-m", "tests.crash.pipeline_worker")

Sample = tuple[str, int]


class Books:
    """What was bought and answered.

    Attributes:
        acknowledged: Answers that the killed runs gave.
        unanswered: Samples that they bought and had not delivered.
        done: Those among them that were stored.
    """

    def __init__(self) -> None:
        self.acknowledged = self.unanswered = self.done = 0


class Run:
    """A process, and what it said."""

    def __init__(self, program: Sequence[str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *program, str(folder)], stdout=subprocess.PIPE
        )
        self.lines: list[bytes] = []
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until it said so much, or ended."""
        with self._heard:
            while len(self.lines) < count and self._listener.is_alive():
                self._heard.wait(1.0)

    def end(self, *, kill: bool) -> int:
        """Return how it ended, by a kill or by itself."""
        if kill:
            self.process.kill()
        status = self.process.wait()
        self._listener.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def said(self) -> tuple[set[Sample], dict[str, list[str]]]:
        """Return the samples that were bought, and the answers by request."""
        bought: set[Sample] = set()
        answers: dict[str, list[str]] = {}
        for line in self.lines:
            if not line.endswith(b"\n"):
                break  # cut off
            verb, name, what = json.loads(line)
            if verb == "buy":
                bought.update((name, index) for index in what)
            else:
                answers[name] = what
        return bought, answers


class Trial:
    """Runs that are killed and run again, each on a folder of its own."""

    def __init__(self, folder: Path, rng: random.Random, program: Sequence[str] = PROGRAM) -> None:
        self.folder, self.rng, self.program = folder, rng, program
        self.ledger = Books()
        self.expected = expected()

    def round(self, number: int) -> list[str]:
        """Kill a run, let another one finish: returns what is wrong."""
        cache = self.folder / f"cache-{number}"
        killed = Run(self.program, cache)
        killed.wait_for(self.rng.randrange(REQUESTS))
        time.sleep(self.rng.random() ** 2 * LONGEST_S)
        status = killed.end(kill=True)
        if status not in (0, -9):
            return [f"a run ended by itself with {status}"]
        bought, answers = killed.said()
        second = Run(self.program, cache)
        if (status := second.end(kill=False)) != 0:
            return [f"the second run ended with {status}"]
        again, rest = second.said()
        wrong = [
            f"{name} torn: it got {sorted(map(_sample, what))}, which is not what it gets else"
            for name, what in [*answers.items(), *rest.items()]
            if what != self.expected[name]
        ]
        wrong += [f"{name} has no answer" for name in self.expected.keys() - rest.keys()]
        delivered = {_sample(text) for what in answers.values() for text in what}
        wrong += [f"{sample} lost: it is paid for again" for sample in sorted(delivered & again)]
        self.ledger.acknowledged += len(answers)
        self.ledger.unanswered += len(bought - delivered)
        self.ledger.done += len(bought - delivered - again)
        shutil.rmtree(cache)
        return wrong

    def look(self) -> list[str]:
        """Nothing is left to look at."""
        return []


def _sample(text: str) -> Sample:
    key, index = text.split()[:2]
    return key, int(index)
