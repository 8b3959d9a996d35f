"""JSON as it is sent: floats read back to the same bits, arrays go without lists between."""

from __future__ import annotations

import orjson
from starlette.responses import Response

JSON = "application/json"


def dumps(value: object, option: int = 0) -> bytes:
    """Return JSON of plain values, records, and NumPy arrays.

    Args:
        value: What to write.
        option: More options of orjson.
    """
    return orjson.dumps(value, _plain, orjson.OPT_SERIALIZE_NUMPY | option)


def json_response(value: object) -> Response:
    """Return a JSON answer."""
    return Response(dumps(value), media_type=JSON)


def _plain(value: object) -> object:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "tolist"):  # an array whose numbers do not lie side by side
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")
