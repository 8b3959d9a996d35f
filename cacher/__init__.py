"""Stateful language models: create a state, fork it, roll it back, look inside it.

>>> import cacher
>>> model = cacher.load("tales")
>>> story = model.state("Once upon a time")
>>> endings = [story.fork().generate(20, seed=seed).text for seed in (1, 2)]
"""

import typing

from cacher import hub
from cacher._core import __version__
from cacher.beam import BeamParams
from cacher.branches import Tree, TreeNode, tree
from cacher.classify import (
    Classification,
    Classifications,
    LabelCorrelation,
    LabelScore,
    TokenRewards,
)
from cacher.errors import (
    BudgetError,
    CacherError,
    CheckpointNotFoundError,
    ContextOverflowError,
    DeviceError,
    EmbedderError,
    EmptyStateError,
    EncodingError,
    EngineClosedError,
    FileError,
    GenerationCancelled,
    HeadOutOfRangeError,
    ImportTooLargeError,
    IndexFileError,
    InternalError,
    LayerOutOfRangeError,
    MergeConflictError,
    MissingExtraError,
    ModelContractError,
    ModelError,
    ModelFormatError,
    ModelMismatchError,
    ModelNotFoundError,
    ParameterError,
    PipelineClosed,
    QueueFullError,
    ResponseTooLargeError,
    RevisionNotAvailableError,
    ShortResponseError,
    StateBusyError,
    StateError,
    StateExistsError,
    StateFileError,
    StateImportError,
    StateNotFoundError,
    StoreError,
    TokenIdError,
    TokenIndexOutOfRangeError,
    TokenizerError,
    UncacheableRequest,
    UnsupportedModelError,
    VectorIndexError,
    WrongModelTypeError,
)
from cacher.facts import EngineStats, ModelInfo, ModelStats
from cacher.hub import load
from cacher.late import late as _late
from cacher.lineage import diff, merge
from cacher.model import Model
from cacher.params import SamplingParams, StateConfig
from cacher.sampling import sampling_distribution
from cacher.schedule import TemperatureSchedule
from cacher.state import State
from cacher.tokenizer import StreamDecoder, Tokenizer
from cacher.transfer import export_states, import_states
from cacher.types import (
    Beam,
    BeamNode,
    BeamSearch,
    Checkpoint,
    Diff,
    Event,
    Generation,
    MergeConflict,
    Token,
    TopToken,
)

if typing.TYPE_CHECKING:
    from cacher.attention import AttentionAnalysis, AttentionPattern, HeadImportance
    from cacher.client import CacherAPIError, CacherClient
    from cacher.engine import Engine, EngineStream
    from cacher.index import Index, Match, Matches
    from cacher.kv import CacheData, CacheInspection, CacheLayer, KVStats
    from cacher.packing import pack
    from cacher.pipelines.assemblies import LocalAPI, OnlineAPI, OrderedLocalAPI
    from cacher.pipelines.batcher import AsyncBatcher
    from cacher.pipelines.deduplicator import AsyncDeduplicator
    from cacher.pipelines.local import LocalLLM
    from cacher.pipelines.reorderer import RequestReorderer
    from cacher.pipelines.sample_cache import AsyncCacher
    from cacher.pipelines.sqlite import Cache
    from cacher.registry import register_model
    from cacher.semantic.cache import SemanticCache
    from cacher.tokeninfo import TokenInfo
    from cacher.tokens import (
        AnalyzedToken,
        Correlation,
        HistogramBin,
        NGram,
        TokenAnalysis,
        TopLogit,
    )
    from cacher.typedefs import (
        Batch,
        BatchRequestModel,
        Metadata,
        Request,
        Response,
        SingleRequestModel,
    )
    from cacher.vectors import Embedding

