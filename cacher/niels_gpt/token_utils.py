"""Tokens in printable characters."""

from __future__ import annotations


def token_display(token_id: int) -> str:
    r"""Return a byte as it is printed: itself from 32 to 126, else ``\xNN``.

    Example:
        >>> from cacher.niels_gpt.token_utils import token_display
        >>> [token_display(i) for i in (65, 195)]
        ['A', '\\xc3']
    """
    return chr(token_id) if 32 <= token_id <= 126 else f"\\x{token_id:02x}"
