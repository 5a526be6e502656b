/* compare_page.c - several runs as one page: figures, bars, curves, differences, pictures. See compare.h. */
#include "compare.h"

#include <math.h>

#include "base/file.h"
#include "train/chart.h"
#include "train/gallery.h"
#include "train/page.h"

typedef struct page {
    dg_comparison *c;
    dg_str out;
} page;

static bool in_task(const page *p, size_t group, const char *task)
{
    return strcmp(p->c->groups[group].runs[0]->task, task) == 0;
}

static void put_name(page *p, size_t group)
{
    dg_str_printf(&p->out, "<span class=\"chip\" style=\"background:%s\"></span>", dg_page_colour(group));
    dg_page_text(&p->out, p->c->groups[group].label);
}

/* ---- figures */

static bool task_has(const page *p, const char *task, const dg_figure *f)
{
    dg_summary s;
    for (size_t g = 0; g < p->c->n_groups; g++) {
        if (!in_task(p, g, task)) continue;
        dg_group_figure(&p->c->groups[g], f, &s);
        if (s.n) return true;
    }
    return false;
}

static void put_figures(page *p, const char *task)
{
    size_t n;
    const dg_figure *figures = dg_figures(&n);
    char text[80];
    dg_summary s;
    dg_str_puts(&p->out, "<div class=\"wide\"><table>\n<thead><tr><th>run</th><th class=\"n\">runs</th>");
    for (size_t f = 0; f < n; f++) {
        if (!task_has(p, task, &figures[f])) continue;
        dg_str_puts(&p->out, "<th class=\"n\" title=\"");
        dg_page_text(&p->out, figures[f].meaning);
        dg_str_printf(&p->out, "\">%s</th>", figures[f].title);
    }
    dg_str_puts(&p->out, "</tr></thead>\n<tbody>\n");
    for (size_t g = 0; g < p->c->n_groups; g++) {
        if (!in_task(p, g, task)) continue;
        dg_str_puts(&p->out, "<tr><th>");
        put_name(p, g);
        dg_str_printf(&p->out, "</th><td class=\"n\">%zu</td>", p->c->groups[g].n);
        for (size_t f = 0; f < n; f++) {
            if (!task_has(p, task, &figures[f])) continue;
            dg_group_figure(&p->c->groups[g], &figures[f], &s);
            dg_str_printf(&p->out, "<td class=\"n\">%s</td>",
                          dg_summary_text(&s, figures[f].percent, text, sizeof text));
        }
        dg_str_puts(&p->out, "</tr>\n");
    }
    dg_str_puts(&p->out, "</tbody></table></div>\n");
}

/* What runs of one task are judged by: accuracies, of those that at least two groups have. */
static dg_status put_bars(page *p, const char *task, dg_error *err)
{
    size_t n, groups = p->c->n_groups;
    const dg_figure *figures = dg_figures(&n);
    dg_summary *s = dg_calloc(groups, sizeof *s);
    dg_bar *bars = dg_calloc(groups, sizeof *bars);
    dg_status status = s && bars ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t f = 0; status == DG_OK && f < n; f++) {
        size_t m = 0;
        if (strcmp(figures[f].title, "top-1") != 0 && strcmp(figures[f].title, "kNN") != 0) continue;
        for (size_t g = 0; g < groups; g++) {
            if (!in_task(p, g, task)) continue;
            dg_group_figure(&p->c->groups[g], &figures[f], &s[g]);
            if (s[g].n)
                bars[m++] =
                    (dg_bar){p->c->groups[g].label, dg_page_colour(g), s[g].mean, s[g].values, s[g].n};
        }
        if (m < 2) continue;
        dg_str_puts(&p->out,
                    "<div class=\"charts\" style=\"margin:18px 0 6px;grid-template-columns:1fr\">\n");
        dg_chart_bars(&p->out, figures[f].title, figures[f].percent, bars, m);
        dg_str_puts(&p->out, "</div>\n");
    }
    dg_free(s);
    dg_free(bars);
    return status;
}

