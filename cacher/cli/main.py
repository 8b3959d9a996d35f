"""The ``cacher`` command: parses arguments and hands over to the command's module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cacher.cli import run, story
from cacher.errors import CacherError

COMMANDS = (story, run)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="cacher", description="Language-model states: create, fork, look inside."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 with one line on stderr."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except CacherError as error:
        print(f"cacher: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return status
