r"""Write csrc/tok/unicode_tables.c: classes, decompositions and lower case of the tokenizer.

The reference for token ids is the `tokenizers` library, so it is asked directly: which characters
its regular expression engine calls \p{L}, \p{N} and \s, which its added tokens call word
characters, which its Digits pre-tokenizer calls numeric, which of them BERT's normalizer and
pre-tokenizer remove, strip or cut off, what it lowercases them to, and which decompositions and
combining classes its NFC knows (it follows an older Unicode than its regular expressions).  The
decompositions themselves come from Python's unicodedata and are left out where the library does not
know the character.

    pip install tokenizers==0.23.3
    python tools/gen_unicode.py > csrc/tok/unicode_tables.c
"""

import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
LETTER, NUMBER, SPACE, WORD, DIGIT, COMBINING = 1, 2, 4, 8, 16, 32
PUNCTUATION, CONTROL, MARK, CASED, DECOMPOSES = 64, 128, 256, 512, 1024
BLOCK = 128
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)
HANGUL_MAYBE = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]


def matching(pattern):
    """Return the code points that a one-character pattern matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for at in range(0, len(POINTS), 4096):
        chunk = POINTS[at : at + 4096]
        kept = set("".join(text for text, _ in split.pre_tokenize_str("".join(map(chr, chunk)))))
        found.update(c for c in chunk if chr(c) not in kept)
    return found


def numeric():
    """Return the code points the Digits pre-tokenizer takes for digits."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces = digits.pre_tokenize_str("".join("a" + chr(c) for c in POINTS))
    return {ord(text) for text, _ in pieces if len(text) == 1 and text != "a"}


def word_characters():
    """Return the code points that keep a single_word added token from matching."""
    tokenizer = Tokenizer(models.BPE(vocab={"<unk>": 0}, merges=[], unk_token="<unk>"))
    tokenizer.add_tokens([AddedToken("@@", single_word=True)])
    token = tokenizer.token_to_id("@@")
    found = set()
    for at in range(0, len(POINTS), 1 << 16):
        chunk = POINTS[at : at + (1 << 16)]
        encoded = tokenizer.encode_batch(["@@" + chr(c) for c in chunk])
        found.update(c for c, e in zip(chunk, encoded, strict=True) if token not in e.ids)
    return found


def bert_classes():
    """Return the characters that BERT's parts cut off, remove, and strip as marks."""
    off = {"handle_chinese_chars": False, "lowercase": False}
    clean = normalizers.BertNormalizer(clean_text=True, strip_accents=False, **off)
    strip = normalizers.BertNormalizer(clean_text=False, strip_accents=True, **off)
    cut = pre_tokenizers.BertPreTokenizer()
    punctuation = {c for c in POINTS if len(cut.pre_tokenize_str(f"a{chr(c)}b")) == 3}
    control = {c for c in POINTS if clean.normalize_str(f"a{chr(c)}b") == "ab"}
    marks = {c for c in POINTS if strip.normalize_str(chr(c)) == ""}
    # What is not white space to one of them would need a class of its own.
    spaces = matching(r"\s")
    blank = {c for c in POINTS if clean.normalize_str(f"a{chr(c)}b") == "a b"}
    dropped = {c for c in POINTS if len(cut.pre_tokenize_str(f"a{chr(c)}b")) == 2}
    assert dropped == spaces
    assert blank == spaces - control
    return punctuation, control, marks


def lower_case():
    """Return {code point: its lower case} of what lowercasing changes."""
    lower = normalizers.Lowercase()
    cases = {c: [ord(x) for x in lower.normalize_str(chr(c))] for c in POINTS}
    return {c: to for c, to in cases.items() if to != [c]}


def combining_classes():
    """Return {code point: combining class} of the characters the library's NFC reorders."""
    nfd = normalizers.NFD()
    classes = {}
    for c in POINTS:
        ccc = unicodedata.combining(chr(c))
        # U+0345 has the highest class (240): a known c changes places with it.
        known = nfd.normalize_str("Z\u0345" + chr(c)) != "Z\u0345" + chr(c) if ccc < 240 else True
        if ccc and known:
            classes[c] = ccc
    return classes


def decompositions():
    """Return {code point: full canonical decomposition} of what the library knows, not Hangul."""
    nfd = normalizers.NFD()
    return {
        c: [ord(x) for x in unicodedata.normalize("NFD", chr(c))]
        for c in POINTS
        if c not in HANGUL_SYLLABLES and nfd.normalize_str(chr(c)) != chr(c)
    }


