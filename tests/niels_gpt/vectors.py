"""The documented test vectors of the small models, after the transcript of one message."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT = list(b"user: hi\nassistant: ")


@dataclass(frozen=True)
class Vectors:
    """What a generation gives; logits by id."""

    weights: dict[str, list[float]]  # the first numbers of tensors
    logits: dict[int, float]  # after the prompt
    best: dict[int, float]  # the five largest there
    first: dict[int, float]  # the largest at the first position
    attention: list[float]  # layer 1, head 0, last row: the first eight weights, the last four
    greedy: list[int]
    entropy: float  # at temperature 0.9, top-k 50, step 0
    probabilities: list[float]  # the three largest there
    sampled: list[int]  # the same settings, seed 42


VECTORS = {
    1: Vectors(
        weights={
            "tok_emb.weight": [-0.120715, 0.475966, -0.189094],
            "blocks.1.attn.qkv.weight": [-0.844775, 0.885546],
            "ln_f.weight": [1.139392, 1.280308],
        },
        logits={0: 0.1503, 65: 2.8319, 104: 1.9980, 255: 2.7163},
        best={16: 4.3292, 230: 4.2010, 46: 3.6522, 130: 3.5854, 88: 3.4884},
        first={32: 4.2410},
        attention=[
            0.0765,
            0.0210,
            0.0012,
            0.0977,
            0.0518,
            0.0015,
            0.0113,
            0.0040,
            0.1703,
            0.0075,
            0.0230,
            0.0176,
        ],
        greedy=[16, 230, 16, 70, 105, 228, 228, 228, 105, 105, 105, 105],
        entropy=3.5590,
        probabilities=[0.1138, 0.0987, 0.0537],
        sampled=[77, 157, 105, 70, 105, 12, 202, 168],
    ),
    2: Vectors(
        weights={
            "tok_emb.weight": [-0.150893, 0.594958, -0.236368],
            "blocks.1.attn.qkv.weight": [-0.406444, -0.885315],
            "ln_f.weight": [1.174240, 1.350385],
        },
        logits={0: 2.2215, 65: -3.1658, 104: -2.0673, 255: -6.1018},
        best={157: 6.7339, 199: 5.7968, 63: 5.7842, 102: 5.7462, 183: 5.5906},
        first={157: 6.6700},
        attention=[
            0.0319,
            0.0232,
            0.0080,
            0.0010,
            0.0214,
            0.0505,
            0.1385,
            0.0102,
            0.0004,
            0.0010,
            0.0361,
            0.0208,
        ],
        greedy=[157, 157, 102, 169, 102, 157, 157, 157, 157, 157, 157, 157],
        entropy=3.1015,
        probabilities=[0.2112, 0.0746, 0.0735],
        sampled=[73, 102, 11, 106, 102, 172, 203, 133],
    ),
}
