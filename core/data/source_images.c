/* source_images.c - images by path, without labels: files as they are given, folders with all below them. */
#include "source_parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/file.h"

#define MAX_DEPTH 16 /* of folders: more is a link that leads back */

typedef struct found {
    dg_arena arena;
    dg_file_entry *entries;
    size_t count, capacity;
} found;

static dg_status add(found *f, const char *path, dg_error *err)
{
    char *copy = dg_arena_strdup(&f->arena, path);
    if (!copy || !dg_grow(&f->entries, f->count, &f->capacity, sizeof *f->entries))
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the list of files");
    f->entries[f->count++] = (dg_file_entry){copy, "", -1};
    return DG_OK;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const dg_file_entry *)a)->path, ((const dg_file_entry *)b)->path);
}

static dg_status walk(found *f, const char *dir, int depth, dg_error *err)
{
    if (depth > MAX_DEPTH)
        return dg_fail(err, DG_ERR_FORMAT, "'%s' lies more than %d folders deep: a link that leads back?",
                       dir, MAX_DEPTH);
    DIR *d = opendir(dir);
    if (!d) return dg_fail(err, DG_ERR_IO, "cannot open the folder '%s': %s", dir, strerror(errno));
    dg_status s = DG_OK;
    for (struct dirent *e; s == DG_OK && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = dg_path_join(dir, e->d_name);
        if (!path)
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        else if (dg_path_is_dir(path))
            s = walk(f, path, depth + 1, err);
        else if (dg_is_image_name(e->d_name))
            s = add(f, path, err);
        dg_free(path);
    }
    closedir(d);
    return s;
}

bool dg_source_is_image(const char *path)
{
    const char *slash = strrchr(path, '/');
    return dg_is_image_name(slash ? slash + 1 : path);
}

dg_status dg_source_open_images(const char *const *paths, size_t n, dg_source **source, dg_error *err)
{
    found f = {0};
    dg_status s = DG_OK;
    for (size_t i = 0; i < n && s == DG_OK; i++) {
        size_t first = f.count;
        if (dg_path_is_dir(paths[i])) {
            s = walk(&f, paths[i], 0, err);
            if (s == DG_OK && f.count == first)
                s = dg_fail(err, DG_ERR_NOT_FOUND, "'%s' has no .jpg, .jpeg or .png in it", paths[i]);
            if (s == DG_OK) qsort(f.entries + first, f.count - first, sizeof *f.entries, by_path);
        } else if (!dg_path_is_file(paths[i])) {
            s = dg_fail(err, DG_ERR_NOT_FOUND, "there is no file or folder '%s'", paths[i]);
        } else {
            s = dg_source_is_image(paths[i])
                    ? add(&f, paths[i], err)
                    : dg_fail(err, DG_ERR_INVALID, "'%s' is no .jpg, .jpeg or .png", paths[i]);
        }
    }
    if (s == DG_OK) {
        s = dg_source_of_files(f.entries, f.count, &f.arena, NULL, "images", source, err);
        f.entries = NULL;
    }
    dg_free(f.entries);
    dg_arena_free(&f.arena);
    return s;
}
