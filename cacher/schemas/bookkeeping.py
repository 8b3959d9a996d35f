"""History, trees, checkpoints, rollback, export and import of states."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from cacher.schemas.base import Answer, QueryParameters, Request, StateId, example
from cacher.schemas.states import Ids, Time

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the checkpoint.",
        examples=["before-answer"],
    ),
]
Op = Literal[
    "create", "fork", "merge", "import", "forward", "generate", "config", "edit", "rollback"
]


class Event(Answer):
    """A change of a state."""

    revision: int = Field(description="Of the state after it.")
    op: Op = Field(description="What was done.")
    at: Time
    token_count: int = Field(description="Tokens after it.")
    head_position: int = Field(description="Head after it.")
    detail: dict[str, Any] = Field(description="More about it.")


class History(Answer):
    """What happened to a state; the last 256 events are kept."""

    state_id: StateId
    events: list[Event] = Field(description="Oldest first.")


class TreeQuery(QueryParameters):
    """The form of a tree."""

    format: Literal["json", "mermaid", "text"] = Field("json", description="json, or a drawing.")


class TreeNode(Answer):
    """A state among its relatives."""

    state_id: StateId
    token_count: int | None = Field(
        description="Its tokens; null for a parent that only its forks know of."
    )
    current: bool = Field(description="Whether it is the state that was asked for.")
    deleted: bool = Field(description="Whether it is gone.")
    children: list[TreeNode] = Field(description="Its forks.")


class NewCheckpoint(Request):
    """A checkpoint to make; one of the same name is replaced."""

    model_config = example({"name": "before-answer"})
    name: Name


class CheckpointEntry(Answer):
    """A checkpoint in a list."""

    name: str = Field(description="Its name.")
    revision: int = Field(description="Of the state when it was made.")
    token_count: int = Field(description="Tokens when it was made.")
    created_at: Time


class Checkpoint(CheckpointEntry):
    """A checkpoint."""

    state_id: StateId


class Checkpoints(Answer):
    """The checkpoints of a state."""

    state_id: StateId
    checkpoints: list[CheckpointEntry] = Field(description="Oldest first; 64 at most.")


class Rollback(Request):
    """What to go back to: exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"checkpoint": "before-answer"}],
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (("checkpoint", "string"), ("revision", "integer"))
            ],
        }
    )
    checkpoint: Name | None = Field(None, description="Name of a checkpoint.")
    revision: int | None = Field(None, ge=1, le=2**31 - 1, description="A revision.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.checkpoint is None) == (self.revision is None):
            raise ValueError("give exactly one of checkpoint and revision")
        return self


class ExportQuery(QueryParameters):
    """The form of an export."""

    format: Literal["json", "binary"] = Field("json", description="json or binary.")
    compress: Literal["none", "gzip"] = Field("none", description="none or gzip.")


class ExportMany(Request):
    """States to export together."""

    model_config = example({"state_ids": ["a1", "b1"]})
    state_ids: Ids = Field(min_length=1, max_length=100, description="1 to 100.")


class ExportDocument(Answer):
    """A state as a document."""

    format: Literal["cacher-state"] = Field(description="Always the same.")
    version: int = Field(description="Of the format.", examples=[1])
    state: dict[str, Any] = Field(description="The state.")
    token_ids: list[int] = Field(description="Its tokens.")
    history: list[dict[str, Any]] = Field(description="Its events.")
    checkpoints: list[dict[str, Any]] = Field(description="Its checkpoints.")


class ExportBatch(Answer):
    """Several states as a document."""

    format: Literal["cacher-batch"] = Field(description="Always the same.")
    version: int = Field(description="Of the format.", examples=[1])
    states: list[ExportDocument] = Field(description="The documents of the states.")


class ImportQuery(QueryParameters):
    """What becomes of an id that is taken."""

    on_conflict: Literal["new", "error", "replace"] = Field(
        "new", description="new: a fresh id; error: refuse; replace: the old state goes."
    )
