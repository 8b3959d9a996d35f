"""CTranslate2: its ``generate_batch``, with a callback that tells when the prompts were read."""

from __future__ import annotations

import time

import ctranslate2
import numpy as np

from engines import Engine, Timed

TYPES = {"f32": "float32", "int8": "int8"}


class CTranslate2(Engine):
    def __init__(self, path: str, dtype: str, threads: int) -> None:
        self.model = ctranslate2.Generator(
            path, device="cpu", compute_type=TYPES[dtype], inter_threads=1, intra_threads=threads
        )

    def logits(self, ids: np.ndarray) -> np.ndarray:
        return np.array(self.model.forward_batch(_texts(ids[None])))[0, -1]

    def prefill(self, ids: np.ndarray) -> Timed:
        return self.beam(ids, tokens=1, beams=1)

    def decode(self, ids: np.ndarray, tokens: int) -> Timed:
        first = []

        def note(step: ctranslate2.GenerationStepResult) -> None:
            if step.step == 0:
                first.append(time.perf_counter())

        found = self.model.generate_batch(
            _texts(ids),
            max_length=tokens + 1,
            min_length=tokens + 1,
            include_prompt_in_result=False,
            callback=note,
        )
        seconds = time.perf_counter() - first[-1]
        return Timed(seconds, np.array([row.sequences_ids[0] for row in found]))

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> Timed:
        texts = _texts(ids[None])
        started = time.perf_counter()
        (found,) = self.model.generate_batch(
            texts,
            beam_size=beams,
            max_length=tokens,
            min_length=tokens,
            include_prompt_in_result=False,
        )
        return Timed(time.perf_counter() - started, np.array([found.sequences_ids[0]]))


def _texts(ids: np.ndarray) -> list[list[str]]:
    """Return the tokens as the converted model's vocabulary writes them."""
    return [[str(i) for i in row] for row in ids.tolist()]
