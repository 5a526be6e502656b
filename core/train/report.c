/* report.c - a run as one page: figures, curves, pictures, recipe. See report.h. */
#include "report.h"

#include <math.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/chart.h"
#include "train/compare.h"
#include "train/gallery.h"
#include "train/page.h"
#include "train/visualize.h"

/* ---- figures */

/* The last numbers, large. */
static void put_tiles(dg_str *out, const dg_logbook *b)
{
    size_t n;
    const dg_figure *figures = dg_figures(&n);
    char text[40];
    dg_str_puts(out, "<div class=\"tiles\">\n");
    for (size_t i = 0; i < n; i++) {
        double x = figures[i].of(b);
        if (isnan(x)) continue;
        dg_str_puts(out, "<div class=\"tile\" title=\"");
        dg_page_text(out, figures[i].meaning);
        dg_str_printf(out, "\"><b>%s</b><span>%s</span></div>\n",
                      dg_figure_text(x, figures[i].percent, text, sizeof text), figures[i].title);
    }
    dg_str_puts(out, "</div>\n");
}

static void put_facts(dg_str *out, const dg_logbook *b)
{
    if (b->n_facts == 0) return;
    dg_page_heading(out, "Run");
    dg_str_puts(out, "<table class=\"facts\">\n");
    for (size_t i = 0; i < b->n_facts; i++) {
        if (b->facts[i].value[0] == 0) continue;
        dg_str_puts(out, "<tr><th>");
        for (const char *c = b->facts[i].key; *c; c++) dg_str_bytes(out, *c == '_' ? " " : c, 1);
        dg_str_puts(out, "</th><td>");
        dg_page_text(out, b->facts[i].value);
        dg_str_puts(out, "</td></tr>\n");
    }
    dg_str_puts(out, "</table>\n");
}

/* ---- curves */

/* The running mean, with what was logged and its spread around it where there is enough of it. */
static dg_status put_curve(dg_str *out, const dg_series *s, dg_error *err)
{
    enum { ENOUGH = 80 };
    char first[40], last[40], note[120];
    bool percent = dg_series_is_share(s->name), many = s->n >= ENOUGH;
    double *room = dg_calloc(s->n * 4 + 1, sizeof *room);
    if (!room) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    double *mean = room, *deviation = room + s->n, *low = room + 2 * s->n, *high = room + 3 * s->n;
    dg_smooth(s->value, s->n, mean, deviation);
    for (size_t i = 0; i < s->n; i++) {
        low[i] = mean[i] - deviation[i];
        high[i] = mean[i] + deviation[i];
    }
    snprintf(note, sizeof note, "first %s, last %s",
             dg_figure_text(s->value[0], percent, first, sizeof first),
             dg_figure_text(s->value[s->n - 1], percent, last, sizeof last));
    const dg_curve curve = {.colour = dg_page_colour(0),
                            .x = s->step,
                            .y = many ? mean : s->value,
                            .low = many ? low : NULL,
                            .high = many ? high : NULL,
                            .raw = many ? s->value : NULL,
                            .n = s->n};
    const dg_chart chart = {s->name, note, "step", percent, &curve, 1};
    dg_chart_lines(out, &chart);
    dg_free(room);
    return DG_OK;
}

static dg_status put_curves(dg_str *out, const char *title, const dg_series_list *list, dg_error *err)
{
    bool begun = false;
    for (size_t i = 0; i < list->n; i++) {
        const dg_series *s = &list->items[i];
        bool dull = (strcmp(s->name, "bad_images") == 0 && s->value[s->n - 1] == 0) ||
                    dg_series_repeats_loss(list, s);
        if (s->n < 2 || s->step[0] == s->step[s->n - 1] || dull || strcmp(s->name, "epoch") == 0) continue;
        if (!begun) {
            dg_page_heading(out, title);
            dg_str_puts(out, "<div class=\"charts\">\n");
        }
        begun = true;
        DG_TRY(put_curve(out, s, err));
    }
    if (begun) dg_str_puts(out, "</div>\n");
    return DG_OK;
}

