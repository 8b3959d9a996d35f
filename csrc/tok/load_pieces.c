/* spm.model: a SentencePiece model of type unigram, a message in the wire format of protocol buffers.
 *
 *   1 piece (repeated): 1 text, 2 score, 3 type
 *   2 trainer settings: 3 model type, 24 white space as suffix, 35 byte fallback, 44 text of the unknown piece
 *   3 normalizer:       2 character map, 3 add dummy prefix, 4 remove extra white space, 5 escape white space
 *   5 denormalizer:     2 character map
 *
 * Other fields are skipped, among them the ids of trainer settings 40 to 43: what a piece is, its type says.  A field
 * that comes again counts as it came last, as the format wants it.
 * Hostile input: all texts are checked to be UTF-8, and all that a file can claim is what it holds. */
#include "base/alloc.h"
#include "base/filemap.h"
#include "base/utf8.h"
#include "io/protobuf.h"
#include "tok/tokenizer.h"

#define MAX_FILE ((size_t)16 << 20) /* the largest known has 5 MB; what is built takes up to 60 times a file's size */

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_TYPE = 3, TRAINER_SUFFIX = 24, TRAINER_BYTE_FALLBACK = 35, TRAINER_UNK_TEXT = 44 };
enum { NORMALIZER_MAP = 2, NORMALIZER_PREFIX = 3, NORMALIZER_STRIP = 4, NORMALIZER_ESCAPE = 5 };

static cch_status load_piece(cch_unigram *u, cch_proto message, cch_error *err) {
    cch_proto_field field;
    bool more;
    const char *text = "";
    size_t len = 0;
    float score = 0;
    int32_t type = CCH_PIECE_NORMAL;
    for (;;) {
        CCH_RETURN_IF(cch_proto_next(&message, &field, &more, err));
        if (!more) break;
        switch (field.number) {
        case PIECE_TEXT: CCH_RETURN_IF(cch_proto_get_bytes(&field, "a piece's text", &text, &len, err)); break;
        case PIECE_SCORE: CCH_RETURN_IF(cch_proto_get_float(&field, "a piece's score", &score, err)); break;
        case PIECE_TYPE:
            CCH_RETURN_IF(cch_proto_get_int(&field, CCH_PIECE_NORMAL, CCH_PIECE_BYTE, "a piece's type", &type, err));
            break;
        }
    }
    if (u->vocab.n > CCH_MAX_TOKEN_ID)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "over %d pieces, allowed: at most that", CCH_MAX_TOKEN_ID + 1);
    return cch_unigram_add(u, text, len, score, (cch_piece_type)type, err);
}

static cch_status set_unk_text(cch_unigram *u, const char *text, size_t len, cch_error *err) {
    if (cch_utf8_valid_prefix(text, len) < len)
        CCH_FAIL(err, CCH_E_FORMAT, -1, "the text of the unknown piece is not UTF-8");
    cch_free(u->unk_text);
    u->unk_text = cch_strndup(text, len);
    u->unk_text_len = len;
    if (u->unk_text == NULL) CCH_FAIL(err, CCH_E_MEMORY, -1, "could not allocate %zu bytes", len);
    return CCH_OK;
}

static cch_status load_trainer(cch_unigram *u, cch_proto message, cch_error *err) {
    static const char *const types[] = {"", "unigram", "bpe", "word", "char"};
    cch_proto_field field;
    bool more, suffix = false;
    const char *text;
    size_t len;
    int32_t type = 1;
    for (;;) {
        CCH_RETURN_IF(cch_proto_next(&message, &field, &more, err));
        if (!more) break;
        switch (field.number) {
        case TRAINER_TYPE: CCH_RETURN_IF(cch_proto_get_int(&field, 1, 4, "the model type", &type, err)); break;
        case TRAINER_SUFFIX: CCH_RETURN_IF(cch_proto_get_bool(&field, "white space as suffix", &suffix, err)); break;
        case TRAINER_BYTE_FALLBACK:
            CCH_RETURN_IF(cch_proto_get_bool(&field, "byte fallback", &u->byte_fallback, err));
            break;
        case TRAINER_UNK_TEXT:
            CCH_RETURN_IF(cch_proto_get_bytes(&field, "the text of the unknown piece", &text, &len, err));
            CCH_RETURN_IF(set_unk_text(u, text, len, err));
            break;
        }
    }
    if (type != 1)
        CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "the model type is %s, supported: unigram", types[type]);
    if (suffix) CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "treat_whitespace_as_suffix is true, supported: false");
    return CCH_OK;
}

