"""Moments: seconds since 1970 inside, datetimes in UTC for people, RFC 3339 in documents."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(seconds: float) -> datetime:
    """Return the moment as a datetime, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC)


def rfc3339(moment: datetime) -> str:
    """Return ``2025-03-04T09:15:27.123456Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def seconds_of(text: str) -> float:
    """Read RFC 3339, or the older ``YYYY-MM-DD HH:MM:SS.ffffff``, which is UTC.

    Raises:
        ValueError: Neither, or a year that cannot be written again.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).timestamp()  # which holds no year before 1 or after 9999
    except OverflowError as error:
        raise ValueError(str(error)) from None
