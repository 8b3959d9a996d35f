"""What goes over HTTP: the requests and responses.

Every field says what it means and what is allowed.  ``null`` means "the default" everywhere but for
``seed``.  Imports nothing but pydantic.
"""

from __future__ import annotations

from cacher.errors import MissingExtraError

try:
    import pydantic  # noqa: F401
except ImportError:
    raise MissingExtraError(
        "the schemas need pydantic, which is not installed: pip install 'cacher[server]'"
    ) from None
