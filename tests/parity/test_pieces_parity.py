"""Ids and texts equal to the `sentencepiece` library, for models trained with every option.

For each kind of model: lines of real text and 2,000 random strings, most of whose characters are
outside the vocabulary, encoded; random ids decoded, at once and id by id.
"""

from __future__ import annotations

import io
import itertools
import random
from pathlib import Path

import pytest

sentencepiece = pytest.importorskip("sentencepiece")

import texts  # noqa: E402

from cacher import Tokenizer  # noqa: E402
from tests.models import pieces  # noqa: E402

pytestmark = pytest.mark.parity

ALPHABET = "ab the\t\n  \u2581\u3000éﬁ①Ａ日本語🙂\u200b\u0301eﾀﾞ가\u0000<|>s/x\r\u0130ß½#"
OPTIONS = [
    pytest.param(normalizer, *flags, id="-".join([normalizer, *(str(int(f)) for f in flags)]))
    for normalizer in ("nmt_nfkc", "identity", "nmt_nfkc_cf")
    for flags in itertools.product((False, True), repeat=3)
]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    documents = texts.documents(texts.mixed_text(400_000, seed=5))
    return [line for text in documents for line in text.split("\n") if line.strip()][:8000]


def random_strings(n: int) -> list[str]:
    draw = random.Random(7)
    return ["".join(draw.choices(ALPHABET, k=draw.randint(0, 40))) for _ in range(n)]


def check_equal(data: bytes, samples: list[str], folder: Path) -> None:
    """Compare the two on samples, and on random ids."""
    path = folder / "spm.model"
    path.write_bytes(data)
    theirs, ours = sentencepiece.SentencePieceProcessor(model_proto=data), Tokenizer.open(path)
    assert len(ours) == len(theirs)
    for text in samples:
        assert ours.encode(text) == theirs.encode(text), repr(text)
    draw = random.Random(3)
    for _ in range(1000):
        ends = draw.choices((len(ours), min(264, len(ours))), k=draw.randint(0, 12))
        ids = [draw.randrange(end) for end in ends]
        assert ours.decode(ids) == "".join(ours.pieces(ids)) == theirs.decode(ids), ids


@pytest.mark.parametrize(("normalizer", "dummy_prefix", "strip", "byte_fallback"), OPTIONS)
def test_trained_models_agree(
    lines: list[str],
    tmp_path: Path,
    normalizer: str,
    dummy_prefix: bool,
    strip: bool,
    byte_fallback: bool,
) -> None:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, vocab_size=1500, model_type="unigram",
        byte_fallback=byte_fallback, normalization_rule_name=normalizer,
        add_dummy_prefix=dummy_prefix, remove_extra_whitespaces=strip,
        user_defined_symbols=[*pieces.SPECIAL, "##x"], character_coverage=0.985, minloglevel=2,
    )  # fmt: skip
    spelled = [f"{pieces.SPECIAL[0]}hi{pieces.SPECIAL[3]}", f" {pieces.SPECIAL[1]} a  b", "a\nb##x"]
    check_equal(made.getvalue(), [*lines[:400], *random_strings(2000), *spelled], tmp_path)


@pytest.mark.parametrize("options", [{}, {"add_dummy_prefix": True}, {"escape_whitespaces": False}])
def test_models_of_the_fixture_writer_agree(tmp_path: Path, options: dict[str, bool]) -> None:
    data = pieces.model(pieces.chat_pieces(600), **options)
    check_equal(data, ["Hello\tthe ﬁne  wörld ", *random_strings(2000)], tmp_path)


def test_pieces_of_odd_scores_agree(tmp_path: Path) -> None:
    """Scores above zero, which beat symbols; symbols that overlap; ties; all types of pieces."""
    odd = [
        ("<unk>", 0.0, pieces.UNKNOWN), ("</s>", 0.0, pieces.CONTROL),
        ("é日", 0.0, pieces.USER_DEFINED), ("/s", 0.0, pieces.USER_DEFINED),
        ("s/x", 0.0, pieces.USER_DEFINED), ("x|", 0.0, pieces.USER_DEFINED),
        ("ab", 0.0, pieces.USER_DEFINED), ("a", 1.5, pieces.NORMAL), ("b", 2.5, pieces.NORMAL),
        ("é", 9.0, pieces.NORMAL), ("日", 9.5, pieces.NORMAL), ("aa", 3.0, pieces.NORMAL),
        ("aaa", 4.5, pieces.NORMAL), ("bb", 0.0, pieces.UNUSED), ("t", -0.0, pieces.NORMAL),
        ("he", -7.0, pieces.NORMAL), (pieces.SPACE, 0.25, pieces.NORMAL),
    ]  # fmt: skip
    data = pieces.model(odd, rules={}, byte_fallback=False, remove_extra_whitespaces=False)
    more = ["é日ab", "aaaaaaab", "bbb", "ab" * 50, "</s><unk>"]
    check_equal(data, [*more, *random_strings(5000)], tmp_path)
