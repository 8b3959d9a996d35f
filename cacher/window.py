"""The window of a state: the tokens of it that the model sees.

With ``context_strategy`` "slide", a state may hold more tokens than its context limit L.  The model
then sees a window of them, whose beginning moves on by L // 2 tokens each time the window holds L.
So it is a pure function of the number of tokens and of L: how a state came to its tokens, by one
call or five, a fork, a rollback or a file, makes no difference.

A niels-gpt model is documented to see the last L tokens, always: its window rolls, which costs a
pass over all of it for each token, for every position in it is another one than before.

To the model, the window is a text of its own whose first token stands at position 0: a second state
of the core, made when it is needed.  Everything else speaks of the state's own positions: the
tokens, random draws, penalties, what is reported.  A token is judged by the window that predicted
it; attention, keys and values and hidden states are those of the present window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import TYPE_CHECKING

from cacher.errors import ContextOverflowError

if TYPE_CHECKING:
    from cacher._core import State as CoreState
    from cacher.model import Model
    from cacher.params import StateConfig
    from cacher.state import Text


ROLLING = ("niels1", "niels2")  # architectures whose window moves on with every token


def window_start(n_tokens: int, limit: int, rolls: bool = False) -> int:
    """Return where the window of a state of `n_tokens` begins; nothing is half of a limit of 1.

    Example:
        >>> from cacher.window import window_start
        >>> [window_start(n, 8) for n in (7, 8, 11, 12)]
        [0, 4, 4, 8]
        >>> [window_start(n, 8, rolls=True) for n in (7, 8, 11, 12)]
        [0, 0, 3, 4]
    """
    if rolls:
        return max(0, n_tokens - limit)
    half = limit // 2
    if n_tokens < limit or not half:
        return 0
    return ((n_tokens - limit) // half + 1) * half


def check_length(n_tokens: int, config: StateConfig, n_ctx: int) -> None:
    """Refuse more tokens than the model's context, but for a state that slides.

    Raises:
        ContextOverflowError: So it is.
    """
    if n_tokens > n_ctx and config.context_strategy != "slide":
        raise ContextOverflowError(
            f"{n_tokens} tokens are more than the model's context of {n_ctx}: only with "
            'context_strategy "slide" may a state have them'
        )


class Windowed:
    """The window's half of `cacher.State`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: CoreState
        _config: StateConfig
        _salt: int
        _window: CoreState | None

        @property
        def model(self) -> Model: ...  # noqa: D102
        def __len__(self) -> int: ...

    @property
    def context_limit(self) -> int:
        """The smaller of its context_size and the model's: most tokens this state may hold.

        With ``context_strategy`` "slide": most tokens of it that the model sees at a time.
        """
        return min(self._config.context_size, self.model.n_ctx - self.model._around)

    @property
    def dropped_tokens(self) -> int:
        """How many of the oldest tokens the model no longer sees.

        0 unless ``context_strategy`` is "slide".

        Example:
            >>> import cacher
            >>> config = {"context_size": 8, "context_strategy": "slide"}
            >>> state = cacher.load("tales").state("Once upon a time", config=config)
            >>> len(state), len(state.generate(9)), state.dropped_tokens
            (4, 9, 8)
        """
        return self._window_start(len(self._core))

    @property
    def _slides(self) -> bool:
        return self._config.context_strategy == "slide" and self.context_limit > 1

    def _window_start(self, n_tokens: int) -> int:
        if not self._slides:
            return 0
        return window_start(n_tokens, self.context_limit, self.model._rolls)

    @property
    def _row_limit(self) -> int:
        """Tokens of what the model sees at which a run must go on with the next window.

        One that rolls draws from a full window, and only then moves on.
        """
        return self.context_limit + (self._slides and self.model._rolls)

    def _seen(self) -> CoreState:
        """Return what the model sees, to compute with: the state's own tokens, or their window."""
        start, window = self.dropped_tokens, self._window
        if not start:
            if window is not None:
                self._window = None  # type: ignore[misc]  # a slot of State
            return self._core
        if window is None:
            window = self.model._core.state(self._salt)
            self._window = window  # type: ignore[misc]
        elif self.model._rolls and len(window) != len(self._core) - start:
            window.evict()  # no entry of it is of use for another window
        _make_equal(window, memoryview(self._core.tokens(start)))
        return window

    def _lay(self, text: Text) -> None:
        if not isinstance(text, Iterable) or isinstance(text, (bytes, bytearray)):
            raise TypeError(f"text must be a string or token ids, got {type(text).__name__}")
        ids = self._encode(text) if isinstance(text, str) else text
        held = 0 if self._slides else len(self)  # even then a piece must fit into the context
        room = max(0, self.context_limit - held)
        if not isinstance(ids, Sized):
            ids = list(islice(ids, room + 1))  # one too many is enough to tell; it may never end
        if len(ids) > room:
            raise ContextOverflowError(
                f"{held} + {len(ids)} tokens are more than the context of {self.context_limit}"
            )
        self._core.append(ids)

    def _encode(self, text: str) -> list[int]:
        tokenizer = self.model.tokenizer._core
        last = self._core.tokens(max(0, len(self) - 1)).tolist()
        continues = bool(last) and not tokenizer.is_special(last[0])
        return tokenizer.encode(text, False, True, continues)

    def _judges(self, first: int, n: int) -> Iterator[tuple[CoreState, int, int]]:
        """Give what predicted the tokens at [first, first + n), piece by piece.

        Position len(self) is that of the token to come.  Each piece is a state of the core, the
        place of its first token in it, and how many tokens it is.
        """
        limit, last = self.context_limit, first + n
        if not self._window_start(max(last - 1, first)):
            yield self._core, first, n
            return
        while True:
            start = self._window_start(first)
            end = min(last, start + limit + self.model._rolls)
            yield self._window_at(start, end), first - start, end - first
            first = end
            if first >= last:
                return

    def _window_at(self, start: int, end: int) -> CoreState:
        """Return a state of the core that holds the tokens [start, end), as far as there are."""
        length = len(self._core)
        end = min(end, length)
        if start == self._window_start(length):
            return self._seen()
        if not start:
            window = self._core.fork()
            window.truncate(end)
            return window
        window = self.model._core.state(self._salt)
        window.append(self._core.tokens(start, end - start))
        return window


def _make_equal(state: CoreState, ids: memoryview[int]) -> None:
    """Let a state of the core hold these tokens; it keeps what it has of them."""
    have = memoryview(state.tokens())
    same = min(len(have), len(ids))
    if have[:same] != ids[:same]:
        same = next(i for i in range(same) if have[i] != ids[i])
    if same < len(have):
        state.truncate(same)
    if same < len(ids):
        state.append(ids[same:])
