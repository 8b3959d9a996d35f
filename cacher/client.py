"""The asynchronous client of the server.

It speaks HTTP and imports nothing of the engine.  An argument that is not given is not sent, so
that the server's inheritance applies; None is sent as ``null``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from cacher.connection import (
    UNSET,
    CacherAPIError,
    Connection,
    StateDict,
    as_object,
    decoded,
    segment,
    sent,
)

__all__ = ["UNSET", "CacherAPIError", "CacherClient", "StateDict"]


class CacherClient(Connection):
    """Calls a server; use it as an asynchronous context manager, or close it.

    A request is sent once: it may have been done although no answer came, so nothing is repeated.
    Proxies that the environment names (``HTTP_PROXY``, ``NO_PROXY``) are used, as by curl.  A
    client belongs to the event loop that it is first used in.

    Args:
        base_url: Where the server is.
        timeout: Seconds to wait for a connection, and for each part of an answer; None: any time.
        api_key: Sent with every request.
        api_prefix: ``"/v1"`` for the other dialect.

    Raises:
        ParameterError: `base_url` is no address, or another argument is not allowed.
        CacherAPIError: By all methods: the server refused, could not be reached, or went away.
        RuntimeError: By all methods: the client is closed, or belongs to another event loop.

    Example:
        >>> import asyncio
        >>> from cacher import CacherAPIError, CacherClient
        >>> async def main():
        ...     async with CacherClient("http://127.0.0.1:9") as client:
        ...         return await client.list_models()
        >>> try:
        ...     asyncio.run(main())
        ... except CacherAPIError as error:
        ...     print(error.status_code, error.details)
        None No response
    """

    # ---- states

    async def create_state(
        self,
        model_id: str,
        text: str | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        model_type: str | None = UNSET,
        state_id: str | None = UNSET,
        metadata: Mapping[str, Any] | None = UNSET,
        token_analysis: bool | None = UNSET,
    ) -> StateDict:
        """Create a state; with `token_analysis` it has the probabilities of its tokens."""
        return StateDict(
            await self._post(
                "/states",
                model_id=model_id,
                text=text,
                config=config,
                model_type=model_type,
                state_id=state_id,
                metadata=metadata,
                token_analysis=token_analysis,
            )
        )

    async def get_state(self, state_id: str) -> StateDict:
        """Return a state."""
        return StateDict(await self._get(f"/states/{segment(state_id)}"))

    async def delete_state(self, state_id: str) -> dict[str, Any]:
        """Delete a state."""
        return as_object(await self._call("DELETE", f"/states/{segment(state_id)}"))

    async def list_states(self, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """List states, newest first."""
        return await self._get("/states", limit=limit, offset=offset)

    async def update_config(self, state_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Replace keys of a state's configuration."""
        return await self._post("/states/config", state_id=state_id, config=config)

    async def edit_state(self, state_id: str, **changes: Any) -> StateDict:
        """Change a state; ``text``, ``append_text``, ``truncate_to``, ``config``, ``metadata``."""
        answer = await self._call("PATCH", f"/states/{segment(state_id)}", json=sent(**changes))
        return StateDict(as_object(answer))

    async def fork_state(self, state_id: str, **options: Any) -> StateDict:
        """Fork a state; options: ``n``, ``at``, ``config``, ``state_id``, ``metadata``."""
        new_id = options.pop("new_state_id", UNSET)
        path = f"/states/{segment(state_id)}/fork"
        return StateDict(await self._post(path, **{"state_id": new_id, **options}))

    async def merge_states(self, state_ids: Sequence[str], **options: Any) -> StateDict:
        """Merge states; options: ``strategy``, ``separator``, ``on_conflict``, ``state_id``."""
        return StateDict(await self._post("/states/merge", state_ids=list(state_ids), **options))

    async def diff_states(self, a: str, b: str) -> dict[str, Any]:
        """Compare two states."""
        return await self._post("/states/diff", state_ids=[a, b])

    async def get_history(self, state_id: str) -> dict[str, Any]:
        """Return what happened to a state."""
        return await self._get(f"/states/{segment(state_id)}/history")

    async def get_tree(self, state_id: str, **options: Any) -> Any:
        """Return the branches of a state's family; option: ``format``.  A dict, or a drawing."""
        path = f"/states/{segment(state_id)}/tree"
        found = decoded(await self._call("GET", path, params=options))
        return found.decode() if isinstance(found, bytes) else found

    async def create_checkpoint(self, state_id: str, name: str) -> dict[str, Any]:
        """Mark a state as it is now."""
        return await self._post(f"/states/{segment(state_id)}/checkpoints", name=name)

    async def list_checkpoints(self, state_id: str) -> dict[str, Any]:
        """List the checkpoints of a state."""
        return await self._get(f"/states/{segment(state_id)}/checkpoints")

    async def rollback(
        self, state_id: str, *, checkpoint: str | None = None, revision: int | None = None
    ) -> StateDict:
        """Go back to a checkpoint or a revision."""
        path = f"/states/{segment(state_id)}/rollback"
        return StateDict(await self._post(path, checkpoint=checkpoint, revision=revision))

    async def export_state(self, state_id: str, **options: Any) -> Any:
        """Export a state; options: ``format``, ``compress``.  A dict, or bytes."""
        answer = await self._call("GET", f"/states/{segment(state_id)}/export", params=options)
        return decoded(answer)

    async def export_states(self, state_ids: Sequence[str]) -> dict[str, Any]:
        """Export several states as one document."""
        return await self._post("/states/export", state_ids=list(state_ids))

    async def import_state(
        self, data: bytes | bytearray | memoryview | str | Mapping[str, Any], **options: Any
    ) -> Any:
        """Import what was exported; option: ``on_conflict``.  A state, or a dict of several."""
        text = json.dumps(data) if isinstance(data, Mapping) else data
        content = text.encode() if isinstance(text, str) else bytes(memoryview(text))
        answer = await self._call("POST", "/states/import", content=content, params=options)
        found = as_object(answer)
        return StateDict(found) if "state_id" in found else found

    # ---- generation

    async def generate_tokens(
        self,
        state_id: str,
        max_tokens: int = 1,
        temperature: float | None = UNSET,
        top_p: float | None = UNSET,
        stop_sequences: Sequence[str] | None = None,
        stream: bool = False,
        seed: int | None = UNSET,
        **controls: Any,
    ) -> dict[str, Any]:
        """Continue a state; with `stream` the tokens are printed as they come."""
        arguments = {
            "state_id": state_id, "max_tokens": max_tokens, "temperature": temperature,
            "top_p": top_p, "stop_sequences": stop_sequences, "seed": seed, **controls,
        }  # fmt: skip
        if not stream:
            return await self._post("/generate/token", **arguments)
        async for record in self.stream_tokens(**arguments):
            print(record["token"], end="", flush=True)
        return {"status": "stream complete"}

    async def generate_token(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Continue a state; the same as `generate_tokens`."""
        return await self.generate_tokens(*arguments, **named)

    async def stream_tokens(
        self,
        state_id: str,
        max_tokens: int = 1,
        temperature: float | None = UNSET,
        top_p: float | None = UNSET,
        stop_sequences: Sequence[str] | None = None,
        seed: int | None = UNSET,
        **controls: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """Continue a state, and yield a record for each token as it comes.

        Leaving the loop early ends the run at the server, too, once the iterator is closed.
        """
        body = sent(
            state_id=state_id, max_tokens=max_tokens, temperature=temperature, top_p=top_p,
            stop_sequences=stop_sequences, seed=seed, stream=True, **controls,
        )  # fmt: skip
        async with aclosing(self._records("/generate/token", body)) as records:
            async for record in records:
                yield record

    async def generate_multi(
        self, state_id: str, n: int = 3, max_tokens: int = 1, **sampling: Any
    ) -> dict[str, Any]:
        """Return several continuations; the state stays as it is."""
        return await self._post(
            "/generate/multi", state_id=state_id, n=n, max_tokens=max_tokens, **sampling
        )

    async def generate_beam(
        self,
        state_id: str,
        num_beams: int = 5,
        max_length: int = 50,
        diversity_penalty: float | None = None,
        early_stopping: bool = True,
        *,
        diverse_groups: int | None = UNSET,
        length_penalty: float | None = UNSET,
        no_repeat_ngram_size: int | None = UNSET,
        include_trace: bool = False,
        **controls: Any,
    ) -> dict[str, Any]:
        """Return the likeliest continuations; the state stays as it is."""
        return await self._post(
            "/generate/beam", state_id=state_id, num_beams=num_beams, max_length=max_length,
            diversity_penalty=diversity_penalty, early_stopping=early_stopping,
            diverse_groups=diverse_groups, length_penalty=length_penalty,
            no_repeat_ngram_size=no_repeat_ngram_size, include_trace=include_trace, **controls,
        )  # fmt: skip

    async def generate(
        self,
        text_input: str | None = None,
        *,
        state_id: str | None = None,
        max_new_tokens: int = 50,
        **options: Any,
    ) -> dict[str, Any]:
        """Continue a text, a state, or a state with a text appended."""
        return await self._post(
            "/generate", text_input=text_input, state_id=state_id, max_new_tokens=max_new_tokens,
            **options,
        )  # fmt: skip

    async def forward(
        self, text_input: str, *, state_id: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Read a text without generating."""
        return await self._post("/forward", text_input=text_input, state_id=state_id, **options)

    async def cancel(self, request_id: str) -> bool:
        """End a running generation, which answers with what it has; False: it is not running."""
        return bool((await self._post("/generate/cancel", request_id=request_id))["cancelled"])

    # ---- tokens and models

    async def tokenize(self, text: str, model_id: str | None = None) -> dict[str, Any]:
        """Encode a text."""
        return await self._post("/tokenize", text=text, model_id=model_id)

    async def detokenize(
        self, tokens: Sequence[int], model_id: str | None = None
    ) -> dict[str, Any]:
        """Decode tokens."""
        return await self._post("/detokenize", tokens=list(tokens), model_id=model_id)

    async def list_models(self) -> list[dict[str, Any]]:
        """List the models that can be loaded."""
        found: list[dict[str, Any]] = decoded(await self._call("GET", "/models"))
        return found

    async def get_model(self, model_id: str) -> dict[str, Any]:
        """Tell of a model."""
        parts = (segment(part, "a part of model_id") for part in model_id.split("/"))
        return await self._get(f"/models/{'/'.join(parts)}")

    # ---- analysis

    async def get_top_n_tokens(self, state_id: str, n: int = 5) -> dict[str, Any]:
        """Return what the model thinks comes next."""
        return await self._get(f"/states/{segment(state_id)}/top_tokens", n=n)

    async def analyze_tokens(self, state_id: str, **options: Any) -> dict[str, Any]:
        """Return how the model judges each token of a state."""
        return await self._get(f"/analysis/tokens/{segment(state_id)}", **options)

    async def analyze_attention(
        self,
        state_id: str,
        layer: int | None = None,
        threshold: float | None = UNSET,
        head: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Return attention among the tokens of a state."""
        return await self._post(
            f"/analysis/attention/{segment(state_id)}", state_id=state_id, layer=layer,
            threshold=threshold, head=head, **options,
        )  # fmt: skip

    async def attention_heatmap(self, state_id: str, **options: Any) -> str:
        """Return attention as a page to explore; options: ``layer``, ``head``, ``threshold``."""
        path = f"/analysis/attention/{segment(state_id)}/heatmap"
        return (await self._call("GET", path, params=sent(**options))).text

    async def head_importance(self, state_id: str, layer: int | None = UNSET) -> dict[str, Any]:
        """Tell how focused each head is."""
        return await self._get(f"/analysis/attention/{segment(state_id)}/heads", layer=layer)

    async def get_cache_stats(self) -> dict[str, Any]:
        """Tell what is kept in memory and on disk."""
        return await self._get("/analysis/cache/stats")

    async def inspect_cache(
        self,
        state_id: str,
        key_name: str | None = None,
        layer_range: Sequence[int] | None = None,
        *,
        layer: int | None = UNSET,
        **options: Any,
    ) -> dict[str, Any]:
        """Return keys and values of a state."""
        return await self._post(
            f"/analysis/cache/{segment(state_id)}", state_id=state_id, key_name=key_name,
            layer_range=None if layer_range is None else list(layer_range), layer=layer, **options,
        )  # fmt: skip

    async def classify(
        self,
        state_id: str,
        text: str | None = None,
        *,
        labels: Sequence[str] | None = None,
        multi_label: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Judge a text."""
        return await self._post(
            "/analyze/classify", state_id=state_id, text=text,
            labels=None if labels is None else list(labels), multi_label=multi_label, **options,
        )  # fmt: skip

    async def get_embedding(
        self, state_id: str, token_index: int | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return a vector for a token, or the mean over all."""
        return await self._post(
            "/analyze/embedding", state_id=state_id, token_index=token_index, **options
        )
