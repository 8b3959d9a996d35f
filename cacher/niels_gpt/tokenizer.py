"""The two tokenizers of niels-gpt: bytes, and pieces.

They are those of the package: `Tokenizer.of_bytes`, and a SentencePiece model with the special
tokens of a chat.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

from cacher import _core
from cacher.tokenizer import Tokenizer

_BYTES = Tokenizer.of_bytes()


def encode(text: str) -> list[int]:
    """Return the bytes of a text's UTF-8.

    Raises:
        EncodingError: The text holds half of a surrogate pair.

    Example:
        >>> from cacher.niels_gpt.tokenizer import encode
        >>> encode("é")
        [195, 169]
    """
    return _BYTES.encode(text)


def decode(ids: Iterable[int]) -> str:
    """Return the text of bytes; those that form no character become U+FFFD.

    Raises:
        TokenIdError: An id is not 0 to 255.  It is a ValueError.

    Example:
        >>> from cacher.niels_gpt.tokenizer import decode
        >>> decode([72, 105])
        'Hi'
    """
    return _BYTES.decode(ids)


def load_tokenizer(path: str | PathLike[str]) -> Tokenizer:
    """Open a chat model's ``spm.model``, whatever its name.

    Args:
        path: The file.  A ``tokenizer_meta.json`` beside it may say which ids the special tokens
            have, and is held to it.

    Raises:
        FileError: It cannot be read.
        TokenizerError: It is damaged, or lacks a special token, or one has another id.
        UnsupportedModelError: It is a model of another type than unigram, or has an option that is
            not supported.
    """
    return Tokenizer(_core.Tokenizer.of_chat(path))
