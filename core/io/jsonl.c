/* jsonl.c - see jsonl.h. */
#include "jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

struct dg_jsonl {
    int fd;
    uint64_t length;
    char *path;
};

/* ---- rows */

static void put_key(dg_str *row, const char *key)
{
    dg_str_puts(row, row->length ? "," : "{");
    dg_str_json(row, key);
    dg_str_puts(row, ":");
}

void dg_row_int(dg_str *row, const char *key, int64_t value)
{
    put_key(row, key);
    dg_str_printf(row, "%lld", (long long)value);
}

void dg_row_number(dg_str *row, const char *key, double value)
{
    put_key(row, key);
    dg_json_put_number(row, value);
}

void dg_row_text(dg_str *row, const char *key, const char *value)
{
    put_key(row, key);
    dg_str_json(row, value);
}

void dg_row_bool(dg_str *row, const char *key, bool value)
{
    put_key(row, key);
    dg_str_puts(row, value ? "true" : "false");
}

/* ---- the file */

static dg_status io_fail(const dg_jsonl *w, const char *what, dg_error *err)
{
    return dg_fail(err, DG_ERR_IO, "cannot %s '%s': %s", what, w->path, strerror(errno));
}

/* The length up to and with the last newline. */
static dg_status whole_lines(const dg_jsonl *w, uint64_t size, uint64_t *out, dg_error *err)
{
    char block[4096];
    while (size > 0) {
        size_t n = size < sizeof block ? (size_t)size : sizeof block;
        ssize_t k = pread(w->fd, block, n, (off_t)(size - n));
        if (k < 0 && errno == EINTR) continue;
        if (k != (ssize_t)n) return io_fail(w, "read", err);
        const char *newline = memrchr(block, '\n', n);
        if (newline) {
            *out = size - n + (uint64_t)(newline - block) + 1;
            return DG_OK;
        }
        size -= n;
    }
    *out = 0;
    return DG_OK;
}

static dg_status cut(dg_jsonl *w, uint64_t keep, dg_error *err)
{
    struct stat st;
    if (fstat(w->fd, &st) != 0) return io_fail(w, "read", err);
    uint64_t size = (uint64_t)st.st_size;
    if (keep == DG_JSONL_KEEP_ALL) DG_TRY(whole_lines(w, size, &keep, err));
    if (keep > size)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "'%s' has %llu bytes, and the checkpoint was written when it had %llu: it was cut or "
                       "replaced; put the "
                       "run's own file back, or start a new run",
                       w->path, (unsigned long long)size, (unsigned long long)keep);
    if (keep < size && ftruncate(w->fd, (off_t)keep) != 0) return io_fail(w, "cut", err);
    w->length = keep;
    return DG_OK;
}

dg_status dg_jsonl_open(const char *path, uint64_t keep, dg_jsonl **out, dg_error *err)
{
    *out = NULL;
    dg_jsonl *w = dg_calloc(1, sizeof *w);
    if (!w) return dg_fail(err, DG_ERR_NOMEM, "out of memory while opening %s", path);
    w->fd = -1;
    w->path = dg_strdup(path);
    dg_status s = w->path ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory while opening %s", path);
    if (s == DG_OK) {
        w->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        s = w->fd >= 0 ? cut(w, keep, err) : io_fail(w, "open", err);
    }
    if (s == DG_OK)
        *out = w;
    else
        dg_jsonl_close(w);
    return s;
}

dg_status dg_jsonl_append(dg_jsonl *w, dg_str *row, dg_error *err)
{
    dg_str_puts(row, row->length ? "}\n" : "{}\n");
    dg_status s = dg_str_check(row, err);
    if (s == DG_OK && lseek(w->fd, (off_t)w->length, SEEK_SET) < 0) s = io_fail(w, "write", err);
    if (s == DG_OK) {
        s = dg_fd_write_all(w->fd, row->text, row->length, w->path, err);
        if (s == DG_OK)
            w->length += row->length;
        else if (ftruncate(w->fd, (off_t)w->length) != 0)
            dg_fail_in(err, "half a line stays at the end of '%s'", w->path);
    }
    dg_str_free(row);
    return s;
}

uint64_t dg_jsonl_length(const dg_jsonl *w)
{
    return w->length;
}

dg_status dg_jsonl_sync(dg_jsonl *w, dg_error *err)
{
    return fsync(w->fd) == 0 ? DG_OK : io_fail(w, "sync", err);
}

void dg_jsonl_close(dg_jsonl *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    dg_free(w->path);
    dg_free(w);
}