/* ---- curves */

/* One group's column as a line: the mean at the steps that all of its runs have, and their range. */
typedef struct line {
    double *x, *mean, *low, *high, *smooth; // [n]
    size_t n;
} line;

static const dg_series *series_of(const dg_logbook *b, const char *name, bool timings)
{
    return dg_series_find(timings ? &b->timings : &b->metrics, name);
}

/* The value at a step, searched from *at on; steps rise. */
static bool value_at(const dg_series *s, double step, size_t *at, double *value)
{
    while (*at < s->n && s->step[*at] < step) ++*at;
    if (*at == s->n || s->step[*at] != step) return false;
    *value = s->value[*at];
    return true;
}

static dg_status make_line(const dg_group *g, const char *name, bool timings, dg_arena *arena, line *l,
                           dg_error *err)
{
    const dg_series *first = series_of(g->runs[0], name, timings);
    *l = (line){0};
    for (size_t r = 0; r < g->n; r++)
        if (!series_of(g->runs[r], name, timings)) return DG_OK;
    size_t *at = dg_arena_alloc(arena, g->n * sizeof *at);
    double *room = dg_arena_alloc(arena, first->n * 5 * sizeof *room);
    if (!at || !room) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *l = (line){room, room + first->n, room + 2 * first->n, room + 3 * first->n, room + 4 * first->n, 0};
    for (size_t i = 0; i < first->n; i++) {
        double sum = 0, low = INFINITY, high = -INFINITY, value = 0;
        size_t runs = 0;
        for (; runs < g->n; runs++) {
            if (!value_at(series_of(g->runs[runs], name, timings), first->step[i], &at[runs], &value)) break;
            sum += value;
            low = fmin(low, value);
            high = fmax(high, value);
        }
        if (runs < g->n) continue;
        l->x[l->n] = first->step[i];
        l->mean[l->n] = sum / (double)g->n;
        l->low[l->n] = low;
        l->high[l->n++] = high;
    }
    dg_smooth(l->mean, l->n, l->smooth, NULL);
    return DG_OK;
}

/* A chart of one column over all groups of the task that have it. */
static dg_status put_chart(page *p, const char *task, const char *name, bool timings, dg_error *err)
{
    dg_arena arena = {0};
    size_t n = 0;
    dg_curve *curves = dg_arena_alloc(&arena, p->c->n_groups * sizeof *curves);
    dg_status s = curves ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t g = 0; s == DG_OK && g < p->c->n_groups; g++) {
        const dg_group *group = &p->c->groups[g];
        line l;
        if (!in_task(p, g, task)) continue;
        s = make_line(group, name, timings, &arena, &l, err);
        if (s != DG_OK || l.n < 2) continue;
        bool several = group->n > 1;
        curves[n++] = (dg_curve){.label = group->label,
                                 .colour = dg_page_colour(g),
                                 .x = l.x,
                                 .y = several ? l.mean : l.smooth,
                                 .low = several ? l.low : NULL,
                                 .high = several ? l.high : NULL,
                                 .raw = several ? NULL : l.mean,
                                 .n = l.n};
    }
    const dg_chart chart = {name, NULL, "step", dg_series_is_share(name), curves, n};
    if (s == DG_OK && n) dg_chart_lines(&p->out, &chart);
    dg_arena_free(&arena);
    return s;
}

/* Whether an earlier run of the task has a column of this name. */
static bool charted(const page *p, const char *task, const char *name, size_t before)
{
    for (size_t b = 0; b < before; b++)
        if (strcmp(p->c->books[b].task, task) == 0 && series_of(&p->c->books[b], name, false)) return true;
    return false;
}

static void put_legend(page *p, const char *task)
{
    bool several = false;
    dg_str_puts(&p->out, "<div class=\"legend\">");
    for (size_t g = 0; g < p->c->n_groups; g++) {
        if (!in_task(p, g, task)) continue;
        several = several || p->c->groups[g].n > 1;
        dg_str_puts(&p->out, "<span>");
        put_name(p, g);
        dg_str_puts(&p->out, "</span>");
    }
    dg_str_puts(&p->out, "</div>\n");
    if (several)
        dg_str_puts(&p->out,
                    "<p class=\"note\">Of repeats the line is the mean, the band goes from the least to "
                    "the greatest.</p>\n");
}

