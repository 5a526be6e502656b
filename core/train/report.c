/* report.c - see report.h. Curves are SVG with their numbers as a table under them; no script, no network. */
#include "report.h"

#include <math.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/json.h"

enum { MOST_SERIES = 24, MOST_BYTES = 256 << 20 };

/* One column of a JSON-lines file against its step. */
typedef struct series {
    char name[64];
    double *step, *value;
    size_t n, room, value_room;
} series;

typedef struct table {
    series s[MOST_SERIES];
    size_t n;
} table;

/* ---- reading */

static series *column(table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->s[i].name, name) == 0) return &t->s[i];
    if (t->n == MOST_SERIES) return NULL;
    series *s = &t->s[t->n++];
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

static bool add_point(series *s, double step, double value)
{
    if (!dg_grow(&s->step, s->n, &s->room, sizeof *s->step) ||
        !dg_grow(&s->value, s->n, &s->value_room, sizeof *s->value))
        return false;
    s->step[s->n] = step;
    s->value[s->n++] = value;
    return true;
}

static bool is_number(const dg_json *v)
{
    return v->type == DG_JSON_INT || v->type == DG_JSON_FLOAT;
}
static double number(const dg_json *v)
{
    return v->type == DG_JSON_INT ? (double)v->v.integer : v->v.number;
}

static dg_status add_line(table *t, const char *line, size_t size, const char *where, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *row;
    dg_status s = dg_json_parse(line, size, where, &arena, &row, err);
    const dg_json *step = s == DG_OK ? dg_json_get(row, "step") : NULL;
    for (const dg_json *v = step && is_number(step) ? row->v.first : NULL; v && s == DG_OK; v = v->next) {
        series *c = v != step && is_number(v) ? column(t, v->key) : NULL;
        if (c && !add_point(c, number(step), number(v))) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    dg_arena_free(&arena);
    return s;
}

/* An absent file is an empty table; a last line without its end is passed over. */
static dg_status read_lines(const char *dir, const char *name, table *t, dg_error *err)
{
    char *path = dg_path_join(dir, name), *bytes = NULL;
    size_t size = 0;
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_path_is_file(path) ? dg_file_read(path, MOST_BYTES, &bytes, &size, err) : DG_OK;
    for (char *at = bytes, *end; s == DG_OK && at && (end = memchr(at, '\n', (size_t)(bytes + size - at)));
         at = end + 1)
        s = add_line(t, at, (size_t)(end - at), path, err);
    dg_free(bytes);
    dg_free(path);
    return s;
}

static void free_table(table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        dg_free(t->s[i].step);
        dg_free(t->s[i].value);
    }
}

/* ---- writing */

static void escape(dg_str *out, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<'   ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '&' ? "&amp;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (entity)
            dg_str_puts(out, entity);
        else
            dg_str_bytes(out, text, 1);
    }
}

static void range_of(const series *s, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->value[i])) continue;
        if (s->value[i] < *low) *low = s->value[i];
        if (s->value[i] > *high) *high = s->value[i];
    }
    if (!(*high > *low)) {
        double pad = fabs(*low) > 0 && isfinite(*low) ? 0.05 * fabs(*low) : 1;
        if (!isfinite(*low)) *low = *high = 0;
        *high += pad;
        *low -= pad;
    }
}

/* A step of 1, 2 or 5 times a power of ten that gives about `parts` marks. */
static double mark_distance(double span, int parts)
{
    double raw = span / parts, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static void draw(dg_str *out, const series *s, const char *title)
{
    enum { W = 560, H = 240, LEFT = 64, RIGHT = 12, TOP = 26, BOTTOM = 30 };
    double low, high, first = s->step[0], last = s->step[s->n - 1], inner_w = W - LEFT - RIGHT,
                      inner_h = H - TOP - BOTTOM;
    range_of(s, &low, &high);
    double span = last > first ? last - first : 1, d = mark_distance(high - low, 5),
           e = mark_distance(span, 6);
    dg_str_printf(out,
                  "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n<text class=\"t\" "
                  "x=\"%d\" y=\"16\">%s</text>\n",
                  W, H, title, LEFT, title);
    for (double y = ceil(low / d) * d; y <= high + 1e-9 * d; y += d) {
        double py = TOP + inner_h * (high - y) / (high - low);
        dg_str_printf(out,
                      "<path class=\"g\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                      "text-anchor=\"end\">%.4g</text>\n",
                      LEFT, py, W - RIGHT, LEFT - 6, py + 4, fabs(y) < 1e-12 * d ? 0 : y);
    }
    for (double x = ceil(first / e) * e; x <= last + 1e-9 * e; x += e)
        dg_str_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                      LEFT + inner_w * (x - first) / span, H - 10, x);
    dg_str_puts(out, "<polyline points=\"");
    size_t stride = s->n / 1200 + 1;
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->value[i]) || (i % stride && i + 1 != s->n)) continue;
        dg_str_printf(out, "%.1f,%.1f ", LEFT + inner_w * (s->step[i] - first) / span,
                      TOP + inner_h * (high - s->value[i]) / (high - low));
    }
    dg_str_printf(out, "\"/>\n</svg><figcaption>first %.5g, last %.5g, least %.5g</figcaption></figure>\n",
                  s->value[0], s->value[s->n - 1], low);
}

