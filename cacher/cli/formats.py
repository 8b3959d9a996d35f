"""Options of commands that open a model: what its weights, keys and values are held in."""

from __future__ import annotations

import argparse
from typing import Any

from cacher.facts import DTYPES, KV_DTYPES

NAMES = ("dtype", "kv_dtype")


def add_formats(parser: argparse.ArgumentParser) -> None:
    """Register ``--dtype`` and ``--kv-dtype``."""
    add_dtype(parser)
    parser.add_argument(
        "--kv-dtype", choices=KV_DTYPES, default=argparse.SUPPRESS,
        help="keys and values; not given: f32",
    )  # fmt: skip


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Register ``--dtype``."""
    parser.add_argument(
        "--dtype", choices=DTYPES, default=argparse.SUPPRESS,
        help="weights; not given: as a packed folder has them, else f32",
    )  # fmt: skip


def formats(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return those that were given, as `cacher.load` takes them."""
    return {name: value for name, value in vars(arguments).items() if name in NAMES}