/* Every column that a run of the task has, each once. */
static dg_status put_charts(page *p, const char *task, dg_error *err)
{
    for (size_t b = 0; b < p->c->n_books; b++) {
        const dg_logbook *book = &p->c->books[b];
        for (size_t i = 0; strcmp(book->task, task) == 0 && i < book->metrics.n; i++) {
            const dg_series *s = &book->metrics.items[i];
            if (strcmp(s->name, "epoch") != 0 && !dg_series_repeats_loss(&book->metrics, s) &&
                !charted(p, task, s->name, b))
                DG_TRY(put_chart(p, task, s->name, false, err));
        }
    }
    return put_chart(p, task, "images_per_second", true, err);
}

static dg_status put_curves(page *p, const char *task, dg_error *err)
{
    page charts = {.c = p->c};
    dg_status s = put_charts(&charts, task, err);
    if (s == DG_OK && charts.out.length) {
        put_legend(p, task);
        dg_str_puts(&p->out, "<div class=\"charts\">\n");
        dg_str_bytes(&p->out, charts.out.text, charts.out.length);
        dg_str_puts(&p->out, "</div>\n");
    }
    p->out.failed |= charts.out.failed;
    dg_str_free(&charts.out);
    return s;
}

/* ---- differences */

/* Whether every group of the task has the key: what a recipe cannot say is a smaller difference. */
static bool shared(const page *p, const char *task, const dg_difference *d)
{
    for (size_t g = 0; g < p->c->n_groups; g++)
        if (in_task(p, g, task) && !d->values[g]) return false;
    return true;
}

static void put_keys(page *p, const char *task, const dg_difference *items, size_t n, bool wanted)
{
    dg_str_puts(&p->out, "<div class=\"wide\"><table>\n<thead><tr><th>key</th>");
    for (size_t g = 0; g < p->c->n_groups; g++) {
        if (!in_task(p, g, task)) continue;
        dg_str_puts(&p->out, "<th>");
        put_name(p, g);
        dg_str_puts(&p->out, "</th>");
    }
    dg_str_puts(&p->out, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n; i++) {
        if (shared(p, task, &items[i]) != wanted) continue;
        dg_str_puts(&p->out, "<tr><td><code>");
        dg_page_text(&p->out, items[i].key);
        dg_str_puts(&p->out, "</code></td>");
        for (size_t g = 0; g < p->c->n_groups; g++) {
            if (!in_task(p, g, task)) continue;
            dg_str_puts(&p->out, "<td>");
            dg_page_text(&p->out, items[i].values[g] ? items[i].values[g] : "\xe2\x80\x93");
            dg_str_puts(&p->out, "</td>");
        }
        dg_str_puts(&p->out, "</tr>\n");
    }
    dg_str_puts(&p->out, "</tbody></table></div>\n");
}

static dg_status put_differences(page *p, const char *task, dg_error *err)
{
    dg_difference *items;
    size_t n, common = 0;
    DG_TRY(dg_comparison_differences(p->c, task, &items, &n, err));
    if (n == 0) return DG_OK;
    for (size_t i = 0; i < n; i++) common += shared(p, task, &items[i]);
    dg_str_puts(&p->out, "<h3>What the recipes have different</h3>\n");
    if (common) put_keys(p, task, items, n, true);
    if (common == n) return DG_OK;
    dg_str_printf(&p->out, "<details%s><summary>%zu keys that only some of them have</summary>\n",
                  common ? "" : " open", n - common);
    put_keys(p, task, items, n, false);
    dg_str_puts(&p->out, "</details>\n");
    return DG_OK;
}

/* ---- pictures and folders */

