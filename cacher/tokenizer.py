"""Text to token ids and back."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING

from cacher import _core
from cacher.checks import thread_count
from cacher.errors import TokenIdError, TokenizerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class StreamDecoder:
    """Turns ids into text as they come; the joined pieces equal `Tokenizer.decode` of all ids.

    Bytes of an unfinished character are held back until the token that completes it.

    Example:
        >>> import cacher
        >>> tokenizer = cacher.load("tales").tokenizer
        >>> decoder = tokenizer.stream_decoder()
        >>> "".join(decoder.push(i) for i in tokenizer.encode("Hé!")) + decoder.finish()
        'Hé!'
    """

    __slots__ = ("_core",)

    def __init__(self, core: _core.Decoder) -> None:
        self._core = core

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` adds.

        Raises:
            TokenIdError: The id is outside the vocabulary.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.stream_decoder().push(tokenizer.id("Hello"))
            'Hello'
        """
        return self._core.push(token_id)

    def finish(self) -> str:
        """Return what is left: U+FFFD for the bytes of an unfinished character, else nothing.

        Example:
            >>> import cacher
            >>> cacher.load("tales").tokenizer.stream_decoder().finish()
            ''
        """
        return self._core.finish()


class Tokenizer:
    """A tokenizer: BPE, WordPiece, SentencePiece's unigram, or bytes.  Immutable, safe to share.

    Example:
        >>> import cacher
        >>> tokenizer = cacher.load("tales").tokenizer
        >>> tokenizer.decode(tokenizer.encode("Hello world"))
        'Hello world'
    """

    __slots__ = ("_core", "_texts")

    def __init__(self, core: _core.Tokenizer) -> None:
        if not isinstance(core, _core.Tokenizer):
            raise TypeError("a tokenizer is made by Tokenizer.open or cacher.load")
        self._core = core
        self._texts: dict[int, str] = {}

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Tokenizer:
        """Open a tokenizer without a model.

        Args:
            path: A folder with tokenizer.json, or with vocab.json and merges.txt, or with
                vocab.txt, or with spm.model; or a tokenizer.json; or an spm.model, whose name must
                end in ``.model``.

        Raises:
            FileError: It cannot be read.
            TokenizerError: It is damaged.
            UnsupportedModelError: It has an option that is not supported.

        Example:
            >>> import cacher
            >>> cacher.Tokenizer.open(cacher.hub.find("tales")).id("Hello") >= 0
            True
        """
        return cls(_core.Tokenizer(path))

    @classmethod
    def of_bytes(cls) -> Tokenizer:
        """Return the tokenizer whose ids, 0 to 255, are the bytes of a text's UTF-8.

        Example:
            >>> import cacher
            >>> cacher.Tokenizer.of_bytes().encode("é")
            [195, 169]
        """
        return cls(_core.Tokenizer.of_bytes())

    @property
    def kind(self) -> str:
        """``"bpe"``, ``"wordpiece"``, ``"unigram"`` (SentencePiece) or ``"bytes"``.

        Example:
            >>> import cacher
            >>> cacher.load("tales").tokenizer.kind
            'bpe'
        """
        return self._core.kind

    @property
    def chat_tokens(self) -> dict[str, int]:
        """The ids of ``sys``, ``usr``, ``asst`` and ``eot``; empty unless all are special tokens.

        Niels-gpt models with pieces have them around messages.

        Example:
            >>> import cacher
            >>> cacher.load("tales").tokenizer.chat_tokens
            {}
        """
        return self._core.chat_tokens()

    def encode(
        self,
        text: str,
        *,
        add_special: bool = False,
        specials: bool = True,
        continues: bool = False,
    ) -> list[int]:
        """Return the ids of a text.

        Args:
            text: Any text, up to 1 GiB.
            add_special: Put the tokens around it that the tokenizer's template asks for.
            specials: Read ``<|endoftext|>`` and the like as special tokens; else as plain text.
            continues: The text goes on from other text: the space that some tokenizers put in
                front of a text is left out.

        Raises:
            EncodingError: The text holds half of a surrogate pair.

        Example:
            >>> import cacher
            >>> len(cacher.load("tales").tokenizer.encode("Hello world"))
            2
        """
        return self._core.encode(text, add_special, specials, continues)

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        add_special: bool = False,
        specials: bool = True,
        threads: int | None = None,
    ) -> list[list[int]]:
        """Return the ids of many texts, encoded by several threads: those of `encode`, in order.

        Args:
            texts: Any texts, each up to 1 GiB.
            add_special: As in `encode`.
            specials: As in `encode`.
            threads: 1 to 256; None: one for each core this process may use.  Fewer are started
                where there is little to do.  Never changes a result.

        Raises:
            EncodingError: A text holds half of a surrogate pair; the first one is named.
            ParameterError: `threads` is outside its range.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> [len(ids) for ids in tokenizer.encode_batch(["Hello world", "Hello", ""])]
            [2, 1, 0]
        """
        return self._core.encode_batch(texts, add_special, specials, thread_count(threads))

    def decode(
        self, ids: Iterable[int] | NDArray[np.integer], *, skip_special: bool = False
    ) -> str:
        """Return the text of ids; bytes that form no character become U+FFFD.

        Args:
            ids: A list, an array or any iterable of integers.
            skip_special: Leave out special tokens.

        Raises:
            TokenIdError: An id is outside the vocabulary.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.decode([tokenizer.id("Hello")])
            'Hello'
        """
        return self._core.decode(ids, skip_special)

    def decode_batch(
        self,
        rows: Iterable[Iterable[int] | NDArray[np.integer]],
        *,
        skip_special: bool = False,
        threads: int | None = None,
    ) -> list[str]:
        """Return the texts of many rows of ids, decoded by several threads: those of `decode`.

        Args:
            rows: Of each text the ids, as in `decode`.
            skip_special: Leave out special tokens.
            threads: As in `encode_batch`.

        Raises:
            TokenIdError: An id is outside the vocabulary; the first row that has one is named.
            ParameterError: `threads` is outside its range.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.decode_batch(tokenizer.encode_batch(["Hello", "world"]))
            ['Hello', 'world']
        """
        return self._core.decode_batch(rows, skip_special, thread_count(threads))

    def _text_of(self, token_id: int) -> str:
        """Return the text of one id, remembered: streams show the same few again and again."""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = self._text_alone(token_id)
        return text

    def _text_alone(self, token_id: int) -> str:
        """Return the text of one id; a piece keeps the spaces that texts lose at their start."""
        raw = self._core.bytes(token_id) if self.kind == "unigram" else None
        return self._core.decode([token_id]) if raw is None else raw.decode("utf-8", "replace")

    def display(self, token_id: int) -> str:
        r"""Return the text of one id in printable characters.

        Control characters, and bytes that are only a part of a character, are ``\xNN``.

        Raises:
            TokenIdError: The id is outside the vocabulary.

        Example:
            >>> import cacher
            >>> [cacher.Tokenizer.of_bytes().display(i) for i in (65, 10, 195)]
            ['A', '\\x0a', '\\xc3']
        """
        raw = self._core.bytes(token_id)
        text = (
            self._core.decode([token_id])
            if raw is None
            else raw.decode("utf-8", "backslashreplace")
        )
        if text.isprintable():
            return text
        return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" else c for c in text)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the text that each id adds; joined, they are the text of all.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.pieces(tokenizer.encode("Hello world"))
            ['Hello', ' world']
        """
        decoder = self._core.decoder()
        pieces = [decoder.push(i) for i in ids]
        rest = decoder.finish()
        if rest:
            pieces[-1] += rest
        return pieces

    def stream_decoder(self, *, skip_special: bool = False) -> StreamDecoder:
        """Return a decoder for ids that come one by one.

        Args:
            skip_special: Special tokens give no text.

        Example:
            >>> import cacher
            >>> type(cacher.load("tales").tokenizer.stream_decoder()).__name__
            'StreamDecoder'
        """
        return StreamDecoder(self._core.decoder(skip_special))

    def token(self, token_id: int) -> str:
        """Return the vocabulary entry of an id, as the tokenizer's file writes it.

        Raises:
            TokenIdError: The id is outside the vocabulary.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.token(tokenizer.encode("Hello")[0])
            'Hello'
        """
        entry = self._core.token(token_id)
        if entry is None:
            raise TokenIdError(f"token id {token_id} is not in the vocabulary of {len(self)}")
        return entry

    def id(self, token: str) -> int:
        """Return the id of a vocabulary entry, as the tokenizer's file writes it.

        Raises:
            TokenizerError: There is no such entry.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> [tokenizer.id("Hello")] == tokenizer.encode("Hello")
            True
        """
        found = self._core.find(token)
        if found < 0:
            raise TokenizerError(f"{token!r} is not in the vocabulary of {len(self)} tokens")
        return found

    def is_special(self, token_id: int) -> bool:
        """Return whether an id is that of a special token; no id outside the vocabulary is.

        Example:
            >>> import cacher
            >>> tokenizer = cacher.load("tales").tokenizer
            >>> tokenizer.is_special(tokenizer.id("<|endoftext|>"))
            True
        """
        return self._core.is_special(token_id)

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return f"<Tokenizer of {len(self)} tokens>"
