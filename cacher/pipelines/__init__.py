"""Request pipelines over a cache of samples."""

import typing

from cacher.errors import (
    ModelContractError,
    PipelineClosed,
    ShortResponseError,
    StoreError,
    UncacheableRequest,
)
from cacher.late import late
from cacher.typedefs import BatchRequestModel, SingleRequestModel

if typing.TYPE_CHECKING:
    from cacher.pipelines.accounting import API, DecodingParameters
    from cacher.pipelines.assemblies import LocalAPI, OnlineAPI, OrderedLocalAPI
    from cacher.pipelines.batcher import AsyncBatcher
    from cacher.pipelines.deduplicator import AsyncDeduplicator
    from cacher.pipelines.llm import LocalLLM
    from cacher.pipelines.local import AsyncLocal, ChatCompletion, Local
    from cacher.pipelines.mapping import MappingStore
    from cacher.pipelines.openai import AsyncOpenAI, OpenAI
    from cacher.pipelines.redis import RedisCache
    from cacher.pipelines.reorderer import RequestReorderer
    from cacher.pipelines.sample_cache import AsyncCacher
    from cacher.pipelines.sqlite import Cache
    from cacher.pipelines.store import SampleStore
    from cacher.pipelines.wrapper import AsyncWrapper, SyncWrapper, Wrapper

__all__ = [
    "API",
    "AsyncBatcher",
    "AsyncCacher",
    "AsyncDeduplicator",
    "AsyncLocal",
    "AsyncOpenAI",
    "AsyncWrapper",
    "BatchRequestModel",
    "Cache",
    "ChatCompletion",
    "DecodingParameters",
    "Local",
    "LocalAPI",
    "LocalLLM",
    "MappingStore",
    "ModelContractError",
    "OnlineAPI",
    "OpenAI",
    "OrderedLocalAPI",
    "PipelineClosed",
    "RedisCache",
    "RequestReorderer",
    "SampleStore",
    "ShortResponseError",
    "SingleRequestModel",
    "StoreError",
    "SyncWrapper",
    "UncacheableRequest",
    "Wrapper",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {
    "API": "accounting",
    "DecodingParameters": "accounting",
    "LocalAPI": "assemblies",
    "OnlineAPI": "assemblies",
    "OrderedLocalAPI": "assemblies",
    "AsyncBatcher": "batcher",
    "AsyncDeduplicator": "deduplicator",
    "LocalLLM": "llm",
    "AsyncLocal": "local",
    "ChatCompletion": "local",
    "Local": "local",
    "MappingStore": "mapping",
    "AsyncOpenAI": "openai",
    "OpenAI": "openai",
    "RedisCache": "redis",
    "RequestReorderer": "reorderer",
    "AsyncCacher": "sample_cache",
    "Cache": "sqlite",
    "SampleStore": "store",
    "AsyncWrapper": "wrapper",
    "SyncWrapper": "wrapper",
    "Wrapper": "wrapper",
}

__getattr__ = late(__name__, _LATE)
