/* text_file.c - files of vocabularies: words, or byte pairs; plain or packed by gzip. See text.h. */
#include "text_parts.h"

#include <string.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/file.h"
#include "base/str.h"

enum { MOST_BYTES = 64 << 20 };

/* ---- gzip */

static bool is_gzip(const char *bytes, size_t size)
{
    return size >= 2 && (unsigned char)bytes[0] == 0x1f && (unsigned char)bytes[1] == 0x8b;
}

/* Replaces the bytes of a gzip file by what they pack, NUL-terminated. */
static dg_status unpack(const char *path, char **bytes, size_t *size, dg_error *err)
{
    z_stream z = {.next_in = (Bytef *)*bytes, .avail_in = (uInt)*size};
    dg_str out = {0};
    unsigned char part[16384];
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", path);
    int r = Z_OK;
    while (r == Z_OK && out.length <= MOST_BYTES) {
        z.next_out = part;
        z.avail_out = sizeof part;
        r = inflate(&z, Z_NO_FLUSH);
        dg_str_bytes(&out, part, sizeof part - z.avail_out);
    }
    inflateEnd(&z);
    dg_status s = dg_str_check(&out, err);
    if (s == DG_OK && out.length > MOST_BYTES)
        s = dg_fail(err, DG_ERR_FORMAT, "'%s' has more than %d bytes unpacked", path, MOST_BYTES);
    else if (s == DG_OK && r != Z_STREAM_END)
        s = dg_fail(err, DG_ERR_FORMAT,
                    "'%s' is damaged or cut: its packed bytes end or go wrong at byte %lu", path,
                    (unsigned long)z.total_in);
    if (s == DG_OK) dg_str_bytes(&out, "", 0); /* so that there is a text, if an empty one */
    if (s == DG_OK) s = dg_str_check(&out, err);
    if (s != DG_OK) {
        dg_str_free(&out);
        return s;
    }
    dg_free(*bytes);
    *bytes = out.text;
    *size = out.length;
    return DG_OK;
}

/* ---- lines */

/* A text that is cut into lines; `line` counts from 1. */
typedef struct lines {
    const char *path;
    char *at, *end; /* the text is NUL-terminated at `end` */
    int64_t line;
} lines;

/* The next line, NUL-terminated, and its length; NULL at the end. */
static char *next_line(lines *l, size_t *length)
{
    char *p = l->at;
    if (p >= l->end) return NULL;
    char *stop = memchr(p, '\n', (size_t)(l->end - p));
    if (!stop) stop = l->end;
    *stop = 0;
    *length = (size_t)(stop - p);
    l->at = stop + 1;
    l->line++;
    return p;
}

static dg_status read_words(dg_vocabulary *v, lines *l, dg_error *err)
{
    size_t length;
    for (char *p; (p = next_line(l, &length));) {
        char word[DG_TEXT_LONGEST + 1];
        const char *rest = p;
        size_t n = dg_text_word(&rest, word);
        if (n == 0 || n > DG_TEXT_LONGEST || n != length || strcmp(word, p) != 0)
            return dg_fail(
                err, DG_ERR_FORMAT,
                "%s:%lld: '%.70s' is no word: a line holds one word of at most %d small letters and digits",
                l->path, (long long)l->line, p, DG_TEXT_LONGEST);
        dg_text_entry *e;
        DG_TRY(dg_text_entry_of(v, word, &e, err));
        if (e->count++)
            return dg_fail(err, DG_ERR_FORMAT, "%s:%lld: the word '%s' is there twice", l->path,
                           (long long)l->line, p);
    }
    return v->n ? DG_OK : dg_fail(err, DG_ERR_FORMAT, "%s: the vocabulary is empty", l->path);
}

static dg_status read_symbol(const dg_vocabulary *v, const lines *l, const char *symbol, int32_t *id,
                             dg_error *err)
{
    *id = dg_text_find(v, symbol);
    return *id >= 0
               ? DG_OK
               : dg_fail(err, DG_ERR_FORMAT, "%s:%lld: '%.70s' is neither a byte nor made by a line before",
                         l->path, (long long)l->line, symbol);
}

