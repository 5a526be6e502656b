/* text.c - see text.h: the table of words, captions in, ids out. */
#include "text_parts.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 1 << 24, FIRST_SLOTS = 1024 };

/* ---- words */

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c > 127;
}

size_t dg_text_word(const char **text, char out[DG_TEXT_LONGEST + 1])
{
    const char *p = *text;
    size_t n = 0;
    while (*p && !is_letter((unsigned char)*p)) p++;
    for (; is_letter((unsigned char)*p); p++) {
        if (n < DG_TEXT_LONGEST) out[n] = *p >= 'A' && *p <= 'Z' ? (char)(*p + ('a' - 'A')) : *p;
        if (n <= DG_TEXT_LONGEST) n++;
    }
    out[n < DG_TEXT_LONGEST ? n : DG_TEXT_LONGEST] = 0;
    *text = p;
    return n;
}

/* ---- the table */

static size_t slot_of(const dg_vocabulary *v, const char *word)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (const char *p = word; *p; p++) h = (h ^ (unsigned char)*p) * 1099511628211u;
    size_t i = (size_t)(h ^ h >> 32) & (v->n_slots - 1);
    while (v->slots[i] && strcmp(v->entries[v->slots[i] - 1].word, word) != 0) i = (i + 1) & (v->n_slots - 1);
    return i;
}

/* Slots for all entries, from nothing. */
static dg_status rehash(dg_vocabulary *v, size_t n_slots, dg_error *err)
{
    int32_t *slots = dg_calloc(n_slots, sizeof *slots);
    if (!slots) return dg_fail(err, DG_ERR_NOMEM, "no memory for a vocabulary of %zu words", v->n);
    dg_free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    for (size_t i = 0; i < v->n; i++) v->slots[slot_of(v, v->entries[i].word)] = (int32_t)i + 1;
    return DG_OK;
}

dg_status dg_text_clear(dg_vocabulary *v, dg_error *err)
{
    v->n = 0;
    return rehash(v, FIRST_SLOTS, err);
}

int32_t dg_text_find(const dg_vocabulary *v, const char *word)
{
    return v->slots[slot_of(v, word)] - 1;
}

dg_status dg_text_entry_of(dg_vocabulary *v, const char *word, dg_text_entry **out, dg_error *err)
{
    size_t slot = slot_of(v, word);
    if (!v->slots[slot]) {
        if (v->n >= MOST_WORDS)
            return dg_fail(err, DG_ERR_INVALID, "more than %d different words", MOST_WORDS);
        char *copy = dg_arena_strdup(&v->arena, word);
        if (!copy || !dg_grow(&v->entries, v->n, &v->capacity, sizeof *v->entries))
            return dg_fail(err, DG_ERR_NOMEM, "no memory for a vocabulary of %zu words", v->n);
        v->entries[v->n++] = (dg_text_entry){copy, 0};
        v->slots[slot] = (int32_t)v->n;
        if (2 * v->n >= v->n_slots) DG_TRY(rehash(v, 2 * v->n_slots, err));
        slot = slot_of(v, word);
    }
    *out = &v->entries[v->slots[slot] - 1];
    return DG_OK;
}

dg_status dg_vocabulary_create(dg_text_kind kind, dg_vocabulary **out, dg_error *err)
{
    dg_vocabulary *v = dg_calloc(1, sizeof *v);
    if (!v) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    v->kind = kind;
    dg_status s = rehash(v, FIRST_SLOTS, err);
    if (s == DG_OK)
        *out = v;
    else
        dg_vocabulary_free(v);
    return s;
}

void dg_vocabulary_free(dg_vocabulary *v)
{
    if (!v) return;
    dg_arena_free(&v->arena);
    dg_free(v->entries);
    dg_free(v->slots);
    dg_free(v->pairs);
    dg_free(v);
}

/* ---- from captions */

static dg_status count(dg_vocabulary *v, const char *word, dg_error *err)
{
    dg_text_entry *e;
    DG_TRY(dg_text_entry_of(v, word, &e, err));
    e->count++;
    return DG_OK;
}