static cch_status load_normalizer(cch_unigram *u, cch_proto message, cch_error *err) {
    cch_proto_field field;
    bool more, strip = !u->keep_whitespace, escape = !u->plain_spaces;
    const char *map;
    size_t size;
    for (;;) {
        CCH_RETURN_IF(cch_proto_next(&message, &field, &more, err));
        if (!more) break;
        switch (field.number) {
        case NORMALIZER_MAP:
            CCH_RETURN_IF(cch_proto_get_bytes(&field, "the character map", &map, &size, err));
            cch_charmap_deinit(&u->map);
            CCH_RETURN_IF(cch_charmap_load(&u->map, map, size, err));
            break;
        case NORMALIZER_PREFIX:
            CCH_RETURN_IF(cch_proto_get_bool(&field, "add_dummy_prefix", &u->add_dummy_prefix, err));
            break;
        case NORMALIZER_STRIP:
            CCH_RETURN_IF(cch_proto_get_bool(&field, "remove_extra_whitespaces", &strip, err));
            break;
        case NORMALIZER_ESCAPE: CCH_RETURN_IF(cch_proto_get_bool(&field, "escape_whitespaces", &escape, err)); break;
        }
    }
    u->keep_whitespace = !strip;
    u->plain_spaces = !escape;
    return CCH_OK;
}

/* What would change decoded texts. */
static cch_status check_denormalizer(cch_proto message, cch_error *err) {
    cch_proto_field field;
    bool more;
    for (;;) {
        CCH_RETURN_IF(cch_proto_next(&message, &field, &more, err));
        if (!more) return CCH_OK;
        if (field.number == NORMALIZER_MAP && field.size > 0)
            CCH_FAIL(err, CCH_E_UNSUPPORTED, -1, "a denormalizer with a character map, supported: none");
    }
}

static cch_status load_model(cch_unigram *u, cch_proto message, cch_error *err) {
    cch_proto_field field;
    cch_proto part;
    bool more;
    for (;;) {
        CCH_RETURN_IF(cch_proto_next(&message, &field, &more, err));
        if (!more) break;
        switch (field.number) {
        case MODEL_PIECE:
            CCH_RETURN_IF(cch_proto_get_message(&field, "a piece", &part, err));
            CCH_RETURN_IF(load_piece(u, part, err));
            break;
        case MODEL_TRAINER:
            CCH_RETURN_IF(cch_proto_get_message(&field, "the trainer settings", &part, err));
            CCH_RETURN_IF(load_trainer(u, part, err));
            break;
        case MODEL_NORMALIZER:
            CCH_RETURN_IF(cch_proto_get_message(&field, "the normalizer", &part, err));
            CCH_RETURN_IF(load_normalizer(u, part, err));
            break;
        case MODEL_DENORMALIZER:
            CCH_RETURN_IF(cch_proto_get_message(&field, "the denormalizer", &part, err));
            CCH_RETURN_IF(check_denormalizer(part, err));
            break;
        }
    }
    if (u->vocab.n == 0) CCH_FAIL(err, CCH_E_FORMAT, -1, "%s holds no pieces", message.name);
    return CCH_OK;
}

cch_status cch_load_pieces(cch_tokenizer *tok, const char *path, cch_error *err) {
    cch_status status = CCH_OK;
    char *data = NULL;
    size_t size;
    tok->kind = CCH_TOKENIZER_UNIGRAM;
    tok->vocab = &tok->unigram.vocab;
    tok->unigram.add_dummy_prefix = true; /* the format's default; that of the other two is false here and there */
    CCH_TRY(cch_file_read(path, &data, &size, err));
    if (size > MAX_FILE)
        CCH_THROW(err, CCH_E_FORMAT, -1, "%s has %zu bytes, allowed: at most %zu", path, size, MAX_FILE);
    cch_hash_of(data, size, tok->digest);
    CCH_TRY(load_model(&tok->unigram, (cch_proto){(const uint8_t *)data, size, 0, path}, err));
done:
    cch_free(data);
    return status;
}

void cch_mark_pieces(cch_tokenizer *tok) {
    for (int32_t id = 0; id < tok->size; id++) {
        const uint8_t type = tok->unigram.types[id];
        if (type == CCH_PIECE_CONTROL || type == CCH_PIECE_UNKNOWN) tok->tokens[id].special = true;
    }
    for (int i = 0; i < CCH_CHAT_TOKENS; i++) {
        const int32_t id = cch_chat_piece(tok, (cch_chat_token)i);
        if (id < 0 || tok->unigram.types[id] != CCH_PIECE_USER_DEFINED) continue;
        tok->unigram.types[id] = CCH_PIECE_SPECIAL;
        tok->tokens[id].special = true;
    }
    for (int32_t id = 0; id < tok->size; id++) tok->tokens[id].skipped = tok->tokens[id].special;
}
