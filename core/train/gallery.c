/* gallery.c - pictures of a run in a folder, and on a page. See gallery.h. */
#include "gallery.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"
#include "io/json.h"
#include "io/jsonl.h"
#include "train/page.h"

static const char list_name[] = "pictures.jsonl";
enum { MOST_LIST = 64 << 20 };

/* ---- reading */

/* One line of the list; the texts live in an arena. */
typedef struct entry {
    const char *section, *about, *column, *title, *note, *file;
    int64_t row, verdict;
    double low, high;
} entry;

typedef struct list {
    dg_arena arena;
    entry *entries;
    size_t n, room;
} list;

static dg_status read_entry(const dg_json *row, const char *where, entry *e, dg_error *err)
{
    DG_TRY(dg_json_need_text(row, "section", where, &e->section, err));
    DG_TRY(dg_json_need_text(row, "about", where, &e->about, err));
    DG_TRY(dg_json_need_int(row, "row", where, &e->row, err));
    DG_TRY(dg_json_need_text(row, "column", where, &e->column, err));
    DG_TRY(dg_json_need_text(row, "title", where, &e->title, err));
    DG_TRY(dg_json_need_text(row, "note", where, &e->note, err));
    DG_TRY(dg_json_need_int(row, "verdict", where, &e->verdict, err));
    DG_TRY(dg_json_need_number(row, "low", where, &e->low, err));
    DG_TRY(dg_json_need_number(row, "high", where, &e->high, err));
    DG_TRY(dg_json_need_text(row, "file", where, &e->file, err));
    if (e->file[0] == '.' || strchr(e->file, '/'))
        return dg_fail(err, DG_ERR_FORMAT, "%s: '%s' is no file of this folder", where, e->file);
    return DG_OK;
}

static dg_status read_list(const char *dir, list *l, dg_error *err)
{
    char *path = dg_path_join(dir, list_name), *bytes = NULL;
    size_t size = 0;
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_path_is_file(path) ? dg_file_read(path, MOST_LIST, &bytes, &size, err) : DG_OK;
    for (char *at = bytes, *end; s == DG_OK && at && (end = memchr(at, '\n', (size_t)(bytes + size - at)));
         at = end + 1) {
        const dg_json *row;
        s = dg_json_parse(at, (size_t)(end - at), path, &l->arena, &row, err);
        if (s == DG_OK && !dg_grow(&l->entries, l->n, &l->room, sizeof *l->entries))
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        if (s == DG_OK) s = read_entry(row, path, &l->entries[l->n++], err);
    }
    dg_free(bytes);
    dg_free(path);
    return s;
}

static void free_list(list *l)
{
    dg_free(l->entries);
    dg_arena_free(&l->arena);
}

/* ---- writing */

dg_status dg_gallery_begin(dg_gallery *g, dg_error *err)
{
    list old = {0};
    dg_error ignored = DG_ERROR_INIT;
    DG_TRY(dg_dir_make(g->dir, err));
    if (read_list(g->dir, &old, &ignored) == DG_OK)
        for (size_t i = 0; i < old.n; i++) {
            char *path = dg_path_join(g->dir, old.entries[i].file);
            if (path) unlink(path);
            dg_free(path);
        }
    free_list(&old);
    char *path = dg_path_join(g->dir, list_name);
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    unlink(path);
    dg_free(path);
    return DG_OK;
}