static dg_status read_pairs(dg_vocabulary *v, lines *l, dg_error *err)
{
    size_t length, capacity = 0;
    DG_TRY(dg_text_add_bytes(v, err));
    for (char *p; v->n_pairs < DG_TEXT_MOST_PAIRS && (p = next_line(l, &length));) {
        char *gap = strchr(p, ' ');
        int32_t left, right;
        dg_error why = DG_ERROR_INIT;
        if (!gap || strlen(p) != length || strchr(gap + 1, ' '))
            return dg_fail(err, DG_ERR_FORMAT,
                           "%s:%lld: '%.70s' is no pair: a line holds two symbols and a blank", l->path,
                           (long long)l->line, p);
        *gap = 0;
        DG_TRY(read_symbol(v, l, p, &left, err));
        DG_TRY(read_symbol(v, l, gap + 1, &right, err));
        dg_status s = dg_text_add_pair(v, left, right, &capacity, &why);
        if (s == DG_ERR_INVALID)
            return dg_fail(err, DG_ERR_FORMAT, "%s:%lld: %s", l->path, (long long)l->line, why.message);
        if (s != DG_OK) return dg_fail(err, s, "%s", why.message);
    }
    dg_text_sort_pairs(v);
    return DG_OK;
}

/* "#version" in the first line makes it a file of byte pairs, whose other lines are pairs. */
static bool skip_version(lines *l)
{
    const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at)), *mark = strstr(l->at, "#version");
    size_t ignored;
    if (!mark || (stop && mark > stop)) return false;
    next_line(l, &ignored);
    return true;
}

dg_status dg_vocabulary_load(const char *path, dg_vocabulary **out, dg_error *err)
{
    dg_vocabulary *v = NULL;
    char *text = NULL;
    size_t size;
    DG_TRY(dg_file_read(path, MOST_BYTES, &text, &size, err));
    dg_status s = is_gzip(text, size) ? unpack(path, &text, &size, err) : DG_OK;
    lines l = {path, text, text + size, 0};
    bool pairs = s == DG_OK && skip_version(&l);
    if (s == DG_OK) s = dg_vocabulary_create(pairs ? DG_TEXT_PAIRS : DG_TEXT_WORDS, &v, err);
    if (s == DG_OK) s = pairs ? read_pairs(v, &l, err) : read_words(v, &l, err);
    dg_free(text);
    if (s == DG_OK)
        *out = v;
    else
        dg_vocabulary_free(v);
    return s;
}

/* ---- writing */

static int by_made(const void *x, const void *y)
{
    const dg_text_pair *a = x, *b = y;
    return a->made < b->made ? -1 : a->made > b->made;
}

/* Pairs in the order in which they were learnt. */
static dg_status put_pairs(const dg_vocabulary *v, dg_str *text, dg_error *err)
{
    dg_text_pair *pairs = dg_calloc(v->n_pairs + 1, sizeof *pairs);
    if (!pairs) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < v->n_pairs; i++) pairs[i] = v->pairs[i];
    if (v->n_pairs) qsort(pairs, v->n_pairs, sizeof *pairs, by_made);
    dg_str_puts(text, "#version: 0.2\n");
    for (size_t i = 0; i < v->n_pairs; i++)
        dg_str_printf(text, "%s %s\n", v->entries[pairs[i].left].word, v->entries[pairs[i].right].word);
    dg_free(pairs);
    return DG_OK;
}

dg_status dg_vocabulary_save(const dg_vocabulary *v, const char *path, dg_error *err)
{
    dg_str text = {0};
    dg_status s = v->kind == DG_TEXT_PAIRS ? put_pairs(v, &text, err) : DG_OK;
    for (size_t i = 0; v->kind == DG_TEXT_WORDS && i < v->n; i++) {
        dg_str_puts(&text, v->entries[i].word);
        dg_str_puts(&text, "\n");
    }
    if (s == DG_OK) s = dg_str_check(&text, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, text.text ? text.text : "", text.length, err);
    dg_str_free(&text);
    return s;
}