static dg_status count_pieces(dg_vocabulary *v, const char *caption, dg_error *err)
{
    char piece[DG_TEXT_PIECE + 1], *normal = dg_text_normal(caption);
    if (!normal) return dg_fail(err, DG_ERR_NOMEM, "no memory for a caption");
    dg_status s = DG_OK;
    for (const char *p = normal; s == DG_OK && dg_text_piece(&p, piece) > 0;) s = count(v, piece, err);
    dg_text_free_normal(normal, caption);
    return s;
}

dg_status dg_vocabulary_add(dg_vocabulary *v, const char *caption, dg_error *err)
{
    char word[DG_TEXT_LONGEST + 1];
    if (v->kind == DG_TEXT_PAIRS) return count_pieces(v, caption, err);
    for (size_t n; (n = dg_text_word(&caption, word)) > 0;)
        if (n <= DG_TEXT_LONGEST) DG_TRY(count(v, word, err));
    return DG_OK;
}

static int by_count(const void *x, const void *y)
{
    const dg_text_entry *a = x, *b = y;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    return strcmp(a->word, b->word);
}

dg_status dg_vocabulary_choose(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err)
{
    size_t kept = 0;
    if (v->kind == DG_TEXT_PAIRS) return dg_text_learn(v, most_ids, least, err);
    if (v->n) qsort(v->entries, v->n, sizeof *v->entries, by_count);
    while (kept < v->n && (int64_t)kept < most_ids - DG_TEXT_SPECIAL &&
           v->entries[kept].count >= (uint64_t)least)
        kept++;
    if (!kept)
        return dg_fail(err, DG_ERR_INVALID,
                       "no word is left for the vocabulary: the captions have %zu different ones, there is "
                       "room for %lld, and "
                       "each must come at least %lld times",
                       v->n, (long long)(most_ids > DG_TEXT_SPECIAL ? most_ids - DG_TEXT_SPECIAL : 0),
                       (long long)least);
    v->n = kept;
    return rehash(v, v->n_slots, err);
}

/* ---- ids */

dg_text_kind dg_vocabulary_kind(const dg_vocabulary *v)
{
    return v->kind;
}

int64_t dg_vocabulary_size(const dg_vocabulary *v)
{
    return (int64_t)v->n + (v->kind == DG_TEXT_PAIRS ? 2 : DG_TEXT_SPECIAL);
}

const char *dg_vocabulary_word(const dg_vocabulary *v, int32_t id)
{
    int32_t i = v->kind == DG_TEXT_PAIRS ? id : id - 1;
    return i >= 0 && (size_t)i < v->n ? v->entries[i].word : NULL;
}

/* From ids[at] on, before ids[length - 1]; the place behind the last. */
static int64_t put_words(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t at,
                         int64_t length)
{
    char word[DG_TEXT_LONGEST + 1];
    for (size_t n; at < length - 1 && (n = dg_text_word(&caption, word)) > 0;) {
        int32_t i = n > DG_TEXT_LONGEST ? -1 : dg_text_find(v, word);
        ids[at++] = i >= 0 ? 1 + i : (int32_t)v->n + 1;
    }
    return at;
}

static int64_t put_pieces(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t at,
                          int64_t length)
{
    char piece[DG_TEXT_PIECE + 1];
    int32_t joined[DG_TEXT_PIECE];
    for (size_t n; at < length - 1 && (n = dg_text_piece(&caption, piece)) > 0;) {
        int64_t m = dg_text_join(v, piece, n, joined);
        for (int64_t i = 0; i < m && at < length - 1; i++) ids[at++] = joined[i];
    }
    return at;
}

dg_status dg_vocabulary_encode(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t length,
                               dg_error *err)
{
    const int32_t end = (int32_t)dg_vocabulary_size(v) - 1;
    int64_t at = 1;
    ids[0] = end - 1;
    if (v->kind == DG_TEXT_PAIRS) {
        char *normal = dg_text_normal(caption);
        if (!normal) return dg_fail(err, DG_ERR_NOMEM, "no memory for a caption");
        at = put_pieces(v, normal, ids, at, length);
        dg_text_free_normal(normal, caption);
    } else {
        at = put_words(v, caption, ids, at, length);
    }
    ids[at++] = end;
    while (at < length) ids[at++] = DG_TEXT_PAD;
    return DG_OK;
}
