"""Looking inside states; nothing here changes one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from cacher.checks import shown
from cacher.schemas.analysis import (
    AnalyzedTokens,
    Attention,
    AttentionOptions,
    AttentionRequest,
    CacheInspected,
    CacheOptions,
    CacheRequest,
    CacheStats,
    Embed,
    Embedded,
    Heads,
    HeadsQuery,
    HeatmapQuery,
    TokensQuery,
)
from cacher.schemas.classification import Classified, ClassifiedAll, Classify
from cacher.server.errors import ApiError
from cacher.server.operations import Call, Operation
from cacher.server.presence import while_wanted
from cacher.server.routes.service import HTML

if TYPE_CHECKING:
    from cacher.classify import Classification

TAG = "Analysis"


async def tokens(call: Call, state_id: str, query: TokensQuery) -> object:
    """Tell how the model judges each token."""
    state = await call.state(state_id)
    found = await call.run(
        state,
        state.analyze_tokens,
        include_logits=query.include_logits,
        top=query.top,
        ngrams=query.ngrams,
        histogram=query.histogram,
        correlation=query.correlation,
        max_stored_logits=call.settings.MAX_STORED_LOGITS,
    )
    model_id = state.model.name
    answer: dict[str, object] = {
        "state_id": state_id, "model_id": model_id, "token_count": found.token_count,
        "total_logprob": found.total_logprob, "perplexity": found.perplexity,
    }  # fmt: skip
    left_out = (() if query.top else ("top_tokens",)) + (
        () if query.include_logits else ("top_logits",)
    )
    answer["tokens"] = [_plain(token, *left_out) for token in found.tokens]
    for name in ("ngrams", "correlation"):
        if getattr(found, name) is not None:
            answer[name] = getattr(found, name)
    if found.histogram is not None:
        answer["histogram"] = [
            {"from": part.low, "to": part.high, "count": part.count} for part in found.histogram
        ]
    return answer


def _plain(record: object, *left_out: str) -> dict[str, object]:
    slots: tuple[str, ...] = record.__slots__  # type: ignore[attr-defined]
    return {name: getattr(record, name) for name in slots if name not in left_out}


async def attention_of(call: Call, state_id: str, body: AttentionOptions) -> object:
    """Show attention among the tokens of a state."""
    _same(state_id, body.state_id)
    settings = call.settings
    state = await call.state(state_id)
    found = await call.run(
        state,
        state.analyze_attention,
        body.layer,
        body.head,
        threshold=_threshold(call, body.threshold),
        normalize=body.normalize,
        renormalize=body.renormalize,
        position_range=body.position_range,
        per_layer=body.per_layer,
        per_head=body.per_head,
        max_tokens=settings.MAX_ATTENTION_TOKENS,
        max_heads=settings.MAX_ATTENTION_HEADS,
        max_values=settings.MAX_RESPONSE_VALUES,
    )
    model_id = state.model.name
    return {
        "state_id": state_id,
        "layer": found.layer,
        "head": found.head,
        "tokens": found.tokens,
        "attention_pattern": found.attention_pattern,
        "attention_matrix": found.attention_pattern,
        "attention_patterns": [
            {"layer": part.layer, "head": part.head, "patterns": part.pattern}
            for part in found.attention_patterns
        ],
        "metadata": {
            "model": model_id,
            "threshold": found.threshold,
            "max_attention": found.max_attention,
            "min_attention": found.min_attention,
            "n_layers": found.n_layers,
            "n_heads": found.n_heads,
            "normalized": found.normalized,
            "renormalized": found.renormalized,
            "cross_attention": None,
        },
    }


async def attention(call: Call, body: AttentionRequest) -> object:
    """Show attention among the tokens of a state, its id in the body."""
    return await attention_of(call, body.state_id, body)


async def heatmap(call: Call, state_id: str, query: HeatmapQuery) -> object:
    """Show attention as a page to explore."""
    threshold = _threshold(call, query.threshold)
    state = await call.state(state_id)
    page = await call.run(
        state,
        state.attention_heatmap,
        query.layer,
        query.head,
        threshold,
        max_tokens=call.settings.MAX_ATTENTION_TOKENS,
    )
    return HTMLResponse(page)


async def heads(call: Call, state_id: str, query: HeadsQuery) -> object:
    """Tell how focused each head is."""
    state = await call.state(state_id)
    found = await call.run(state, state.head_importance, query.layer)
    return {"state_id": state_id, "heads": found}


async def cache_of(call: Call, state_id: str, body: CacheOptions) -> object:
    """Show keys and values of a state."""
    _same(state_id, body.state_id)
    state = await call.state(state_id)
    found = await call.run(
        state,
        state.inspect_cache,
        body.key_name,
        body.layer_range,
        layer=body.layer,
        head=body.head,
        position_range=body.position_range,
        format=body.format or ("list" if call.prefixed else "object"),
        max_values=call.settings.MAX_RESPONSE_VALUES,
    )
    answer = {"state_id": state_id, **_plain(found, "head", "format")}
    for name in ("memory_bytes",) if found.format == "list" else ("axes", "shape"):
        del answer[name]
    return answer


async def cache(call: Call, body: CacheRequest) -> object:
    """Show keys and values of a state, its id in the body."""
    return await cache_of(call, body.state_id, body)


async def cache_stats(call: Call) -> object:
    """Tell what is kept in memory and on disk.

    Where several workers serve, what is said of memory is that of the one that answers.
    """
    stats = await call.services.states.stats()
    models = [model.stats for model in call.services.registry.loaded().values()]
    used = stats.hits + stats.misses
    return {
        "worker": os.getpid(),
        "states_in_memory": stats.states_in_memory,
        "states_on_disk": stats.store.total_files,
        "kv_bytes": sum(model.kv_bytes for model in models),
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_rate": stats.hits / used if used else 0.0,
        "evictions": sum(model.pages_evicted for model in models),
        "files": stats.store,
    }


async def classify(call: Call, body: Classify) -> object:
    """Judge a text, or several, or the state's own."""
    if "" in (body.text, *(body.texts or ())):
        raise ApiError(400, "empty_input", "A text to classify must not be empty")
    state = await call.state(body.state_id)
    options: dict[str, Any] = {
        "labels": body.labels,
        "multi_label": body.multi_label,
        "threshold": body.threshold,
        "template": body.template,
        "per_token": body.per_token,
    }
    if body.texts is None:
        found = await call.run(state, state.classify, body.text, **options)
        return {"state_id": body.state_id, **_judgement(found)}
    several = await call.run(
        state, state.classify_all, body.texts, progress=while_wanted, **options
    )
    answer: dict[str, object] = {
        "state_id": body.state_id,
        "results": [_judgement(one) for one in several],
    }
    if body.include_correlation:
        answer["label_correlation"] = several.label_correlation()
    return answer


