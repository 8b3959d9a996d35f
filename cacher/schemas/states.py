"""States: creating, reading, branching, bookkeeping."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cacher.schemas.base import (
    NEW_ID,
    STATE_ID,
    Answer,
    ModelId,
    NewStateId,
    OrNull,
    QueryParameters,
    Request,
    StateId,
    Tags,
    example,
)
from cacher.schemas.config import ConfigChanges, small
from cacher.schemas.service import ModelType

RESERVED_IDS = frozenset({"config", "merge", "diff", "import", "export", "inspect", "stats"})
Text = Annotated[str, Field(max_length=1_000_000)]
Time = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$",
        description="UTC, RFC 3339.",
        examples=["2025-03-04T09:15:27Z"],
    ),
]
Ids = list[Annotated[str, Field(min_length=1, max_length=128)]]
CONFIG = {
    "temperature": 0.7,
    "top_p": 0.9,
    "seed": 42,
    "context_size": 2048,
    "store_logits": "top_k",
    "top_k_logits": 20,
}


class NewState(Request):
    """A request that may name the state it makes, and tag it."""

    state_id: NewStateId | None = Field(None, description=NEW_ID)
    metadata: Annotated[Tags | None, small("metadata")] = Field(
        None, description="Tags of your own, at most 16 KiB as JSON."
    )

    @model_validator(mode="after")
    def _free_id(self) -> Self:
        if self.state_id in RESERVED_IDS:
            raise ValueError(f"state_id {self.state_id!r} is reserved")
        return self


class CreateState(NewState):
    """A state to make."""

    model_config = example({"model_id": "tales", "text": "Hello world"})
    model_id: ModelId
    text: Text | None = Field(None, description="Default: an empty state.")
    model_type: OrNull[Literal["auto", "causal_lm", "sequence_classification", "encoder"]] = Field(
        "auto", description="What the model is to be; auto: what it is."
    )
    config: ConfigChanges | None = Field(None, description="Over the defaults.")
    token_analysis: OrNull[bool] = Field(False, description="Add each token's probability.")


class TokenProbability(Answer):
    """A token of a new state."""

    token: str = Field(description="Its text.")
    probability: float = Field(description="Given what precedes it.")


class Conflict(Answer):
    """A configuration key that differed in merged states."""

    key: str = Field(description="The key.")
    values: list[Any] = Field(description="Its value in each state.")
    chosen: Any = Field(description="The value it got.")


class StateMetadata(Answer):
    """The documented older form of a state."""

    state_id: StateId
    model_id: str = Field(description="Its model.")
    text: str | None = Field(description="The initial text, as sent.")
    config: dict[str, Any] = Field(description="The configuration, as sent.")
    created_at: Time
    last_modified: Time
    forked_from: str | None = Field(description="The state it is a fork of.")
    tags: Tags = Field(description="Tags of your own.")


class StateObject(Answer):
    """A state."""

    state_id: StateId
    model_id: str = Field(description="The model that computes it.", examples=["tales"])
    model_type: ModelType = Field(description="What the model can do.")
    text: str = Field(description="All of it, given and generated.", examples=["Hello world"])
    head_position: int = Field(description="Leading tokens that have been read.", examples=[0])
    token_count: int = Field(description="Tokens in all.", examples=[2])
    config: dict[str, Any] = Field(description="Complete.", examples=[CONFIG])
    created_at: Time
    modified_at: Time
    revision: int = Field(description="Grows by one with every change.", examples=[1])
    forked_from: str | None = Field(description="The state it is a fork of.")
    merged_from: list[str] | None = Field(description="The states it was merged from.")
    metadata: StateMetadata = Field(description="The documented older form.")
    token_analysis: list[TokenProbability] | None = Field(None, description="Where asked for.")
    conflicts: list[Conflict] | None = Field(None, description="Of a merge.")


class StateObjects(Answer):
    """Several states."""

    states: list[StateObject] = Field(description="In the order they were made.")


class StateDeleted(Answer):
    """A state that is gone."""

    model_config = example(
        {
            "state_id": STATE_ID,
            "message": "State deleted successfully",
            "status": "deleted",
            "metadata": {"message": f"State with ID: {STATE_ID} deleted"},
        }
    )
    state_id: StateId
    message: Literal["State deleted successfully"] = Field(description="Always the same.")
    status: Literal["deleted"] = Field(description="Always the same.")
    metadata: dict[str, str] = Field(description="The documented older form.")


class ConfigOfState(Answer):
    """A state's whole configuration."""

    state_id: StateId
    config: dict[str, Any] = Field(description="Complete.", examples=[CONFIG])


