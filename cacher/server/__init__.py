"""The HTTP side: routes that parse, call one function of the package, and shape its answer.

`cacher.server.app.create_app` makes the application, `cacher.main:app` is it.
"""

from __future__ import annotations

from cacher.errors import MissingExtraError

try:
    import fastapi  # noqa: F401
    import limits  # noqa: F401
    import orjson  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        f"the server needs {error.name}, which is not installed: pip install 'cacher[server]'"
    ) from None
