"""Who answers a chat: a model of the package through its engine, or a stand-in that tests inject.

Both turn messages into ids, ids into texts, and give tokens one by one, each with its trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from cacher import _core
from cacher.chat.formats import format_of
from cacher.decoding import StopMatcher
from cacher.errors import ModelContractError
from cacher.niels_gpt.chat_format import TAGS, Message, format_chat
from cacher.niels_gpt.config import ModelConfig
from cacher.niels_gpt.token_utils import token_display
from cacher.params import MOST_TEMPERATURE, SamplingOptions, SamplingParams
from cacher.types import Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.engine import Engine
    from cacher.model import Model

LEAST_TEMPERATURE = (
    1e-5  # what is drawn at all is divided by this at least; below, only ties differ
)
SEEDS = 2**64
UNCERTAIN = "\ufffd"
#: A stream stores nothing: its state is gone when it ends.
CONFIG = {"store_logits": "none", "context_strategy": "stop"}


class Sizes(Protocol):
    """What is asked of a configuration: vocabulary, context, blocks, heads."""

    @property
    def V(self) -> int: ...  # noqa: D102, N802
    @property
    def T(self) -> int: ...  # noqa: D102, N802
    @property
    def L(self) -> int: ...  # noqa: D102, N802
    @property
    def H(self) -> int: ...  # noqa: D102, N802


class Wanted(NamedTuple):
    """What is asked of a stream.

    Attributes:
        max_new_tokens: New tokens at most.
        temperature: 0 takes the likeliest token.
        top_k: Draw from so many of the likeliest; None: of all.
        seed: From -2^63 to 2^64 - 1.
        trace_layer: The layer whose attention is shown.
        tenant: Whose request it is: what one has computed is hidden from others.
    """

    max_new_tokens: int = 256
    temperature: float = 0.9
    top_k: int | None = 50
    seed: int = 42
    trace_layer: int = 0
    tenant: str | None = None

    def sampling(self) -> SamplingOptions:
        """Return it as options of a stream: every other one is off."""
        hot = min(max(self.temperature, LEAST_TEMPERATURE), MOST_TEMPERATURE)
        return {
            "temperature": hot if self.temperature > 0 else 0.0,
            "top_k": min(self.top_k or 0, 2**31 - 1),
            "top_p": 1.0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "no_repeat_ngram_size": 0,
            "seed": self.seed % SEEDS,
            "random": "splitmix64",
        }


Steps = AsyncGenerator[tuple[int, Trace], None]


class Speaker(Protocol):
    """Who answers.

    Attributes:
        model: The model, or its stand-in.
        cfg: The model's sizes.
        stop: What ends an answer, and is no part of it.
    """

    model: Any
    cfg: Sizes
    stop: tuple[str, ...]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of messages and of what precedes an answer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""

    def text(self, token_id: int) -> str:
        """Return the text of one id."""

    def display(self, token_id: int) -> str:
        """Return it in printable characters."""

    def steps(self, ids: list[int], wanted: Wanted) -> Steps:
        """Give the tokens of an answer, each with its trace."""

    async def attention(self, ids: list[int], layer: int, head: int) -> NDArray[np.float32]:
        """Return what each of the ids attends to: float32 [ids, ids]."""


def sizes_of(model: Model) -> ModelConfig:
    """Return the sizes of a model of the package."""
    info = model.info
    return ModelConfig(
        V=info.vocab_size, T=model.n_ctx, C=info.hidden_size, L=info.n_layers, H=info.n_heads,
        d_ff=info.intermediate_size,
    )  # fmt: skip


class ModelSpeaker:
    """A causal model of the package; streams share the passes of its engine.

    Args:
        model: The model.
        engine: Gives its engine.
    """

    def __init__(self, model: Model, engine: Callable[[Model], Engine]) -> None:
        model._require("a chat")
        self.model = model
        self.cfg: Sizes = sizes_of(model)
        self._engine = engine
        self._format = format_of(model)
        self.stop = self._format.stop
        self._displays: dict[int, str] = {}
        self._suppressed = model._core.suppressed()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `Speaker`."""
        return self._format.prompt(messages)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Speaker`."""
        return self.model.tokenizer.decode(ids)

    def text(self, token_id: int) -> str:
        """See `Speaker`."""
        return self.model.tokenizer._text_of(token_id)

    def display(self, token_id: int) -> str:
        """See `Speaker`."""
        found = self._displays.get(token_id)
        if found is None:
            found = self._displays[token_id] = self.model.tokenizer.display(token_id)
        return found

    async def steps(self, ids: list[int], wanted: Wanted) -> Steps:
        """See `Speaker`."""
        sampling = wanted.sampling()
        state = self.model.state(ids[-self.cfg.T :], config=CONFIG, cache_salt=wanted.tenant)
        made: list[int] = []
        within = min(wanted.max_new_tokens, self.cfg.T - len(state))
        if within > 0:
            engine = self._engine(self.model)
            sampling["stop"] = self.stop
            async with engine.stream(
                state, within, trace_layer=wanted.trace_layer, **sampling
            ) as stream:
                async for token in stream:
                    if token.trace is not None:
                        made.append(token.token_id)
                        yield token.token_id, token.trace
                if stream.result.finish_reason in ("eos", "stop_sequence"):
                    return
        params = SamplingParams(**cast(dict[str, Any], sampling))
        while len(made) < wanted.max_new_tokens:
            window = [*ids, *made][-self.cfg.T :]
            token_id, trace = await self._engine(self.model).run(
                self._beyond, window, params, len(made), wanted
            )
            if token_id in self.model.info.eos_token_ids:
                return
            made.append(token_id)
            yield token_id, trace
            if any(tag in self.decode(made) for tag in self.stop):
                return

    def _beyond(
        self, window: list[int], params: SamplingParams, step: int, wanted: Wanted
    ) -> tuple[int, Trace]:
        """Choose a token behind a full window: all of it is computed anew, at new positions."""
        state = self.model.state(window, config=CONFIG, cache_salt=wanted.tenant)
        logits = state.logits()
        logits[self._suppressed] = -inf
        token_id, entropy, top = _core.sample_traced(logits, (), params.core(done=step))
        rows = state.attention(wanted.trace_layer, first=len(window) - 1)
        state._core.evict()  # no window is like another
        return token_id, Trace(entropy, top, rows.reshape(rows.shape[0], -1))

    async def attention(self, ids: list[int], layer: int, head: int) -> NDArray[np.float32]:
        """See `Speaker`."""
        state = self.model.state(ids, config=CONFIG)
        return await self._engine(self.model).run(state.attention, layer, head)


class StandIn:
    """A stand-in for a model, as tests inject it; it reads and writes bytes.

    Args:
        model: Has ``forward_with_attn_trace(x, trace_layer=, return_full_attn=)``.
        cfg: Its sizes.
    """

    stop = TAGS

    def __init__(self, model: Any, cfg: Sizes) -> None:
        self.model = model
        self.cfg = cfg

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """See `Speaker`."""
        return list(format_chat(messages).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """See `Speaker`."""
        return bytes(min(i, 255) for i in ids).decode("utf-8", "replace")

    def text(self, token_id: int) -> str:
        """See `Speaker`."""
        return chr(token_id) if token_id < 128 else UNCERTAIN

    def display(self, token_id: int) -> str:
        """See `Speaker`."""
        return token_display(token_id)

    async def steps(self, ids: list[int], wanted: Wanted) -> Steps:
        """See `Speaker`."""
        params = SamplingParams(**cast(dict[str, Any], wanted.sampling()))
        matcher = StopMatcher(self.stop)
        made: list[int] = []
        while len(made) < wanted.max_new_tokens:
            window = [*ids, *made][-self.cfg.T :]
            logits, trace = await asyncio.to_thread(
                self._forward, window, wanted.trace_layer, return_full_attn=False
            )
            token_id, entropy, top = _core.sample_traced(logits, (), params.core(done=len(made)))
            made.append(token_id)
            yield token_id, Trace(entropy, top, _weights(trace["attn_row"], 3)[0])
            if matcher.push(self.text(token_id)) is not None:
                return

    def _forward(
        self, window: list[int], layer: int, *, return_full_attn: bool
    ) -> tuple[NDArray[np.float32], Mapping[str, object]]:
        import numpy as np

        logits, trace = self.model.forward_with_attn_trace(
            np.array([window]), trace_layer=layer, return_full_attn=return_full_attn
        )
        last: NDArray[np.float32] = np.ascontiguousarray(_numbers(logits, 3)[0, -1])
        return last, trace

    async def attention(self, ids: list[int], layer: int, head: int) -> NDArray[np.float32]:
        """See `Speaker`."""
        _, trace = await asyncio.to_thread(self._forward, ids, layer, return_full_attn=True)
        rows: NDArray[np.float32] = _weights(trace["attn_full"], 4)[0, head]
        return rows


def _weights(value: object, n_dims: int) -> NDArray[np.float32]:
    import numpy as np

    found = _numbers(value, n_dims)
    if not np.isfinite(found).all():
        raise ModelContractError("the model's attention holds what is no number")
    return found


def _numbers(value: Any, n_dims: int) -> NDArray[np.float32]:
    """Return nested lists, an array, or what becomes such a list, as an array."""
    import numpy as np

    found = np.asarray(value.tolist() if hasattr(value, "tolist") else value, np.float32)
    if found.ndim != n_dims:
        raise ModelContractError(f"the model gave {found.ndim} dimensions, expected {n_dims}")
    return found