class UpdateConfig(Request):
    """Configuration keys to replace."""

    model_config = example({"state_id": STATE_ID, "config": {"temperature": 0.2}})
    state_id: StateId
    config: ConfigChanges = Field(description="Keys that are absent stay.")


class Page(QueryParameters):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000, description="At most this many.")
    offset: int = Field(0, ge=0, le=2**31 - 1, description="Leave out this many.")


class StateEntry(Answer):
    """A state in a list."""

    state_id: StateId
    model_id: str = Field(description="Its model.")
    model_type: ModelType = Field(description="What the model can do.")
    token_count: int = Field(description="Tokens in all.")
    head_position: int = Field(description="Leading tokens that have been read.")
    created_at: Time
    modified_at: Time
    forked_from: str | None = Field(description="The state it is a fork of.")


class StateList(Answer):
    """States, newest first."""

    states: list[StateEntry] = Field(description="Of this page.")
    total: int = Field(description="Of all pages.")
    limit: int = Field(description="As asked for.")
    offset: int = Field(description="As asked for.")


class TopQuery(QueryParameters):
    """How many tokens."""

    n: int = Field(5, ge=1, le=1000, description="Capped at the vocabulary size.")


class TopTokenEntry(Answer):
    """A token the model might choose."""

    token: str = Field(description="Its text, exactly.")
    token_id: int = Field(description="Its id.")
    probability: float = Field(description="At temperature 1, nothing cut off.")
    logprob: float = Field(description="Natural logarithm of it.")


class TopTokens(Answer):
    """What the model thinks comes next."""

    state_id: StateId
    tokens: list[TopTokenEntry] = Field(description="Likeliest first.")


class Fork(NewState):
    """Copies to make."""

    model_config = example({"n": 1, "at": 2})
    n: OrNull[int] = Field(1, ge=1, le=32, description="How many.")
    at: int | None = Field(
        None, ge=0, le=2**31 - 1, description="Leading tokens to copy. Default: all."
    )
    config: ConfigChanges | None = Field(None, description="Over the parent's.")

    @model_validator(mode="after")
    def _one_id(self) -> Self:
        if self.state_id is not None and self.n != 1:
            raise ValueError("state_id can only be given with n = 1")
        return self


class Merge(Request):
    """States to make one of."""

    model_config = example({"state_ids": ["a1", "b1"], "strategy": "append"})
    state_ids: Ids = Field(
        min_length=2,
        max_length=16,
        json_schema_extra={"uniqueItems": True},
        description="Without repeats.",
    )
    strategy: OrNull[Literal["append", "concat", "longest", "common_prefix"]] = Field(
        "append", description="How they are put together."
    )
    separator: OrNull[str] = Field("", max_length=256, description="Between the parts.")
    on_conflict: OrNull[Literal["first", "last", "error"]] = Field(
        "first", description="Which value a configuration key gets that differs."
    )
    state_id: NewStateId | None = Field(None, description=NEW_ID)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.state_ids)) != len(self.state_ids):
            raise ValueError("state_ids holds an id twice")
        if self.state_id in RESERVED_IDS:
            raise ValueError(f"state_id {self.state_id!r} is reserved")
        return self


class Diff(Request):
    """Two states to compare."""

    model_config = example({"state_ids": ["a1", "b1"]})
    state_ids: Ids = Field(min_length=2, max_length=2, description="Exactly two.")


class Difference(Answer):
    """How two states differ."""

    state_ids: list[str] = Field(description="As sent.")
    same_model: bool = Field(description="Whether their models are equal.")
    identical: bool = Field(description="Whether model, tokens and configuration are equal.")
    common_prefix_tokens: int = Field(description="Tokens both begin with.")
    common_prefix_text: str = Field(description="Their text.")
    only_in: dict[str, str] = Field(description="What follows in each.")
    config_changes: dict[str, list[Any]] = Field(description="Keys that differ, both values.")


class Edit(Request):
    """What to change; all of it, or nothing."""

    model_config = example({"truncate_to": 1, "append_text": " there"})
    text: Text | None = Field(None, description="Replaces everything.")
    append_text: Text | None = Field(None, description="Added at the end, not yet read.")
    truncate_to: int | None = Field(None, ge=0, le=2**31 - 1, description="Leading tokens to keep.")
    config: ConfigChanges | None = Field(None, description="Keys to replace.")
    metadata: Annotated[Tags | None, small("metadata")] = Field(
        None, description="Tags to add or replace."
    )
