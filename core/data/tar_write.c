/* tar_write.c - see tar_write.h. */
#include "tar_write.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#define BLOCK ((size_t)512)
#define NAME_FIELD 100
#define PREFIX_FIELD 155

typedef struct shard {
    char *path, *temporary;
} shard;

struct dg_tar_writer {
    char *before, *after; /* of the number in the pattern */
    int digits;
    int64_t most_members, most_bytes;
    shard *shards;
    size_t n, capacity;
    size_t n_named; /* of them have their names */
    FILE *file;     /* of the last one, or NULL */
    int64_t members, bytes;
};

/* ---- the pattern */

static dg_status split_pattern(const char *pattern, dg_tar_writer *w, dg_error *err)
{
    const char *percent = strchr(pattern, '%'), *p = percent ? percent + 1 : NULL;
    long digits = p ? strtol(p, (char **)&p, 10) : 0;
    if (!percent || *p != 'd' || digits < 0 || digits > 18 || strchr(p, '%'))
        return dg_fail(
            err, DG_ERR_INVALID,
            "'%s': the name of the shards needs one %%d or %%05d, where their number goes, such as "
            "train-%%05d.tar",
            pattern);
    w->digits = (int)digits;
    w->before = dg_strdup(pattern);
    w->after = dg_strdup(p + 1);
    if (!w->before || !w->after) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    w->before[percent - pattern] = 0;
    return DG_OK;
}

dg_status dg_tar_create(const char *pattern, int64_t most_members, int64_t most_bytes, dg_tar_writer **out,
                        dg_error *err)
{
    dg_tar_writer *w = dg_calloc(1, sizeof *w);
    if (!w) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    w->most_members = most_members;
    w->most_bytes = most_bytes;
    dg_status s = split_pattern(pattern, w, err);
    char *dir = s == DG_OK ? dg_path_dir(pattern) : NULL;
    if (s == DG_OK) s = dir ? dg_dir_make(dir, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(dir);
    if (s == DG_OK)
        *out = w;
    else
        dg_tar_abandon(w);
    return s;
}

/* ---- shards */

static dg_status write_failed(const dg_tar_writer *w, dg_error *err)
{
    return dg_fail(err, DG_ERR_IO, "cannot write '%s': %s", w->shards[w->n - 1].temporary, strerror(errno));
}

static dg_status begin_shard(dg_tar_writer *w, dg_error *err)
{
    dg_str path = {0}, temporary = {0};
    dg_str_printf(&path, "%s%0*zu%s", w->before, w->digits, w->n, w->after);
    dg_str_printf(&temporary, "%s.tmp", path.text ? path.text : "");
    dg_status s =
        !path.failed && !temporary.failed && dg_grow(&w->shards, w->n, &w->capacity, sizeof *w->shards)
            ? DG_OK
            : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && access(path.text, F_OK) == 0)
        s = dg_fail(err, DG_ERR_INVALID, "'%s' is there already: move it away, or choose another name",
                    path.text);
    if (s == DG_OK && !(w->file = fopen(temporary.text, "wbe")))
        s = dg_fail(err, DG_ERR_IO, "cannot write '%s': %s", temporary.text, strerror(errno));
    if (s != DG_OK) {
        dg_str_free(&path);
        dg_str_free(&temporary);
        return s;
    }
    w->shards[w->n++] = (shard){path.text, temporary.text};
    w->members = w->bytes = 0;
    return DG_OK;
}

/* Two blocks of zeros are the end mark. */
static dg_status end_shard(dg_tar_writer *w, dg_error *err)
{
    static const char zeros[2 * BLOCK];
    FILE *f = w->file;
    if (!f) return DG_OK;
    bool ok = fwrite(zeros, 1, sizeof zeros, f) == sizeof zeros && fflush(f) == 0 && fsync(fileno(f)) == 0;
    dg_status s = ok ? DG_OK : write_failed(w, err);
    w->file = NULL;
    if (fclose(f) != 0 && s == DG_OK) s = write_failed(w, err);
    return s;
}

/* ---- members */

/* The place to cut a name into prefix and name field, at a slash; NULL if it does not fit. */
static const char *cut_name(const char *name, size_t length)
{
    if (length <= NAME_FIELD) return name;
    for (const char *slash = name + length - 1; slash > name; slash--)
        if (*slash == '/' && slash - name <= PREFIX_FIELD && name + length - slash - 1 <= NAME_FIELD &&
            slash[1])
            return slash;
    return NULL;
}

static void octal(unsigned char *field, size_t digits, uint64_t value)
{
    for (size_t i = digits; i-- > 0; value >>= 3) field[i] = (unsigned char)('0' + (value & 7));
}

