/* tar_index.c - the index file beside a run: found, checked, made again. See tar_index.h. */
#include "tar_index.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "source_parts.h"

#define VERSION 1
static const char magic[8] = {'d', 'g', 't', 'a', 'r', 'i', 'd', 'x'};

/* Every offset must lie inside: an index file may be damaged, or someone else's. */
static bool is_sound(const dg_tar_index *x)
{
    const dg_tar_header *h = x->header;
    if (h->string_bytes && x->strings[h->string_bytes - 1] != 0) return false;
    for (uint64_t i = 0; i < h->classes; i++)
        if (x->classes[i] >= h->string_bytes) return false;
    for (uint64_t i = 0; i < h->entries; i++) {
        const dg_tar_entry *e = &x->entries[i];
        if (e->at > h->tar_bytes || e->size > h->tar_bytes - e->at || e->caption_at > h->tar_bytes ||
            e->caption_size > h->tar_bytes - e->caption_at || e->name >= h->string_bytes || e->label < -1 ||
            e->label > DG_MAX_LABEL || e->class_index < -1 || e->class_index >= (int64_t)h->classes)
            return false;
    }
    return true;
}

/* Says where the parts lie in `bytes`; false if they do not fit. */
static bool point_into(const void *bytes, size_t size, dg_tar_index *x)
{
    const dg_tar_header *h = bytes;
    if (size < sizeof *h || memcmp(h->magic, magic, sizeof magic) != 0 || h->version != VERSION ||
        h->header_bytes != sizeof *h)
        return false;
    size_t left = size - sizeof *h;
    if (h->entries > left / sizeof(dg_tar_entry)) return false;
    left -= (size_t)h->entries * sizeof(dg_tar_entry);
    if (h->classes > left / sizeof(uint64_t)) return false;
    left -= (size_t)h->classes * sizeof(uint64_t);
    if (h->string_bytes != left) return false;
    if (XXH3_64bits(h + 1, size - sizeof *h) != h->hash) return false;
    x->header = h;
    x->entries = (const dg_tar_entry *)(h + 1);
    x->classes = (const uint64_t *)(x->entries + h->entries);
    x->strings = (const char *)(x->classes + h->classes);
    return is_sound(x);
}

static bool same_tar(const dg_tar_header *h, const struct stat *st)
{
    return h->tar_bytes == (uint64_t)st->st_size && h->changed_s == (int64_t)st->st_mtim.tv_sec &&
           h->changed_ns == (int64_t)st->st_mtim.tv_nsec;
}

/* cache_dir/<name>-<hash of the whole path>.dgidx */
static char *index_path(const char *tar_path, const char *cache_dir)
{
    char *whole = realpath(tar_path, NULL);
    if (!whole) return NULL;
    const char *slash = strrchr(whole, '/');
    dg_str s = {0};
    dg_str_printf(&s, "%s/%s-%016llx.dgidx", cache_dir, slash ? slash + 1 : whole,
                  (unsigned long long)XXH3_64bits(whole, strlen(whole)));
    free(whole);
    if (!s.failed) return s.text;
    dg_str_free(&s);
    return NULL;
}

/* Several ranks may do this at once: each writes a file of its own, the last rename wins. */
static void save(const char *path, const char *cache_dir, const void *bytes, size_t size)
{
    dg_error err = DG_ERROR_INIT;
    dg_str own = {0};
    dg_str_printf(&own, "%s.%ld", path, (long)getpid());
    dg_status s = dg_str_check(&own, &err);
    if (s == DG_OK) s = dg_dir_make(cache_dir, &err);
    if (s == DG_OK) s = dg_file_write_atomic(own.text, bytes, size, &err);
    if (s == DG_OK && rename(own.text, path) != 0) {
        s = dg_fail(&err, DG_ERR_IO, "cannot rename '%s': %s", own.text, strerror(errno));
        unlink(own.text);
    }
    if (s != DG_OK) dg_logf(DG_LOG_WARNING, "the index of a tar is not kept: %s", err.message);
    dg_str_free(&own);
}

static bool load(const char *path, const struct stat *st, dg_tar_index *x)
{
    if (!dg_path_is_file(path) || dg_map_open(path, &x->map, NULL) != DG_OK) return false;
    if (point_into(x->map.bytes, x->map.size, x) && same_tar(x->header, st)) return true;
    dg_map_close(&x->map);
    return false;
}

dg_status dg_tar_index_open(const char *path, int fd, const char *cache_dir, dg_tar_index *index,
                            dg_error *err)
{
    struct stat st;
    *index = (dg_tar_index){0};
    if (fstat(fd, &st) != 0) return dg_fail(err, DG_ERR_IO, "cannot read '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return dg_fail(err, DG_ERR_INVALID, "'%s' is not a file", path);
    char *kept = cache_dir ? index_path(path, cache_dir) : NULL;
    dg_status s = DG_OK;
    if (!kept || !load(kept, &st, index)) {
        size_t size = 0;
        s = dg_tar_scan(fd, (uint64_t)st.st_size, &index->block, &size, err);
        if (s == DG_OK) {
            dg_tar_header *h = index->block;
            memcpy(h->magic, magic, sizeof magic);
            h->version = VERSION;
            h->header_bytes = sizeof *h;
            h->tar_bytes = (uint64_t)st.st_size;
            h->changed_s = (int64_t)st.st_mtim.tv_sec;
            h->changed_ns = (int64_t)st.st_mtim.tv_nsec;
            h->hash = XXH3_64bits(h + 1, size - sizeof *h);
            if (kept) save(kept, cache_dir, index->block, size);
            if (!point_into(index->block, size, index))
                s = dg_fail(err, DG_ERR_INTERNAL, "a new index is not sound");
        }
        if (s != DG_OK) dg_fail_in(err, "'%s'", path);
    }
    dg_free(kept);
    return s;
}

void dg_tar_index_close(dg_tar_index *index)
{
    dg_map_close(&index->map);
    dg_free(index->block);
    *index = (dg_tar_index){0};
}
