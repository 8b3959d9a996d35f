"""Models, and text as tokens."""

from __future__ import annotations

import asyncio

from cacher import checks
from cacher.errors import ModelNotFoundError, ParameterError
from cacher.schemas.service import (
    Detokenize,
    Detokenized,
    ModelDetails,
    ModelEntry,
    Tokenize,
    Tokenized,
)
from cacher.server.errors import ApiError, refused
from cacher.server.operations import Call, Operation

MODELS = "Models"
GENERATION = "Generation"
SHORT = 4096  # characters or tokens: less work than handing it to a thread


async def list_models(call: Call) -> object:
    """List the models that can be loaded now."""
    found = await asyncio.to_thread(call.services.registry.available)
    return [
        {
            "model_id": facts.model_id,
            "description": facts.description,
            "model_type": facts.model_type,
            "default": facts.default,
        }
        for facts in found
    ]


async def get_model(call: Call, model_id: str) -> object:
    """Tell of a model and its configuration."""
    try:
        checks.model_id("model_id", model_id)
    except ParameterError as error:
        raise refused(str(error), "path", "model_id") from None
    try:
        facts = await asyncio.to_thread(call.services.registry.facts, model_id)
    except ModelNotFoundError as error:
        raise ApiError(404, "model_not_found", str(error)) from None
    model = call.services.registry.get(facts.model_id)
    return {
        "model_id": facts.model_id,
        "description": facts.description,
        "model_type": facts.model_type,
        "loaded": model is not None,
        "dtype": None if model is None else model.info.dtype,
        "kv_dtype": None if model is None else model.info.kv_dtype,
        "config": facts.config,
    }


async def tokenize(call: Call, body: Tokenize) -> object:
    """Encode a text."""
    model = await call.services.model(body.model_id)
    tokenizer = model.tokenizer

    def encode() -> tuple[list[int], list[str]]:
        token_ids = tokenizer.encode(body.text)
        return token_ids, tokenizer.pieces(token_ids)

    short = len(body.text) <= SHORT
    token_ids, pieces = encode() if short else await asyncio.to_thread(encode)
    return {
        "tokens": token_ids,
        "token_strings": pieces,
        "count": len(token_ids),
        "model_id": model.name,
    }


async def detokenize(call: Call, body: Detokenize) -> object:
    """Decode tokens."""
    model = await call.services.model(body.model_id)
    tokenizer = model.tokenizer
    if len(body.tokens) <= SHORT:
        text = tokenizer.decode(body.tokens)
    else:
        text = await asyncio.to_thread(tokenizer.decode, body.tokens)
    return {"text": text, "count": len(body.tokens), "model_id": model.name}


OPERATIONS = [
    Operation(
        method="POST", path="/tokenize", handler=tokenize, tag=GENERATION, body=Tokenize,
        returns=Tokenized,
    ),
    Operation(
        method="POST", path="/detokenize", handler=detokenize, tag=GENERATION, body=Detokenize,
        returns=Detokenized,
    ),
    Operation(
        method="GET", path="/models", handler=list_models, tag=MODELS, returns=list[ModelEntry]
    ),
    Operation(
        method="GET", path="/models/{model_id:path}", handler=get_model, tag=MODELS,
        returns=ModelDetails,
    ),
]  # fmt: skip
