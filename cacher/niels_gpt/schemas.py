"""What goes over HTTP: types are taken loosely, as the document has them; ranges come later."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

MESSAGE: JsonDict = {"role": "user", "content": "Who lives in the wood?"}


def _unicode(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "string_unicode",
            "Input should be a valid string, unable to parse raw data as a unicode string",
        ) from None
    return text


class ChatMessage(BaseModel):
    """What somebody said."""

    role: Literal["system", "user", "assistant"] = Field(description="Who.")
    content: Annotated[str, AfterValidator(_unicode)] = Field(description="What; may be empty.")


class ChatRequest(BaseModel):
    """Messages that are to be answered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [MESSAGE], "trace_layer": 0}]}
    )
    messages: list[ChatMessage] = Field(description="Oldest first; may be empty.")
    max_new_tokens: int = Field(256, description="New tokens at most, 0 or more.")
    temperature: float = Field(0.9, description="0 or more; 0 takes the likeliest token.")
    top_k: int | None = Field(50, description="Draw from so many of the likeliest; null: of all.")
    seed: int = Field(42, description="From -2^63 to 2^64 - 1.")
    trace_layer: int = Field(description="The layer whose attention is shown.")


class FullAttnRequest(BaseModel):
    """Messages whose attention is asked for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [MESSAGE], "trace_layer": 0, "head": 0}]}
    )
    messages: list[ChatMessage] = Field(description="Oldest first; may be empty.")
    trace_layer: int = Field(description="The layer.")
    head: int = Field(description="The head.")
    seed: int = Field(42, description="Of tokens that are generated.")
    max_new_tokens: int = Field(0, description="Tokens that are generated before looking.")


class FullAttn(BaseModel):
    """The attention of a head."""

    layer: int = Field(description="As asked.")
    head: int = Field(description="As asked.")
    token_ids: list[int] = Field(description="What the model read.")
    tokens: list[str] = Field(description="Each of them as a text of its own.")
    tokens_display: list[str] = Field(description="The same in printable characters.")
    attn: list[list[float]] = Field(description="Row i: how much token i attends to each.")


class ErrorResponse(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"error": "Rate limit exceeded", "code": "rate_limited"}]}
    )
    error: str = Field(description="A sentence for people.")
    code: str = Field(description="A stable word for programs.")


class ChatHealth(BaseModel):
    """Whether the server is up, and its model loaded."""

    ok: bool = Field(description="Always true.")
    model_ready: bool = Field(description="Whether the model is loaded.")
