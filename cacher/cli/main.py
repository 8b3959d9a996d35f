"""The ``cacher`` command: parses arguments and hands over to the command's module."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence

from cacher import __version__
from cacher.cli import cache, chat, pack, run, semantic, serve, story
from cacher.errors import CacherError

COMMANDS = (story, run, chat, serve, pack, cache, semantic)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="cacher", description="Language-model states: create, fork, look inside."
    )
    parser.add_argument("--version", action="version", version=f"cacher {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 with one line on stderr."""
    arguments = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than a text
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except CacherError as error:
        print(f"cacher: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails at exit
        return 128 + signal.SIGPIPE
    return status
