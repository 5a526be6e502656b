/* safetensors_write.c - writing the safetensors format; see safetensors.h. */
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "weights_build.h"

typedef struct slot {
    dg_weight t;     /* name, type, shape, bytes */
    uint64_t offset; /* in the data */
    uint64_t written;
} slot;

struct dg_st_writer {
    dg_arena arena;
    char *path, *tmp;
    slot *slots; /* [n] as numbered by the caller */
    size_t n;
    uint64_t data; /* where the data begin in the file */
    int fd;
};

static dg_status io_fail(dg_error *err, const char *what, const char *path)
{
    return dg_fail(err, DG_ERR_IO, "%s '%s': %s", what, path, strerror(errno));
}

static int by_size_then_name(const void *a, const void *b)
{
    const dg_weight *x = &(*(slot *const *)a)->t, *y = &(*(slot *const *)b)->t;
    size_t sx = dg_stored_size(x->dtype), sy = dg_stored_size(y->dtype);
    return sx != sy ? (sx < sy ? 1 : -1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(slot *const *)a)->t.name, (*(slot *const *)b)->t.name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const dg_st_meta *)a)->key, ((const dg_st_meta *)b)->key);
}

/* The whole header, padded with spaces so that the data are 8-byte aligned; sets the slots' offsets. */
static void put_header(dg_str *out, slot **order, size_t n, const dg_st_meta *meta, size_t n_meta)
{
    uint64_t end = 0;
    dg_str_puts(out, "{");
    if (n_meta) dg_str_puts(out, "\"__metadata__\":{");
    for (size_t i = 0; i < n_meta; i++) {
        if (i) dg_str_puts(out, ",");
        dg_str_json(out, meta[i].key);
        dg_str_puts(out, ":");
        dg_str_json(out, meta[i].value);
    }
    if (n_meta) dg_str_puts(out, n ? "}," : "}");
    for (size_t i = 0; i < n; i++) {
        const dg_weight *t = &order[i]->t;
        order[i]->offset = end;
        end += t->bytes;
        if (i) dg_str_puts(out, ",");
        dg_str_json(out, t->name);
        dg_str_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", dg_stored_name(t->dtype));
        for (int k = 0; k < t->rank; k++) dg_str_printf(out, k ? ",%lld" : "%lld", (long long)t->dims[k]);
        dg_str_printf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)order[i]->offset,
                      (unsigned long long)end);
    }
    dg_str_puts(out, "}");
    while (!out->failed && out->length % 8) dg_str_puts(out, " ");
}

static dg_status copy_tensors(dg_st_writer *w, const dg_st_tensor *tensors, slot **order, dg_error *err)
{
    uint64_t total = 0;
    for (size_t i = 0; i < w->n; i++) {
        const dg_st_tensor *t = &tensors[i];
        if (t->rank < 0 || t->rank > DG_MAX_RANK || !dg_stored_size(t->dtype) ||
            !strcmp(t->name, "__metadata__"))
            return dg_fail(err, DG_ERR_INVALID, "%s: the tensor '%.200s' has no such name, rank or type",
                           w->path, t->name);
        dg_weight *c = &w->slots[i].t;
        c->name = dg_arena_strdup(&w->arena, t->name);
        if (!c->name) return dg_fail(err, DG_ERR_NOMEM, "out of memory while writing %s", w->path);
        c->dtype = t->dtype;
        c->rank = t->rank;
        memcpy(c->dims, t->dims, sizeof c->dims);
        DG_TRY(dg_weight_extent(c, w->path, err));
        if (__builtin_add_overflow(total, (uint64_t)c->bytes, &total) || total > INT64_MAX)
            return dg_fail(err, DG_ERR_INVALID, "%s: its tensors have more than 2^63 bytes together",
                           w->path);
        order[i] = &w->slots[i];
    }
    if (w->n) qsort(order, w->n, sizeof *order, by_name);
    for (size_t i = 1; i < w->n; i++)
        if (!strcmp(order[i - 1]->t.name, order[i]->t.name))
            return dg_fail(err, DG_ERR_INVALID, "%s: two tensors are named '%.200s'", w->path,
                           order[i]->t.name);
    if (w->n) qsort(order, w->n, sizeof *order, by_size_then_name);
    return DG_OK;
}

static dg_status copy_meta(dg_st_writer *w, const dg_st_meta *meta, size_t n, dg_st_meta **out, dg_error *err)
{
    dg_st_meta *sorted = dg_arena_alloc(&w->arena, (n + 1) * sizeof *sorted);
    if (!sorted) return dg_fail(err, DG_ERR_NOMEM, "out of memory while writing %s", w->path);
    if (n) memcpy(sorted, meta, n * sizeof *sorted);
    if (n) qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(sorted[i - 1].key, sorted[i].key))
            return dg_fail(err, DG_ERR_INVALID, "%s: the metadata key '%.200s' is given twice", w->path,
                           sorted[i].key);
    *out = sorted;
    return DG_OK;
}

