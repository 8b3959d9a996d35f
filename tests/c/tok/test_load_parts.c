/* Normalizers, pre-tokenizers, decoders and templates: what is refused, and by which name. */
#include "check.h"
#include "tok/tokfile.h"

static cch_error err;

#define MODEL "\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"\xC4\xA0\": 2, \"<s>\": 3, \"</s>\": 4}, \"merges\": []}"
#define S "\xE2\x96\x81"

/* A file with one member more: `member` is its name and value. */
#define REFUSED(member, code, words)                                                       \
    do {                                                                                   \
        cch_tokenizer *tok_ = NULL;                                                        \
        CHECK_STATUS(tokfile_open("{" MODEL ", " member "}", &tok_, &err), (code), err, (words)); \
        cch_tokenizer_unref(tok_);                                                         \
    } while (0)
#define ACCEPTED(member) REFUSED(member, CCH_OK, NULL)

TEST(normalizers) {
    ACCEPTED("\"normalizer\": null");
    ACCEPTED("\"normalizer\": {\"type\": \"NFC\"}");
    ACCEPTED("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}");
    REFUSED("\"normalizer\": {\"type\": \"NFKC\"}", CCH_E_UNSUPPORTED,
            "normalizer.type is \"NFKC\", supported: BertNormalizer, Lowercase, NFC");
    REFUSED("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\"}]}", CCH_E_UNSUPPORTED,
            "normalizer.normalizers[0].type is \"Strip\"");
    ACCEPTED("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"},"
             " {\"type\": \"Lowercase\"}]}");
    ACCEPTED("\"normalizer\": {\"type\": \"BertNormalizer\", \"strip_accents\": null, \"lowercase\": false}");
    REFUSED("\"normalizer\": {\"type\": \"BertNormalizer\", \"strip_accents\": 1}", CCH_E_FORMAT, "strip_accents");
    REFUSED("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"BertNormalizer\"}, {\"type\":"
            " \"BertNormalizer\"}]}",
            CCH_E_UNSUPPORTED, "normalizer.normalizers[1] is an object of 1, supported: at most 8");
    REFUSED("\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a+\"}, \"content\": \"\"}",
            CCH_E_UNSUPPORTED, "normalizer.pattern");
    REFUSED("\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"\"}",
            CCH_E_UNSUPPORTED, "not empty");
    REFUSED("\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"\"}", CCH_E_UNSUPPORTED,
            "prepend is \"\", supported");
    REFUSED("\"normalizer\": {\"type\": \"Prepend\"}", CCH_E_FORMAT, "prepend");
    REFUSED("\"normalizer\": {}", CCH_E_FORMAT, "type");
    REFUSED("\"normalizer\": 3", CCH_E_FORMAT, "normalizer");
#define NFC "{\"type\": \"NFC\"}"
    REFUSED("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" NFC "," NFC "," NFC "," NFC "," NFC "," NFC
            "," NFC "," NFC "," NFC "]}",
            CCH_E_UNSUPPORTED, "at most 8");
}

#define SPLIT(pattern, more) "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": " pattern more "}"
#define GPT2                                                          \
    "{\"Regex\": \"'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+\"}"

TEST(pre_tokenizers) {
    ACCEPTED("\"pre_tokenizer\": {\"type\": \"ByteLevel\"}");
    ACCEPTED("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": "
             "\"ByteLevel\"}]}");
    ACCEPTED(SPLIT(GPT2, ", \"behavior\": \"Isolated\", \"invert\": false"));
    ACCEPTED(SPLIT(GPT2, ", \"behavior\": \"Removed\", \"invert\": true"));
    REFUSED(SPLIT(GPT2, ", \"behavior\": \"Removed\", \"invert\": false"), CCH_E_UNSUPPORTED,
            "pre_tokenizer.behavior is \"Removed\"");
    REFUSED(SPLIT(GPT2, ", \"behavior\": \"MergedWithNext\""), CCH_E_UNSUPPORTED, "MergedWithNext");
    REFUSED(SPLIT("{\"Regex\": \"\\\\w+\"}", ", \"behavior\": \"Isolated\""), CCH_E_UNSUPPORTED,
            "pre_tokenizer.pattern.Regex");
    REFUSED(SPLIT("{\"String\": \" \"}", ", \"behavior\": \"Isolated\""), CCH_E_UNSUPPORTED, "pre_tokenizer.pattern");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Whitespace\"}", CCH_E_UNSUPPORTED,
            "\"Whitespace\", supported: BertPreTokenizer, ByteLevel");
    ACCEPTED("\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": "
            "\"BertPreTokenizer\"}]}",
            CCH_E_UNSUPPORTED, "nothing behind");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": "
            "\"Digits\"}]}",
            CCH_E_UNSUPPORTED, "nothing behind");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"__\"}", CCH_E_UNSUPPORTED, "replacement");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" S "\", \"prepend_scheme\": \"last\"}",
            CCH_E_UNSUPPORTED, "prepend_scheme is \"last\"");
    REFUSED("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" S "\", \"prepend_scheme\": \"first\","
            " \"add_prefix_space\": false}",
            CCH_E_UNSUPPORTED, "add_prefix_space is false, supported: true, or false with");
