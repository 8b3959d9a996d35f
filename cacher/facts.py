"""What a model is, and what models and engines count: plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ModelType = Literal["causal_lm", "sequence_classification", "encoder"]
#: What numbers are held in, of an index or of a model's matrices.
Dtype = Literal["f32", "bf16", "int8"]
#: What keys and values are kept in.
KVDtype = Literal["f32", "bf16"]
DTYPES, KV_DTYPES = get_args(Dtype), get_args(KVDtype)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Fixed facts of a model.

    Attributes:
        name: As given to `cacher.load`.
        model_type: ``"causal_lm"``, ``"sequence_classification"`` or ``"encoder"``.
        architecture: The model_type of config.json: ``"llama"``, ``"gpt2"``, ...
        labels: Of a classifier, one for each output; empty for other models.
        isa: Kernels in use.
        dtype: What the weights are held in: ``"f32"``, ``"bf16"`` or ``"int8"``.
        kv_dtype: What keys and values are kept in: ``"f32"`` or ``"bf16"``; None for an encoder.
        fingerprint: Hash of configuration, weights and tokenizer.
        vocab_size: Tokens the model knows.
        hidden_size: Width.
        intermediate_size: Width of the feed-forward part.
        n_layers: Layers.
        n_heads: Query heads.
        n_kv_heads: Key/value heads.
        head_dim: Width of a head.
        n_ctx: Most tokens of a state, or of a text that an encoder reads.
        bos_token_id: None when the model has none.
        eos_token_ids: End-of-sequence tokens.
        pad_token_id: What a classifier overlooks at the end of a text; None when there is none.
        pooling: Vector of an encoder: ``"mean"``, ``"cls"`` or ``"last"`` token; else None.
        n_threads: Threads a forward pass uses.
        n_parameters: Weights.
        weight_bytes: Bytes held by them.
        page_bytes: KV bytes of one page of 16 tokens; 0 for an encoder.
    """

    name: str
    model_type: ModelType
    architecture: str
    labels: tuple[str, ...]
    isa: str
    dtype: Dtype
    kv_dtype: KVDtype | None
    fingerprint: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ctx: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    pooling: str | None
    n_threads: int
    n_parameters: int
    weight_bytes: int
    page_bytes: int


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Counters of a model, since it was opened.

    Attributes:
        pages_live: Pages reachable from a state.
        pages_cached: Pages kept only because their prefix may come again.
        pages_shared: Live pages with more than one owner.
        kv_bytes: Bytes of KV entries in memory.
        kv_budget_bytes: Bytes of them at most.
        tokens_computed: Tokens that went through the model.
        tokens_reused: Tokens that were found already computed.
        pages_evicted: Pages whose KV entries were dropped to stay within the budget.
        forwards: Forward passes.
    """

    pages_live: int
    pages_cached: int
    pages_shared: int
    kv_bytes: int
    kv_budget_bytes: int
    tokens_computed: int
    tokens_reused: int
    pages_evicted: int
    forwards: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters of an engine, since it was made.

    Attributes:
        running: Requests that have joined and not left, now.
        waiting: Requests that wait to join, now.
        kv_bytes: Bytes of KV entries in memory, now.
        kv_budget_bytes: Bytes of them at most.
        finished: Requests that ran to their end.
        cancelled: Requests that were ended before.
        rejected: Requests refused because too many were waiting.
        failed: Requests that ended with an exception.
        tokens: Tokens generated.
        passes: Forward passes.
        prefix_lookups: Requests whose prompt was looked for among what is computed.
        prefix_hits: Those of which a part was found.
        prefix_tokens: Tokens found.
    """

    running: int
    waiting: int
    kv_bytes: int
    kv_budget_bytes: int
    finished: int
    cancelled: int
    rejected: int
    failed: int
    tokens: int
    passes: int
    prefix_lookups: int
    prefix_hits: int
    prefix_tokens: int
