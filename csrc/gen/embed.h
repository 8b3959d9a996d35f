/* embed - texts to vectors: passes of an encoder over whole texts, pooled and brought to length 1.
 *
 * A text is never split: its tokens see each other.  Texts are taken in order, as many to a pass as chunk_tokens
 * allows, or one that is longer.  Nothing of a pass is kept but the vectors, so failures leave nothing behind.
 *
 * cch_embed and cch_embed_tokens of cacher.h live here.
 */
#ifndef CCH_GEN_EMBED_H
#define CCH_GEN_EMBED_H

#include "include/cacher.h"

#endif
