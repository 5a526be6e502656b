/* str.h - a growing string. After a failed allocation `failed` stays set and further writes do nothing, so
 * that a long text is written without a check a line and asked once at the end. */
#ifndef DG_BASE_STR_H
#define DG_BASE_STR_H

#include "digpt/base.h"

typedef struct dg_str {
    char *text; /* NUL-terminated; NULL while nothing was written */
    size_t length, capacity;
    bool failed;
} dg_str;

void dg_str_bytes(dg_str *s, const void *bytes, size_t n);
void dg_str_puts(dg_str *s, const char *text);
DG_PRINTF(2, 3) void dg_str_printf(dg_str *s, const char *fmt, ...);
/* A JSON string literal with its quotes: control characters escaped, bytes that are not UTF-8 replaced. */
void dg_str_json(dg_str *s, const char *text);
void dg_str_free(dg_str *s);
/* DG_OK, or DG_ERR_NOMEM if any write failed. */
dg_status dg_str_check(const dg_str *s, dg_error *err);

/* Number of single-character edits between two words: for "did you mean". */
size_t dg_edit_distance(const char *a, const char *b);
/* The nearest of names[0..n) within a third of the word's length, or NULL. */
const char *dg_nearest(const char *word, const char *const *names, size_t n);

#endif
