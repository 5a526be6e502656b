/* classes.c - see classes.h. */
#include "classes.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/str.h"
#include "io/json.h"

enum { MOST_BYTES = 64 << 20 };

void dg_classes_free(dg_classes *c)
{
    dg_free(c->names);
    dg_arena_free(&c->arena);
    *c = (dg_classes){0};
}

dg_status dg_classes_write(const char *dir, const dg_source *source, dg_error *err)
{
    dg_str text = {0};
    char buffer[64];
    int32_t n = dg_source_classes(source);
    if (n < 1) return DG_OK;
    for (int32_t i = 0; i < n; i++) {
        dg_str_puts(&text, i ? ",\n " : "[");
        dg_str_json(&text, dg_source_class_name(source, i, buffer, sizeof buffer));
    }
    dg_str_puts(&text, "]\n");
    char *path = dg_path_join(dir, DG_CLASSES_FILE);
    dg_status s = path ? dg_str_check(&text, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = dg_file_write_atomic(path, text.text, text.length, err);
    dg_free(path);
    dg_str_free(&text);
    return s;
}

static dg_status add(dg_classes *c, size_t *room, const char *name, size_t length, dg_error *err)
{
    char *copy = dg_arena_alloc(&c->arena, length + 1);
    if (c->n >= 10000000) return dg_fail(err, DG_ERR_FORMAT, "more than ten million classes");
    if (!copy || !dg_grow(&c->names, (size_t)c->n, room, sizeof *c->names))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the names of classes");
    memcpy(copy, name, length);
    c->names[c->n++] = copy;
    return DG_OK;
}

static dg_status read_json(const char *bytes, size_t size, const char *path, dg_classes *c, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root;
    size_t room = 0;
    dg_status s = dg_json_parse(bytes, size, path, &arena, &root, err);
    for (const dg_json *v = s == DG_OK ? root->v.first : NULL; v && s == DG_OK; v = v->next)
        s = v->type == DG_JSON_STRING
                ? add(c, &room, v->v.text, strlen(v->v.text), err)
                : dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: the name of a class is a string", path, v->line,
                          v->col);
    dg_arena_free(&arena);
    return s;
}

static dg_status read_lines(const char *bytes, size_t size, dg_classes *c, dg_error *err)
{
    size_t room = 0;
    for (size_t at = 0; at < size;) {
        const char *line = bytes + at, *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        at += length + 1;
        if (length && line[length - 1] == '\r') length--;
        if (memchr(line, 0, length)) return dg_fail(err, DG_ERR_FORMAT, "a zero byte: is this a text file?");
        if (length) DG_TRY(add(c, &room, line, length, err));
    }
    return DG_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names with their class, sorted by name. */
typedef struct entry {
    const char *name;
    int32_t number;
} entry;

static entry *sorted(const dg_classes *c)
{
    entry *e = dg_calloc((size_t)c->n + 1, sizeof *e);
    for (int32_t i = 0; e && i < c->n; i++) e[i] = (entry){c->names[i], i};
    if (e) qsort(e, (size_t)c->n, sizeof *e, by_name);
    return e;
}

dg_status dg_classes_read(const char *path, dg_classes *out, dg_error *err)
{
    char *bytes = NULL;
    size_t size = 0, at = 0;
    *out = (dg_classes){0};
    DG_TRY(dg_file_read(path, MOST_BYTES, &bytes, &size, err));
    while (at < size && isspace((unsigned char)bytes[at])) at++;
    dg_status s = at < size && bytes[at] == '[' ? read_json(bytes, size, path, out, err)
                                                : read_lines(bytes, size, out, err);
    if (s == DG_OK && out->n == 0) s = dg_fail(err, DG_ERR_FORMAT, "'%s' names no class", path);
    entry *e = s == DG_OK ? sorted(out) : NULL;
    if (s == DG_OK && !e) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 1; s == DG_OK && i < out->n; i++)
        if (strcmp(e[i - 1].name, e[i].name) == 0)
            s = dg_fail(err, DG_ERR_FORMAT, "'%s' has the class '%s' twice", path, e[i].name);
    dg_free(e);
    dg_free(bytes);
    if (s != DG_OK) dg_classes_free(out);
    return s;
}

dg_status dg_classes_of(const dg_source *source, dg_classes *out, dg_error *err)
{
    char buffer[64];
    size_t room = 0;
    dg_status s = DG_OK;
    *out = (dg_classes){0};
    for (int32_t i = 0; i < dg_source_classes(source) && s == DG_OK; i++) {
        const char *name = dg_source_class_name(source, i, buffer, sizeof buffer);
        s = add(out, &room, name, strlen(name), err);
    }
    if (s != DG_OK) dg_classes_free(out);
    return s;
}

/* ---- labels of other data */

/* 0..n-1 in decimal, or -1. */
static int32_t number_of(const char *name, int32_t n)
{
    char *end;
    if (!isdigit((unsigned char)name[0]) || strlen(name) > 8) return -1;
    long v = strtol(name, &end, 10);
    return *end == 0 && v < n ? (int32_t)v : -1;
}

/* -1: some name is not there; its number is left in *stranger. */
static bool by_names(const dg_classes *c, const dg_source *source, const entry *all, int32_t *class_of,
                     int32_t *stranger)
{
    char buffer[64];
    for (int32_t i = 0; i < dg_source_classes(source); i++) {
        const char *name = dg_source_class_name(source, i, buffer, sizeof buffer);
        const entry *e = bsearch(&name, all, (size_t)c->n, sizeof *all, by_name);
        *stranger = i;
        if (!e) return false;
        class_of[i] = e->number;
    }
    return true;
}

static bool by_numbers(const dg_classes *c, const dg_source *source, int32_t *class_of)
{
    char buffer[64];
    for (int32_t i = 0; i < dg_source_classes(source); i++)
        if ((class_of[i] = number_of(dg_source_class_name(source, i, buffer, sizeof buffer), c->n)) < 0)
            return false;
    return true;
}

dg_status dg_classes_map(const dg_classes *c, const dg_source *source, int32_t **out, dg_error *err)
{
    int32_t n = dg_source_classes(source), stranger = 0;
    char buffer[64];
    *out = NULL;
    if (n < 1) return dg_fail(err, DG_ERR_MISMATCH, "the data to evaluate on has no labels");
    int32_t *class_of = dg_calloc((size_t)n, sizeof *class_of);
    entry *all = sorted(c);
    dg_status s = class_of && all ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && !by_names(c, source, all, class_of, &stranger) && !by_numbers(c, source, class_of)) {
        const char *name = dg_source_class_name(source, stranger, buffer, sizeof buffer);
        const char *nearest = dg_nearest(name, c->names, (size_t)c->n);
        s = dg_fail(err, DG_ERR_MISMATCH,
                    "class %d of the data, '%s', is none of the classifier's %d classes ('%s' .. '%s')%s%s%s",
                    stranger, name, c->n, c->names[0], c->names[c->n - 1],
                    nearest ? "; the nearest is '" : "", nearest ? nearest : "", nearest ? "'" : "");
    }
    dg_free(all);
    if (s == DG_OK)
        *out = class_of;
    else
        dg_free(class_of);
    return s;
}
