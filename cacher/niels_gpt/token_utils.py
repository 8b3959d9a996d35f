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


def text_display(text: str) -> str:
    r"""Return a text with its control characters as ``\xNN``.

    Example:
        >>> from cacher.niels_gpt.token_utils import text_display
        >>> text_display(" a\n")
        ' a\\x0a'
    """
    if text.isprintable():
        return text
    return "".join(f"\\x{ord(c):02x}" if c < " " or "\x7f" <= c < "\xa0" else c for c in text)
