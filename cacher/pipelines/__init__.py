"""Request pipelines over a cache of samples."""

import typing

if typing.TYPE_CHECKING:
    from cacher.pipelines.local import LocalLLM
    from cacher.pipelines.mapping import MappingStore
    from cacher.pipelines.redis import RedisCache
    from cacher.pipelines.sqlite import Cache
    from cacher.pipelines.store import SampleStore

__all__ = [
    "Cache",
    "LocalLLM",
    "MappingStore",
    "RedisCache",
    "SampleStore",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {
    "LocalLLM": "local",
    "MappingStore": "mapping",
    "RedisCache": "redis",
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
