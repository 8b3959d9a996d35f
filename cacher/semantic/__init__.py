"""Answers that are remembered by the meaning of their questions: the semantic cache."""

import typing

from cacher.late import late

if typing.TYPE_CHECKING:
    from cacher.semantic.cache import SemanticCache
    from cacher.semantic.calibrate import Calibration
    from cacher.semantic.client import SemanticCacheClient
    from cacher.semantic.embedder import Embedder
    from cacher.semantic.entry import (
        Answer,
        Entry,
        Hit,
        Listed,
        Look,
        Response,
        SemanticStats,
        Warmed,
    )
    from cacher.semantic.responder import FunctionResponder, LmResponder, TemplateResponder

__all__ = [
    "Answer",
    "Calibration",
    "Embedder",
    "Entry",
    "FunctionResponder",
    "Hit",
    "Listed",
    "LmResponder",
    "Look",
    "Response",
    "SemanticCache",
    "SemanticCacheClient",
    "SemanticStats",
    "TemplateResponder",
    "Warmed",
]

# What is imported when it is first used, since it is slow to import.
_LATE = {
    "Calibration": "calibrate",
    "SemanticCache": "cache",
    "SemanticCacheClient": "client",
    "Embedder": "embedder",
    "Answer": "entry",
    "Entry": "entry",
    "Hit": "entry",
    "Listed": "entry",
    "Look": "entry",
    "Response": "entry",
    "SemanticStats": "entry",
    "Warmed": "entry",
    "FunctionResponder": "responder",
    "LmResponder": "responder",
    "TemplateResponder": "responder",
}

__getattr__ = late(__name__, _LATE)
