"""The semantic cache as a server of its own: ``python -m cacher.semantic.server``.

``uvicorn cacher.semantic.server:app`` serves it, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cacher.cli.serve import require_server, serve
from cacher.errors import CacherError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from cacher.config import Settings
    from cacher.semantic.settings import SemanticSettings

DESCRIPTION = """Answers queries and remembers the answers: a query that means the same as an
earlier one is answered at once.

Every path is served with and without `/v1`, and with and without a slash at its end."""
#: Options that are variables, too: the processes that serve read these.
OPTIONS = {
    "max_cache_size": "SEMCACHE_MAX_CACHE_SIZE",
    "similarity_threshold": "SEMCACHE_SIMILARITY_THRESHOLD",
    "model_device": "SEMCACHE_MODEL_DEVICE",
    "workers": "CACHER_WORKERS",
}


def create_app(settings: Settings, semantic: SemanticSettings) -> FastAPI:
    """Return the application that serves nothing but the semantic cache.

    Args:
        settings: Models, the log, hosts, origins.
        semantic: The rest.

    Raises:
        DeviceError: The settings ask for a device that is not there.
        ParameterError: Settings do not go together.

    Example:
        >>> from cacher.config import Settings
        >>> from cacher.semantic.server import create_app
        >>> from cacher.semantic.settings import SemanticSettings
        >>> create_app(Settings(), SemanticSettings()).title
        'FastAPI Semantic Cache'
    """
    from cacher.semantic.settings import alone
    from cacher.server.alone import OPERATIONS, AloneServices
    from cacher.server.app import assemble

    return assemble(AloneServices(alone(settings, semantic), semantic), OPERATIONS, DESCRIPTION)


def __getattr__(name: str) -> object:
    """Make ``app`` when a server asks for it: after the options have become variables."""
    if name != "app":
        raise AttributeError(f"module 'cacher.semantic.server' has no attribute {name!r}")
    import gc

    from cacher.config import Settings
    from cacher.semantic.settings import SemanticSettings
    from cacher.server.journal import configure_logging

    settings = Settings.from_env()
    configure_logging(settings)
    made = globals()["app"] = create_app(settings, SemanticSettings.from_env())
    gc.freeze()  # as of cacher.main
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; 0 when it ended as asked, 1 with a line where it could not begin."""
    try:
        return _main(argv)
    except CacherError as error:
        print(f"cacher: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for option, name in OPTIONS.items():
        value = getattr(arguments, option)
        if value is not None:
            os.environ[name] = value
    require_server()
    from cacher.config import Settings
    from cacher.semantic.settings import SemanticSettings

    settings, semantic = Settings.from_env(), SemanticSettings.from_env()
    host = semantic.HOST if arguments.host is None else arguments.host
    port = semantic.PORT if arguments.port is None else arguments.port
    serve("cacher.semantic.server:app", settings, host, port, reload=arguments.reload)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cacher.semantic.server", description=__doc__)
    parser.add_argument("--host", help="address to listen at; default: SEMCACHE_HOST, 127.0.0.1")
    parser.add_argument(
        "--port", type=int, help="port to listen at, 0 is any; default: SEMCACHE_PORT, 8000"
    )
    parser.add_argument("--reload", action="store_true", help="start again when a file changes")
    parser.add_argument("--max-cache-size", help="most entries; default: 1000")
    parser.add_argument(
        "--similarity-threshold", help="least similarity of a hit; default: the embedder's own"
    )
    parser.add_argument("--model-device", help="cpu")
    parser.add_argument(
        "--workers", help="processes behind the port, which need SEMCACHE_STORE to share entries"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
