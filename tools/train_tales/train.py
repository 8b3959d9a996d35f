"""Train the model; can be stopped at any time and resumed from its checkpoint.

python train.py --work ../train-work [--resume]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from config import MODEL, TRAIN
from model import Llama
from optim import Muon
from torch import Tensor
from torch.nn import functional as F

SAVE_EVERY_SECONDS = 180
REPORT_EVERY = 25  # steps


class Data:
    """Random windows over the token streams, a pure function of the step."""

    def __init__(self, work: Path) -> None:
        self.streams = {n: np.load(work / f"{n}.npy") for n in ("all", "series")}
        self.starts = {n: np.load(work / f"{n}-starts.npy") for n in ("all", "series")}

    def batch(self, step: int) -> Tensor:
        """Return ids of shape (windows, context + 1) for this step."""
        rng = np.random.default_rng((TRAIN.seed, step))
        context = context_at(step)
        at, length = place_in_cycle(step)
        leaning = at >= length * (1 - TRAIN.style_fraction)
        rows = []
        for _ in range(TRAIN.batch_tokens // context):
            name = "series" if leaning and rng.random() < TRAIN.style_share else "all"
            stream = self.streams[name]
            if rng.random() < TRAIN.opening_share:
                start = int(rng.choice(self.starts[name]))
            else:
                start = int(rng.integers(len(stream)))
            start = min(start, len(stream) - context - 1)
            rows.append(stream[start : start + context + 1])
        return torch.from_numpy(np.stack(rows).astype(np.int64))


def place_in_cycle(step: int) -> tuple[int, int]:
    """Return how many steps of its cycle are done, and how many the cycle has."""
    start = 0
    for end in TRAIN.cycle_ends:
        if step < end:
            return step - start, end - start
        start = end
    raise ValueError(f"step {step} is past the last cycle, which ends at {start}")


def context_at(step: int) -> int:
    """Short windows first, the full context at the end of a cycle."""
    at, length = place_in_cycle(step)
    return TRAIN.long_context if at >= length * (1 - TRAIN.long_fraction) else TRAIN.short_context


def rate_at(step: int) -> float:
    """Share of the peak learning rate: in each cycle warm up, hold, then fall linearly."""
    at, length = place_in_cycle(step)
    if at < TRAIN.warmup_steps:
        return (at + 1) / TRAIN.warmup_steps
    left = (length - at) / (length * (1 - TRAIN.hold_fraction))
    return TRAIN.final_lr + (1 - TRAIN.final_lr) * min(1.0, left)


def make_optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embedding and norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in named if p.dim() != 2 or "embed" in n]
    muon = Muon(matrices, TRAIN.muon_lr, TRAIN.muon_momentum, TRAIN.muon_weight_decay)
    adam = torch.optim.AdamW(
        others, lr=TRAIN.adam_lr, betas=TRAIN.adam_betas, eps=TRAIN.adam_eps, weight_decay=0.0
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return [muon, adam]


def save(
    path: Path, step: int, seconds: float, model: Llama, optimizers: list[torch.optim.Optimizer]
) -> None:
    """Write a checkpoint so that a crash never leaves half of one."""
    state = {
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "config": dataclasses.asdict(TRAIN),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path, model: Llama, optimizers: list[torch.optim.Optimizer]) -> tuple[int, float]:
    """Restore a checkpoint; return its step and the seconds spent so far."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"]


def train(work: Path, resume: bool, steps: int, compile_model: bool) -> None:
    """Run the schedule up to `steps`, logging a JSON line now and then."""
    torch.manual_seed(TRAIN.seed)
    model = Llama(MODEL)
    optimizers = make_optimizers(model)
    step, spent = 0, 0.0
    if resume:
        step, spent = load(work / "checkpoint.pt", model, optimizers)
    data = Data(work)

    def loss_of(ids: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    run = torch.compile(loss_of, dynamic=False) if compile_model else loss_of
    began = saved_at = reported_at = time.monotonic()
    losses: list[float] = []
    while step < steps:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate_at(step)
        loss = run(data.batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), TRAIN.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        now = time.monotonic()
        if step % REPORT_EVERY == 0 or step == steps:
            rate = len(losses) * TRAIN.batch_tokens / (now - reported_at)
            print(
                json.dumps(
                    {
                        "step": step,
                        "loss": round(sum(losses) / len(losses), 4),
                        "tokens_per_s": round(rate),
                        "seconds": round(spent + now - began),
                    }
                ),
                flush=True,
            )
            losses, reported_at = [], now
        if now - saved_at > SAVE_EVERY_SECONDS or step == steps:
            save(work / "checkpoint.pt", step, spent + now - began, model, optimizers)
            saved_at = now


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder prepare.py wrote")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=TRAIN.cycle_ends[-1], help="stop early")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.work, args.resume, args.steps, not args.no_compile)


if __name__ == "__main__":
    main()
