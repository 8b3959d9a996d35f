"""The exceptions of the package.

A message holds the value that was wrong, where it came from and what is allowed::

    CacherError
    ├── ParameterError(ValueError)         a value is outside its range
    │   ├── TokenIdError                   a token id is outside the vocabulary
    │   ├── LayerOutOfRangeError           the model has no such layer
    │   ├── HeadOutOfRangeError            the model has no such head
    │   ├── TokenIndexOutOfRangeError      the state holds no such token
    │   └── ResponseTooLargeError          a result would hold more than a limit of the call allows
    ├── ModelError
    │   ├── ModelNotFoundError             no built-in model, folder or hub id of that name
    │   ├── ModelFormatError(ValueError)   a model file is damaged or of another format
    │   ├── UnsupportedModelError          an option of the model is not supported
    │   ├── EmbedderError                  the model that embeds queries is not available
    │   └── WrongModelTypeError            the model is of another type than the operation needs
    ├── TokenizerError(ValueError)         a tokenizer file is damaged, or missing
    │   └── EncodingError                  a text is not valid Unicode
    ├── StateError
    │   ├── StateBusyError                 the state is in use by another call
    │   ├── EmptyStateError                the state holds no tokens
    │   ├── ContextOverflowError           more tokens than the context holds
    │   ├── ModelMismatchError             states or files of different models were combined
    │   ├── MergeConflictError             states cannot be merged as asked
    │   ├── CheckpointNotFoundError        the state has no checkpoint of that name
    │   ├── RevisionNotAvailableError      the state cannot go back to that revision
    │   ├── StateNotFoundError             there is no state of that id
    │   ├── StateExistsError               there is a state of that id already
    │   ├── StateImportError(ValueError)   exported states are damaged or of another format
    │   │   └── ImportTooLargeError        they are larger than allowed
    │   └── StateFileError(ValueError)     a state file is damaged or of another format
    ├── VectorIndexError                   an index cannot be used
    │   └── IndexFileError(ValueError)     an index file is damaged or of another format
    ├── FileError(OSError)                 a file could not be read or written
    ├── StoreError(OSError)                the store of states could not be read or written
    ├── BudgetError(MemoryError)           the byte budget for KV pages is too small
    ├── GenerationCancelled                the call was cancelled
    ├── QueueFullError                     too many requests are waiting
    ├── EngineClosedError                  the engine takes no requests any more
    ├── PipelineClosed(RuntimeError)       the pipeline takes no requests any more
    ├── ModelContractError                 what a pipeline's model returned is not what was agreed
    │   └── ShortResponseError             it returned fewer samples than asked
    ├── UncacheableRequest(TypeError)      a request holds what no key can stand for
    ├── DeviceError                        a device is not available
    ├── MissingExtraError(ImportError)     an optional part of the package is not installed
    └── InternalError                      a check of the library's own invariants failed

Memory that cannot be had is a plain ``MemoryError``, a wrong Python type a plain ``TypeError``.
"""

from __future__ import annotations


class CacherError(Exception):
    """Base of all exceptions of the package.

    Attributes:
        code: The core's name of the status (``"E_FORMAT"``), or None for errors raised in Python.
        position: Byte or token position the message is about, or None.
    """

    code: str | None = None
    position: int | None = None


class ParameterError(CacherError, ValueError):
    """A value is outside its range."""


class TokenIdError(ParameterError):
    """A token id is outside the vocabulary."""


class LayerOutOfRangeError(ParameterError):
    """The model has no such layer."""


class HeadOutOfRangeError(ParameterError):
    """The model has no such head."""


class TokenIndexOutOfRangeError(ParameterError):
    """The state holds no such token."""


class ResponseTooLargeError(ParameterError):
    """A result would hold more than a limit of the call allows."""


class ModelError(CacherError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError):
    """No built-in model, folder or hub id of that name."""


class ModelFormatError(ModelError, ValueError):
    """A model file is damaged or of another format."""


class UnsupportedModelError(ModelError):
    """A model or tokenizer option is not supported; the message names it."""


class EmbedderError(ModelError):
    """The model that embeds queries is not available."""


class WrongModelTypeError(ModelError):
    """The model is of another type than the operation needs."""


class TokenizerError(CacherError, ValueError):
    """A tokenizer file is damaged, or the model has no tokenizer."""


class EncodingError(TokenizerError):
    """A text is not valid Unicode."""


class StateError(CacherError):
    """A state cannot do what was asked."""


class StateBusyError(StateError):
    """The state is in use by another call."""


class EmptyStateError(StateError):
    """The state holds no tokens."""


class ContextOverflowError(StateError):
    """More tokens than the context holds."""


class ModelMismatchError(StateError):
    """States or files of different models were combined."""


class MergeConflictError(StateError):
    """States cannot be merged as asked.

    Attributes:
        keys: The configuration keys that differ.
    """

    def __init__(self, message: str, keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.keys = keys


class CheckpointNotFoundError(StateError):
    """The state has no checkpoint of that name."""


class RevisionNotAvailableError(StateError):
    """The state cannot go back to that revision."""


class StateNotFoundError(StateError):
    """There is no state of that id."""


class StateExistsError(StateError):
    """There is a state of that id already."""


class StateImportError(StateError, ValueError):
    """Exported states are damaged or of another format."""


class ImportTooLargeError(StateImportError):
    """Exported states are larger than allowed."""


class StateFileError(StateError, ValueError):
    """A state file is damaged or of another format."""


class VectorIndexError(CacherError):
    """An index cannot be used."""


class IndexFileError(VectorIndexError, ValueError):
    """An index file is damaged or of another format."""


class FileError(CacherError, OSError):
    """A file could not be read or written."""


class StoreError(CacherError, OSError):
    """The store of states could not be read or written."""


class BudgetError(CacherError, MemoryError):
    """The byte budget for KV pages is too small for the request."""


class GenerationCancelled(CacherError):  # noqa: N818 - the name of the event, as in asyncio
    """The call was cancelled."""


class QueueFullError(CacherError):
    """Too many requests are waiting."""


class EngineClosedError(CacherError):
    """The engine takes no requests any more."""


class PipelineClosed(CacherError, RuntimeError):  # noqa: N818 - a documented name
    """The pipeline takes no requests any more."""


class ModelContractError(CacherError):
    """What a pipeline's model returned is not what was agreed."""


class ShortResponseError(ModelContractError):
    """A pipeline's model returned fewer samples than asked."""


class UncacheableRequest(CacherError, TypeError):  # noqa: N818 - a documented name
    """A request holds what no key can stand for; the message says where."""


class DeviceError(CacherError):
    """A device is not available."""


class MissingExtraError(CacherError, ImportError):
    """An optional part of the package is not installed."""


class InternalError(CacherError):
    """A check of the library's own invariants failed: a fault of this package."""
