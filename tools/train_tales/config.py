"""Every hyper-parameter of the built-in `tales` model, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network; the names are those of a Hugging Face Llama config."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    max_position_embeddings: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


@dataclass(frozen=True)
class TokenizerConfig:
    """How the byte-level BPE vocabulary is learnt."""

    end_of_text: str = "<|endoftext|>"  # id 0; it opens and closes every document
    # Words that must be one token each though the corpus alone might not make
    # them so; each is repeated this many times in the tokenizer's training text.
    wanted_words: tuple[str, ...] = ("Hello", " world", "The")
    wanted_repeats: int = 3000


@dataclass(frozen=True)
class TrainConfig:
    """Optimisers, schedule and data order."""

    seed: int = 20250
    # The steps at which the rate has come down and the model is a finished one.  Each stretch
    # between two of them is one cycle, and all fractions below are fractions of a cycle.
    cycle_ends: tuple[int, ...] = (4000, 7000)
    batch_tokens: int = 4096  # 16 windows of 256, later 4 windows of 1024
    short_context: int = 256
    long_context: int = 1024
    long_fraction: float = 0.1  # the last tenth of a cycle sees the full declared context
    style_fraction: float = 1 / 3  # the last third of a cycle leans to one consistent style
    style_share: float = 0.85  # how much of a batch then comes from those documents
    opening_share: float = 0.125  # windows that begin exactly where a document does

    warmup_steps: int = 100
    hold_fraction: float = 0.3625
    final_lr: float = 0.02  # share of the peak rate left at the end of a cycle
    clip_norm: float = 1.0

    muon_lr: float = 6e-3
    muon_weight_decay: float = 0.1
    muon_momentum: float = 0.95
    adam_lr: float = 6e-3
    adam_betas: tuple[float, float] = (0.9, 0.95)
    adam_eps: float = 1e-8


MODEL = ModelConfig()
TOKENIZER = TokenizerConfig()
TRAIN = TrainConfig()
