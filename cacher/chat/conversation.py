"""A conversation: messages, and one state that holds what the model has read of them.

Before each answer the state is made to hold the messages' tokens: what it shares with them stays,
the rest is rolled back, what is new is appended.  So a changed message, another try and a copy all
cost what they change, and an answer is the same as if the whole had been read anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Unpack

from cacher.chat.formats import format_of
from cacher.checks import MAX_UINT64, string
from cacher.errors import ParameterError
from cacher.niels_gpt.chat_format import Message
from cacher.params import SamplingOptions, check_max_tokens, check_stop

if TYPE_CHECKING:
    from cacher.model import Model
    from cacher.stream import Stream
    from cacher.types import Generation, Token


class Answer:
    """What the model says, as it says it: an iterator over pieces of text.

    It becomes a message of the conversation when it ends, or is closed.  Text that may be the
    beginning of what ends it is held back until it is known not to be.

    Attributes:
        text: What was said so far, without what ended it.
        tokens: All tokens so far, with traces if the conversation has them.
        read_tokens: How many tokens before it the model had not read yet.
        seconds: How long it took so far.
        end: None while it goes on; ``"stop"`` if the model ended it, ``"length"`` if it may not be
            longer, ``"closed"`` if it was closed.
    """

    def __init__(
        self, messages: list[Message], stream: Stream, stop: tuple[str, ...], read_tokens: int
    ) -> None:
        self.text = ""
        self.tokens: list[Token] = []
        self.read_tokens = read_tokens
        self._messages = messages
        self._stream = stream
        self._stop = stop
        self._said = ""
        self._open = True
        self._started = time.perf_counter()
        self.seconds = 0.0
        self.end: Literal["stop", "length", "closed"] | None = None

    @property
    def result(self) -> Generation:
        """The tokens so far, their probabilities, and why it ended."""
        return self._stream.result

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while self._open:
            token = next(self._stream, None)
            self.seconds = time.perf_counter() - self._started
            if token is None:
                return self._ended()
            if token.token_id >= 0:  # else the rest of a character
                self.tokens.append(token)
            self._said += token.text
            if piece := self._shown(self._sure()):
                return piece
        raise StopIteration

    def close(self) -> None:
        """End it here; what was said stays."""
        if self._open:
            self._open = False
            self.end = self.end or "closed"
            self._stream.close()
            self._messages.append({"role": "assistant", "content": self.text.strip()})

    def read(self) -> str:
        """Wait for the end; return the whole text."""
        for _ in self:
            pass
        return self.text

    def _ended(self) -> str:
        """Give what was held back, if it is no stop."""
        reason = self.result.finish_reason
        self.end = "stop" if reason in ("eos", "stop_sequence") else "length"
        ends = (self._said.find(stop) for stop in self._stop)
        piece = self._shown(min((at for at in ends if at >= 0), default=len(self._said)))
        self.close()
        if not piece:
            raise StopIteration
        return piece

    def _sure(self) -> int:
        """Return how much of what was said is no part of a stop."""
        for at in range(len(self.text), len(self._said)):
            rest = self._said[at:]
            if any(stop.startswith(rest) or rest.startswith(stop) for stop in self._stop):
                return at
        return len(self._said)

    def _shown(self, end: int) -> str:
        piece = self._said[len(self.text) : end]
        self.text += piece
        return piece


class Conversation:
    """Messages and answers, over one state of a causal model.

    Args:
        model: Its chat template is used where its folder has one; else each message is a line.
        system: What stands before the first message.
        name: The id of its state.
        max_tokens: New tokens of an answer at most.
        trace_layer: As of `State.stream`.
        **sampling: As of `State.generate`; an answer is drawn with the present `seed`.

    Attributes:
        messages: ``{"role": ..., "content": ...}``, oldest first.
        state: What the model has read of them; to look into, not to change.
        seed: Of the next answer.

    Raises:
        WrongModelTypeError: The model does not write.
        TokenizerError: It has no tokenizer.
        MissingExtraError: It has a chat template, and ``cacher[chat]`` is not installed.
        ParameterError: An option is outside its range.

    Example:
        >>> import cacher
        >>> from cacher.chat import Conversation
        >>> talk = Conversation(cacher.load("tales"), max_tokens=8)
        >>> answer = talk.ask("Who lives in the wood?").read()
        >>> [message["role"] for message in talk.messages]
        ['user', 'assistant']
        >>> talk.edit("Who lives in the lake?").read() == answer
        False
    """

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        name: str | None = None,
        max_tokens: int = 256,
        trace_layer: int | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> None:
        model._require("a conversation")
        self._format = format_of(model)
        self._max_tokens = check_max_tokens(max_tokens)
        self.messages: list[Message] = []
        if system is not None:
            self.messages.append({"role": "system", "content": string("system", system)})
        config = {
            "context_size": model.n_ctx, "context_strategy": "slide", "store_logits": "none",
        }  # fmt: skip
        self.state = model.state(config=config, state_id=name)
        self._trace_layer = trace_layer
        if trace_layer is not None:
            self.state._check_layer(trace_layer)
        stop = (*self._format.stop, *check_stop(sampling.get("stop")))
        params = self.state.config.sampling({**sampling, "stop": stop}).with_seed()
        self._sampling: SamplingOptions = {**sampling, "stop": params.stop}
        self._stop = params.stop
        self.seed = params.seed or 0
        self._answer: Answer | None = None

    def ask(self, text: str) -> Answer:
        """Say something; return the answer, of which nothing is computed yet."""
        return self._say(len(self._closed()), text)

    def retry(self) -> Answer:
        """Answer the last message again, with the next seed."""
        last = self._last_question()
        self.seed = (self.seed + 1) & MAX_UINT64
        return self._say(last, self.messages[last]["content"])

    def edit(self, text: str) -> Answer:
        """Put a text in place of the last message of the user, and answer it."""
        return self._say(self._last_question(), text)

    def fork(self, name: str | None = None) -> Conversation:
        """Return an independent copy; its state shares all pages.

        Args:
            name: The id of the copy's state.
        """
        self._closed()
        copy = Conversation.__new__(Conversation)
        copy.__dict__.update(self.__dict__)
        copy.messages = [*self.messages]
        copy.state = self.state.fork(state_id=name)
        copy._answer = None
        return copy

    def attention(self, layer: int | None = None, head: int | None = None) -> list[float]:
        """Return how much the last token attends to each token that the model sees.

        Args:
            layer: None is the last layer.
            head: None is the mean over all heads.

        Raises:
            EmptyStateError: Nothing was said yet.
            ParameterError: There is no such layer or head.
        """
        layer = self.state.model.info.n_layers - 1 if layer is None else layer
        last = self.state._filled() - 1
        rows = self.state.attention(layer, head, first=last, n=1)
        row = rows[0] if head is not None else rows[:, 0].mean(axis=0, dtype=float)
        weights: list[float] = row.tolist()
        return weights

    def _closed(self) -> list[Message]:
        """Return the messages, the last answer among them."""
        if self._answer is not None:
            self._answer.close()
        return self.messages

    def _last_question(self) -> int:
        messages = self._closed()
        for at in reversed(range(len(messages))):
            if messages[at]["role"] == "user":
                return at
        raise ParameterError("there is no message yet to answer again")

    def _say(self, at: int, text: str) -> Answer:
        """Put a message of the user behind the first `at` messages, and begin the answer."""
        messages = [*self.messages[:at], Message(role="user", content=string("a message", text))]
        self._hold(self._format.prompt(messages))
        unread = self.state._filled() - self.state.cached_tokens
        options: SamplingOptions = {**self._sampling, "seed": self.seed}
        stream = self.state.stream(self._max_tokens, trace_layer=self._trace_layer, **options)
        self.messages = messages
        self._answer = Answer(messages, stream, self._stop, unread)
        return self._answer

    def _hold(self, ids: list[int]) -> None:
        """Let the state hold these tokens."""
        state = self.state
        have = state.token_ids
        pairs = enumerate(zip(have, ids, strict=False))
        shared = next((i for i, (a, b) in pairs if a != b), min(len(have), len(ids)))
        if shared < len(have):
            state.rollback(shared)
        for at in range(shared, len(ids), state.context_limit):  # a piece must fit into the context
            state.append(ids[at : at + state.context_limit])
