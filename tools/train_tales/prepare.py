"""Turn the compressed corpus into a tokenizer and arrays of token ids.

python prepare.py --corpus ../shared/corpus --work ../train-work
"""

from __future__ import annotations

import argparse
import collections
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from config import MODEL, TOKENIZER
from styles import FAIRY_TALES, style_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TRAIN_FILES = ("train-ww.txt.xz", "train-us.txt.xz")
VALID_FILE = "valid.txt.xz"


def read_documents(path: Path) -> list[str]:
    """Read one corpus file and cut it at the lines that close a document."""
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        text = file.read()
    pieces = text.split(TOKENIZER.end_of_text + "\n")
    return [piece.strip("\n") for piece in pieces if piece.strip()]


def train_tokenizer(documents: Iterable[str]) -> Tokenizer:
    """Learn a lossless byte-level BPE in the style of GPT-2."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MODEL.vocab_size,
        special_tokens=[TOKENIZER.end_of_text],
        # Start from all 256 bytes, so that any text at all can be encoded.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_wanted_words(documents), trainer)
    for word in TOKENIZER.wanted_words:
        if len(tokenizer.encode(word).ids) != 1:
            raise SystemExit(f"{word!r} is not one token; raise wanted_repeats")
    return tokenizer


def _with_wanted_words(documents: Iterable[str]) -> Iterator[str]:
    """Yield the documents, then the words that deserve extra weight."""
    yield from documents
    for word in TOKENIZER.wanted_words:
        for _ in range(TOKENIZER.wanted_repeats):
            yield word


def tokenise(tokenizer: Tokenizer, documents: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the token stream and the position at which each document opens.

    The end-of-text token stands before the first document, between any two,
    and after the last: a lone one is thus the natural way to ask for a story.
    """
    end = tokenizer.token_to_id(TOKENIZER.end_of_text)
    stream: list[int] = [end]
    starts: list[int] = []
    for encoding in tokenizer.encode_batch(documents):
        starts.append(len(stream) - 1)
        stream.extend(encoding.ids)
        stream.append(end)
    return np.array(stream, dtype=np.uint16), np.array(starts, dtype=np.int64)


def save(work: Path, name: str, tokenizer: Tokenizer, documents: list[str]) -> None:
    """Tokenise `documents` and write `name`.npy with `name`-starts.npy."""
    stream, starts = tokenise(tokenizer, documents)
    np.save(work / f"{name}.npy", stream)
    np.save(work / f"{name}-starts.npy", starts)
    size = sum(len(document.encode()) for document in documents)
    print(
        f"{name}: {len(documents)} documents, {len(stream)} tokens, "
        f"{size / len(stream):.3f} bytes per token"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--work", type=Path, required=True, help="folder for the results")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    documents = [d for name in TRAIN_FILES for d in read_documents(args.corpus / name)]
    styles = [style_of(document) for document in documents]
    print(collections.Counter(styles))
    tokenizer = train_tokenizer(documents)
    tokenizer.save(str(args.work / "tokenizer.json"))

    save(args.work, "all", tokenizer, documents)
    series = [d for d, style in zip(documents, styles, strict=True) if style != FAIRY_TALES]
    save(args.work, "series", tokenizer, series)
    save(args.work, "valid", tokenizer, read_documents(args.corpus / VALID_FILE))


if __name__ == "__main__":
    main()