static void draw_all(dg_str *out, const table *t, bool timings)
{
    dg_str_puts(out, "<div class=\"curves\">\n");
    for (size_t i = 0; i < t->n; i++) {
        const series *s = &t->s[i];
        if (s->n < 2 || strcmp(s->name, "epoch") == 0) continue;
        if (timings && strcmp(s->name, "bad_images") == 0 && s->value[s->n - 1] == 0) continue;
        draw(out, s, s->name);
    }
    dg_str_puts(out, "</div>\n");
}

static void put_facts(dg_str *out, const char *dir)
{
    dg_arena arena = {0};
    dg_error ignored = DG_ERROR_INIT;
    const dg_json *root = NULL;
    char *path = dg_path_join(dir, "run.json");
    if (path && dg_json_read_file(path, 1 << 20, &arena, &root, &ignored) == DG_OK) {
        dg_str_puts(out, "<table>\n");
        for (const dg_json *v = root->v.first; v; v = v->next) {
            dg_str_puts(out, "<tr><th>");
            escape(out, v->key);
            dg_str_puts(out, "</th><td>");
            if (v->type == DG_JSON_STRING)
                escape(out, v->v.text);
            else if (is_number(v))
                dg_str_printf(out, "%.17g", number(v));
            dg_str_puts(out, "</td></tr>\n");
        }
        dg_str_puts(out, "</table>\n");
    }
    dg_arena_free(&arena);
    dg_free(path);
}

static void put_recipe(dg_str *out, const char *dir)
{
    dg_error ignored = DG_ERROR_INIT;
    char *path = dg_path_join(dir, "origins.yaml"), *bytes = NULL;
    size_t size;
    if (path && dg_file_read(path, 4 << 20, &bytes, &size, &ignored) == DG_OK) {
        dg_str_puts(out, "<h2>Recipe, and where each value comes from</h2>\n<pre>");
        escape(out, bytes);
        dg_str_puts(out, "</pre>\n");
    }
    dg_free(bytes);
    dg_free(path);
}

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
    "content=\"width=device-width\">\n"
    "<style>\nbody{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 "
    "1em;color:#222;background:#fff}\n"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}th{text-align:left;"
    "padding:2px 1.2em 2px 0;"
    "font-weight:600;vertical-align:top}td{padding:2px "
    "0}pre{background:#f5f5f5;padding:1em;overflow:auto;font-size:13px}\n"
    ".curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1em}figure{margin:0}"
    "svg{width:100%;height:auto}"
    "svg text{font:11px system-ui,sans-serif;fill:#555}svg "
    ".t{font-size:13px;font-weight:600;fill:#222}.g{stroke:#e4e4e4}"
    "polyline{fill:none;stroke:#1764ab;stroke-width:1.6}figcaption{font-size:12px;color:#666}\n</style>\n";

dg_status dg_report_write(const char *dir, dg_error *err)
{
    table metrics = {0}, timings = {0};
    dg_str out = {0};
    char *path = dg_path_join(dir, "report.html");
    const char *name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
    dg_status s =
        path ? read_lines(dir, "metrics.jsonl", &metrics, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = read_lines(dir, "timings.jsonl", &timings, err);
    if (s == DG_OK) {
        dg_str_puts(&out, head);
        dg_str_puts(&out, "<title>");
        escape(&out, name);
        dg_str_puts(&out, "</title>\n<h1>");
        escape(&out, name);
        dg_str_puts(&out, "</h1>\n");
        put_facts(&out, dir);
        dg_str_puts(&out, "<h2>Training</h2>\n");
        draw_all(&out, &metrics, false);
        dg_str_puts(&out, "<h2>Speed</h2>\n");
        draw_all(&out, &timings, true);
        put_recipe(&out, dir);
        dg_str_puts(&out, "</html>\n");
        s = dg_str_check(&out, err);
    }
    if (s == DG_OK) s = dg_file_write_atomic(path, out.text, out.length, err);
    dg_str_free(&out);
    free_table(&metrics);
    free_table(&timings);
    dg_free(path);
    return s;
}
