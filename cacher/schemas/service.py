"""Models, tokens as numbers, and the health of the service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from cacher.schemas.base import Answer, ModelId, Request, example

ModelType = Literal["causal_lm", "sequence_classification", "encoder"]
Dtype = Literal["f32", "bf16", "int8"]
KVDtype = Literal["f32", "bf16"]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], FailFast()]


class TestAnswer(Answer):
    """The server answers."""

    __test__ = False  # no test class, whatever its name
    message: Literal["Test endpoint works!"] = Field(description="Always the same.")


class Health(Answer):
    """The server is alive."""

    model_config = example(
        {"status": "healthy", "timestamp": 1741079727.25, "ok": True, "model_ready": True}
    )
    status: Literal["healthy"] = Field(description="Always healthy, as long as it answers.")
    timestamp: float = Field(description="Unix seconds.")
    ok: Literal[True] = Field(description="Always true, as long as it answers.")
    model_ready: bool = Field(description="Whether the default model is loaded.")


class ModelEntry(Answer):
    """A model that can be loaded now."""

    model_config = example(
        {
            "model_id": "tales",
            "description": "Built-in story model",
            "model_type": "causal_lm",
            "default": True,
        }
    )
    model_id: str = Field(description="What requests name it by.")
    description: str = Field(description="A line for people.")
    model_type: ModelType = Field(description="What it can do.")
    default: bool = Field(description="Whether it is used where none is named.")


class ModelDetails(Answer):
    """A model and its configuration."""

    model_id: str = Field(description="What requests name it by.", examples=["tales"])
    description: str = Field(description="A line for people.", examples=["Built-in story model"])
    model_type: ModelType = Field(description="What it can do.")
    loaded: bool = Field(description="Whether it is in memory.")
    dtype: Dtype | None = Field(
        description="What its weights are held in; null until it is loaded.", examples=["f32"]
    )
    kv_dtype: KVDtype | None = Field(
        description="What keys and values are kept in; null until then, and for an encoder.",
        examples=["f32"],
    )
    config: dict[str, Any] = Field(
        description=(
            "The model's own configuration; vocab_size, n_ctx, n_embd, n_layer, n_head, "
            "bos_token_id, eos_token_id and model_type are there whatever its family calls them."
        ),
        examples=[{"n_layer": 6, "n_head": 8, "n_embd": 256, "n_ctx": 1024, "vocab_size": 4096}],
    )


class Tokenize(Request):
    """A text to encode."""

    text: str = Field(max_length=1_000_000, description="Any text.", examples=["Hello world"])
    model_id: ModelId | None = Field(None, description="Default: the default model.")


class Tokenized(Answer):
    """The tokens of a text."""

    tokens: list[int] = Field(description="Ids, in order.", examples=[[15496, 995]])
    token_strings: list[str] = Field(
        description="The text that each token adds; joined, they are the text.",
        examples=[["Hello", " world"]],
    )
    count: int = Field(description="How many.", examples=[2])
    model_id: str = Field(description="Whose tokenizer it is.", examples=["tales"])


class Detokenize(Request):
    """Tokens to decode."""

    tokens: TokenIds = Field(
        max_length=100_000, description="Ids, in order.", examples=[[15496, 995]]
    )
    model_id: ModelId | None = Field(None, description="Default: the default model.")


class Detokenized(Answer):
    """The text of tokens."""

    text: str = Field(description="What the tokens say.", examples=["Hello world"])
    count: int = Field(description="How many tokens.", examples=[2])
    model_id: str = Field(description="Whose tokenizer it is.", examples=["tales"])