#define METASPACE(more) "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" S "\"" more "}"
    ACCEPTED(METASPACE(""));
    ACCEPTED(METASPACE(", \"add_prefix_space\": true, \"prepend_scheme\": \"never\""));
    ACCEPTED(METASPACE(", \"add_prefix_space\": false, \"prepend_scheme\": \"never\""));
    REFUSED(METASPACE(", \"add_prefix_space\": false"), CCH_E_UNSUPPORTED,
            "add_prefix_space is false, supported: true");
    ACCEPTED("\"normalizer\": {\"type\": \"NFC\"}," METASPACE(", \"prepend_scheme\": \"first\""));
    REFUSED("\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"a\"}," METASPACE(", \"prepend_scheme\": \"first\""),
            CCH_E_UNSUPPORTED, "\"prepend_scheme\": \"first\" without Prepend");
    REFUSED("\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"use_regex\": \"yes\"}", CCH_E_FORMAT, "use_regex");
#define DIGITS "{\"type\": \"Digits\"}"
    REFUSED("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [" DIGITS "," DIGITS "," DIGITS "," DIGITS
            "," DIGITS "]}",
            CCH_E_UNSUPPORTED, "at most 4");
}

#define SEQUENCE(decoders) "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [" decoders "]}"
#define STRIP(stop) "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": " stop "}"

TEST(decoders) {
    ACCEPTED("\"decoder\": {\"type\": \"ByteLevel\"}");
    ACCEPTED(SEQUENCE("{\"type\": \"ByteLevel\"}"));
    ACCEPTED(SEQUENCE("{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, " STRIP("0")));
    REFUSED("\"decoder\": {\"type\": \"CTC\"}", CCH_E_UNSUPPORTED, "decoder.type is \"CTC\"");
    REFUSED("\"decoder\": {\"type\": \"WordPiece\"}", CCH_E_FORMAT, "decoder has no key \"prefix\"");
    ACCEPTED("\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"\", \"cleanup\": false}");
    REFUSED(SEQUENCE("{\"type\": \"WordPiece\", \"prefix\": \"##\"}, {\"type\": \"Fuse\"}"), CCH_E_UNSUPPORTED,
            "\"WordPiece\", supported: Replace");
    REFUSED(SEQUENCE("{\"type\": \"Fuse\"}, " STRIP("1")), CCH_E_UNSUPPORTED, "decoder.decoders[1].stop is 1");
    REFUSED(SEQUENCE("{\"type\": \"Fuse\"}, " STRIP("0") ", " STRIP("0")), CCH_E_UNSUPPORTED, "one Strip behind Fuse");
    REFUSED(SEQUENCE("{\"type\": \"Fuse\"}, {\"type\": \"ByteFallback\"}"), CCH_E_UNSUPPORTED, "one Strip behind Fuse");
    REFUSED(SEQUENCE("{\"type\": \"ByteFallback\"}, {\"type\": \"ByteFallback\"}"), CCH_E_UNSUPPORTED,
            "one ByteFallback");
    REFUSED(SEQUENCE("{\"type\": \"ByteLevel\"}, {\"type\": \"Fuse\"}"), CCH_E_UNSUPPORTED,
            "\"ByteLevel\", supported: Replace");
    REFUSED("\"decoder\": {\"type\": \"Strip\", \"content\": \"\", \"start\": 1, \"stop\": 0}", CCH_E_UNSUPPORTED,
            "one character");
    REFUSED("\"decoder\": {\"type\": \"Strip\", \"content\": \" \", \"start\": -1, \"stop\": 0}", CCH_E_FORMAT,
            "start");
    REFUSED(SEQUENCE("null"), CCH_E_FORMAT, "decoders[0]");
}

