"""``cacher serve``: the HTTP server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cacher.cli.formats import NAMES, add_formats
from cacher.errors import MissingExtraError

if TYPE_CHECKING:
    from cacher.config import Settings

# Options that, where they are given, go before their variables.
VARIABLES = {name: f"CACHER_{name.upper()}" for name in ("workers", "log_level", *NAMES)}
LEVELS = ("debug", "info", "warning", "error", "critical")
KEEP_ALIVE_SECONDS = 30
GRACEFUL_SECONDS = 30


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command and its options."""
    parser = commands.add_parser(
        "serve", help="serve states over HTTP",
        epilog=f"What is not given comes from {', '.join(VARIABLES.values())}, where they are set.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at; 0 is any")
    parser.add_argument(
        "--workers", type=int, default=argparse.SUPPRESS,
        help="processes behind the port, 1 to 64; any serves any state",
    )  # fmt: skip
    add_formats(parser)
    parser.add_argument("--reload", action="store_true", help="start again when a file changes")
    parser.add_argument(
        "--log-level", choices=LEVELS, default=argparse.SUPPRESS, help="least that is logged"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 0 when it ended as asked."""
    import os

    for name, variable in VARIABLES.items():
        if name in arguments:
            os.environ[variable] = str(getattr(arguments, name))  # for processes it starts, too
    require_server()
    from cacher.config import settings  # a wrong value ends here, in one line
    from cacher.semantic.settings import SemanticSettings
    from cacher.server.services import settings_store

    SemanticSettings.from_env()
    settings_store(settings).close()  # and so does a store that cannot be opened
    serve("cacher.main:app", settings, arguments.host, arguments.port, reload=arguments.reload)
    return 0


def require_server() -> None:
    """Check that what a server needs is installed.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"the server needs {error.name}, which is not installed: pip install 'cacher[server]'"
        ) from None


def serve(
    application: str,
    settings: Settings,
    host: str,
    port: int,
    *,
    reload: bool,
    forwarded: bool = True,
) -> None:
    """Serve an application until a signal.

    Args:
        application: ``module:name``; each process imports it.
        settings: Its workers and its log.
        host: Address to listen at.
        port: Port to listen at; 0 is any.
        reload: Start again when a file changes.
        forwarded: Whether a proxy on this machine is believed whom it speaks for.
    """
    import os
    from tempfile import TemporaryDirectory

    import uvicorn

    from cacher.server.journal import configure_logging

    configure_logging(settings)
    with TemporaryDirectory(prefix="cacher-") as folder:
        if settings.WORKERS > 1:
            os.environ.setdefault("CACHER_RUN_DIR", folder)
        uvicorn.run(
            application,
            host=host,
            port=port,
            reload=reload,
            workers=None if reload else settings.WORKERS,
            loop="uvloop",
            http="cacher.server.protocol:DeadlineProtocol",
            ws="none",
            access_log=False,
            log_config=None,  # the application's log takes uvicorn's, too
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            server_header=False,
            proxy_headers=forwarded,
        )
