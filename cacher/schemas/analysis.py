"""Looking inside: tokens, attention, keys and values, embeddings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cacher.schemas.base import (
    Answer,
    OrNull,
    QueryParameters,
    Range,
    Request,
    StateId,
    example,
)

Index = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Matrix = list[list[float]]


class TokensQuery(QueryParameters):
    """What is wanted besides the tokens."""

    include_logits: bool = Field(False, description="Add the logits stored after each token.")
    top: int = Field(0, ge=0, le=100, description="Alternatives at each position.")
    ngrams: int = Field(
        0,
        ge=0,
        le=5,
        json_schema_extra={"enum": [0, 2, 3, 4, 5]},
        description="Count n-grams of this size, 2 to 5; 0 is off.",
    )
    histogram: bool = Field(False, description="Count the tokens by probability.")
    correlation: bool = Field(False, description="Correlate log-probabilities.")

    @field_validator("ngrams")
    @classmethod
    def _size(cls, value: int) -> int:
        if value == 1:
            raise ValueError("ngrams is 1, allowed: 0, which is off, and 2 to 5")
        return value


class Alternative(Answer):
    """A token the model might have chosen."""

    token: str = Field(description="Its text.")
    token_id: int = Field(description="Its id.")
    probability: float = Field(description="Of the token.")
    logprob: float = Field(description="Natural logarithm of it.")


class StoredLogit(Answer):
    """A logit that was stored."""

    token_id: int = Field(description="Whose it is.")
    token: str = Field(description="Its text.")
    logit: float = Field(description="The number.")


class JudgedToken(Answer):
    """A token, as the model judges it."""

    text: str = Field(description="The text it adds.")
    position: int = Field(description="Its index.")
    logprob: float = Field(description="Given what precedes it.")
    probability: float = Field(description="exp of it.")
    token_id: int = Field(description="Its id.")
    rank: int = Field(description="1 is the most probable.")
    entropy: float = Field(description="Of the distribution, in nats.")
    top_tokens: list[Alternative] | None = Field(None, description="With top.")
    top_logits: list[StoredLogit] | list[float] | None = Field(
        None, description="With include_logits; null where none are stored."
    )


class NGramCount(Answer):
    """An n-gram."""

    tokens: list[str] = Field(description="Its tokens.")
    text: str = Field(description="Its text.")
    count: int = Field(description="How often it occurs.")


class Bin(Answer):
    """Tokens of some probability."""

    low: float = Field(alias="from", description="Lower end.")
    high: float = Field(alias="to", description="Upper end.")
    count: int = Field(description="How many.")


class Correlations(Answer):
    """Pearson correlations; null where one is not defined."""

    logprob_entropy_pearson: float | None = Field(description="Log-probability with entropy.")
    logprob_lag1: float | None = Field(description="With that of the next token.")


class AnalyzedTokens(Answer):
    """How the model judges the tokens of a state."""

    state_id: StateId
    model_id: str = Field(description="The model that judges.")
    tokens: list[JudgedToken] = Field(description="In order.")
    token_count: int = Field(description="How many.")
    total_logprob: float = Field(description="Sum of the log-probabilities.")
    perplexity: float | None = Field(description="From the second token on.")
    ngrams: list[NGramCount] | None = Field(None, description="Most frequent first, at most 50.")
    histogram: list[Bin] | None = Field(None, description="Ten equal bins.")
    correlation: Correlations | None = Field(None, description="With correlation.")


class AttentionOptions(Request):
    """Which attention, and how it is shown."""

    model_config = example({"layer": 5, "head": 0, "threshold": 0.1})
    state_id: str | None = Field(None, description="The same as in the path.")
    layer: Index | None = Field(None, description="Default: the mean over all layers.")
    head: Index | None = Field(None, description="Default: the mean over all heads.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Entries up to it become 0. Default: 0.1, under /v1 0."
    )
    normalize: OrNull[bool] = Field(True, description="Divide each row by its sum.")
    renormalize: OrNull[bool] = Field(False, description="Again after the threshold.")
    position_range: Range | None = Field(None, description="First and last token.")
    per_layer: OrNull[bool] = Field(False, description="An entry per layer in the patterns.")
    per_head: OrNull[bool] = Field(False, description="An entry per head in the patterns.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_range("position_range", self.position_range)
        return self


class AttentionRequest(AttentionOptions):
    """Which attention of which state."""

    state_id: str = Field(description="The state.")


def check_range(name: str, value: list[int] | None) -> None:
    """Refuse a range that ends before it begins.

    Raises:
        ValueError: It does.
    """
    if value is not None and value[0] > value[1]:
        raise ValueError(f"{name} must not end before it begins")


class Pattern(Answer):
    """One attention matrix."""

    layer: int | None = Field(description="null: the mean over all.")
    head: int | None = Field(description="null: the mean over all.")
    patterns: Matrix = Field(description="Row: attending token; column: attended token.")


class AttentionFacts(Answer):
    """About the matrix."""

    model: str = Field(description="The model.")
    threshold: float = Field(description="In force.")
    max_attention: float = Field(description="Before the threshold.")
    min_attention: float = Field(description="Before the threshold.")
    n_layers: int = Field(description="Of the model.")
    n_heads: int = Field(description="Of the model.")
    normalized: bool = Field(description="Whether rows were divided by their sums.")
    renormalized: bool = Field(description="Whether they were again.")
    cross_attention: None = Field(description="Always null: these models have none.")


class Attention(Answer):
    """Attention among the tokens of a state."""

    state_id: StateId
    layer: int | None = Field(description="As asked for.")
    head: int | None = Field(description="As asked for.")
    tokens: list[str] = Field(description="The selected tokens.")
    attention_pattern: Matrix = Field(description="Row: attending; column: attended.")
    attention_matrix: Matrix = Field(description="The same.")
    attention_patterns: list[Pattern] = Field(description="The same, or one per layer or head.")
    metadata: AttentionFacts = Field(description="About it.")


class HeatmapQuery(QueryParameters):
    """Which attention the map shows."""

    layer: int | None = Field(None, ge=-(2**31), le=2**31 - 1, description="Default: the mean.")
    head: int | None = Field(None, ge=-(2**31), le=2**31 - 1, description="Default: the mean.")
    threshold: float | None = Field(None, ge=0, le=1, description="As of attention.")


class HeadsQuery(QueryParameters):
    """Which heads."""

    layer: int | None = Field(None, ge=-(2**31), le=2**31 - 1, description="Default: all layers.")


class Head(Answer):
    """A head."""

    layer: int = Field(description="Its layer.")
    head: int = Field(description="Its index.")
    importance: float = Field(description="0: spread evenly; 1: one token each.")
    mean_entropy: float = Field(description="Of its rows, in nats.")


class Heads(Answer):
    """How focused the heads are."""

    state_id: StateId
    heads: list[Head] = Field(description="Layer after layer.")


class CacheOptions(Request):
    """Which keys and values."""

    model_config = example({"key_name": "k", "layer_range": [0, 1]})
    state_id: str | None = Field(None, description="The same as in the path.")
    key_name: str | None = Field(
        None, max_length=256, description="k, v, or all; another name finds nothing."
    )
    layer: Index | None = Field(None, description="One layer.")
    layer_range: Range | None = Field(None, description="First and last layer.")
    head: Index | None = Field(None, description="One head.")
    position_range: Range | None = Field(None, description="First and last token.")
    format: Literal["object", "list"] | None = Field(
        None, description="Means and statistics, or all numbers. Default: object, under /v1 list."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_range("layer_range", self.layer_range)
        check_range("position_range", self.position_range)
        return self


class CacheRequest(CacheOptions):
    """Which keys and values of which state."""

    state_id: str = Field(description="The state.")


class CacheInspected(Answer):
    """Keys and values of a state."""

    state_id: StateId
    key_name: str | None = Field(description="As asked for.")
    layer: int | None = Field(description="As asked for.")
    layer_range: list[int] | None = Field(description="As asked for.")
    layers_returned: list[int] = Field(description="The layers that are there.")
    matched: bool = Field(description="Whether key_name is known.")
    available_keys: list[str] = Field(description="The parts there are.")
    positions: int = Field(description="Tokens selected.")
    memory_bytes: int | None = Field(None, description="Bytes they take in memory.")
    axes: list[str] | None = Field(None, description="Of the list form.")
    shape: list[int] | None = Field(None, description="Of the list form.")
    cache_data: Any = Field(description="An object, or nested lists.")


class OldestFile(Answer):
    """A state file."""

    name: str = Field(description="Its name.")
    age: float = Field(description="Seconds since its last use.")


class Files(Answer):
    """The state files."""

    total_files: int = Field(description="How many.")
    total_size: int = Field(description="Bytes.")
    oldest_file: OldestFile | None = Field(description="Longest unused.")
    newest_file: OldestFile | None = Field(description="Last used.")


class CacheStats(Answer):
    """What is kept where."""

    worker: int = Field(description="The process that answers; of several each has its own memory.")
    states_in_memory: int = Field(description="States.")
    states_on_disk: int = Field(description="States.")
    kv_bytes: int = Field(description="Of keys and values.")
    hits: int = Field(description="Requests that found all but the new tokens computed.")
    misses: int = Field(description="Requests that did not.")
    hit_rate: float = Field(description="hits / (hits + misses).")
    evictions: int = Field(description="Pages dropped to stay within the budget.")
    files: Files = Field(description="On disk.")


class Embed(Request):
    """Which vector."""

    model_config = example({"state_id": "demo-1", "token_index": -1})
    state_id: StateId
    token_index: Index | None = Field(
        None, description="Negative from the end. Default: the mean over all tokens."
    )
    kind: OrNull[Literal["hidden", "input"]] = Field(
        "hidden", description="Contextual, or the row of the embedding table."
    )
    layer: Index | None = Field(
        None, description="0: input of the first layer. Default: after the final norm."
    )


class Embedded(Answer):
    """A vector."""

    state_id: StateId
    token_index: int | None = Field(description="As asked for.")
    token: str | None = Field(description="Its text.")
    kind: Literal["hidden", "input"] = Field(description="As asked for.")
    layer: int | None = Field(description="As asked for.")
    dimension: int = Field(description="Length of the vector.")
    embedding: list[float] = Field(description="The vector.")
