/* cacher_tokenizer.h - text to token ids and back.
 *
 * Part of cacher.h, which includes it; its rules about errors, memory and threads hold here.
 */
#ifndef CCH_INCLUDE_CACHER_TOKENIZER_H
#define CCH_INCLUDE_CACHER_TOKENIZER_H

#include "include/cacher.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cch_decoder cch_decoder;

typedef enum cch_tokenizer_kind {
    CCH_TOKENIZER_BPE = 0,
    CCH_TOKENIZER_WORDPIECE = 1,
    CCH_TOKENIZER_UNIGRAM = 2, /* SentencePiece's unigram model */
    CCH_TOKENIZER_BYTES = 3    /* ids 0 to 255 are the bytes of a text's UTF-8; no special tokens */
} cch_tokenizer_kind;

/* Opens `path`: a folder with tokenizer.json, or with vocab.json and merges.txt (GPT-2's files), or with vocab.txt
 * (BERT's; its options are in tokenizer_config.json), or with spm.model (SentencePiece's, of type unigram); or a
 * tokenizer.json, or an spm.model, whose name must end in ".model".
 *   E_IO, E_FORMAT, E_UNSUPPORTED (the option is named), E_MEMORY.   *out belongs to the caller. */
CCH_API cch_status cch_tokenizer_open(const char *path, cch_tokenizer **out, cch_error *err);
/* The tokenizer of bytes.   E_MEMORY. */
CCH_API cch_status cch_tokenizer_new_bytes(cch_tokenizer **out, cch_error *err);
CCH_API cch_tokenizer *cch_tokenizer_ref(cch_tokenizer *tok);
CCH_API void cch_tokenizer_unref(cch_tokenizer *tok);

enum {
    CCH_ENCODE_PLAIN_SPECIALS = 1, /* "<|endoftext|>" in the text is ordinary text, not the special token */
    CCH_ENCODE_ADD_SPECIALS = 2,   /* apply the post-processor's template (BOS, EOS) */
    CCH_ENCODE_CONTINUES = 4       /* the text goes on from text in front of it: no space of the tokenizer's own
                                      (Prepend, Metaspace, add_prefix_space) comes between */
};

/* Text [len bytes, UTF-8, NUL allowed] to ids.  Equal to the `tokenizers` library for the same files, and to
 * `sentencepiece` for an spm.model.
 *   E_ENCODING (position of the byte), E_ARGUMENT (over 1 GiB), E_MEMORY.   *out_ids: copy (NULL when *out_n is 0). */
CCH_API cch_status cch_tokenizer_encode(const cch_tokenizer *tok, const char *text, size_t len, int flags,
                                        int32_t **out_ids, size_t *out_n, cch_error *err);

/* The ids of a text with the template around it, those of the text cut at its end so that they are at most `limit` in
 * all: what an encoder with room for so many reads.   As cch_tokenizer_encode; E_ARGUMENT also for a limit that leaves
 * no room for a token. */
CCH_API cch_status cch_tokenizer_encode_cut(const cch_tokenizer *tok, const char *text, size_t len, int32_t limit,
                                            int32_t **out_ids, size_t *out_n, cch_error *err);

/* Ids to text; bytes that form no UTF-8 character become U+FFFD.  skip_special drops special tokens' text.
 * An id below the size that no token has gives no text, and so does one that only the model knows, which may have more
 * ids than its tokenizer.
 *   E_TOKEN_ID (position of the id), E_MEMORY.   *out_text: copy, NUL-terminated, *out_len without the NUL. */
CCH_API cch_status cch_tokenizer_decode(const cch_tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                                        char **out_text, size_t *out_len, cch_error *err);

/* The same of many texts or rows of ids, [n] of each argument, over n_threads threads (0: one for each core that the
 * process may use; at most 256); fewer are started where there is little to do.  What comes of each is what it gives
 * alone, whatever the threads.
 *   As of one; the message names the first text or row that failed, and nothing is given of the others. */
CCH_API cch_status cch_tokenizer_encode_batch(const cch_tokenizer *tok, const char *const *texts, const size_t *lens,
                                              size_t n, int flags, int n_threads, int32_t **out_ids, size_t *out_n,
                                              cch_error *err);
