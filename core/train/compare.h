/* compare.h - several runs side by side: final figures, what their recipes have different, curves.
 *
 * Runs whose recipes say the same but for name, output and seed are repeats; they are one group, of which
 * means and spreads (the sample's standard deviation, n - 1) are told. Recipes are compared within a task. */
#ifndef DG_TRAIN_COMPARE_H
#define DG_TRAIN_COMPARE_H

#include "train/logbook.h"

enum { DG_COMPARE_MOST_RUNS = 512 };

/* One number that a run ends with. */
typedef struct dg_figure {
    const char *title; /* "top-1" */
    const char *meaning;
    bool percent;                         /* a share of 1 */
    double (*of)(const dg_logbook *book); /* NaN: the run has none */
} dg_figure;
const dg_figure *dg_figures(size_t *n);

typedef struct dg_group {
    const char *label;
    const dg_logbook *const *runs; // [n]
    size_t n;
} dg_group;

/* Of a figure: NaN where no run of the group has it; `spread` NaN where fewer than two have. */
typedef struct dg_summary {
    double mean, spread;
    size_t n;
    double values[DG_COMPARE_MOST_RUNS]; // [n]
} dg_summary;
void dg_group_figure(const dg_group *group, const dg_figure *figure, dg_summary *out);
/* "12.3 %", "12.3 ± 0.4 %", or "" into out, which it returns. */
const char *dg_summary_text(const dg_summary *s, bool percent, char *out, size_t size);

/* Starts as {0}; ends with dg_comparison_close, also after a failure. */
typedef struct dg_comparison {
    dg_logbook *books; // [n_books]
    size_t n_books;
    dg_group *groups; // [n_groups] in the order of their first runs
    size_t n_groups;
    dg_arena arena;
} dg_comparison;

/* words[0..n): folders of runs, each of which may be named: "LABEL=RUN". Runs of one label are one group only
 * if they are repeats. */
dg_status dg_comparison_open(const char *const *words, size_t n, dg_comparison *c, dg_error *err);
void dg_comparison_close(dg_comparison *c);

/* A key of the recipe that differs among the groups of one task. */
typedef struct dg_difference {
    const char *key;
    const char **values; // [n_groups of the comparison]; NULL: another task, or no such key
} dg_difference;
/* The differences of a task's groups, in the order of their recipes; they live in the comparison's arena. */
dg_status dg_comparison_differences(dg_comparison *c, const char *task, dg_difference **items, size_t *n,
                                    dg_error *err);
/* The task of the i-th group if no group before has it, else NULL: for walking over the tasks. */
const char *dg_comparison_task(const dg_comparison *c, size_t i);

/* For a terminal: cells ended by tabs, rows by newlines. */
void dg_comparison_table(const dg_comparison *c, dg_str *rows);
/* The same, with charts and the runs' pictures, as a page that needs nothing else. */
dg_status dg_comparison_page(dg_comparison *c, const char *path, dg_error *err);

#endif
