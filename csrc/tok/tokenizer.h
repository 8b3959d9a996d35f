/* tokenizer - what a tokenizer file becomes; the public functions are in include/cacher.h.
 *
 *   text -> added tokens -> normalizer -> pre-tokenizer -> BPE, WordPiece or unigram -> template -> ids  (tokenizer.c)
 *   ids -> tokens -> decoder -> text                                                                     (decode.c)
 *   many texts or rows of ids at once, over threads                                                     (batching.c)
 *   tokenizer.json, vocab.json + merges.txt, vocab.txt, spm.model -> cch_tokenizer
 *                                                       (load.c, load_parts.c, load_wordpiece.c, load_pieces.c)
 *   which tokenizer a chat model's checkpoint has, and its special tokens                                (chat.c)
 *
 * A tokenizer of bytes is BPE over the byte alphabet without a merge.
 *
 * Threads: all fields but refs and idle are written while loading and only read afterwards.  Encoding takes a scratch
 * from the idle list, so that calls in several threads never share one and its word cache lives on.
 */
#ifndef CCH_TOK_TOKENIZER_H
#define CCH_TOK_TOKENIZER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/status.h"
#include "base/strmap.h"
#include "io/json.h"
#include "tok/added.h"
#include "tok/bpe.h"
#include "tok/decode.h"
#include "tok/normalize.h"
#include "tok/pretok.h"
#include "tok/unigram.h"
#include "tok/wordpiece.h"

#define CCH_MAX_TOKEN_ID 4194303 /* the largest vocabulary a config may have, less one */
#define CCH_PIECES_FILE "spm.model"

typedef struct cch_encode_scratch {
    cch_bpe_work *work;   /* owned */
    cch_bytes normal[2], metaspace, prefixed[CCH_PRETOK_STAGES];
    cch_unigram_work unigram;
    struct cch_encode_scratch *next;
} cch_encode_scratch;

typedef struct cch_idle {
    pthread_mutex_t mutex;
    cch_encode_scratch *first; /* owned list */
} cch_idle;

typedef struct cch_token {
    int32_t entry; /* index into vocab, or, from vocab->n on, into added_names; -1: a hole */
    int32_t pattern; /* index into added_normalized, -1 for all other tokens */
    bool special;
    bool skipped; /* by decoders that skip special tokens */
} cch_token;

struct cch_tokenizer {
    atomic_int refs;
    cch_idle *idle;        /* owned */
    cch_tokenizer_kind kind; /* says which of the three models it has; the others are empty */
    cch_bpe bpe;
    cch_wordpiece wordpiece;
    cch_unigram unigram;
    cch_strmap *vocab;     /* borrowed: the model's */
    cch_pretok pretok;
    cch_normalizer normalizer;
    cch_added_set added, added_normalized;
    cch_strmap added_names; /* added tokens that the model's vocabulary lacks */
    cch_token *tokens;      /* owned [size] */
    int32_t size, n_ids;    /* size <= n_ids: ids from size on have no token and decode to no text */
    int32_t *prefix, *suffix; /* owned: what the template puts around a text */
    size_t n_prefix, n_suffix;
    cch_decode_plan decode;
    uint8_t digest[CCH_HASH_BYTES]; /* of an spm.model; zeros for the others, whose files the folder names */
};

/* Opens the spm.model `path`, whatever its name.   As cch_tokenizer_open. */
cch_status cch_tokenizer_open_pieces(const char *path, cch_tokenizer **out, cch_error *err);

/* Makes n_ids as large as a model's vocabulary, at least the size.   Before the tokenizer is shared. */
void cch_tokenizer_widen(cch_tokenizer *tok, int32_t n_ids);

/* What the decoder starts from: the vocabulary entry, but the normalized form of a normalized added token, as in the
 * reference since its version 0.23.  id is that of a token. */
const char *cch_token_source(const cch_tokenizer *tok, int32_t id, size_t *out_len);

/* The parts that tokenizer.json and other files share.   E_FORMAT, E_MEMORY. */
cch_status cch_load_vocab(cch_strmap *vocab, cch_json value, cch_error *err);
cch_status cch_load_flag(cch_json object, const char *key, bool *out, cch_error *err); /* absent: false */
/* Takes `text` as an added token: under the id that the vocabulary gives it, else under the next number behind the
 * vocabulary.  The reference counts like this whatever a file says: other ids would be those of another tokenizer.
 * The normalizer is loaded before.
 *   E_UNSUPPORTED (another id; normalized to nothing), E_MEMORY. */
cch_status cch_load_added(cch_tokenizer *tok, const char *text, size_t len, cch_added token, cch_error *err);
/* The model of a WordPiece tokenizer.json; vocab.txt with the tokenizer_config.json beside it, which may be missing:
 * model, normalizer, pre-tokenizer, added tokens and decoder.   E_IO, E_FORMAT, E_UNSUPPORTED (named), E_MEMORY. */
cch_status cch_load_wordpiece(cch_tokenizer *tok, cch_json model, cch_error *err);
cch_status cch_load_vocab_txt(cch_tokenizer *tok, const char *vocab_path, const char *config_path, cch_error *err);
/* The pieces and options of a SentencePiece model of type unigram; once the tokens are there, which of them are
 * special.   E_IO, E_FORMAT, E_UNSUPPORTED (named), E_MEMORY. */
cch_status cch_load_pieces(cch_tokenizer *tok, const char *path, cch_error *err);
void cch_mark_pieces(cch_tokenizer *tok);
/* The piece that is spelled as the chat token, special or not; -1: none. */
int32_t cch_chat_piece(const cch_tokenizer *tok, cch_chat_token token);

/* One part of tokenizer.json each, into tok.   E_FORMAT, E_UNSUPPORTED (named), E_MEMORY.
 * The template needs the tokens. */
cch_status cch_load_normalizer(cch_tokenizer *tok, cch_json value, cch_error *err);
cch_status cch_load_pretok(cch_tokenizer *tok, cch_json value, cch_error *err);
cch_status cch_load_decoder(cch_tokenizer *tok, cch_json value, cch_error *err);
cch_status cch_load_template(cch_tokenizer *tok, cch_json value, cch_error *err);

#endif