/* Of the first run of each group. */
static dg_status put_pictures(page *p, dg_error *err)
{
    enum { ROWS = 2 };
    bool begun = false;
    for (size_t g = 0; g < p->c->n_groups; g++) {
        int64_t n = 0;
        dg_str pictures = {0};
        char *dir = dg_path_join(p->c->groups[g].runs[0]->dir, "pictures");
        dg_status s =
            dir ? dg_gallery_put(&pictures, dir, ROWS, &n, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
        if (s == DG_OK && n) {
            if (!begun) dg_page_heading(&p->out, "Pictures");
            begun = true;
            dg_str_puts(&p->out, "<p style=\"margin-top:26px;font-size:16px\"><b>");
            put_name(p, g);
            dg_str_puts(&p->out, "</b></p>\n");
            p->out.failed |= pictures.failed;
            dg_str_bytes(&p->out, pictures.text, pictures.length);
        }
        dg_str_free(&pictures);
        dg_free(dir);
        DG_TRY(s);
    }
    return DG_OK;
}

static void put_folders(page *p)
{
    dg_page_heading(&p->out, "Runs");
    dg_str_puts(&p->out, "<div class=\"wide\"><table>\n<thead><tr><th>run</th><th>seed</th><th>folder</th>"
                         "<th>started</th><th>backend</th><th>machine</th></tr></thead>\n<tbody>\n");
    for (size_t g = 0; g < p->c->n_groups; g++)
        for (size_t r = 0; r < p->c->groups[g].n; r++) {
            const dg_logbook *b = p->c->groups[g].runs[r];
            const char *const cells[] = {b->seed, b->dir, dg_logbook_fact(b, "started"),
                                         dg_logbook_fact(b, "backend_fingerprint"),
                                         dg_logbook_fact(b, "machine")};
            dg_str_puts(&p->out, "<tr><th>");
            put_name(p, g);
            dg_str_puts(&p->out, "</th>");
            for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
                dg_str_puts(&p->out, "<td>");
                dg_page_text(&p->out, cells[i] ? cells[i] : "");
                dg_str_puts(&p->out, "</td>");
            }
            dg_str_puts(&p->out, "</tr>\n");
        }
    dg_str_puts(&p->out, "</tbody></table></div>\n");
}

/* ---- the page */

static dg_status put_task(page *p, const char *task, dg_error *err)
{
    char title[96];
    snprintf(title, sizeof title, "Task %s", task);
    dg_page_heading(&p->out, title);
    put_figures(p, task);
    DG_TRY(put_bars(p, task, err));
    DG_TRY(put_curves(p, task, err));
    return put_differences(p, task, err);
}

static void put_meanings(page *p)
{
    size_t n;
    const dg_figure *figures = dg_figures(&n);
    dg_str_puts(&p->out, "<p class=\"note\">");
    for (size_t i = 0; i < n; i++) {
        dg_str_printf(&p->out, "%s<b>%s</b>: ", i ? "; " : "", figures[i].title);
        dg_page_text(&p->out, figures[i].meaning);
    }
    dg_str_puts(&p->out,
                ". A number with ± is a mean over repeats, which differ in their seeds alone, with the "
                "sample's standard deviation.</p>\n");
}

dg_status dg_comparison_page(dg_comparison *c, const char *path, dg_error *err)
{
    page p = {.c = c};
    char below[128];
    dg_status s = DG_OK;
    snprintf(below, sizeof below, "%zu runs with %zu recipes, by digpt %s", c->n_books, c->n_groups,
             DIGPT_VERSION);
    dg_page_begin(&p.out, "Comparison of runs", below);
    for (size_t g = 0; g < c->n_groups && s == DG_OK; g++) {
        const char *task = dg_comparison_task(c, g);
        if (task) s = put_task(&p, task, err);
    }
    put_meanings(&p);
    if (s == DG_OK) s = put_pictures(&p, err);
    put_folders(&p);
    dg_page_end(&p.out);
    if (s == DG_OK) s = dg_str_check(&p.out, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, p.out.text, p.out.length, err);
    dg_str_free(&p.out);
    return s;
}
