/* compare.c - groups of runs, their figures and differences. See compare.h. */
#include "compare.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "train/chart.h"

/* ---- figures */

static double last_of(const dg_series_list *list, const char *name)
{
    const dg_series *s = dg_series_find(list, name);
    return s && s->n ? s->value[s->n - 1] : NAN;
}

static double loss(const dg_logbook *b)
{
    return last_of(&b->metrics, "loss");
}

static double steps(const dg_logbook *b)
{
    const dg_series *s = dg_series_find(&b->metrics, "loss");
    return s && s->n ? s->step[s->n - 1] : NAN;
}

/* The best last value of the columns that begin with `start` and end in `end`; probes try several learning
 * rates, and neighbours are counted for several k. */
static double best_last(const dg_logbook *b, const char *start, const char *end)
{
    double best = NAN;
    for (size_t i = 0; i < b->metrics.n; i++) {
        const dg_series *s = &b->metrics.items[i];
        size_t n = strlen(s->name), m = strlen(end);
        if (strncmp(s->name, start, strlen(start)) == 0 && n >= m && strcmp(s->name + n - m, end) == 0 &&
            s->n)
            best = fmax(best, s->value[s->n - 1]); /* fmax passes over a NaN */
    }
    return best;
}

static double top1(const dg_logbook *b)
{
    return best_last(b, "val_top1", "");
}
static double top5(const dg_logbook *b)
{
    return best_last(b, "val_top5", "");
}
static double knn(const dg_logbook *b)
{
    return best_last(b, "knn", "_top1");
}
static double rank(const dg_logbook *b)
{
    return last_of(&b->metrics, "effective_rank");
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double speed(const dg_logbook *b)
{
    const dg_series *s = dg_series_find(&b->timings, "images_per_second");
    double *sorted = s && s->n ? dg_calloc(s->n, sizeof *sorted) : NULL, median = NAN;
    if (!sorted) return NAN;
    memcpy(sorted, s->value, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, rising);
    median = sorted[s->n / 2];
    dg_free(sorted);
    return median;
}

static double data_wait(const dg_logbook *b)
{
    const dg_series *s = dg_series_find(&b->timings, "data_wait");
    double sum = 0;
    for (size_t i = 0; s && i < s->n; i++) sum += s->value[i];
    return s && s->n ? sum / (double)s->n : NAN;
}

static double recipe_number(const dg_logbook *b, const char *key)
{
    const char *text = dg_logbook_recipe(b, key);
    return text ? strtod(text, NULL) : NAN;
}

/* From the speed that each line of the log states for the steps since the one before. */
static double minutes(const dg_logbook *b)
{
    const dg_series *s = dg_series_find(&b->timings, "images_per_second");
    double images = recipe_number(b, "data.batch") * recipe_number(b, "train.accumulate"), sum = 0,
           before = 0;
    for (size_t i = 0; s && i < s->n; i++) {
        if (s->value[i] > 0) sum += (s->step[i] - before) * images / s->value[i];
        before = s->step[i];
    }
    return s && s->n ? sum / 60 : NAN;
}

const dg_figure *dg_figures(size_t *n)
{
    static const dg_figure all[] = {
        {"steps", "optimizer steps", false, steps},
        {"loss", "last of the log; comparable only between runs of one model, tokenizer and loss", false,
         loss},
        {"top-1", "on validation images, after the last step; of several learning rates the best", true,
         top1},
        {"top-5", "as top-1", true, top5},
        {"kNN", "top-1 of weighted nearest neighbours, the best k", true, knn},
        {"eff. rank", "effective rank of the features", false, rank},
        {"images/s", "median over the log, of training steps", false, speed},
        {"data wait", "mean share of the time that a step waits for images", true, data_wait},
        {"minutes", "of training steps, without evaluations", false, minutes},
    };
    *n = sizeof all / sizeof all[0];
    return all;
}

void dg_group_figure(const dg_group *g, const dg_figure *figure, dg_summary *out)
{
    double squares = 0;
    *out = (dg_summary){.mean = NAN, .spread = NAN};
    for (size_t i = 0; i < g->n && out->n < DG_COMPARE_MOST_RUNS; i++) {
        double x = figure->of(g->runs[i]);
        if (!isnan(x)) out->values[out->n++] = x;
    }
    if (out->n) out->mean = 0;
    for (size_t i = 0; i < out->n; i++) out->mean += out->values[i] / (double)out->n;
    for (size_t i = 0; i < out->n; i++)
        squares += (out->values[i] - out->mean) * (out->values[i] - out->mean);
    if (out->n > 1) out->spread = sqrt(squares / (double)(out->n - 1));
}

/* The spread with two digits, and the mean to the same place. */
const char *dg_summary_text(const dg_summary *s, bool percent, char *out, size_t size)
{
    double scale = percent ? 100 : 1, spread = scale * s->spread;
    out[0] = 0;
    if (s->n == 0) return out;
    if (s->n == 1 || !(spread > 0) || !isfinite(spread)) return dg_figure_text(s->mean, percent, out, size);
    double place = 1 - floor(log10(spread));
    int most = percent ? 2 : 6, decimals = place < 0 ? 0 : place > most ? most : (int)place;
    snprintf(out, size, "%.*f ± %.*f%s", decimals, scale * s->mean, decimals, spread, percent ? " %" : "");
    return out;
}

/* ---- groups */

/* A word is a folder, or LABEL=FOLDER. */
static const char *split(const char *word, dg_arena *arena, const char **label)
{
    const char *equal = strchr(word, '=');
    *label = NULL;
    if (!equal || equal == word || dg_path_is_dir(word)) return word;
    char *copy = dg_arena_strdup(arena, word);
    if (copy) copy[equal - word] = 0;
    *label = copy;
    return equal + 1;
}

static bool trimmed(char c)
{
    return isdigit((unsigned char)c) || c == '-' || c == '_' || c == '.' || c == ' ';
}

/* What the names of repeats begin with alike: "digpt" of digpt-seed0 and digpt-seed1. */
static char *common_name(const dg_group *g, dg_arena *arena)
{
    char *name = dg_arena_strdup(arena, g->runs[0]->name);
    size_t n = name ? strlen(name) : 0;
    bool same = true;
    for (size_t i = 1; name && i < g->n; i++) {
        size_t k = 0;
        while (k < n && name[k] == g->runs[i]->name[k]) k++;
        same = same && k == n && g->runs[i]->name[k] == 0;
        n = k;
    }
    if (!name || same) return name;
    while (n && trimmed(name[n - 1])) n--;
    for (const char *const *w = (const char *const[]){"seed", "-s", "_s", NULL}; *w; w++)
        if (n > strlen(*w) && strncmp(name + n - strlen(*w), *w, strlen(*w)) == 0) n -= strlen(*w);
    while (n && trimmed(name[n - 1])) n--;
    if (n) name[n] = 0;
    return name;
}

/* Groups of the same label get their folders behind it. */
static dg_status tell_apart(dg_comparison *c, dg_error *err)
{
    for (size_t i = 0; i < c->n_groups; i++) {
        bool shared = false;
        for (size_t k = 0; k < c->n_groups; k++)
            shared = shared || (k != i && strcmp(c->groups[k].label, c->groups[i].label) == 0);
        if (!shared) continue;
        for (size_t k = c->n_groups; k-- > i;) {
            if (strcmp(c->groups[k].label, c->groups[i].label) != 0) continue;
            dg_str text = {0};
            dg_str_printf(&text, "%s (%s)", c->groups[k].label, c->groups[k].runs[0]->dir);
            c->groups[k].label = text.text ? dg_arena_strdup(&c->arena, text.text) : NULL;
            dg_str_free(&text);
            if (!c->groups[k].label) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        }
    }
    return DG_OK;
}

static bool same_label(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static dg_status make_groups(dg_comparison *c, const char *const *labels, dg_error *err)
{
    c->groups = dg_arena_alloc(&c->arena, c->n_books * sizeof *c->groups);
    for (size_t i = 0; c->groups && i < c->n_books; i++) {
        bool taken = false;
        for (size_t k = 0; k < i && !taken; k++)
            taken = c->books[k].identity == c->books[i].identity && same_label(labels[k], labels[i]);
        if (taken) continue;
        dg_group *g = &c->groups[c->n_groups++];
        const dg_logbook **runs = dg_arena_alloc(&c->arena, c->n_books * sizeof(dg_logbook *));
        for (size_t k = i; runs && k < c->n_books; k++)
            if (c->books[k].identity == c->books[i].identity && same_label(labels[k], labels[i]))
                runs[g->n++] = &c->books[k];
        g->runs = runs;
        g->label = labels[i] ? labels[i] : runs ? common_name(g, &c->arena) : NULL;
        if (!g->label) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    return c->groups ? tell_apart(c, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

dg_status dg_comparison_open(const char *const *words, size_t n, dg_comparison *c, dg_error *err)
{
    if (n > DG_COMPARE_MOST_RUNS)
        return dg_fail(err, DG_ERR_INVALID, "%zu runs are more than the %d that can be compared", n,
                       DG_COMPARE_MOST_RUNS);
    const char **labels = dg_arena_alloc(&c->arena, (n + 1) * sizeof *labels);
    c->books = dg_arena_alloc(&c->arena, (n + 1) * sizeof *c->books);
    if (!labels || !c->books) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (; c->n_books < n; c->n_books++) {
        const char *dir = split(words[c->n_books], &c->arena, &labels[c->n_books]);
        dg_status s = dg_logbook_open(dir, &c->books[c->n_books], err);
        if (s == DG_OK) continue;
        dg_logbook_close(&c->books[c->n_books]);
        return s;
    }
    return make_groups(c, labels, err);
}

void dg_comparison_close(dg_comparison *c)
{
    for (size_t i = 0; i < c->n_books; i++) dg_logbook_close(&c->books[i]);
    dg_arena_free(&c->arena);
    memset(c, 0, sizeof *c);
}

/* ---- differences */

const char *dg_comparison_task(const dg_comparison *c, size_t i)
{
    const char *task = c->groups[i].runs[0]->task;
    for (size_t k = 0; k < i; k++)
        if (strcmp(c->groups[k].runs[0]->task, task) == 0) return NULL;
    return task;
}

static const dg_entry *entry_of(const dg_logbook *b, const char *key)
{
    for (size_t i = 0; i < b->n_recipe; i++)
        if (strcmp(b->recipe[i].key, key) == 0) return &b->recipe[i];
    return NULL;
}

/* Whether two groups of the task have it different, and their values. */
static bool differs(const dg_comparison *c, const char *task, const char *key, const char **values)
{
    const char *first = NULL;
    bool any = false, differ = false;
    for (size_t g = 0; g < c->n_groups; g++) {
        const dg_logbook *b = c->groups[g].runs[0];
        values[g] = NULL;
        if (strcmp(b->task, task) != 0) continue;
        const dg_entry *e = entry_of(b, key);
        const char *identity = e ? e->identity : "";
        if (any && strcmp(first, identity) != 0) differ = true;
        if (!any) first = identity;
        any = true;
        if (e) values[g] = e->value;
    }
    return differ;
}

static bool listed(const dg_difference *items, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(items[i].key, key) == 0) return true;
    return false;
}

dg_status dg_comparison_differences(dg_comparison *c, const char *task, dg_difference **items, size_t *n,
                                    dg_error *err)
{
    size_t most = 0;
    for (size_t g = 0; g < c->n_groups; g++) most += c->groups[g].runs[0]->n_recipe;
    *n = 0;
    *items = dg_arena_alloc(&c->arena, (most + 1) * sizeof **items);
    const char **values = dg_arena_alloc(&c->arena, (c->n_groups + 1) * sizeof *values);
    if (!*items || !values) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t g = 0; g < c->n_groups; g++) {
        const dg_logbook *b = c->groups[g].runs[0];
        for (size_t i = 0; strcmp(b->task, task) == 0 && i < b->n_recipe; i++) {
            const char *key = b->recipe[i].key;
            if (dg_logbook_is_label(key) || !differs(c, task, key, values) || listed(*items, *n, key))
                continue;
            (*items)[(*n)++] = (dg_difference){key, values};
            values = dg_arena_alloc(&c->arena, (c->n_groups + 1) * sizeof *values);
            if (!values) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        }
    }
    return DG_OK;
}

/* ---- as text */

static bool anybody_has(const dg_comparison *c, const dg_figure *figure)
{
    dg_summary s;
    for (size_t g = 0; g < c->n_groups; g++) {
        dg_group_figure(&c->groups[g], figure, &s);
        if (s.n) return true;
    }
    return false;
}

void dg_comparison_table(const dg_comparison *c, dg_str *rows)
{
    size_t n;
    const dg_figure *figures = dg_figures(&n);
    char text[80];
    dg_summary s;
    dg_str_puts(rows, "run\ttask\truns");
    for (size_t f = 0; f < n; f++)
        if (anybody_has(c, &figures[f])) dg_str_printf(rows, "\t%s", figures[f].title);
    dg_str_puts(rows, "\n");
    for (size_t g = 0; g < c->n_groups; g++) {
        dg_str_printf(rows, "%s\t%s\t%zu", c->groups[g].label, c->groups[g].runs[0]->task, c->groups[g].n);
        for (size_t f = 0; f < n; f++) {
            if (!anybody_has(c, &figures[f])) continue;
            dg_group_figure(&c->groups[g], &figures[f], &s);
            dg_str_printf(rows, "\t%s", dg_summary_text(&s, figures[f].percent, text, sizeof text));
        }
        dg_str_puts(rows, "\n");
    }
}
