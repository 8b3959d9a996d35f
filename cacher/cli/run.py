"""``cacher run``: continue a text with a model, printed as it is generated."""

from __future__ import annotations

import argparse
import sys

from cacher.cli.formats import add_formats, formats
from cacher.hub import load


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    parser = commands.add_parser(
        "run", help="continue a text", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("text", help="the beginning")
    parser.add_argument(
        "--model", default="tales", help="built-in name, folder, checkpoint or hub id"
    )
    add_formats(parser)
    parser.add_argument("--max-tokens", type=int, default=200, help="new tokens at most")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 or more; 0 is greedy")
    parser.add_argument("--top-p", type=float, default=0.9, help="0 to 1; 1 is off")
    parser.add_argument("--seed", type=int, default=42, help="same seed, same text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Stream the continuation to stdout; 0 on success."""
    stream = (
        load(arguments.model, **formats(arguments))
        .state(arguments.text)
        .stream(
            arguments.max_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            seed=arguments.seed,
        )
    )
    sys.stdout.write(arguments.text)
    for token in stream:
        sys.stdout.write(token.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