static void fill_header(unsigned char h[BLOCK], const char *name, size_t length, uint64_t size, char type)
{
    const char *cut = cut_name(name, length);
    memset(h, 0, BLOCK);
    if (cut && cut > name) {
        memcpy(h + 345, name, (size_t)(cut - name));
        memcpy(h, cut + 1, length - (size_t)(cut - name) - 1);
    } else
        memcpy(h, name, length < NAME_FIELD ? length : NAME_FIELD);
    octal(h + 100, 7, 0644);
    octal(h + 108, 7, 0);
    octal(h + 116, 7, 0);
    octal(h + 124, 11, size);
    octal(h + 136, 11, 0);
    h[156] = (unsigned char)type;
    memcpy(h + 257, "ustar\00000", 8);
    memset(h + 148, ' ', 8);
    uint32_t sum = 0;
    for (size_t i = 0; i < BLOCK; i++) sum += h[i];
    octal(h + 148, 6, sum);
    h[154] = 0;
}

static dg_status write_member(dg_tar_writer *w, const unsigned char h[BLOCK], const void *bytes, size_t size,
                              dg_error *err)
{
    static const char zeros[BLOCK];
    const size_t rest = (BLOCK - size % BLOCK) % BLOCK;
    if (fwrite(h, 1, BLOCK, w->file) == BLOCK && fwrite(bytes, 1, size, w->file) == size &&
        fwrite(zeros, 1, rest, w->file) == rest)
        return DG_OK;
    return write_failed(w, err);
}

/* "27 path=...\n", where 27 counts itself too. */
static dg_status write_long_name(dg_tar_writer *w, const char *name, size_t length, dg_error *err)
{
    const size_t payload = length + strlen(" path=\n");
    size_t digits = 1, total;
    for (size_t limit = 10; (total = payload + digits) >= limit; limit *= 10) digits++;
    dg_str record = {0};
    unsigned char h[BLOCK];
    dg_str_printf(&record, "%zu path=%s\n", total, name);
    DG_TRY(dg_str_check(&record, err));
    fill_header(h, "PaxHeader", strlen("PaxHeader"), record.length, 'x');
    dg_status s = write_member(w, h, record.text, record.length, err);
    dg_str_free(&record);
    return s;
}

dg_status dg_tar_add(dg_tar_writer *w, const char *name, const void *bytes, size_t size, dg_error *err)
{
    const size_t length = strlen(name);
    unsigned char h[BLOCK];
    if ((uint64_t)size >= (uint64_t)1 << 33 || length == 0 || length > 4096)
        return dg_fail(err, DG_ERR_INVALID, "a tar member of %zu bytes with a name of %zu bytes", size,
                       length);
    const bool full = w->members > 0 && (w->members >= w->most_members ||
                                         (w->most_bytes && w->bytes + (int64_t)size > w->most_bytes));
    if (full) DG_TRY(end_shard(w, err));
    if (!w->file) DG_TRY(begin_shard(w, err));
    if (!cut_name(name, length)) DG_TRY(write_long_name(w, name, length, err));
    fill_header(h, name, length, size, '0');
    DG_TRY(write_member(w, h, bytes, size, err));
    w->members++;
    w->bytes += (int64_t)size;
    return DG_OK;
}

/* ---- the end */

static dg_status name_shards(dg_tar_writer *w, dg_error *err)
{
    for (; w->n_named < w->n; w->n_named++) {
        const shard *s = &w->shards[w->n_named];
        if (rename(s->temporary, s->path) != 0)
            return dg_fail(err, DG_ERR_IO, "cannot rename '%s': %s", s->temporary, strerror(errno));
    }
    char *dir = dg_path_dir(w->before);
    dg_status s = dir ? dg_dir_sync(dir, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(dir);
    return s;
}

static void free_writer(dg_tar_writer *w)
{
    for (size_t i = 0; i < w->n; i++) {
        dg_free(w->shards[i].path);
        dg_free(w->shards[i].temporary);
    }
    dg_free(w->shards);
    dg_free(w->before);
    dg_free(w->after);
    dg_free(w);
}

void dg_tar_abandon(dg_tar_writer *w)
{
    if (!w) return;
    if (w->file) fclose(w->file);
    for (size_t i = 0; i < w->n; i++) unlink(i < w->n_named ? w->shards[i].path : w->shards[i].temporary);
    free_writer(w);
}

dg_status dg_tar_finish(dg_tar_writer *w, size_t *n, dg_error *err)
{
    dg_status s = end_shard(w, err);
    if (s == DG_OK) s = name_shards(w, err);
    if (s != DG_OK) {
        dg_tar_abandon(w);
        return s;
    }
    *n = w->n;
    free_writer(w);
    return DG_OK;
}
