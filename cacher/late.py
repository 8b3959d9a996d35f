"""Names of a package that are imported when they are first used: their modules load slowly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def late(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's ``__getattr__``.

    Args:
        package: Its ``__name__``.
        modules: By name, the module that has it, within the package.

    Example:
        >>> late("json", {"JSONDecoder": "decoder"})("JSONDecoder").__name__
        'JSONDecoder'
    """

    def __getattr__(name: str) -> object:  # noqa: N807
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
