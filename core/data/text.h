/* text.h - captions as ids of a vocabulary, for models that read text: words, or byte pairs as CLIP reads
 * them.
 *
 * Words: a word is a run of letters and digits, lower-cased; a byte above 127 counts as a letter, so that
 * UTF-8 stays whole; all else separates. Ids: 0 pads, 1..n are the words, n + 1 is an unknown word. A
 * vocabulary file has one word a line, in the order of ids.
 *
 * Byte pairs (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, on
 * bytes) as in the simple tokenizer of OpenAI's CLIP: text in Unicode's form NFC, lower-cased letter by
 * letter, is cut into runs of letters, single digits, runs of other signs, and 's 't 're 've 'm 'll 'd; the
 * bytes of such a piece are joined pair by pair, the pair that was learnt first before others. Nothing is
 * ever unknown. Ids: 0..255 are the bytes inside a piece, 256..511 those that end one, 512 + k what the k-th
 * pair makes; 0 also pads. What CLIP leaves to the Python package ftfy (curly quotes, HTML entities, broken
 * encodings) is not repaired, and "<|endoftext|>" in a caption is text like any other. A vocabulary file is
 * OpenAI's (bpe_simple_vocab_16e6.txt) or Hugging Face's (merges.txt): a first line with "#version", then a
 * pair a line; as in CLIP the first 48894 pairs count. Either kind of file may be packed by gzip.
 *
 * Then, for either kind, the start and the end of a caption. The end is the largest id, by which a model
 * finds it (as OpenAI's CLIP does). */
#ifndef DG_DATA_TEXT_H
#define DG_DATA_TEXT_H

#include "digpt/base.h"

#define DG_TEXT_PAD 0
#define DG_TEXT_LONGEST 63 /* bytes of a word; a longer one is unknown */
#define DG_TEXT_SPECIAL 4  /* ids of a vocabulary of words that are no words */
#define DG_TEXT_BYTES 512  /* ids of bytes in a vocabulary of byte pairs; the start and the end are 2 more */
#define DG_TEXT_MOST_PAIRS 48894 /* as CLIP's 49408 ids have */

typedef enum dg_text_kind { DG_TEXT_WORDS = 0, DG_TEXT_PAIRS = 1 } dg_text_kind;

typedef struct dg_vocabulary dg_vocabulary;

/* From captions: create, add each, then choose the words or learn the pairs. Ends with dg_vocabulary_free. */
dg_status dg_vocabulary_create(dg_text_kind kind, dg_vocabulary **out, dg_error *err);
dg_status dg_vocabulary_add(dg_vocabulary *v, const char *caption, dg_error *err);
/* So that there are at most `most_ids` ids. Words: keeps those that came at least `least` times, the most
 * frequent first, those that came as often in the order of bytes; DG_ERR_INVALID when none is left. Byte
 * pairs: learns pairs as long as one comes at least `least` times, the most frequent first, of those that
 * come as often the one of the smaller ids; DG_ERR_INVALID when most_ids has no room for the bytes. */
dg_status dg_vocabulary_choose(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err);

/* Which kind a file is, it says itself. */
dg_status dg_vocabulary_load(const char *path, dg_vocabulary **out, dg_error *err);
dg_status dg_vocabulary_save(const dg_vocabulary *v, const char *path, dg_error *err);
void dg_vocabulary_free(dg_vocabulary *v);

dg_text_kind dg_vocabulary_kind(const dg_vocabulary *v);
/* How many ids there are, special ones included. */
int64_t dg_vocabulary_size(const dg_vocabulary *v);
/* The word of an id, or what its bytes are in a file of byte pairs; NULL for ids that are neither. */
const char *dg_vocabulary_word(const dg_vocabulary *v, int32_t id);

/* Start, words or byte pairs, end, padding: ids [length]; length is at least 3. What does not fit is cut off;
 * the end is always there. Fails only when out of memory. Any number of threads may encode at once. */
dg_status dg_vocabulary_encode(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t length,
                               dg_error *err);

#endif