def compositions(decomposed):
    """Return {(first, second): composite} of the primary composites."""
    pairs = {}
    for c in decomposed:
        raw = unicodedata.decomposition(chr(c)).split()
        if len(raw) == 2 and unicodedata.normalize("NFC", chr(c)) == chr(c):
            pairs[int(raw[0], 16), int(raw[1], 16)] = c
    return pairs


def class_ranges(classes):
    """Return [(first, last, class)] of equal neighbours."""
    ranges = []
    for c, ccc in sorted(classes.items()):
        if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == ccc:
            ranges[-1][1] = c
        else:
            ranges.append([c, c, ccc])
    return ranges


def rows(values, per_row, form):
    """Return the values as C initializer lines."""
    return "\n".join(
        "    " + " ".join(form(v) + "," for v in values[at : at + per_row])
        for at in range(0, len(values), per_row)
    )


def main():
    """Write the C file to standard output."""
    flags = [0] * 0x110000
    decomposed, classes = decompositions(), combining_classes()
    pairs = compositions(decomposed)
    punctuation, control, marks = bert_classes()
    lowered = lower_case()
    composed_back = {c for c in decomposed if c in pairs.values()}
    groups = [
        (LETTER, matching(r"\p{L}")),
        (NUMBER, matching(r"\p{N}")),
        (SPACE, matching(r"\s")),
        (WORD, word_characters()),
        (DIGIT, numeric()),
        # Whatever may change under NFC or may join what stands before it.
        (
            COMBINING,
            set(classes)
            | {b for _, b in pairs}
            | set(HANGUL_MAYBE)
            | (set(decomposed) - composed_back),
        ),
        (PUNCTUATION, punctuation),
        (CONTROL, control),
        (MARK, marks),
        (CASED, set(lowered)),
        (DECOMPOSES, set(classes) | set(decomposed) | set(HANGUL_SYLLABLES)),
    ]
    for bit, members in groups:
        for c in members:
            flags[c] |= bit
    index, blocks = [], {}
    for at in range(0, len(flags), BLOCK):
        index.append(blocks.setdefault(tuple(flags[at : at + BLOCK]), len(blocks)))
    data = [value for block in blocks for value in block]
    flat, entries = [], []
    for c, parts in sorted(decomposed.items()):
        entries.append((c, len(flat), len(parts)))
        flat += parts
    ranges = class_ranges(classes)

    out = sys.stdout.write
    out(f"/* Generated by tools/gen_unicode.py, tokenizers {tokenizers.__version__}. */\n")
    out('#include "tok/unicode.h"\n\n')
    out(f"const uint16_t cch_unicode_index[{len(index)}] = {{\n{rows(index, 24, str)}\n}};\n\n")
    out(f"const uint16_t cch_unicode_flags[{len(data)}] = {{\n{rows(data, 18, str)}\n}};\n\n")
    out(f"const size_t cch_n_ccc_ranges = {len(ranges)};\n")
    out("const cch_ccc_range cch_ccc_ranges[] = {\n")
    out(rows(ranges, 5, lambda r: f"{{0x{r[0]:X}, 0x{r[1]:X}, {r[2]}}}") + "\n};\n\n")
    out(f"const size_t cch_n_decompositions = {len(entries)};\n")
    out("const cch_decomposition cch_decompositions[] = {\n")
    out(rows(entries, 6, lambda e: f"{{0x{e[0]:X}, {e[1]}, {e[2]}}}") + "\n};\n\n")
    out(f"const uint32_t cch_decomposed[{len(flat)}] = {{\n{rows(flat, 14, hex)}\n}};\n\n")
    out(f"const size_t cch_n_compositions = {len(pairs)};\n")
    out("const cch_composition cch_compositions[] = {\n")
    out(
        rows(
            sorted((*p, c) for p, c in pairs.items()),
            4,
            lambda p: f"{{0x{p[0]:X}, 0x{p[1]:X}, 0x{p[2]:X}}}",
        )
        + "\n};\n\n"
    )
    out(f"const size_t cch_n_lower_cases = {len(lowered)};\n")
    out("const cch_lower_case cch_lower_cases[] = {\n")
    out(
        rows(
            sorted((c, *to, *[0] * (2 - len(to))) for c, to in lowered.items()),
            4,
            lambda c: f"{{0x{c[0]:X}, {{0x{c[1]:X}, 0x{c[2]:X}}}}}",
        )
        + "\n};\n"
    )


if __name__ == "__main__":
    main()
