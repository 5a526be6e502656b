/* diagnostics.h - a list of complaints with positions, so that a user sees all mistakes at once.
 *
 * Written in the compiler's form: "recipes/a.yaml:12:3: error: unknown key 'wieghts'". A note belongs to the
 * error before it. The list owns copies of all texts; it starts as {0} and ends with dg_diagnostics_free. */
#ifndef DG_RECIPE_DIAGNOSTICS_H
#define DG_RECIPE_DIAGNOSTICS_H

#include "base/mem.h"
#include "base/str.h"

/* Where something is written. Line and column count from 1, columns in characters; line 0: the whole file, or
 * a place without lines such as "command line, argument 2". file NULL: nowhere, it is a default. */
typedef struct dg_pos {
    const char *file;
    uint32_t line, col;
} dg_pos;

typedef enum dg_severity { DG_SEVERITY_ERROR, DG_SEVERITY_WARNING, DG_SEVERITY_NOTE } dg_severity;

typedef struct dg_diagnostic {
    dg_pos pos;
    dg_severity severity;
    const char *message;
} dg_diagnostic;

/* More errors than this are counted and not kept. */
#define DG_DIAGNOSTICS_MAX 100

typedef struct dg_diagnostics {
    dg_arena arena;
    dg_diagnostic *items;
    size_t n, capacity;
    size_t n_errors;  /* kept or not */
    size_t n_dropped; /* errors beyond DG_DIAGNOSTICS_MAX */
    bool dropping;    /* notes of a dropped error go with it */
    bool out_of_memory;
} dg_diagnostics;

/* Adds one. Returns DG_ERR_INVALID for an error, DG_OK else, so that `return dg_diagnose(...)` reads well. */
DG_PRINTF(4, 5)
dg_status dg_diagnose(dg_diagnostics *d, dg_severity severity, dg_pos pos, const char *fmt, ...);

/* Orders by file, line and column; notes stay with their error. */
void dg_diagnostics_sort(dg_diagnostics *d);
/* One line each, and a last line when errors were dropped. */
void dg_diagnostics_print(const dg_diagnostics *d, dg_str *out);
/* "file:line:col", "command line, argument 2", or "default". */
const char *dg_pos_text(dg_pos pos, char *out, size_t size);
void dg_diagnostics_free(dg_diagnostics *d);

#endif
