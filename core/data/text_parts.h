/* text_parts.h - a vocabulary inside: its table of words, and what the files of text share. See text.h. */
#ifndef DG_DATA_TEXT_PARTS_H
#define DG_DATA_TEXT_PARTS_H

#include "base/mem.h"
#include "data/text.h"

#define DG_TEXT_PIECE 512   /* bytes that are joined at most: a longer piece is read in parts */
#define DG_TEXT_SYMBOL 2048 /* bytes of a symbol of a file: a piece, two bytes for one, and the end mark */

typedef struct dg_text_entry {
    const char *word; /* in the arena */
    uint64_t count;
} dg_text_entry;

/* Symbols that are joined, by their ids, to the symbol of a third. */
typedef struct dg_text_pair {
    int32_t left, right, made;
} dg_text_pair;

/* Words: entry i is the word of id 1 + i. Byte pairs: entry i is the symbol of id i, once pairs were learnt
 * or read; before that the entries are the pieces of captions. */
struct dg_vocabulary {
    dg_text_kind kind;
    dg_arena arena;
    dg_text_entry *entries; /* [n] */
    size_t n, capacity;
    int32_t *slots; /* [n_slots] 1 + index of an entry; 0: empty. n_slots is a power of two above 2 n */
    size_t n_slots;
    dg_text_pair *pairs; /* [n_pairs] sorted by left, then right */
    size_t n_pairs;
};

/* ---- text.c: the table of words */
/* The entry of a word, made if there is none (then its count is 0). */
dg_status dg_text_entry_of(dg_vocabulary *v, const char *word, dg_text_entry **out, dg_error *err);
/* The index of a word's entry, or -1. */
int32_t dg_text_find(const dg_vocabulary *v, const char *word);
/* Empties the table; the arena stays. */
dg_status dg_text_clear(dg_vocabulary *v, dg_error *err);
/* The next word of a caption, lower-cased; its length, DG_TEXT_LONGEST + 1 if it is longer than a word may
 * be, 0 at the end. Moves *text behind it. */
size_t dg_text_word(const char **text, char out[DG_TEXT_LONGEST + 1]);

/* ---- text_pieces.c: what Unicode says */
/* The caption in the form NFC, to be given to dg_text_free_normal; itself where it is not UTF-8. NULL when
 * out of memory. */
char *dg_text_normal(const char *caption);
void dg_text_free_normal(char *normal, const char *caption);
/* The next piece, lower-cased; its length, 0 at the end. Moves *text behind it. */
size_t dg_text_piece(const char **text, char out[DG_TEXT_PIECE + 1]);

/* ---- text_pairs.c */
/* The id of a byte, of those that do not end a piece: CLIP's order of bytes. */
int32_t dg_text_byte_id(unsigned char byte);
/* Fills an empty table with the symbols of all bytes. */
dg_status dg_text_add_bytes(dg_vocabulary *v, dg_error *err);
/* Adds the pair of two symbols, and what it makes. DG_ERR_INVALID when that symbol is there already. */
dg_status dg_text_add_pair(dg_vocabulary *v, int32_t left, int32_t right, size_t *capacity, dg_error *err);
/* After the last pair. */
void dg_text_sort_pairs(dg_vocabulary *v);
/* The ids of a piece after all joins: ids [length of the piece]; how many. */
int64_t dg_text_join(const dg_vocabulary *v, const char *piece, size_t n, int32_t *ids);

/* ---- text_learn.c: pairs from the pieces in the table, which become symbols */
dg_status dg_text_learn(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err);

#endif
