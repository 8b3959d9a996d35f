"""A model: immutable weights and a tokenizer; makes states."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from cacher import _core
from cacher.checks import MAX_INT32, MAX_INT64, MAX_THREADS, boolean, integer, string, thread_count
from cacher.encoding import Encoding
from cacher.errors import (
    ModelMismatchError,
    ParameterError,
    TokenizerError,
    WrongModelTypeError,
)
from cacher.facts import Dtype, KVDtype, ModelInfo, ModelStats, ModelType
from cacher.generate import generate_rows
from cacher.identity import salt_of
from cacher.lineage import check_states
from cacher.params import SamplingOptions, SamplingParams, StateConfig
from cacher.state import State
from cacher.tokenizer import Tokenizer
from cacher.types import Generation
from cacher.window import ROLLING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Text = str | Iterable[int] | NDArray[np.integer]


log = logging.getLogger(__name__)


def _one(model_type: ModelType) -> str:
    return f"{'an' if model_type == 'encoder' else 'a'} {model_type}"


class Model(Encoding):
    """An opened model, made by `cacher.load`.  Safe to share between threads.

    Example:
        >>> import cacher
        >>> model = cacher.load("tales")
        >>> model.state("Once upon a").generate(1, temperature=0).text
        ' time'
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        name: str,
        threads: int | None = None,
        kv_budget: int | None = None,
        isa: str | None = None,
        tokenizer: str | PathLike[str] | None = None,
        dtype: Dtype | None = None,
        kv_dtype: KVDtype = "f32",
    ) -> None:
        """Open a folder or a checkpoint; see `cacher.load`, which also finds it."""
        count = thread_count(threads)
        if kv_budget is not None:
            kv_budget = integer("kv_budget", kv_budget, 1, MAX_INT64)
        self._core = _core.Model(folder, count, kv_budget or 0, isa, tokenizer, dtype, kv_dtype)
        facts: dict[str, Any] = self._core.info()
        if warning := self._core.warning():
            log.warning("%s: %s", os.fsdecode(folder), warning)
        own = self._core.tokenizer()
        self._tokenizer = None if own is None else Tokenizer(own)
        #: Configuration of states that say nothing else.
        self.default_config = StateConfig()
        #: As given to `cacher.load`: the model id of every state.
        self.name = string("name", name)
        #: Where its files are.
        self.folder = os.fsdecode(folder)
        #: Most tokens of a state, or of a text that an encoder reads.
        self.n_ctx: int = facts["n_ctx"]
        #: What it is for: ``"causal_lm"``, ``"sequence_classification"`` or ``"encoder"``.
        self.model_type: ModelType = facts["model_type"]
        self._rolls = facts["architecture"] in ROLLING
        # Tokens that an encoder reads around those of a state.
        self._around = 0
        if self.model_type == "encoder" and self._tokenizer is not None:
            self._around = len(self._tokenizer.encode("", add_special=True))
        #: Of a classifier, one for each output.
        self.labels: tuple[str, ...] = facts["labels"]
        #: Tokens the model knows.
        self.vocab_size: int = facts["vocab_size"]
        #: Hash of configuration, weights and tokenizer; part of every cache key.
        self.fingerprint: str = facts["fingerprint"]
        #: What its numbers are held in: ``dtype`` and ``kv_dtype``, as in `info`.
        self.formats: dict[str, str | None] = {n: facts[n] for n in ("dtype", "kv_dtype")}

    # ---- facts

    @property
    def info(self) -> ModelInfo:
        """Fixed facts: sizes, kernels, threads."""
        return ModelInfo(name=self.name, **self._core.info())

    @property
    def stats(self) -> ModelStats:
        """Counters: pages, bytes, tokens computed and reused."""
        return ModelStats(**self._core.stats())

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            TokenizerError: The model's folder has none.
        """
        if self._tokenizer is None:
            raise TokenizerError(
                f"model {self.name!r} has no tokenizer: give token ids instead of text"
            )
        return self._tokenizer

    def _require(self, operation: str, model_type: ModelType = "causal_lm") -> None:
        """Raise WrongModelTypeError where an operation does not fit the model."""
        if self.model_type != model_type:
            raise WrongModelTypeError(
                f"{operation} needs {_one(model_type)} model, {self.name!r} is "
                f"{_one(self.model_type)}"
            )

    # ---- states

    def state(
        self,
        text: Text | None = None,
        *,
        config: Mapping[str, object] | StateConfig | None = None,
        metadata: Mapping[str, object] | None = None,
        state_id: str | None = None,
        cache_salt: str | None = None,
    ) -> State:
        """Return a new state.  Nothing is computed before something is asked of it.

        An encoder's is there to be looked into: its attention, `State.hidden`, `State.embedding`.
        It reads the special tokens of its template around the state's, which are never among them.

        Args:
            text: A text, token ids, or None for an empty state.
            config: Defaults of its generations and what it stores; see `StateConfig`.
            metadata: Tags of your own, plain JSON.
            state_id: An id of your own; None: a random UUID when first read.
            cache_salt: What states of one salt have computed is hidden from all others (a user
                could tell by the time taken that a text was read before); forks inherit it.

        Raises:
            ContextOverflowError: More tokens than the context holds.
            TokenIdError: An id is outside the vocabulary.
            EncodingError: The text holds half of a surrogate pair.

        Example:
            >>> import cacher
            >>> len(cacher.load("tales").state("Hello world"))
            2
        """
        full = self.default_config.updated(config, self.default_config)
        salt = 0 if cache_salt is None else salt_of(cache_salt)
        state = State(self, self._core.state(salt), full, metadata, state_id, salt)
        if text is not None:
            state._lay(text)
        state._begun(text, config)
        return state

    def restore(self, path: str | PathLike[str], *, allow_mismatch: bool = False) -> State:
        """Return the state that `State.save` wrote.

        Args:
            path: The file.
            allow_mismatch: Read a state of another model, too: its text is encoded anew, stored
                logits are dropped.

        Raises:
            FileError: The file cannot be read.
            StateFileError: It is damaged or of another format.
            ModelMismatchError: It belongs to another model.

        Example:
            >>> import cacher, tempfile, pathlib
            >>> model = cacher.load("tales")
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.json"
            >>> model.state("Hello").save(path)
            >>> model.restore(path).text
            'Hello'
        """
        from cacher.statefile import restore

        return restore(self, path, allow_mismatch=allow_mismatch)

    def generate(
        self, text: Text | None, max_tokens: int = 50, **sampling: Unpack[SamplingOptions]
    ) -> Generation:
        """Return a continuation of `text`, keeping no state.

        Args:
            text: A text or token ids; None is the empty text.
            max_tokens: New tokens at most.
            **sampling: As in `State.generate`.

        Example:
            >>> import cacher
            >>> len(cacher.load("tales").generate("Once upon a time", 5))
            5
        """
        return self.state(text).generate(max_tokens, **sampling)

    def generate_all(
        self,
        states: Iterable[State],
        max_tokens: int = 1,
        params: Iterable[Mapping[str, Any] | SamplingParams] | None = None,
        *,
        chunk_tokens: int = 0,
    ) -> list[Generation]:
        """Generate on several states at once; each gets what it would get alone.

        Args:
            states: Different states of this model.
            max_tokens: New tokens of each at most.
            params: For each state its sampling options (as of `State.generate`); None: each
                state's own configuration.
            chunk_tokens: Tokens of one forward pass at most; 0 is 512.  Never changes a result.

        Raises:
            ModelMismatchError: A state of another model.
            ParameterError: Not as many `params` as states, or a state given twice.
            StateBusyError: Another thread is using a state.

        When the call ends early, tokens already generated stay in the states.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> states = [model.state("The fox"), model.state("The hare")]
            >>> [len(g) for g in model.generate_all(states, 3)]
            [3, 3]
        """
        own = self._own(states)
        each = [{}] * len(own) if params is None else list(params)
        if len(each) != len(own):
            raise ParameterError(f"there are {len(each)} params for {len(own)} states")
        chosen = [
            p if isinstance(p, SamplingParams) else state.config.sampling(p)
            for state, p in zip(own, each, strict=True)
        ]
        return generate_rows(self, own, chosen, max_tokens, chunk_tokens=chunk_tokens)

    def forward_all(self, states: Iterable[State], *, chunk_tokens: int = 0) -> None:
        """Consume what is pending in several states, together; see `State.forward`.

        Args:
            states: Different states of this model.
            chunk_tokens: Tokens of one forward pass at most; 0 is 512.  Never changes a result.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> state = model.state("Hello world")
            >>> model.forward_all([state])
            >>> state.head_position
            2
        """
        self._require("forward")
        chunk_tokens = integer("chunk_tokens", chunk_tokens, 0, MAX_INT32)
        by_storage: dict[int, list[State]] = {}
        for state in self._own(states):
            by_storage.setdefault(state._store_top_k, []).append(state)
        for store_top_k, group in by_storage.items():
            self._core.eval([state._seen() for state in group], store_top_k, chunk_tokens)
            for state in group:
                state._head = len(state)
                state._changed("forward")

    def _own(self, states: Iterable[State]) -> list[State]:
        own = list(states)
        check_states(own)
        for state in own:
            if state.model is not self:
                raise ModelMismatchError(
                    f"state {state.id} belongs to an opened model {state.model.name!r}, "
                    "not to this one"
                )
        return own

    # ---- resources

    def set_threads(self, threads: int) -> None:
        """Use this many threads from now on, 1 to 256.  Never changes a result.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> model.set_threads(1)
            >>> model.info.n_threads
            1
        """
        self._core.set_threads(integer("threads", threads, 1, MAX_THREADS))

    def set_prompt_lookup(self, on: bool) -> None:
        """Guess ahead, or not; on at first.  Never changes a result.

        What stood behind the last tokens before is computed along with them: a forward pass may
        then give several tokens.  See docs/generation.md.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> model.set_prompt_lookup(False)
        """
        self._core.set_prompt_lookup(boolean("on", on))

    def set_kv_budget(self, kv_budget: int) -> None:
        """Keep at most this many bytes of KV pages.  Never changes a result.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> model.set_kv_budget(64 * 2**20)
            >>> model.stats.kv_budget_bytes
            67108864
        """
        self._core.set_budget(integer("kv_budget", kv_budget, 1, MAX_INT64))

    def drop_cached(self) -> None:
        """Free all pages that no state holds.  Never changes a result.

        Example:
            >>> import cacher
            >>> model = cacher.load("tales")
            >>> len(model.generate("Once upon a time there was a fox who lived in a wood", 8))
            8
            >>> model.drop_cached()
            >>> model.stats.pages_cached
            0
        """
        self._core.set_budget(self.stats.kv_budget_bytes, True)

    def check(self) -> None:
        """Verify the page pool's invariants; for tests.

        Raises:
            InternalError: One is broken.

        Example:
            >>> import cacher
            >>> cacher.load("tales").check()
        """
        self._core.check()

    def embedding_input(self, token_id: int) -> NDArray[np.float32]:
        """Return a row of the input embedding table: float32 [hidden_size].

        Args:
            token_id: 0 to vocab_size - 1.

        Raises:
            TokenIdError: The id is outside the vocabulary.

        Example:
            >>> import cacher
            >>> cacher.load("tales").embedding_input(5).shape
            (256,)
        """
        import numpy as np

        return np.asarray(self._core.embedding(token_id))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a model is not copied: share it, or open it again with cacher.load")

    def __repr__(self) -> str:
        info = self.info
        return (
            f"<Model {self.name!r}: {info.architecture}, {info.n_parameters / 1e6:.1f} M weights, "
            f"context {info.n_ctx}, {info.isa}, {info.dtype}, {info.n_threads} threads>"
        )

    def _repr_html_(self) -> str:
        from cacher.display import model_html

        return model_html(self)
