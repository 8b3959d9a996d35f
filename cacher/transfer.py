"""States on their way from one place to another; `cacher.wire` describes the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

from cacher.checks import choice
from cacher.errors import CacherError, ModelError, ParameterError, StateImportError
from cacher.lineage import check_states
from cacher.state import State

if TYPE_CHECKING:
    from cacher.model import Model

Format = Literal["json", "binary"]
Compress = Literal["none", "gzip"]

MAX_STATES = 100
MAX_IMPORT_BYTES = 64 * 1024 * 1024


def export_states(
    states: State | Iterable[State],
    *,
    format: Format = "json",  # noqa: A002
    compress: Compress = "none",
) -> bytes:
    """Return states as bytes that `import_states` reads, here or elsewhere.

    Tokens, text, configuration, lineage, history and checkpoints are there; what can be computed
    again (KV entries, stored logits) is not.

    Args:
        states: A state; or 1 to 100 different ones, as a batch.
        format: ``"json"`` or ``"binary"``: the same content, smaller.
        compress: ``"none"`` or ``"gzip"``.

    Raises:
        ParameterError: An argument is outside what is allowed.

    Example:
        >>> import cacher
        >>> model = cacher.load("tales")
        >>> data = cacher.export_states(model.state("Once upon a time"), compress="gzip")
        >>> cacher.import_states(data, model)[0].text
        'Once upon a time'
    """
    choice("format", format, *get_args(Format))
    choice("compress", compress, *get_args(Compress))
    chosen = [states] if isinstance(states, State) else list(states)
    check_states(chosen)
    if not 1 <= len(chosen) <= MAX_STATES:
        raise ParameterError(
            f"there are {len(chosen)} states to export, allowed: 1 to {MAX_STATES}"
        )
    from cacher import wire

    return wire.write(
        [wire.document(state) for state in chosen],
        batch=not isinstance(states, State),
        binary=format == "binary",
        compressed=compress == "gzip",
    )


def import_states(
    data: bytes | bytearray | memoryview,
    models: Model | Callable[[str], Model],
    *,
    max_bytes: int = MAX_IMPORT_BYTES,
) -> list[State]:
    """Return the states that `export_states` wrote, or a state's file holds; all or none.

    Ids, history and checkpoints come along; being imported is one more event.

    Args:
        data: The bytes, in any form; the form is seen from the content.
        models: The model the states belong to, or a function from a model's id to the model.
        max_bytes: Most bytes, before and after decompression.

    Raises:
        StateImportError: Something in it is not what it should be, or belongs to another model.
        ImportTooLargeError: It is larger than `max_bytes`.
        ModelNotFoundError: By `models`.

    Example:
        >>> import cacher
        >>> model = cacher.load("tales")
        >>> states = [model.state("Hello"), model.state("Hello world")]
        >>> data = cacher.export_states(states, format="binary")
        >>> [state.text for state in cacher.import_states(data, lambda model_id: model)]
        ['Hello', 'Hello world']
    """
    from cacher import wire

    return [imported(document, models) for document in wire.read(data, max_bytes).documents]


def imported(
    document: dict[str, Any],
    models: Model | Callable[[str], Model],
    cache_salt: str | None = None,
) -> State:
    """Return the state of one of `cacher.wire.read`'s documents."""
    from cacher.document import from_document
    from cacher.typed import get

    try:
        model_id = get(document, "model_id", str)
        model = models(model_id) if callable(models) else models
        state = from_document(model, document, cache_salt=cache_salt)
    except StateImportError:
        raise
    except CacherError as error:
        if isinstance(error, ModelError):
            raise
        raise StateImportError(f"the state cannot be imported: {error}") from error
    except TypeError as error:
        raise StateImportError(f"the state cannot be imported: {error}") from error
    state._changed("import")
    return state
