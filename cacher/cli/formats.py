"""Options of commands that open a model: what its weights, keys and values are held in."""

from __future__ import annotations

import argparse

from cacher.facts import DTYPES, KV_DTYPES


def add_formats(parser: argparse.ArgumentParser, *, variables: bool = False) -> None:
    """Register ``--dtype`` and ``--kv-dtype``.

    Args:
        parser: Of the command.
        variables: Whether CACHER_DTYPE and CACHER_KV_DTYPE are the defaults.
    """
    parser.add_argument(
        "--dtype", choices=DTYPES,
        help="weights; "
        + ("default: CACHER_DTYPE" if variables else "None: as a packed folder has them, else f32"),
    )  # fmt: skip
    parser.add_argument(
        "--kv-dtype", choices=KV_DTYPES, default=None if variables else "f32",
        help="keys and values" + ("; default: CACHER_KV_DTYPE" if variables else ""),
    )  # fmt: skip