def _judgement(found: Classification) -> dict[str, object]:
    return _plain(found, *(() if found.per_token else ("per_token",)))


async def embedding(call: Call, body: Embed) -> object:
    """Return a vector for a token, or the mean over all."""
    state = await call.state(body.state_id)
    found = await call.run(
        state, state.embedding, body.token_index, kind=body.kind, layer=body.layer
    )
    return {
        "state_id": body.state_id,
        "token_index": found.token_index,
        "token": found.token,
        "kind": found.kind,
        "layer": found.layer,
        "dimension": found.dimension,
        "embedding": found.embedding,
    }


def _same(in_path: str, in_body: str | None) -> None:
    if in_body is not None and in_body != in_path:
        raise ApiError(
            400, "state_id_mismatch", f"The path names state {in_path}, the body {shown(in_body)}"
        )


def _threshold(call: Call, given: float | None) -> float:
    if given is not None:
        return given
    return 0.0 if call.prefixed else call.settings.ATTENTION_THRESHOLD


OPERATIONS = [
    Operation(
        method="GET", path="/analysis/tokens/{state_id}", handler=tokens, tag=TAG,
        query=TokensQuery, returns=AnalyzedTokens,
    ),
    Operation(
        method="POST", path="/analysis/attention", handler=attention, tag=TAG,
        body=AttentionRequest, returns=Attention,
    ),
    Operation(
        method="POST", path="/analysis/attention/{state_id}", handler=attention_of, tag=TAG,
        body=AttentionOptions, optional=True, returns=Attention,
    ),
    Operation(
        method="GET", path="/analysis/attention/{state_id}/heatmap", handler=heatmap, tag=TAG,
        query=HeatmapQuery, content=HTML,
    ),
    Operation(
        method="GET", path="/analysis/attention/{state_id}/heads", handler=heads, tag=TAG,
        query=HeadsQuery, returns=Heads,
    ),
    Operation(
        method="GET", path="/analysis/cache/stats", handler=cache_stats, tag=TAG,
        returns=CacheStats,
    ),
    Operation(
        method="POST", path="/analysis/cache/inspect", handler=cache, tag=TAG,
        body=CacheRequest, returns=CacheInspected,
    ),
    Operation(
        method="POST", path="/analysis/cache/{state_id}", handler=cache_of, tag=TAG,
        body=CacheOptions, optional=True, returns=CacheInspected,
    ),
    Operation(
        method="POST", path="/analysis/classify", handler=classify, tag=TAG, body=Classify,
        returns=Classified | ClassifiedAll,
    ),
    Operation(
        method="POST", path="/analysis/embedding", handler=embedding, tag=TAG, body=Embed,
        returns=Embedded,
    ),
]  # fmt: skip
