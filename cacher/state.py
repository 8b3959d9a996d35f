"""A state: a token sequence that can be extended, branched, taken back, kept, and looked into."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, NoReturn

from cacher import _core
from cacher.checks import JsonObject, integer
from cacher.classify import Classifying
from cacher.errors import ParameterError
from cacher.generate import Generating
from cacher.history import Mark, Op, Remembering
from cacher.identity import Identity
from cacher.inspection import Inspection
from cacher.params import StateConfig
from cacher.progress import Progress, reading
from cacher.window import Windowed, check_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cacher.history import Change
    from cacher.lineage import Merged
    from cacher.model import Model
    from cacher.types import MergeConflict

    Text = str | Iterable[int] | NDArray[np.integer]

NO_METADATA = JsonObject("metadata", {})
NO_MARKS: Mapping[str, Mark] = {}
NOTHING_GIVEN: tuple[str | None, Mapping[str, object]] = (None, {})


class State(Generating, Inspection, Classifying, Remembering, Windowed):
    """A token sequence of a model; made by `Model.state`, `fork`, `Model.restore`, `cacher.merge`.

    Like a tape with a head: text is laid on the tape, and the model reads it when something is
    asked.  `forward` and `generate` move the head to the end; looking never does.  A state has one
    user at a time: a second thread gets StateBusyError at once.

    Example:
        >>> import cacher
        >>> state = cacher.load("tales").state("Once upon a time")
        >>> fork = state.fork()
        >>> state.generate(8, seed=1).text == fork.generate(8, seed=1).text
        True
    """

    __slots__ = ("_forked_from", "_identity", "_merged", "_metadata", "_model", "_salt", "_window")

    def __init__(
        self,
        model: Model,
        core: _core.State,
        config: StateConfig,
        metadata: Mapping[str, object] | None = None,
        state_id: str | None = None,
        salt: int = 0,
    ) -> None:
        """Wrap a core state of that salt; use `Model.state`."""
        self._model = model
        self._salt = salt
        self._core = core
        self._window: _core.State | None = None
        self._config = config
        self._revision = 1
        self._head = 0
        self._identity = Identity(state_id)
        self._metadata = NO_METADATA if metadata is None else JsonObject("metadata", metadata)
        self._forked_from: Identity | None = None
        self._merged: Merged | None = None
        self._created = self._modified = time.time()
        self._given = NOTHING_GIVEN
        self._marks = NO_MARKS
        self._past: tuple[Change, ...] | None = None
        self._first_tokens = self._first_head = 0

    # ---- what it holds

    @property
    def model(self) -> Model:
        """The model it belongs to."""
        return self._model

    @property
    def config(self) -> StateConfig:
        """Defaults of its generations; replace keys with ``edit(config=...)``."""
        return self._config

    @property
    def id(self) -> str:
        """The state's id: a UUID unless one was given."""
        return self._identity.get()

    @property
    def text(self) -> str:
        """The text of all tokens; empty for a model without a tokenizer."""
        tokenizer = self.model._tokenizer
        return "" if tokenizer is None else tokenizer._core.decode(self._core.tokens())

    @property
    def token_ids(self) -> list[int]:
        """The ids of all tokens; iterate over the state for what else is known of them."""
        return self._core.tokens().tolist()

    @property
    def head_position(self) -> int:
        """How many leading tokens have been consumed by `forward` or `generate`."""
        return self._head

    @property
    def metadata(self) -> Mapping[str, object]:
        """Tags of your own; replace keys with ``edit(metadata=...)``."""
        return self._metadata

    @property
    def _store_top_k(self) -> int:
        """What the core stores of each prediction: 0 is nothing."""
        if self.config.store_logits == "none" or self.model.model_type != "causal_lm":
            return 0
        return min(self.config.top_k_logits, self.model.vocab_size)

    @property
    def forked_from(self) -> str | None:
        """The id of the state this one was forked from."""
        return None if self._forked_from is None else self._forked_from.get()

    @property
    def merged_from(self) -> list[str] | None:
        """The ids of the states this one was merged from."""
        return None if self._merged is None else self._merged.state_ids()

    @property
    def merge_conflicts(self) -> list[MergeConflict]:
        """Configuration keys that differed when this state was merged."""
        return [] if self._merged is None else list(self._merged.conflicts)

    def __len__(self) -> int:
        return len(self._core)

    # ---- extending

    def append(self, text: Text) -> State:
        """Lay text or token ids on the tape; nothing is computed.  Returns the state.

        Pieces are encoded separately: never across the joint.  Behind text, a text is taken as it
        is; at the start, and behind a special token, the tokenizer may put a space in front.

        Raises:
            ContextOverflowError: It does not fit; the state is unchanged.
            TokenIdError: An id is outside the vocabulary.
            EncodingError: The text holds half of a surrogate pair.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello").append(" world").text
            'Hello world'
        """
        self._lay(text)
        self._changed("edit")
        return self

    def forward(self, text: Text | None = None, *, progress: Progress = None) -> State:
        """Append, then let the model read everything that is pending.  Returns the state.

        Args:
            text: A text or token ids; None only reads.
            progress: None: a bar for texts over 2,000 tokens in a terminal or notebook; True or
                False: always or never; or a callback (tokens read, tokens in all).

        Raises:
            ContextOverflowError: It does not fit.
            BudgetError: The KV budget cannot hold the state.
            WrongModelTypeError: The model is a classifier.

        Whatever is raised, Ctrl-C included, the state is unchanged.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello").forward(" world").head_position
            2
        """
        self.model._require("forward")
        length = len(self)
        if text is not None:
            self._lay(text)
        try:
            self._consume(progress)
        except BaseException:  # Ctrl-C, too
            self._core.truncate(length)
            raise
        self._changed("forward")
        return self

    def _consume(self, progress: Progress = None, chunk_tokens: int = 0) -> None:
        seen = self._seen()
        with reading(progress, len(seen) - seen.ready()) as callback:
            seen.eval(self._store_top_k, chunk_tokens, callback)
        self._head = len(self)

    # ---- branching

    def fork(
        self,
        at: int | None = None,
        *,
        config: Mapping[str, object] | StateConfig | None = None,
        metadata: Mapping[str, object] | None = None,
        state_id: str | None = None,
    ) -> State:
        """Return an independent copy that shares all pages: microseconds, whatever the length.

        Args:
            at: Copy only this many leading tokens; None is all.
            config: Keys to replace in the copy's configuration, or a whole one.
            metadata: Tags of the copy; None keeps them.
            state_id: As in `Model.state`.

        Raises:
            ParameterError: `at` is outside 0 to the number of tokens.
            ContextOverflowError: Only a state that slides may have so many tokens.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world")
            >>> state.fork(at=1).text
            'Hello'
        """
        core = self._core.fork()
        if at is not None:
            at = integer("at", at, 0, len(core))
            core.truncate(at)
        copy = State.__new__(State)
        copy._model = self._model
        copy._salt = self._salt
        copy._core = core
        copy._window = None if self._window is None else self._window.fork()
        copy._config = self._config.updated(config, self._model.default_config)
        if config is not None:
            check_length(len(core), copy._config, self._model.n_ctx)
        copy._revision = 1
        copy._head = self._head if at is None else min(self._head, at)
        copy._identity = Identity(state_id)
        copy._metadata = self._metadata if metadata is None else JsonObject("metadata", metadata)
        copy._forked_from = self._identity
        copy._merged = None
        copy._created = copy._modified = time.time()
        copy._given = self._given
        copy._marks = NO_MARKS
        copy._past = None
        copy._first_tokens, copy._first_head = len(core), copy._head
        return copy

    def _twin(self) -> State:
        """Return the same state once more: what happens to one, the other does not see."""
        twin = State.__new__(State)
        for name in (*State.__slots__, *Remembering.__slots__):
            setattr(twin, name, getattr(self, name))
        twin._core, twin._window = self._core.fork(), None
        return twin

    def truncate(self, n_tokens: int) -> State:
        """Keep the first `n_tokens`.  Returns the state.

        Raises:
            ParameterError: Negative, or more than there are.

        Example:
            >>> import cacher
            >>> cacher.load("tales").state("Hello world").truncate(1).text
            'Hello'
        """
        self._shorten(integer("n_tokens", n_tokens, 0, len(self)), "edit")
        return self

    def edit(
        self,
        *,
        text: Text | None = None,
        append_text: Text | None = None,
        truncate_to: int | None = None,
        config: Mapping[str, object] | StateConfig | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> State:
        """Change several things at once, or nothing when one is refused.  Returns the state.

        Args:
            text: Replaces everything; the head goes to 0.
            append_text: Added at the end, pending.
            truncate_to: Keep this many leading tokens (before `append_text`).
            config: Keys to replace (None as a value is the default, but for ``seed``), or a whole
                configuration.
            metadata: Tags to add or replace.

        Raises:
            ContextOverflowError, ParameterError, TypeError: The state is unchanged.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world")
            >>> state.edit(truncate_to=1, append_text=" there").text
            'Hello there'
        """
        if text is not None and truncate_to is not None:
            raise ParameterError("text replaces everything: truncate_to cannot be given with it")
        if truncate_to is not None:
            truncate_to = integer("truncate_to", truncate_to, 0, len(self))
        draft = self.fork(0 if text is not None else truncate_to, config=config)
        if metadata is not None:
            draft._metadata = JsonObject("metadata", {**self._metadata, **metadata})
        for piece in (text, append_text):
            if piece is not None:
                draft._lay(piece)
        others = (text, append_text, truncate_to, metadata)
        only_config = config is not None and all(other is None for other in others)
        op: Op = "config" if only_config else "edit"
        self._become(draft._core, draft._head, draft._config, op)
        self._metadata = draft._metadata
        return self

    # ---- keeping

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to one JSON file, whole or not at all, readable by its owner only.

        When this returns, the file is on disk; a crash at any moment leaves the old file or the
        new one.  `Model.restore` reads it.

        Args:
            path: The file; another regular file of that name is replaced.

        Raises:
            FileError: It cannot be written.

        Example:
            >>> import cacher, os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "state.json")
            >>> cacher.load("tales").state("Hello").save(path)
        """
        from cacher.statefile import save

        save(self, path)

    def to_dict(self) -> dict[str, object]:
        """Return what there is to know of the state, as plain JSON.

        Example:
            >>> import cacher
            >>> shown = cacher.load("tales").state("Hello world").to_dict()
            >>> shown["text"], shown["token_count"], shown["head_position"]
            ('Hello world', 2, 0)
        """
        from cacher.document import describe

        return describe(self)

    def evict(self) -> None:
        """Drop the state's KV entries; they come back, bit for bit, when needed.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world").forward()
            >>> before = state.logits().tobytes()
            >>> state.evict()
            >>> state.logits().tobytes() == before
            True
        """
        self._core.evict()
        if self._window is not None:
            self._window.evict()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a state is copied by fork() and kept by save(): it cannot be pickled")

    def __repr__(self) -> str:
        text = self.text
        end = text if len(text) <= 60 else "..." + text[-57:]
        return f"<State {end!r}: {len(self)} tokens of {self.model.name!r}>"