CCH_API cch_status cch_tokenizer_decode_batch(const cch_tokenizer *tok, const int32_t *const *rows, const size_t *lens,
                                              size_t n, bool skip_special, int n_threads, char **out_texts,
                                              size_t *out_lens, cch_error *err);

/* Streaming decode: the concatenation of all pieces equals cch_tokenizer_decode of all ids.  Bytes of an unfinished
 * character are held back until the token that completes it; finish turns leftovers into U+FFFD.
 *   skip_special: special tokens give no text.   *out_text: view into the decoder, valid until its next call. */
CCH_API cch_status cch_decoder_new(cch_tokenizer *tok, bool skip_special, cch_decoder **out, cch_error *err);
/* Takes in the ids [n] of a text that is known already, so that what is pushed next goes on from it.  Of their bytes
 * only those of an unfinished character are held.   For a new decoder.
 *   E_TOKEN_ID (position of the id), E_MEMORY: the decoder is as new. */
CCH_API cch_status cch_decoder_prime(cch_decoder *dec, const int32_t *ids, size_t n, cch_error *err);
CCH_API cch_status cch_decoder_push(cch_decoder *dec, int32_t id, const char **out_text, size_t *out_len,
                                    cch_error *err);
CCH_API cch_status cch_decoder_finish(cch_decoder *dec, const char **out_text, size_t *out_len, cch_error *err);
CCH_API void cch_decoder_free(cch_decoder *dec);

CCH_API cch_tokenizer_kind cch_tokenizer_get_kind(const cch_tokenizer *tok);
/* Number of ids (one more than the largest id). */
CCH_API int32_t cch_tokenizer_size(const cch_tokenizer *tok);
/* Id of the token whose vocabulary entry is exactly these bytes, as written in the file; -1 when absent. */
CCH_API int32_t cch_tokenizer_find(const cch_tokenizer *tok, const char *token, size_t len);
/* The vocabulary entry of `id` as written in the file, NULL for a hole or an id out of range.  View. */
CCH_API const char *cch_tokenizer_token_view(const cch_tokenizer *tok, int32_t id, size_t *out_len);
/* The bytes that `id` stands for in the middle of a text, which need not be UTF-8: those of its text; for a byte's
 * token that byte, for which there is room in *byte; for pieces that decode to nothing or to a replacement, the entry.
 * NULL as above.   View. */
CCH_API const char *cch_tokenizer_bytes_view(const cch_tokenizer *tok, int32_t id, char *byte, size_t *out_len);
CCH_API bool cch_tokenizer_is_special(const cch_tokenizer *tok, int32_t id);

/* ------------------------------------------------------------------------------------------- chat models ---- */

/* The special tokens of a chat model with pieces.  Each begins a message of a role, but for eot, which ends one. */
typedef enum cch_chat_token { CCH_CHAT_SYS = 0, CCH_CHAT_USR = 1, CCH_CHAT_ASST = 2, CCH_CHAT_EOT = 3 } cch_chat_token;
#define CCH_CHAT_TOKENS 4

/* "sys", "usr", "asst" or "eot". */
CCH_API const char *cch_chat_token_name(cch_chat_token token);
/* Their ids, found by spelling; false when the tokenizer lacks one, or has it as an ordinary piece, which text could
 * lead to: its id is then -1. */
CCH_API bool cch_tokenizer_chat_tokens(const cch_tokenizer *tok, int32_t out_ids[CCH_CHAT_TOKENS]);
/* Opens the spm.model `path`, whatever its name, as that of a chat model: all four tokens are there, and have the ids
 * that special_tokens of a tokenizer_meta.json beside the file says, if there is one.
 *   As cch_tokenizer_open; E_FORMAT also when a token is missing or has another id. */
CCH_API cch_status cch_tokenizer_open_chat(const char *path, cch_tokenizer **out, cch_error *err);
/* The tokenizer of the chat model that the file `checkpoint` holds, which has vocab_size ids: `path` when it is not
 * NULL; else spm.model beside the checkpoint; else tokenizer/spm.model there; else bytes when vocab_size is 256.
 *   As cch_tokenizer_open_chat; E_FORMAT also when the numbers of ids differ, or there is no tokenizer. */
CCH_API cch_status cch_tokenizer_open_for(const char *checkpoint, const char *path, int32_t vocab_size,
                                          cch_tokenizer **out, cch_error *err);

#ifdef __cplusplus
}
#endif
#endif
