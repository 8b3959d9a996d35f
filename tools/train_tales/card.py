"""Fill in the model card, so that no figure in it is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

import numpy as np
from config import MODEL, TRAIN

HERE = Path(__file__).parent
NOT_YET = "(not measured yet: this is an early checkpoint)"


def model_card(weights: int, step: int, seconds: float, work: Path) -> str:
    """Return the README.md of the model folder.

    The measured part comes from `eval.json` in the work folder, which
    evaluate.py writes; without it the card says that nothing was measured.
    """
    corpus_tokens = len(np.load(work / "all.npy", mmap_mode="r"))
    tokens = step * TRAIN.batch_tokens
    report_path = work / "eval.json"
    report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.exists() else None
    return (
        Template((HERE / "card.md").read_text(encoding="utf-8"))
        .substitute(
            weights=f"{weights:,}",
            rope_theta=f"{MODEL.rope_theta:g}",
            layers=MODEL.num_hidden_layers,
            hidden=MODEL.hidden_size,
            intermediate=MODEL.intermediate_size,
            heads=MODEL.num_attention_heads,
            kv_heads=MODEL.num_key_value_heads,
            head_dim=MODEL.head_dim,
            context=MODEL.max_position_embeddings,
            vocab=MODEL.vocab_size,
            figures=_figures(report["bits_per_byte"]) if report else NOT_YET,
            samples=_samples(report["samples"]) if report else NOT_YET,
            tokens=f"{tokens / 1e6:.1f} million",
            epochs=f"{tokens / corpus_tokens:.1f}",
            corpus_tokens=f"{corpus_tokens / 1e6:.1f} million",
            steps=f"{step:,}",
            cycles=" and ".join(f"{end:,}" for end in TRAIN.cycle_ends),
            batch=f"{TRAIN.batch_tokens:,}",
            minutes=round(seconds / 60),
            muon_lr=f"{TRAIN.muon_lr:g}",
            muon_decay=f"{TRAIN.muon_weight_decay:g}",
            adam_lr=f"{TRAIN.adam_lr:g}",
            clip=f"{TRAIN.clip_norm:g}",
            warmup=TRAIN.warmup_steps,
            hold=f"{TRAIN.hold_fraction:.0%}",
            final=f"{TRAIN.final_lr:.0%}",
            short=TRAIN.short_context,
            long=TRAIN.long_context,
            note=_unfinished(step),
            books=(HERE / "books.md").read_text(encoding="utf-8").strip(),
        )
        .rstrip()
        + "\n"
    )


def _unfinished(step: int) -> str:
    """Say so when the schedule has not been run to its end."""
    if step == TRAIN.cycle_ends[-1]:
        return ""
    return (
        f"\n\n**This is an unfinished checkpoint**: {step:,} of the {TRAIN.cycle_ends[-1]:,} "
        "steps of the schedule."
    )


def _figures(bits: dict[str, float]) -> str:
    """A table of bits per byte, best group first after the whole."""
    groups = sorted((g for g in bits if g != "all"), key=bits.__getitem__)
    rows = [f"| **all** | **{bits['all']:.3f}** |"]
    rows += [f"| {group} | {bits[group]:.3f} |" for group in groups]
    return "\n".join(["| group | bits per byte |", "| --- | ---: |", *rows])


def _samples(samples: list[dict]) -> str:
    """Each sample as a quotation under its prompt and seed."""
    parts = []
    for item in samples:
        quoted = "\n".join(f"> {line}".rstrip() for line in item["text"].strip().split("\n"))
        parts.append(f"`{item['prompt']}`, seed {item['seed']}:\n\n{quoted}")
    return "\n\n".join(parts)
