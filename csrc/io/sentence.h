/* sentence - what a sentence encoder's folder says about the way from hidden states to a vector.
 *
 * The files are those of sentence-transformers: modules.json lists the stages (Transformer, Pooling, Normalize), the
 * pooling's folder ("1_Pooling") has a config.json, sentence_bert_config.json the longest text, and
 * tokenizer_config.json the tokenizer's own limit.  Each may be missing: then the mean of the tokens is taken, and a
 * text may be as long as the positions reach.  Vectors are brought to length 1 whether the list has a Normalize or not:
 * they are for cosines.  Any other stage, and any option that would change a vector, is refused by name.
 */
#ifndef CCH_IO_SENTENCE_H
#define CCH_IO_SENTENCE_H

#include "io/config.h"

typedef struct cch_sentence {
    cch_pooling pooling;
    int32_t max_tokens; /* of a text, special ones counted; 1 to max_position_embeddings */
} cch_sentence;

/* E_IO, E_FORMAT, E_UNSUPPORTED, E_MEMORY.   *out is all zeros on failure. */
cch_status cch_sentence_open(const char *folder, const cch_config *config, cch_sentence *out, cch_error *err);

#endif
