"""``cacher cache``: commands about the samples that request pipelines keep."""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cacher.errors import ParameterError

if TYPE_CHECKING:
    from cacher.pipelines.store import SampleStore

DAY_S = 86_400


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    parser = commands.add_parser(
        "cache", help="the samples of request pipelines: ls, show, prune, export, import"
    )
    group = parser.add_subparsers(dest="cache", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = group.add_parser(name, help=summary, description=summary.capitalize() + ".")
        added.add_argument("where", help="a folder, or the address of a Redis server")
        return added

    command("ls", "list the keys, the least recently used first").set_defaults(run=run_ls)
    show = command("show", "print the samples of a key, as JSON lines")
    show.add_argument("key", help="the key, or how it begins")
    show.set_defaults(run=run_show)
    prune = command("prune", "remove keys, and give back their space")
    prune.add_argument("key", nargs="*", help="keys to remove, or how they begin")
    prune.add_argument("--max-bytes", type=int, help="then the least recently used, until so much")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="those not used so long")
    prune.set_defaults(run=run_prune)
    export = command("export", "write all samples to a file")
    export.add_argument("file", type=Path, help="JSON lines")
    export.set_defaults(run=run_export)
    import_ = command("import", "add the samples of a file under their indices")
    import_.add_argument("file", type=Path, help="what export wrote")
    import_.set_defaults(run=run_import)


def _open(where: str, *, readonly: bool = True) -> SampleStore:
    from cacher.pipelines.store import open_store

    return open_store(where, readonly=readonly)


def run_ls(arguments: argparse.Namespace) -> int:
    """Print a line for each key, and a sum."""
    with _open(arguments.where) as store:
        for key, samples, size, used in store.listed():
            when = datetime.fromtimestamp(used).isoformat(" ", "seconds")
            print(f"{_printed(key)}  {samples:>6} samples  {size:>10} bytes  {when}")
        stats = store.stats()
        print(f"{stats['keys']} keys, {stats['samples']} samples, {stats['bytes']} bytes")
        if stats["corrupt_records"]:
            print(f"{stats['corrupt_records']} samples were damaged and are gone")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print the samples of a key."""
    from cacher.pipelines.store import MAX_INDEX
    from cacher.pipelines.values import to_json

    with _open(arguments.where) as store:
        (key,) = _keys(store, [arguments.key], one=True)
        found = store.read([(key, 0, MAX_INDEX)])[0]
        for index in sorted(found):
            print(json.dumps({"index": index, "sample": to_json(found[index])}))
    return 0


def run_prune(arguments: argparse.Namespace) -> int:
    """Remove keys and print how many."""
    if not (arguments.key or arguments.max_bytes is not None or arguments.older_than is not None):
        raise ParameterError("nothing to remove, allowed: keys, --max-bytes, --older-than")
    with _open(arguments.where, readonly=False) as store:
        before = store.stats()
        keys = _keys(store, arguments.key, one=False)
        if arguments.older_than is not None:
            limit = time.time() - arguments.older_than * DAY_S
            keys += [listed.key for listed in store.listed() if listed.used < limit]
        store.remove(keys)
        if arguments.max_bytes is not None:
            store.prune(arguments.max_bytes)
        store.compact()
        after = store.stats()
    print(
        f"{before['keys'] - after['keys']} of {before['keys']} keys removed, "
        f"{after['bytes']} bytes are left"
    )
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Write a file and print how many samples it has."""
    from cacher.pipelines.portable import export_samples

    with _open(arguments.where) as store:
        count = export_samples(store, arguments.file)
    print(f"{count} samples written to {arguments.file}")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Read a file and print what became of its samples; 1 when some were left out."""
    from cacher.pipelines.portable import import_samples

    with _open(arguments.where, readonly=False) as store:
        found = import_samples(store, arguments.file)
    print(
        f"{found.added} samples added, {found.known} were there, {found.others} left out since "
        "others have their indices"
    )
    return 1 if found.others else 0


def _keys(store: SampleStore, beginnings: list[str], *, one: bool) -> list[str]:
    """Return the keys that begin so; each must be one where `one` is asked for.

    Raises:
        ParameterError: There is none, or more than one.
    """
    if not beginnings:
        return []
    keys = list(store)
    found: list[str] = []
    for beginning in beginnings:
        some = [beginning] if beginning in keys else [k for k in keys if k.startswith(beginning)]
        if not some or (one and len(some) > 1):
            raise ParameterError(
                f"{len(some)} keys begin with {_printed(beginning)}, allowed: 1"
                + ("" if one else " or more")
            )
        found += some
    return found


def _printed(key: str) -> str:
    """Return a key as it stands in a line: one that is no plain word in quotes."""
    plain = key.isprintable() and " " not in key and key
    return key if plain else json.dumps(key)
