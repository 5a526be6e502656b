/* text.c - see text.h: a hash table of words. */
#include "text.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { MOST_BYTES = 64 << 20, MOST_WORDS = 1 << 24, FIRST_SLOTS = 1024 };

typedef struct entry {
    const char *word; /* in the arena */
    uint64_t count;
} entry;

struct dg_vocabulary {
    dg_arena arena;
    entry *entries; /* [n] after choosing: word of id 1 + i */
    size_t n, capacity;
    int32_t *slots; /* [n_slots] 1 + index of an entry; 0: empty. n_slots is a power of two above 2 n */
    size_t n_slots;
};

/* ---- words */

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c > 127;
}

/* Reads the next word at *text into out and moves *text behind it; its length, DG_TEXT_LONGEST + 1 if it is
 * longer than a word may be, 0 at the end. */
static size_t next_word(const char **text, char out[DG_TEXT_LONGEST + 1])
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

/* The entry of a word, made if there is none. */
static dg_status entry_of(dg_vocabulary *v, const char *word, entry **out, dg_error *err)
{
    size_t slot = slot_of(v, word);
    if (!v->slots[slot]) {
        if (v->n >= MOST_WORDS)
            return dg_fail(err, DG_ERR_INVALID, "more than %d different words", MOST_WORDS);
        char *copy = dg_arena_strdup(&v->arena, word);
        if (!copy || !dg_grow(&v->entries, v->n, &v->capacity, sizeof *v->entries))
            return dg_fail(err, DG_ERR_NOMEM, "no memory for a vocabulary of %zu words", v->n);
        v->entries[v->n++] = (entry){copy, 0};
        v->slots[slot] = (int32_t)v->n;
        if (2 * v->n >= v->n_slots) DG_TRY(rehash(v, 2 * v->n_slots, err));
        slot = slot_of(v, word);
    }
    *out = &v->entries[v->slots[slot] - 1];
    return DG_OK;
}

dg_status dg_vocabulary_create(dg_vocabulary **out, dg_error *err)
{
    dg_vocabulary *v = dg_calloc(1, sizeof *v);
    if (!v) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
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
    dg_free(v);
}

/* ---- from captions */

dg_status dg_vocabulary_add(dg_vocabulary *v, const char *caption, dg_error *err)
{
    char word[DG_TEXT_LONGEST + 1];
    entry *e;
    for (size_t n; (n = next_word(&caption, word)) > 0;) {
        if (n > DG_TEXT_LONGEST) continue;
        DG_TRY(entry_of(v, word, &e, err));
        e->count++;
    }
    return DG_OK;
}

static int by_count(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    return strcmp(a->word, b->word);
}

dg_status dg_vocabulary_choose(dg_vocabulary *v, int64_t most_ids, int64_t least, dg_error *err)
{
    size_t kept = 0;
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

/* ---- files */

/* Takes over the lines of `text`, which it cuts up. */
static dg_status add_lines(dg_vocabulary *v, const char *path, char *text, size_t size, dg_error *err)
{
    int64_t line = 0;
    for (char *p = text, *end = text + size; p < end;) {
        char word[DG_TEXT_LONGEST + 1];
        char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end; /* the file is NUL-terminated there */
        size_t length = (size_t)(stop - p);
        *stop = 0;
        line++;
        const char *rest = p;
        size_t n = next_word(&rest, word);
        if (n == 0 || n > DG_TEXT_LONGEST || n != length || strcmp(word, p) != 0)
            return dg_fail(
                err, DG_ERR_FORMAT,
                "%s:%lld: '%.70s' is no word: a line holds one word of at most %d small letters and digits",
                path, (long long)line, p, DG_TEXT_LONGEST);
        entry *e;
        DG_TRY(entry_of(v, word, &e, err));
        if (e->count++)
            return dg_fail(err, DG_ERR_FORMAT, "%s:%lld: the word '%s' is there twice", path, (long long)line,
                           p);
        p = stop + 1;
    }
    if (v->n == 0) return dg_fail(err, DG_ERR_FORMAT, "%s: the vocabulary is empty", path);
    return DG_OK;
}

dg_status dg_vocabulary_load(const char *path, dg_vocabulary **out, dg_error *err)
{
    dg_vocabulary *v = NULL;
    char *text = NULL;
    size_t size;
    DG_TRY(dg_file_read(path, MOST_BYTES, &text, &size, err));
    dg_status s = dg_vocabulary_create(&v, err);
    if (s == DG_OK) s = add_lines(v, path, text, size, err);
    dg_free(text);
    if (s == DG_OK)
        *out = v;
    else
        dg_vocabulary_free(v);
    return s;
}

dg_status dg_vocabulary_save(const dg_vocabulary *v, const char *path, dg_error *err)
{
    dg_str text = {0};
    for (size_t i = 0; i < v->n; i++) {
        dg_str_puts(&text, v->entries[i].word);
        dg_str_puts(&text, "\n");
    }
    dg_status s = dg_str_check(&text, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, text.text ? text.text : "", text.length, err);
    dg_str_free(&text);
    return s;
}

/* ---- ids */

int64_t dg_vocabulary_size(const dg_vocabulary *v)
{
    return (int64_t)v->n + DG_TEXT_SPECIAL;
}

const char *dg_vocabulary_word(const dg_vocabulary *v, int32_t id)
{
    return id > 0 && (size_t)id <= v->n ? v->entries[id - 1].word : NULL;
}

void dg_vocabulary_encode(const dg_vocabulary *v, const char *caption, int32_t *ids, int64_t length)
{
    const int32_t unknown = (int32_t)v->n + 1, start = unknown + 1, end = unknown + 2;
    char word[DG_TEXT_LONGEST + 1];
    int64_t at = 0;
    ids[at++] = start;
    for (size_t n; at < length - 1 && (n = next_word(&caption, word)) > 0;) {
        int32_t id = n > DG_TEXT_LONGEST ? 0 : v->slots[slot_of(v, word)];
        ids[at++] = id ? id : unknown;
    }
    ids[at++] = end;
    while (at < length) ids[at++] = DG_TEXT_PAD;
}