__all__ = [
    "AnalyzedToken",
    "AsyncBatcher",
    "AsyncCacher",
    "AsyncDeduplicator",
    "AttentionAnalysis",
    "AttentionPattern",
    "Batch",
    "BatchRequestModel",
    "Beam",
    "BeamNode",
    "BeamParams",
    "BeamSearch",
    "BudgetError",
    "Cache",
    "CacheData",
    "CacheInspection",
    "CacheLayer",
    "CacherAPIError",
    "CacherClient",
    "CacherError",
    "Checkpoint",
    "CheckpointNotFoundError",
    "Classification",
    "Classifications",
    "ContextOverflowError",
    "Correlation",
    "DeviceError",
    "Diff",
    "EmbedderError",
    "Embedding",
    "EmptyStateError",
    "EncodingError",
    "Engine",
    "EngineClosedError",
    "EngineStats",
    "EngineStream",
    "Event",
    "FileError",
    "Generation",
    "GenerationCancelled",
    "HeadImportance",
    "HeadOutOfRangeError",
    "HistogramBin",
    "ImportTooLargeError",
    "Index",
    "IndexFileError",
    "InternalError",
    "KVStats",
    "LabelCorrelation",
    "LabelScore",
    "LayerOutOfRangeError",
    "LocalAPI",
    "LocalLLM",
    "Match",
    "Matches",
    "MergeConflict",
    "MergeConflictError",
    "Metadata",
    "MissingExtraError",
    "Model",
    "ModelContractError",
    "ModelError",
    "ModelFormatError",
    "ModelInfo",
    "ModelMismatchError",
    "ModelNotFoundError",
    "ModelStats",
    "NGram",
    "OnlineAPI",
    "OrderedLocalAPI",
    "ParameterError",
    "PipelineClosed",
    "QueueFullError",
    "Request",
    "RequestReorderer",
    "Response",
    "ResponseTooLargeError",
    "RevisionNotAvailableError",
    "SamplingParams",
    "SemanticCache",
    "ShortResponseError",
    "SingleRequestModel",
    "State",
    "StateBusyError",
    "StateConfig",
    "StateError",
    "StateExistsError",
    "StateFileError",
    "StateImportError",
    "StateNotFoundError",
    "StoreError",
    "StreamDecoder",
    "TemperatureSchedule",
    "Token",
    "TokenAnalysis",
    "TokenIdError",
    "TokenIndexOutOfRangeError",
    "TokenInfo",
    "TokenRewards",
    "Tokenizer",
    "TokenizerError",
    "TopLogit",
    "TopToken",
    "Tree",
    "TreeNode",
    "UncacheableRequest",
    "UnsupportedModelError",
    "VectorIndexError",
    "WrongModelTypeError",
    "__version__",
    "diff",
    "export_states",
    "hub",
    "import_states",
    "load",
    "merge",
    "pack",
    "register_model",
    "sampling_distribution",
    "tree",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {
    "AttentionAnalysis": "attention",
    "AttentionPattern": "attention",
    "HeadImportance": "attention",
    "Index": "index",
    "Match": "index",
    "Matches": "index",
    "CacheData": "kv",
    "CacheInspection": "kv",
    "CacheLayer": "kv",
    "KVStats": "kv",
    "pack": "packing",
    "Cache": "pipelines.sqlite",
    "OnlineAPI": "pipelines.assemblies",
    "LocalAPI": "pipelines.assemblies",
    "OrderedLocalAPI": "pipelines.assemblies",
    "AsyncBatcher": "pipelines.batcher",
    "AsyncCacher": "pipelines.sample_cache",
    "AsyncDeduplicator": "pipelines.deduplicator",
    "RequestReorderer": "pipelines.reorderer",
    "LocalLLM": "pipelines.local",
    "TokenInfo": "tokeninfo",
    "AnalyzedToken": "tokens",
    "Correlation": "tokens",
    "HistogramBin": "tokens",
    "NGram": "tokens",
    "TokenAnalysis": "tokens",
    "TopLogit": "tokens",
    "Batch": "typedefs",
    "BatchRequestModel": "typedefs",
    "Metadata": "typedefs",
    "Request": "typedefs",
    "Response": "typedefs",
    "SingleRequestModel": "typedefs",
    "Embedding": "vectors",
    "Engine": "engine",
    "EngineStream": "engine",
    "CacherAPIError": "connection",
    "CacherClient": "client",
    "register_model": "registry",
    "SemanticCache": "semantic.cache",
}

__getattr__ = _late(__name__, _LATE)
