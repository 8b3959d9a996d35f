"""``cacher pack``: write a model in the form that is mapped when it is loaded."""

from __future__ import annotations

import argparse

from cacher.cli.formats import add_dtype, formats


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    summary = "write a model as a packed folder, which loads fastest"
    parser = commands.add_parser("pack", help=summary, description=summary.capitalize() + ".")
    parser.add_argument("source", help="built-in name, folder or hub id")
    parser.add_argument("folder", help="where to write it: not there yet, or empty")
    add_dtype(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and print how large its weights are."""
    from cacher.packing import WEIGHTS, pack

    folder = pack(arguments.source, arguments.folder, **formats(arguments))
    print(f"{(folder / WEIGHTS).stat().st_size} bytes of weights written to {folder / WEIGHTS}")
    return 0