static dg_status begin_file(dg_st_writer *w, const dg_str *header, uint64_t total, dg_error *err)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->length >> (8 * i));
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) return io_fail(err, "cannot create", w->tmp);
    w->data = 8 + header->length;
    /* asks for the room now, so that a full disk shows at once; a file system that cannot say does not matter
     */
    int e = fallocate(w->fd, 0, 0, (off_t)(w->data + total)) == 0 ? 0 : errno;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return dg_fail(err, DG_ERR_IO, "cannot write '%s' (%llu bytes): %s", w->path,
                       (unsigned long long)(w->data + total), strerror(e));
    DG_TRY(dg_fd_write_all(w->fd, length, sizeof length, w->tmp, err));
    return dg_fd_write_all(w->fd, header->text, header->length, w->tmp, err);
}

dg_status dg_st_create(const char *path, const dg_st_tensor *tensors, size_t n, const dg_st_meta *meta,
                       size_t n_meta, dg_st_writer **out, dg_error *err)
{
    *out = NULL;
    dg_st_writer *w = dg_calloc(1, sizeof *w);
    if (!w) return dg_fail(err, DG_ERR_NOMEM, "out of memory while writing %s", path);
    size_t length = strlen(path);
    dg_str header = {0};
    dg_st_meta *sorted = NULL;
    w->fd = -1;
    w->n = n;
    w->path = dg_arena_strdup(&w->arena, path);
    w->tmp = dg_arena_alloc(&w->arena, length + sizeof ".tmp");
    w->slots = dg_arena_alloc(&w->arena, (n + 1) * sizeof *w->slots);
    slot **order = dg_arena_alloc(&w->arena, (n + 1) * sizeof *order);
    dg_status s = w->path && w->tmp && w->slots && order
                      ? DG_OK
                      : dg_fail(err, DG_ERR_NOMEM, "out of memory while writing %s", path);
    if (s == DG_OK) {
        memcpy(w->tmp, path, length);
        memcpy(w->tmp + length, ".tmp", sizeof ".tmp");
        s = copy_tensors(w, tensors, order, err);
    }
    if (s == DG_OK) s = copy_meta(w, meta, n_meta, &sorted, err);
    if (s == DG_OK) {
        put_header(&header, order, n, sorted, n_meta);
        s = dg_str_check(&header, err);
    }
    if (s == DG_OK) s = begin_file(w, &header, n ? order[n - 1]->offset + order[n - 1]->t.bytes : 0, err);
    dg_str_free(&header);
    if (s == DG_OK)
        *out = w;
    else
        dg_st_abandon(w);
    return s;
}

dg_status dg_st_put(dg_st_writer *w, size_t i, const void *bytes, size_t size, dg_error *err)
{
    if (i >= w->n || size > w->slots[i].t.bytes - w->slots[i].written)
        return dg_fail(err, DG_ERR_INVALID, "%s: more bytes than the tensor '%s' has room for", w->path,
                       i < w->n ? w->slots[i].t.name : "?");
    const char *p = bytes;
    while (size) {
        ssize_t k = pwrite(w->fd, p, size, (off_t)(w->data + w->slots[i].offset + w->slots[i].written));
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return io_fail(err, "cannot write", w->tmp);
        p += k;
        size -= (size_t)k;
        w->slots[i].written += (uint64_t)k;
    }
    return DG_OK;
}

dg_status dg_st_finish(dg_st_writer *w, dg_error *err)
{
    dg_status s = DG_OK;
    for (size_t i = 0; i < w->n && s == DG_OK; i++)
        if (w->slots[i].written != w->slots[i].t.bytes)
            s = dg_fail(err, DG_ERR_INVALID, "%s: the tensor '%.200s' has %llu of its %zu bytes", w->path,
                        w->slots[i].t.name, (unsigned long long)w->slots[i].written, w->slots[i].t.bytes);
    char *dir = s == DG_OK ? dg_path_dir(w->path) : NULL;
    if (s == DG_OK && !dir) s = dg_fail(err, DG_ERR_NOMEM, "out of memory while writing %s", w->path);
    if (s == DG_OK && fsync(w->fd) != 0) s = io_fail(err, "cannot sync", w->tmp);
    if (s == DG_OK) {
        int fd = w->fd;
        w->fd = -1; /* from here on there is nothing to remove under tmp unless the rename fails */
        if (close(fd) != 0) s = io_fail(err, "cannot close", w->tmp);
        if (s == DG_OK && rename(w->tmp, w->path) != 0)
            s = io_fail(err, "cannot rename a new file to", w->path);
        if (s != DG_OK) unlink(w->tmp);
    }
    if (s == DG_OK) s = dg_dir_sync(dir, err);
    dg_free(dir);
    dg_st_abandon(w);
    return s;
}

void dg_st_abandon(dg_st_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->tmp);
    }
    dg_arena_free(&w->arena);
    dg_free(w);
}

dg_status dg_st_write(const char *path, const dg_st_tensor *tensors, const void *const *data, size_t n,
                      const dg_st_meta *meta, size_t n_meta, dg_error *err)
{
    dg_st_writer *w;
    DG_TRY(dg_st_create(path, tensors, n, meta, n_meta, &w, err));
    dg_status s = DG_OK;
    for (size_t i = 0; i < n && s == DG_OK; i++) s = dg_st_put(w, i, data[i], w->slots[i].t.bytes, err);
    if (s == DG_OK) return dg_st_finish(w, err);
    dg_st_abandon(w);
    return s;
}