/* Not synced, as logs and checkpoints are: pictures can be drawn again. */
static dg_status write_file(const char *path, const void *bytes, size_t size, dg_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return dg_fail(err, DG_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    dg_status s = dg_fd_write_all(fd, bytes, size, path, err);
    if (close(fd) != 0 && s == DG_OK)
        s = dg_fail(err, DG_ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    return s;
}

static dg_status write_picture(const dg_gallery *g, const char *file, const dg_canvas *picture, dg_error *err)
{
    void *bytes = NULL;
    size_t size = 0;
    char *path = dg_path_join(g->dir, file);
    dg_status s =
        path ? dg_image_encode_png(picture->pixels, picture->width, picture->height, &bytes, &size, err)
             : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = write_file(path, bytes, size, err);
    dg_free(bytes);
    dg_free(path);
    return s;
}

dg_status dg_gallery_add(dg_gallery *g, const dg_panel *p, const dg_canvas *picture, dg_error *err)
{
    char file[96];
    dg_str row = {0};
    if (p->column[0])
        snprintf(file, sizeof file, "%03lld-%s.png", (long long)p->row, p->column);
    else
        snprintf(file, sizeof file, "picture-%03lld.png", (long long)g->n);
    for (char *c = file; *c; c++)
        if (*c == '/') *c = '_';
    DG_TRY(write_picture(g, file, picture, err));
    dg_row_text(&row, "section", p->section);
    dg_row_text(&row, "about", p->about);
    dg_row_int(&row, "row", p->row);
    dg_row_text(&row, "column", p->column);
    dg_row_text(&row, "title", p->title);
    dg_row_text(&row, "note", p->note);
    dg_row_int(&row, "verdict", p->verdict);
    dg_row_number(&row, "low", p->low);
    dg_row_number(&row, "high", p->high);
    dg_row_text(&row, "file", file);
    g->lines.failed |= row.failed;
    dg_str_printf(&g->lines, "%s}\n", row.text ? row.text : "{");
    dg_str_free(&row);
    g->n++;
    return dg_str_check(&g->lines, err);
}

dg_status dg_gallery_end(dg_gallery *g, dg_error *err)
{
    char *path = dg_path_join(g->dir, list_name);
    dg_status s = path ? dg_file_write_atomic(path, g->lines.text ? g->lines.text : "", g->lines.length, err)
                       : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(path);
    return s;
}

void dg_gallery_close(dg_gallery *g)
{
    dg_str_free(&g->lines);
    *g = (dg_gallery){0};
}

/* ---- on a page */

static void put_scale(dg_str *out, const entry *e)
{
    enum { STOPS = 8 };
    if (e->low == e->high) return;
    dg_str_printf(out, "<span class=\"scale\">%.2g<i style=\"background:linear-gradient(90deg", e->low);
    for (int i = 0; i <= STOPS; i++) {
        dg_colour c = dg_heat((double)i / STOPS);
        dg_str_printf(out, ",#%02x%02x%02x", c.r, c.g, c.b);
    }
    dg_str_printf(out, ")\"></i>%.2g</span>", e->high);
}

static void put_note(dg_str *out, const entry *e)
{
    dg_str_printf(out, "<div%s>",
                  e->verdict > 0   ? " class=\"right\""
                  : e->verdict < 0 ? " class=\"wrong\""
                                   : "");
    for (const char *line = e->note; *line;) {
        size_t n = strcspn(line, "\n");
        dg_str part = {0};
        dg_str_bytes(&part, line, n);
        dg_page_text(out, part.text ? part.text : "");
        out->failed |= part.failed;
        dg_str_free(&part);
        line += n + (line[n] == '\n');
        if (*line) dg_str_puts(out, "<br>");
    }
    dg_str_puts(out, "</div>");
}

static dg_status put_picture(dg_str *out, const char *dir, const entry *e, dg_error *err)
{
    char *path = dg_path_join(dir, e->file);
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_str_puts(out, "<figure>");
    dg_status s = dg_page_picture_file(out, path, e->title[0] ? e->title : e->note, err);
    put_note(out, e);
    dg_str_puts(out, "</figure>\n");
    dg_free(path);
    return s;
}

static bool same_section(const entry *a, const entry *b)
{
    return strcmp(a->section, b->section) == 0;
}

static const entry *at_place(const list *l, const entry *of, const char *column, int64_t row)
{
    for (size_t i = 0; i < l->n; i++)
        if (same_section(&l->entries[i], of) && strcmp(l->entries[i].column, column) == 0 &&
            l->entries[i].row == row)
            return &l->entries[i];
    return NULL;
}

/* A heading for each column, in the order in which they first come, then the rows. */
static dg_status put_table(dg_str *out, const char *dir, const list *l, const entry *first, int64_t most_rows,
                           dg_error *err)
{
    enum { MOST_COLUMNS = 24 };
    const entry *columns[MOST_COLUMNS];
    size_t n = 0;
    int64_t rows = 0;
    for (size_t i = 0; i < l->n; i++) {
        const entry *e = &l->entries[i];
        bool known = !same_section(e, first) || n == MOST_COLUMNS;
        for (size_t k = 0; k < n && !known; k++) known = strcmp(columns[k]->column, e->column) == 0;
        if (!known) columns[n++] = e;
        if (same_section(e, first) && e->row + 1 > rows) rows = e->row + 1;
    }
    if (most_rows > 0 && rows > most_rows) rows = most_rows;
    dg_str_printf(
        out, "<div class=\"pictures\" style=\"grid-template-columns:repeat(%zu,minmax(96px,176px))\">\n", n);
    for (size_t k = 0; k < n; k++) {
        dg_str_puts(out, "<b>");
        dg_page_text(out, columns[k]->title);
        put_scale(out, columns[k]);
        dg_str_puts(out, "</b>\n");
    }
    for (int64_t r = 0; r < rows; r++)
        for (size_t k = 0; k < n; k++) {
            const entry *e = at_place(l, first, columns[k]->column, r);
            if (e)
                DG_TRY(put_picture(out, dir, e, err));
            else
                dg_str_puts(out, "<span></span>\n");
        }
    dg_str_puts(out, "</div>\n");
    return DG_OK;
}

static dg_status put_flow(dg_str *out, const char *dir, const list *l, const entry *first, int64_t most_rows,
                          dg_error *err)
{
    dg_str_puts(out, "<div class=\"pictures\" style=\"grid-template-columns:repeat(auto-fill,"
                     "minmax(124px,1fr));gap:14px\">\n");
    for (size_t i = 0; i < l->n; i++)
        if (same_section(&l->entries[i], first) && (most_rows == 0 || l->entries[i].row < 8 * most_rows))
            DG_TRY(put_picture(out, dir, &l->entries[i], err));
    dg_str_puts(out, "</div>\n");
    return DG_OK;
}

dg_status dg_gallery_put(dg_str *out, const char *dir, int64_t most_rows, int64_t *n, dg_error *err)
{
    list l = {0};
    dg_status s = read_list(dir, &l, err);
    *n = s == DG_OK ? (int64_t)l.n : 0;
    for (size_t i = 0; s == DG_OK && i < l.n; i++) {
        const entry *e = &l.entries[i];
        bool begun = false;
        for (size_t k = 0; k < i && !begun; k++) begun = same_section(&l.entries[k], e);
        if (begun) continue;
        dg_str_puts(out, "<h3>");
        dg_page_text(out, e->section);
        dg_str_puts(out, "</h3>\n");
        if (e->about[0]) {
            dg_str_puts(out, "<p class=\"note\">");
            dg_page_text(out, e->about);
            dg_str_puts(out, "</p>\n");
        }
        s = e->column[0] ? put_table(out, dir, &l, e, most_rows, err)
                         : put_flow(out, dir, &l, e, most_rows, err);
    }
    free_list(&l);
    return s;
}
