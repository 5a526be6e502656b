/* text.h - captions as ids: words of a vocabulary, for models that read text.
 *
 * A word is a run of letters and digits, lower-cased; a byte above 127 counts as a letter, so that UTF-8
 * stays whole; all else separates. Ids: 0 pads, 1..n are the words, n + 1 is an unknown word, n + 2 the start
 * and n + 3 the end of a caption. The end is the largest id, by which a model finds it (as OpenAI's CLIP
 * does).
 *
 * A vocabulary file has one word a line, in the order of ids. */
#ifndef DG_DATA_TEXT_H
#define DG_DATA_TEXT_H

#include "digpt/base.h"

#define DG_TEXT_PAD 0
#define DG_TEXT_LONGEST 63 /* bytes of a word; a longer one is unknown */
#define DG_TEXT_SPECIAL 4  /* ids that are no words */

typedef struct dg_vocabulary dg_vocabulary;

/* From captions: create, add each, then choose the words. Ends with dg_vocabulary_free. */
dg_status dg_vocabulary_create(dg_vocabulary **out, dg_error *err);
dg_status dg_vocabulary_add(dg_vocabulary *v, const char *caption, dg_error *err);
/* Keeps words that came at least `least` times, the most frequent first, those that came as often in the
 * order of bytes, so that there are at most `most_ids` ids. DG_ERR_INVALID when no word is left. */
dg_status dg_vocabulary_choose(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err);

dg_status dg_vocabulary_load(const char *path, dg_vocabulary **out, dg_error *err);
dg_status dg_vocabulary_save(const dg_vocabulary *v, const char *path, dg_error *err);
void dg_vocabulary_free(dg_vocabulary *v);

/* How many ids there are, special ones included. */
int64_t dg_vocabulary_size(const dg_vocabulary *v);
/* The word of an id, or NULL. */
const char *dg_vocabulary_word(const dg_vocabulary *v, int32_t id);

/* Start, words, end, padding: ids [length]; length is at least 3. Words that do not fit are cut off; the end
 * is always there. Any number of threads may encode at once. */
void dg_vocabulary_encode(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t length);

#endif
