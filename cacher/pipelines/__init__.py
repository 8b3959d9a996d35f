"""Request pipelines over a cache of samples."""

import typing

from cacher.errors import (
    ModelContractError,
    PipelineClosed,
    ShortResponseError,
    StoreError,
    UncacheableRequest,
)

if typing.TYPE_CHECKING:
    from cacher.pipelines.assemblies import LocalAPI, OnlineAPI, OrderedLocalAPI
    from cacher.pipelines.batcher import AsyncBatcher
    from cacher.pipelines.deduplicator import AsyncDeduplicator
    from cacher.pipelines.local import LocalLLM
    from cacher.pipelines.mapping import MappingStore
    from cacher.pipelines.redis import RedisCache
    from cacher.pipelines.reorderer import RequestReorderer
    from cacher.pipelines.sample_cache import AsyncCacher
    from cacher.pipelines.sqlite import Cache
    from cacher.pipelines.store import SampleStore

__all__ = [
    "AsyncBatcher",
    "AsyncCacher",
    "AsyncDeduplicator",
    "Cache",
    "LocalAPI",
    "LocalLLM",
    "MappingStore",
    "ModelContractError",
    "OnlineAPI",
    "OrderedLocalAPI",
    "PipelineClosed",
    "RedisCache",
    "RequestReorderer",
    "SampleStore",
    "ShortResponseError",
    "StoreError",
    "UncacheableRequest",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {
    "LocalAPI": "assemblies",
    "OnlineAPI": "assemblies",
    "OrderedLocalAPI": "assemblies",
    "AsyncBatcher": "batcher",
    "AsyncDeduplicator": "deduplicator",
    "LocalLLM": "local",
    "MappingStore": "mapping",
    "RedisCache": "redis",
    "RequestReorderer": "reorderer",
    "AsyncCacher": "sample_cache",
    "Cache": "sqlite",
    "SampleStore": "store",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'cacher.pipelines' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"cacher.pipelines.{_LATE[name]}")
    value = globals()[name] = getattr(module, name)
    return value
