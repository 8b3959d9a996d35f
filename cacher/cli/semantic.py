"""``cacher semantic``: commands about the semantic cache."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    parser = commands.add_parser("semantic", help="the semantic cache: calibrate, rescue")
    group = parser.add_subparsers(dest="semantic", required=True, metavar="COMMAND")
    calibrate = group.add_parser(
        "calibrate",
        help="choose a threshold from labelled pairs",
        description="Choose the lowest threshold at which few enough hits are wrong.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    calibrate.add_argument(
        "pairs", type=Path, help="CSV in UTF-8: query,other,same (1: one answer is right for both)"
    )
    calibrate.add_argument(
        "--max-wrong", type=float, default=0.01, help="share of wrong hits among hits"
    )
    calibrate.add_argument("--confidence", type=float, default=0.95, help="how sure to be of it")
    calibrate.add_argument(
        "--model", help="what embeds: built-in name, folder or hub id; else as the cache chooses"
    )
    calibrate.add_argument("--no-guard", action="store_true", help="hits by similarity alone")
    calibrate.set_defaults(run=run_calibrate)
    rescue = group.add_parser(
        "rescue",
        help="save what is whole of a damaged database",
        description="Write the entries of a database that are whole to a file, which "
        "SemanticCache.load and SEMCACHE_PERSIST_PATH read; lost vectors are made anew then.",
    )
    rescue.add_argument("database", type=Path, help="of a store sqlite:<path>; it is only read")
    rescue.add_argument("target", type=Path, help="the file: JSON lines")
    rescue.set_defaults(run=run_rescue)


def run_rescue(arguments: argparse.Namespace) -> int:
    """Print what was saved; 0 when something could be read."""
    from cacher.semantic.rescue import rescue

    found = rescue(arguments.database, arguments.target)
    print(
        f"{found.entries} entries saved to {arguments.target}, {found.without_vector} of them "
        f"without their vectors; {found.damaged} others are damaged"
    )
    return 0


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Print the threshold and how sure it is; 0 when there is one, else 1."""
    from cacher.semantic.calibrate import calibrate
    from cacher.semantic.pairs import read_pairs

    found = calibrate(
        read_pairs(arguments.pairs),
        max_wrong=arguments.max_wrong,
        confidence=arguments.confidence,
        embedder=arguments.model,
        guard=not arguments.no_guard,
    )
    print(found)
    return 0 if found.threshold is not None else 1
