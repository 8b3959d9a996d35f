"""A state's configuration as requests send it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from cacher.schemas.base import Request, whole

MAX_JSON_BYTES = 16 * 1024
MAX_SEED = 2**63 - 1

Temperature = Annotated[float, Field(ge=0, le=10)]
TopP = Annotated[float, Field(ge=0, le=1)]
StopSequences = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)
]


def seed_field(description: str) -> Any:
    """A seed: null draws a fresh one, absent inherits."""
    return Field(None, ge=0, le=MAX_SEED, description=description, examples=[42])


def check_json_size(name: str, value: object) -> None:
    """Refuse what takes more than 16 KiB as JSON; it is written no further than that.

    Raises:
        ValueError: It does.
    """
    size = 0
    for part in json.JSONEncoder().iterencode(value) if value else ():
        size += len(part)
        if size > MAX_JSON_BYTES:
            raise ValueError(f"{name} takes more bytes as JSON than the {MAX_JSON_BYTES} allowed")


def small(name: str) -> BeforeValidator:
    """Check the size of a field before anything else is done with it."""

    def check(value: object) -> object:
        check_json_size(name, value)
        return value

    return BeforeValidator(check)


class ConfigChanges(Request):
    """Keys of a state's configuration; null means back to the default, but for seed.

    Keys that are not known are kept and echoed; they have no effect.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"temperature": 0.7, "top_p": 0.9, "seed": 42}]},
    )
    temperature: Temperature | None = Field(None, description="0 to 10; 0 is greedy.")
    top_p: TopP | None = Field(None, description="0 to 1; 1 is off.")
    seed: int | None = seed_field("null: a fresh one for every call.")
    context_size: int | None = Field(
        None, ge=1, le=1_048_576, description="Most tokens of the state."
    )
    store_logits: Literal["none", "top_k", "full"] | None = Field(
        None, description="What is kept of every prediction."
    )
    top_k_logits: int | None = Field(
        None, ge=1, le=1000, description="How many logits top_k keeps."
    )
    stop_sequences: StopSequences | None = Field(None, description="Of requests that send none.")
    context_strategy: Literal["stop", "slide"] | None = Field(
        None, description="What happens when the context is full."
    )
    top_k: int | None = Field(None, ge=0, le=1000, description="0 is off.")
    min_p: float | None = Field(None, ge=0, le=1, description="0 is off.")
    no_repeat_ngram_size: int | None = Field(None, ge=0, le=10, description="0 is off.")

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        check_json_size("config", value)
        fields = cls.model_fields  # here null says something: back to the default
        return {key: whole(item, fields.get(key)) for key, item in value.items()}

    def sent(self) -> dict[str, Any]:
        """Return the keys as they were sent, null included."""
        return self.model_dump(exclude_unset=True)
