"""Stateful language models: create a state, fork it, roll it back, look inside it.

>>> import cacher
>>> model = cacher.load("tales")
>>> story = model.state("Once upon a time")
>>> endings = [story.fork().generate(20, seed=seed).text for seed in (1, 2)]
"""

import typing

from cacher import hub
from cacher._core import __version__
from cacher.errors import (
    BudgetError,
    CacherError,
    ContextOverflowError,
    DeviceError,
    EmptyStateError,
    EncodingError,
    EngineClosedError,
    FileError,
    GenerationCancelled,
    InternalError,
    MergeConflictError,
    MissingExtraError,
    ModelError,
    ModelFormatError,
    ModelMismatchError,
    ModelNotFoundError,
    ParameterError,
    QueueFullError,
    StateBusyError,
    StateError,
    StateFileError,
    TokenIdError,
    TokenizerError,
    UnsupportedModelError,
)
from cacher.hub import load
from cacher.lineage import diff, merge
from cacher.model import Model
from cacher.params import BeamParams, SamplingParams, StateConfig
from cacher.sampling import sampling_distribution
from cacher.state import State
from cacher.tokenizer import StreamDecoder, Tokenizer
from cacher.types import (
    Beam,
    BeamNode,
    BeamSearch,
    Diff,
    EngineStats,
    Generation,
    MergeConflict,
    ModelInfo,
    ModelStats,
    Token,
    TopToken,
)

if typing.TYPE_CHECKING:
    from cacher.engine import Engine, EngineStream

__all__ = [
    "Beam",
    "BeamNode",
    "BeamParams",
    "BeamSearch",
    "BudgetError",
    "CacherError",
    "ContextOverflowError",
    "DeviceError",
    "Diff",
    "EmptyStateError",
    "EncodingError",
    "Engine",
    "EngineClosedError",
    "EngineStats",
    "EngineStream",
    "FileError",
    "Generation",
    "GenerationCancelled",
    "InternalError",
    "MergeConflict",
    "MergeConflictError",
    "MissingExtraError",
    "Model",
    "ModelError",
    "ModelFormatError",
    "ModelInfo",
    "ModelMismatchError",
    "ModelNotFoundError",
    "ModelStats",
    "ParameterError",
    "QueueFullError",
    "SamplingParams",
    "State",
    "StateBusyError",
    "StateConfig",
    "StateError",
    "StateFileError",
    "StreamDecoder",
    "Token",
    "TokenIdError",
    "Tokenizer",
    "TokenizerError",
    "TopToken",
    "UnsupportedModelError",
    "__version__",
    "diff",
    "hub",
    "load",
    "merge",
    "sampling_distribution",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {"Engine": "cacher.engine", "EngineStream": "cacher.engine"}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'cacher' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value
