/* source_tar.c - samples in tar shards, read in place by pread. See source.h and tar_index.h. */
#include "source_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include "shard_paths.h"
#include "tar_index.h"

/* So many files are kept open, well below the usual limit of 1024 a process; the others are opened for each
 * read. */
#define MAX_OPEN 512

typedef struct shard {
    const char *path;
    int fd;          /* -1: opened for each read */
    int64_t first;   /* number of its first sample */
    int32_t *labels; /* [classes of its index]: numbers over all shards; NULL if labels are .cls integers */
    dg_tar_index index;
} shard;

typedef struct tar_source {
    dg_source base;
    shard *shards;
    size_t shard_count;
} tar_source;

static dg_status open_shard(const char *path, int *fd, dg_error *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd >= 0) return DG_OK;
    return dg_fail(err, errno == ENOENT ? DG_ERR_NOT_FOUND : DG_ERR_IO, "cannot open the shard '%s': %s",
                   path, strerror(errno));
}

static const shard *shard_of(const tar_source *t, int64_t id)
{
    size_t low = 0, high = t->shard_count; /* the last shard whose first sample is not after id */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (t->shards[middle].first <= id)
            low = middle;
        else
            high = middle;
    }
    return &t->shards[low];
}

static dg_status read_entry(const dg_tar_entry *e, int fd, dg_sample *sample, dg_error *err)
{
    DG_TRY(dg_sample_reserve(sample, (size_t)e->size, err));
    DG_TRY(dg_read_at(fd, e->at, sample->bytes, (size_t)e->size, err));
    sample->size = (size_t)e->size;
    DG_TRY(dg_sample_caption(sample, e->caption_size, err));
    return dg_read_at(fd, e->caption_at, sample->caption, e->caption_size, err);
}

static dg_status tar_read(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err)
{
    const shard *h = shard_of((const tar_source *)source, id);
    const dg_tar_entry *e = &h->index.entries[id - h->first];
    sample->name = h->index.strings + e->name;
    if (!h->labels)
        sample->label = e->label;
    else if (e->class_index >= 0)
        sample->label = h->labels[e->class_index];
    int fd = h->fd;
    if (fd < 0) DG_TRY(open_shard(h->path, &fd, err));
    dg_status s = read_entry(e, fd, sample, err);
    if (h->fd < 0) close(fd);
    if (s != DG_OK) dg_fail_in(err, "'%s'", h->path);
    return s;
}

static void tar_close(dg_source *source)
{
    tar_source *t = (tar_source *)source;
    for (size_t i = 0; i < t->shard_count; i++) {
        dg_tar_index_close(&t->shards[i].index);
        if (t->shards[i].fd >= 0) close(t->shards[i].fd);
    }
    dg_free(t->shards);
}

static const dg_source_kind tar_kind = {tar_read, tar_close};

static dg_status add_shard(tar_source *t, const char *path, const char *cache_dir, dg_error *err)
{
    shard *h = &t->shards[t->shard_count];
    int fd;
    DG_TRY(open_shard(path, &fd, err));
    h->fd = fd;
    h->first = t->base.count;
    t->shard_count++; /* from here on tar_close cleans it up */
    h->path = dg_arena_strdup(&t->base.arena, path);
    if (!h->path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    DG_TRY(dg_tar_index_open(path, fd, cache_dir, &h->index, err));
    t->base.count += (int64_t)h->index.header->entries;
    if (t->shard_count > MAX_OPEN) {
        close(fd);
        h->fd = -1;
    }
    return DG_OK;
}

static void look_at_entries(tar_source *t, bool *has_integers)
{
    for (size_t i = 0; i < t->shard_count; i++) {
        const dg_tar_index *x = &t->shards[i].index;
        t->base.fingerprint =
            XXH3_64bits_withSeed(&x->header->hash, sizeof x->header->hash, t->base.fingerprint);
        for (uint64_t k = 0; k < x->header->entries; k++) {
            if (x->entries[k].caption_size) t->base.has_captions = true;
            if (x->entries[k].label < 0) continue;
            *has_integers = true;
            if (x->entries[k].label >= t->base.classes) t->base.classes = x->entries[k].label + 1;
        }
    }
}

/* Numbers the folders' names over all shards. */
static dg_status join_classes(tar_source *t, dg_names *names, dg_error *err)
{
    dg_arena *arena = &t->base.arena;
    for (size_t i = 0; i < t->shard_count; i++) {
        const dg_tar_index *x = &t->shards[i].index;
        for (uint64_t k = 0; k < x->header->classes; k++)
            DG_TRY(dg_names_add(names, arena, x->strings + x->classes[k], err));
    }
    dg_names_finish(names);
    for (size_t i = 0; i < t->shard_count; i++) {
        const dg_tar_index *x = &t->shards[i].index;
        t->shards[i].labels = dg_arena_alloc(arena, ((size_t)x->header->classes + 1) * sizeof(int32_t));
        if (!t->shards[i].labels) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
        for (uint64_t k = 0; k < x->header->classes; k++)
            t->shards[i].labels[k] = dg_names_find(names, x->strings + x->classes[k]);
    }
    return dg_names_to_classes(names, &t->base, err);
}

static dg_status add_all(tar_source *t, const dg_paths *paths, const char *cache_dir, dg_error *err)
{
    dg_names names = {0};
    bool has_integers = false;
    t->shards = dg_calloc(paths->count, sizeof *t->shards);
    if (!t->shards) return dg_fail(err, DG_ERR_NOMEM, "no memory for %zu shards", paths->count);
    for (size_t i = 0; i < paths->count; i++) DG_TRY(add_shard(t, paths->items[i], cache_dir, err));
    if (t->base.count == 0)
        return dg_fail(err, DG_ERR_FORMAT, "'%s'%s: no .jpg, .jpeg or .png in %zu tar files", paths->items[0],
                       paths->count > 1 ? " and others" : "", paths->count);
    look_at_entries(t, &has_integers);
    dg_status s = has_integers ? DG_OK : join_classes(t, &names, err);
    dg_free(names.names);
    snprintf(t->base.description, sizeof t->base.description, "tar, %zu shards, %lld images, %d classes",
             t->shard_count, (long long)t->base.count, t->base.classes);
    return s;
}

dg_status dg_source_open_tar(const char *const *paths, size_t n, const char *cache_dir, dg_source **source,
                             dg_error *err)
{
    dg_paths all = {0};
    tar_source *t = NULL;
    dg_status s = DG_OK;
    for (size_t i = 0; s == DG_OK && i < n; i++) s = dg_paths_expand(&all, paths[i], err);
    if (s == DG_OK && all.count == 0) s = dg_fail(err, DG_ERR_INVALID, "no tar shards are named");
    if (s == DG_OK) s = dg_source_new(sizeof *t, &tar_kind, &t, err);
    if (s == DG_OK) s = add_all(t, &all, cache_dir, err);
    dg_paths_free(&all);
    if (s == DG_OK)
        *source = &t->base;
    else
        dg_source_close(t ? &t->base : NULL);
    return s;
}
