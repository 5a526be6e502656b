/* shard_paths.c - see shard_paths.h. */
#include "shard_paths.h"

#include <glob.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"

#define MAX_PATHS 1000000

void dg_paths_free(dg_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++) dg_free(paths->items[i]);
    dg_free(paths->items);
    *paths = (dg_paths){0};
}

static dg_status append(dg_paths *paths, const char *path, dg_error *err)
{
    if (paths->count >= MAX_PATHS) return dg_fail(err, DG_ERR_INVALID, "more than %d shards", MAX_PATHS);
    char *copy = dg_strdup(path);
    if (!copy || !dg_grow(&paths->items, paths->count, &paths->capacity, sizeof *paths->items)) {
        dg_free(copy);
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the list of shards");
    }
    paths->items[paths->count++] = copy;
    return DG_OK;
}

static dg_status expand_glob(dg_paths *paths, const char *pattern, dg_error *err)
{
    if (!strpbrk(pattern, "*?[")) return append(paths, pattern, err);
    glob_t g;
    const int r = glob(pattern, GLOB_ERR, NULL, &g);
    dg_status s = DG_OK;
    if (r == GLOB_NOMATCH) return dg_fail(err, DG_ERR_NOT_FOUND, "no file matches '%s'", pattern);
    if (r != 0)
        return dg_fail(err, r == GLOB_NOSPACE ? DG_ERR_NOMEM : DG_ERR_IO, "cannot list '%s'", pattern);
    for (size_t i = 0; s == DG_OK && i < g.gl_pathc; i++) s = append(paths, g.gl_pathv[i], err);
    globfree(&g);
    return s;
}

/* Expands prefix + item + rest, where rest may hold further braces. */
static dg_status expand_with(dg_paths *paths, const char *pattern, size_t prefix, const char *item,
                             size_t item_size, const char *rest, dg_error *err)
{
    dg_str s = {0};
    dg_str_bytes(&s, pattern, prefix);
    dg_str_bytes(&s, item, item_size);
    dg_str_puts(&s, rest);
    dg_status r = dg_str_check(&s, err);
    if (r == DG_OK) r = dg_paths_expand(paths, s.text, err);
    dg_str_free(&s);
    return r;
}

dg_status dg_paths_expand(dg_paths *paths, const char *pattern, dg_error *err)
{
    const char *open = strchr(pattern, '{'), *close = open ? strchr(open, '}') : NULL;
    if (!close) return expand_glob(paths, pattern, err);
    const size_t prefix = (size_t)(open - pattern);
    char *end = NULL, *last_end = NULL;
    const unsigned long first = strtoul(open + 1, &end, 10);
    if (end > open + 1 && end - open <= 9 && !strncmp(end, "..", 2)) {
        const unsigned long last = strtoul(end + 2, &last_end, 10);
        if (last_end != close || last_end == end + 2 || last < first || last - first >= MAX_PATHS)
            return dg_fail(err, DG_ERR_INVALID, "'%s': '%.*s' is not a range such as {000..146}", pattern,
                           (int)(close - open + 1), open);
        for (unsigned long i = first; i <= last; i++) {
            char item[32];
            const int n = snprintf(item, sizeof item, "%0*lu", (int)(end - open - 1), i);
            DG_TRY(expand_with(paths, pattern, prefix, item, (size_t)n, close + 1, err));
        }
        return DG_OK;
    }
    for (const char *at = open + 1; at <= close;) {
        size_t n = strcspn(at, ",}");
        DG_TRY(expand_with(paths, pattern, prefix, at, n, close + 1, err));
        at += n + 1;
    }
    return DG_OK;
}