#define TEMPLATE(single, ids)                                                                                        \
    "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [" single "], \"special_tokens\": {\"<s>\": " \
    "{\"id\": \"<s>\", \"ids\": " ids "}, \"</s>\": {\"id\": \"</s>\", \"ids\": [4]}}}"
#define SPECIAL(name) "{\"SpecialToken\": {\"id\": \"" name "\", \"type_id\": 0}}"
#define TEXT(name) "{\"Sequence\": {\"id\": \"" name "\", \"type_id\": 0}}"

TEST(added_tokens) {
    REFUSED("\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"x\"}, \"content\": \"\"},"
            " \"added_tokens\": [{\"id\": 5, \"content\": \"xx\", \"normalized\": true}]",
            CCH_E_UNSUPPORTED, "\"xx\" is normalized to nothing");
}

TEST(templates) {
    cch_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    CHECK_OK(tokfile_open("{" MODEL ", " TEMPLATE(SPECIAL("<s>") "," TEXT("A") "," SPECIAL("</s>"), "[3, 3]") "}", &tok,
                          &err),
             err);
    CHECK_OK(cch_tokenizer_encode(tok, "ab", 2, CCH_ENCODE_ADD_SPECIALS, &ids, &n, &err), err);
    CHECK(n == 5 && ids[0] == 3 && ids[1] == 3 && ids[2] == 0 && ids[3] == 1 && ids[4] == 4);
    cch_free(ids);
    CHECK_OK(cch_tokenizer_encode(tok, "ab", 2, 0, &ids, &n, &err), err);
    CHECK_EQ(n, 2);
    cch_free(ids);
    cch_tokenizer_unref(tok);
    REFUSED(TEMPLATE(SPECIAL("<x>") "," TEXT("A"), "[3]"), CCH_E_FORMAT, "<x>");
    REFUSED(TEMPLATE(TEXT("A"), "[3]") ", \"truncation\": {\"max_length\": 5}", CCH_OK, NULL);
    REFUSED(TEMPLATE(SPECIAL("<s>") "," TEXT("A"), "[5]"), CCH_E_FORMAT, "5");
    REFUSED(TEMPLATE(SPECIAL("<s>"), "[3]"), CCH_E_UNSUPPORTED, "sequence \"A\"");
    REFUSED(TEMPLATE(TEXT("A") "," TEXT("A"), "[3]"), CCH_E_UNSUPPORTED, "once");
    REFUSED(TEMPLATE(TEXT("A") "," TEXT("B"), "[3]"), CCH_E_UNSUPPORTED, "once");
#define TWICE(template) "\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{" template "}, {" template "}]}"
#define BOTH "\"type\": \"TemplateProcessing\", \"single\": [" SPECIAL("<s>") "," TEXT("A") "]," \
             " \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [3]}}"
    REFUSED(TWICE(BOTH), CCH_E_UNSUPPORTED, "post_processor.processors[1] is an object of 3, supported: one template");
#define CLS_SEP(type, cls) "\"post_processor\": {\"type\": \"" type "\", \"sep\": [\"</s>\", 4], \"cls\": " cls "}"
    REFUSED(CLS_SEP("BertProcessing", "[\"<s>\", 5]"), CCH_E_FORMAT, "cls[1] is 5");
    REFUSED(CLS_SEP("BertProcessing", "[3]"), CCH_E_UNSUPPORTED, "post_processor.cls is an array of 1");
    REFUSED(CLS_SEP("BertProcessing", "[3, \"<s>\"]"), CCH_E_FORMAT, "cls[0] is 3");
    REFUSED("\"post_processor\": {\"type\": \"BertProcessing\"}", CCH_E_FORMAT, "no key \"cls\"");
    static const char *const files[] = {"{" MODEL ", " CLS_SEP("BertProcessing", "[\"<s>\", 3]") "}",
                                        "{" MODEL ", " CLS_SEP("RobertaProcessing", "[\"<s>\", 3]") "}"};
    for (int i = 0; i < 2; i++) {
        CHECK_OK(tokfile_open(files[i], &tok, &err), err);
        CHECK_OK(cch_tokenizer_encode(tok, "b", 1, CCH_ENCODE_ADD_SPECIALS, &ids, &n, &err), err);
        CHECK(n == 3 && ids[0] == 3 && ids[1] == 1 && ids[2] == 4);
        cch_free(ids);
        cch_tokenizer_unref(tok);
    }
}

CHECK_MAIN()
