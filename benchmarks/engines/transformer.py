"""transformers with torch: a bare loop over the model and its cache, faster than ``generate``."""

from __future__ import annotations

import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from engines import Engine, Timed

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Torch(Engine):
    def __init__(self, path: str, dtype: str, threads: int) -> None:
        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=DTYPES[dtype]).eval()

    def logits(self, ids: np.ndarray) -> np.ndarray:
        return self.model(torch.tensor(ids[None]), logits_to_keep=1).logits[0, -1].float().numpy()

    def prefill(self, ids: np.ndarray) -> Timed:
        batch = torch.tensor(ids[None])
        started = time.perf_counter()
        token = self.model(batch, use_cache=True, logits_to_keep=1).logits[0, -1].argmax()
        return Timed(time.perf_counter() - started, np.array([[int(token)]]))

    def decode(self, ids: np.ndarray, tokens: int) -> Timed:
        out = self.model(torch.tensor(ids), use_cache=True, logits_to_keep=1)
        made = [out.logits[:, -1:].argmax(-1)]
        started = time.perf_counter()
        for _ in range(tokens):
            out = self.model(made[-1], past_key_values=out.past_key_values, use_cache=True)
            made.append(out.logits[:, -1:].argmax(-1))
        return Timed(time.perf_counter() - started, torch.cat(made, dim=1).numpy())

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> Timed:
        batch = torch.tensor(ids[None])
        started = time.perf_counter()
        found = self.model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            num_beams=beams,
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        seconds = time.perf_counter() - started
        return Timed(seconds, found[:, len(ids) :].numpy())
