"""How states relate: diff and merge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from cacher.checks import choice, string
from cacher.errors import MergeConflictError, ParameterError
from cacher.state import State
from cacher.types import Diff, MergeConflict

if TYPE_CHECKING:
    from cacher.identity import Identity
    from cacher.params import StateConfig

Strategy = Literal["append", "concat", "longest", "common_prefix"]
OnConflict = Literal["first", "last", "error"]

MAX_SEPARATOR = 256


class Merged:
    """Where a merged state comes from."""

    __slots__ = ("conflicts", "parents")

    def __init__(self, parents: tuple[Identity, ...], conflicts: tuple[MergeConflict, ...]) -> None:
        self.parents = parents
        self.conflicts = conflicts

    def state_ids(self) -> list[str]:
        """Return the parents' ids."""
        return [parent.get() for parent in self.parents]


def check_states(states: Iterable[State]) -> None:
    """Check that states are states, and different ones.

    Raises:
        TypeError: Something else.
        ParameterError: A state is given twice.
    """
    seen = set()
    for state in states:
        if not isinstance(state, State):
            raise TypeError(f"expected states, got {type(state).__name__}")
        if id(state) in seen:
            raise ParameterError("a state is given twice: they must be different ones")
        seen.add(id(state))


def diff(a: State, b: State) -> Diff:
    """Return how two states differ; neither changes.

    Example:
        >>> import cacher
        >>> model = cacher.load("tales")
        >>> cacher.diff(model.state("Hello world"), model.state("Hello you")).common_prefix_text
        'Hello'
    """
    check_states([a])
    check_states([b])
    same_model = a.model.fingerprint == b.model.fingerprint
    prefix = 0
    if same_model:
        prefix = _common_prefix(a, b)
    left, right = a.config.to_dict(), b.config.to_dict()
    changes = {
        key: (left.get(key), right.get(key))
        for key in {**left, **right}
        if left.get(key) != right.get(key)
    }
    return Diff(
        state_ids=(a.id, b.id),
        same_model=same_model,
        identical=same_model and not changes and prefix == len(a) == len(b),
        common_prefix_tokens=prefix,
        common_prefix_text=_text(a, a.token_ids[:prefix]),
        only_in=(_text(a, a.token_ids[prefix:]), _text(b, b.token_ids[prefix:])),
        config_changes=changes,
    )


def merge(
    states: Iterable[State],
    *,
    strategy: Strategy = "append",
    separator: str = "",
    on_conflict: OnConflict = "first",
    state_id: str | None = None,
) -> State:
    """Return a new state made of several; they stay as they are.

    Args:
        states: 2 to 16 different states of one model.
        strategy: ``"append"``: the longest common prefix, then each state's remainder;
            ``"concat"``: all sequences one after another; ``"longest"``: the longest one;
            ``"common_prefix"``: the prefix alone.
        separator: Up to 256 characters, put between non-empty parts.
        on_conflict: Which value a configuration key gets that differs: ``"first"``, ``"last"``, or
            ``"error"``.
        state_id: As in `Model.state`.

    Returns:
        A state whose head is at 0; `merged_from` and `merge_conflicts` say how it came about.

    Raises:
        MergeConflictError: The models differ, or configurations do and `on_conflict` is "error".
        ContextOverflowError: The result does not fit into the context.
        ParameterError: An argument is outside what is allowed.

    Example:
        >>> import cacher
        >>> state = cacher.load("tales").state("Hello")
        >>> ends = [state.fork().append(" world"), state.fork().append(" you")]
        >>> cacher.merge(ends, separator=",").text
        'Hello world, you'
    """
    states = list(states)
    _check(states, strategy, separator, on_conflict)
    first = states[0]
    config, conflicts = _merged_config(states, on_conflict)
    core = first.model._core.state(first._salt)
    merged = State(first.model, core, config, None, state_id, first._salt)
    merged._merged = Merged(tuple(state._identity for state in states), conflicts)
    ids = _merged_tokens(states, strategy, separator)
    if ids:
        merged._lay(ids)
    merged._begun()
    return merged


def _check(states: Sequence[State], strategy: str, separator: str, on_conflict: str) -> None:
    if not 2 <= len(states) <= 16:
        raise ParameterError(f"there are {len(states)} states to merge, allowed: 2 to 16")
    check_states(states)
    choice("strategy", strategy, *get_args(Strategy))
    choice("on_conflict", on_conflict, *get_args(OnConflict))
    if len(string("separator", separator)) > MAX_SEPARATOR:
        raise ParameterError(f"separator has {len(separator)} characters, allowed: {MAX_SEPARATOR}")
    for state in states[1:]:
        if state.model.fingerprint != states[0].model.fingerprint:
            raise MergeConflictError(
                f"states of different models cannot be merged: {states[0].model.name!r} and "
                f"{state.model.name!r}"
            )


def _merged_config(
    states: Sequence[State], on_conflict: str
) -> tuple[StateConfig, tuple[MergeConflict, ...]]:
    configs = [state.config.to_dict() for state in states]
    order = configs if on_conflict != "last" else configs[::-1]
    chosen: dict[str, object] = {}
    for config in order:
        chosen = {**config, **chosen}
    keys = {key: None for config in configs for key in config}
    conflicts = tuple(
        MergeConflict(key, tuple(config.get(key) for config in configs), chosen[key])
        for key in keys
        if any(config.get(key) != configs[0].get(key) for config in configs)
    )
    if conflicts and on_conflict == "error":
        names = tuple(conflict.key for conflict in conflicts)
        raise MergeConflictError(f"configurations differ in {', '.join(names)}", names)
    return states[0].config.updated(chosen), conflicts


def _merged_tokens(states: Sequence[State], strategy: str, separator: str) -> list[int]:
    sequences = [state.token_ids for state in states]
    if strategy == "longest":
        return max(sequences, key=len)
    prefix = 0
    if strategy != "concat":
        prefix = min(_common_prefix(states[0], state) for state in states[1:])
    if strategy == "common_prefix":
        return sequences[0][:prefix]
    between = states[0].model.tokenizer.encode(separator, continues=True) if separator else []
    merged = sequences[0][:prefix]
    parts = [part for sequence in sequences if (part := sequence[prefix:])]
    for i, part in enumerate(parts):
        merged += (between if i else []) + part
    return merged


def _common_prefix(a: State, b: State) -> int:
    if a.model is b.model:
        return a._core.common_prefix(b._core)
    left, right = a.token_ids, b.token_ids
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def _text(state: State, ids: list[int]) -> str:
    tokenizer = state.model._tokenizer
    return "" if tokenizer is None else tokenizer.decode(ids)
