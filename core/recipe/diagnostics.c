/* diagnostics.c - see diagnostics.h. */
#include "recipe/diagnostics.h"

/* Text of a recipe may hold anything; a terminal must not obey it: no control characters, no second line. */
static void tame(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) *p = '?';
        if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) p[0] = p[1] = '?';
    }
}

static bool keep(dg_diagnostics *d, dg_severity severity, dg_pos pos, const char *text)
{
    if (!dg_grow(&d->items, d->n, &d->capacity, sizeof *d->items)) return false;
    char *message = dg_arena_strdup(&d->arena, text);
    char *file = pos.file ? dg_arena_strdup(&d->arena, pos.file) : NULL;
    if (!message || (pos.file && !file)) return false;
    tame(message);
    if (file) tame(file);
    d->items[d->n++] = (dg_diagnostic){{file, pos.line, pos.col}, severity, message};
    return true;
}

dg_status dg_diagnose(dg_diagnostics *d, dg_severity severity, dg_pos pos, const char *fmt, ...)
{
    dg_status s = severity == DG_SEVERITY_ERROR ? DG_ERR_INVALID : DG_OK;
    if (severity == DG_SEVERITY_ERROR) {
        d->dropping = d->n_errors++ >= DG_DIAGNOSTICS_MAX;
        if (d->dropping) d->n_dropped++;
    }
    if (d->dropping) return s;
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!keep(d, severity, pos, text)) d->out_of_memory = true;
    return s;
}

static int compare(dg_pos a, dg_pos b)
{
    int c = strcmp(a.file ? a.file : "", b.file ? b.file : "");
    if (c == 0) c = (a.line > b.line) - (a.line < b.line);
    return c ? c : (a.col > b.col) - (a.col < b.col);
}

void dg_diagnostics_sort(dg_diagnostics *d)
{
    /* Insertion sort of groups, an error and its notes; the list is short. */
    for (size_t start = 0, end; start < d->n; start = end) {
        for (end = start + 1; end < d->n && d->items[end].severity == DG_SEVERITY_NOTE;) end++;
        size_t to = start;
        for (size_t i = start; i-- > 0;)
            if (d->items[i].severity != DG_SEVERITY_NOTE) {
                if (compare(d->items[i].pos, d->items[start].pos) <= 0) break;
                to = i;
            }
        for (size_t i = start; to < start && i < end; i++) {
            dg_diagnostic moved = d->items[i];
            size_t place = to + (i - start);
            memmove(d->items + place + 1, d->items + place, (i - place) * sizeof moved);
            d->items[place] = moved;
        }
    }
}

const char *dg_pos_text(dg_pos pos, char *out, size_t size)
{
    if (!pos.file)
        snprintf(out, size, "default");
    else if (pos.line == 0)
        snprintf(out, size, "%s", pos.file);
    else
        snprintf(out, size, "%s:%u:%u", pos.file, (unsigned)pos.line, (unsigned)pos.col);
    return out;
}

void dg_diagnostics_print(const dg_diagnostics *d, dg_str *out)
{
    static const char *const word[] = {"error", "warning", "note"};
    for (size_t i = 0; i < d->n; i++) {
        char pos[1024];
        dg_str_printf(out, "%s: %s: %s\n", dg_pos_text(d->items[i].pos, pos, sizeof pos),
                      word[d->items[i].severity], d->items[i].message);
    }
    if (d->n_dropped) dg_str_printf(out, "and %zu more errors\n", d->n_dropped);
}

void dg_diagnostics_free(dg_diagnostics *d)
{
    dg_arena_free(&d->arena);
    dg_free(d->items);
    memset(d, 0, sizeof *d);
}