/* ---- pictures */

/* A gallery that cannot be read leaves a word in its place: the rest of the report is of use without it. */
static void put_pictures(dg_str *out, const char *dir)
{
    dg_error why = DG_ERROR_INIT;
    dg_str pictures = {0};
    int64_t n = 0;
    char *path = dg_path_join(dir, DG_PICTURES_FOLDER);
    dg_status s =
        path ? dg_gallery_put(&pictures, path, 0, &n, &why) : dg_fail(&why, DG_ERR_NOMEM, "out of memory");
    if (s != DG_OK || n) dg_page_heading(out, "Pictures");
    if (s == DG_OK && n) {
        out->failed |= pictures.failed;
        dg_str_bytes(out, pictures.text, pictures.length);
    } else if (s != DG_OK) {
        dg_str_puts(out, "<p class=\"note\">They cannot be shown: ");
        dg_page_text(out, why.message);
        dg_str_puts(out, "</p>\n");
    }
    dg_str_free(&pictures);
    dg_free(path);
}

/* ---- recipe */

static void put_recipe(dg_str *out, const char *dir)
{
    dg_error why = DG_ERROR_INIT;
    char *path = dg_path_join(dir, "origins.yaml"), *bytes = NULL;
    size_t size;
    dg_status s = path ? dg_file_read(path, 4 << 20, &bytes, &size, &why)
                       : dg_fail(&why, DG_ERR_NOMEM, "out of memory");
    dg_page_heading(out, "Recipe");
    if (s == DG_OK) {
        dg_str_puts(
            out,
            "<p class=\"note\">As it was resolved; behind each value is where it comes from.</p>\n<pre>");
        dg_page_text(out, bytes);
        dg_str_puts(out, "</pre>\n");
    } else {
        dg_str_puts(out, "<p class=\"note\">It cannot be shown: ");
        dg_page_text(out, why.message);
        dg_str_puts(out, "</p>\n");
    }
    dg_free(bytes);
    dg_free(path);
}

/* ---- the page */

static dg_status put_page(dg_str *out, const dg_logbook *b, dg_error *err)
{
    char below[256];
    const char *data = dg_logbook_fact(b, "data"), *version = dg_logbook_fact(b, "digpt");
    snprintf(below, sizeof below, "task %s, seed %s%s%s, by digpt %s", b->task, b->seed, data ? "; " : "",
             data ? data : "", version ? version : DIGPT_VERSION);
    dg_page_begin(out, b->name, below);
    put_tiles(out, b);
    DG_TRY(put_curves(out, "Training", &b->metrics, err));
    put_pictures(out, b->dir);
    DG_TRY(put_curves(out, "Speed", &b->timings, err));
    put_facts(out, b);
    put_recipe(out, b->dir);
    dg_page_end(out);
    return dg_str_check(out, err);
}

dg_status dg_report_write(const char *dir, dg_error *err)
{
    dg_logbook book = {0};
    dg_str out = {0};
    char *path = dg_path_join(dir, "report.html");
    dg_status s = path ? dg_logbook_open(dir, &book, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = put_page(&out, &book, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, out.text, out.length, err);
    dg_str_free(&out);
    dg_logbook_close(&book);
    dg_free(path);
    return s;
}

dg_status dg_pictures_page(const char *dir, const char *title, dg_error *err)
{
    dg_str out = {0};
    int64_t n = 0;
    char *path = dg_path_join(dir, "index.html");
    dg_page_begin(&out, title, NULL);
    dg_status s = path ? dg_gallery_put(&out, dir, 0, &n, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_page_end(&out);
    if (s == DG_OK) s = dg_str_check(&out, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, out.text, out.length, err);
    dg_str_free(&out);
    dg_free(path);
    return s;
}
