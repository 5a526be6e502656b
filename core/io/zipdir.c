/* zipdir.c - see zipdir.h. */
#include "zipdir.h"

#include <stdlib.h>
#include <zlib.h>

static uint32_t get2(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get4(const unsigned char *p)
{
    return get2(p) | get2(p + 2) << 16;
}
static uint64_t get8(const unsigned char *p)
{
    return get4(p) | (uint64_t)get4(p + 4) << 32;
}

static dg_status wrong(const dg_zip *z, dg_error *err, const char *what, uint64_t at)
{
    return dg_fail(err, DG_ERR_FORMAT, "%s: not a whole zip archive: %s (byte %llu)", z->where, what,
                   (unsigned long long)at);
}

typedef struct central {
    uint64_t at, end, count; /* of the central directory */
} central;

/* The end record is the last thing in the file, before a comment of up to 65535 bytes. */
static dg_status find_central(const dg_zip *z, central *c, dg_error *err)
{
    const unsigned char *p = z->bytes;
    uint64_t size = z->bytes_size, at = size;
    bool found = false;
    for (uint64_t back = 22; back <= size && back <= 22 + 65535 && !found; back++) {
        at = size - back;
        found = !memcmp(p + at, "PK\5\6", 4) && get2(p + at + 20) == back - 22;
    }
    if (!found) return wrong(z, err, "its directory is missing; the file is cut short", size);
    if (get2(p + at + 4) != 0 && get2(p + at + 4) != 0xffff)
        return wrong(z, err, "it is one part of a split archive", at);
    uint64_t length = get4(p + at + 12);
    c->count = get2(p + at + 10);
    c->at = get4(p + at + 16);
    if (at >= 20 && !memcmp(p + at - 20, "PK\6\7", 4)) { /* zip64 */
        uint64_t at64 = get8(p + at - 20 + 8);
        if (at64 > at - 20 || at - 20 - at64 < 56 || memcmp(p + at64, "PK\6\6", 4))
            return wrong(z, err, "its zip64 end record is missing", at64);
        c->count = get8(p + at64 + 32);
        length = get8(p + at64 + 40);
        c->at = get8(p + at64 + 48);
        at = at64;
    }
    if (c->at > at || length > at - c->at) return wrong(z, err, "its directory lies outside of it", c->at);
    c->end = c->at + length;
    if (c->count > length / 46) return wrong(z, err, "its directory is too short for its members", c->at);
    return DG_OK;
}

/* Takes 8-byte values from the zip64 extra field for those fields that are all ones. */
static bool read_zip64(const unsigned char *extra, uint64_t n, uint64_t *const fields[3])
{
    while (n >= 4) {
        uint64_t id = get2(extra), size = get2(extra + 2), at = 4;
        if (size > n - 4) return false;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*fields[i] != UINT32_MAX) continue;
            if (at + 8 > size + 4) return false;
            *fields[i] = get8(extra + at);
            at += 8;
        }
        if (id == 1) return true;
        extra += size + 4;
        n -= size + 4;
    }
    return false;
}

/* The local header says where the data begin: its extra field may be longer than the directory's. */
static dg_status find_data(const dg_zip *z, dg_zip_member *m, uint64_t local, dg_error *err)
{
    uint64_t size = z->bytes_size;
    if (local > size || size - local < 30 || memcmp(z->bytes + local, "PK\3\4", 4))
        return dg_fail(err, DG_ERR_FORMAT, "%s: the member '%.200s' should begin at byte %llu and does not",
                       z->where, m->name, (unsigned long long)local);
    uint64_t data = local + 30 + get2(z->bytes + local + 26) + get2(z->bytes + local + 28);
    if (data > size || m->packed > size - data)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: the member '%.200s' claims %llu bytes from byte %llu on; the file has %llu",
                       z->where, m->name, (unsigned long long)m->packed, (unsigned long long)data,
                       (unsigned long long)size);
    m->data = z->bytes + data;
    return DG_OK;
}

static dg_status read_member(const dg_zip *z, uint64_t *at, const central *c, dg_arena *arena,
                             dg_zip_member *m, dg_error *err)
{
    const unsigned char *p = z->bytes + *at;
    if (c->end - *at < 46 || memcmp(p, "PK\1\2", 4))
        return wrong(z, err, "a directory entry is damaged", *at);
    uint64_t name = get2(p + 28), extra = get2(p + 30), comment = get2(p + 32), local = get4(p + 42);
    if (c->end - *at - 46 < name + extra + comment)
        return wrong(z, err, "a directory entry is cut short", *at);
    m->crc = get4(p + 16);
    m->packed = get4(p + 20);
    m->size = get4(p + 24);
    uint64_t *const fields[3] = {&m->size, &m->packed, &local};
    bool wide = m->size == UINT32_MAX || m->packed == UINT32_MAX || local == UINT32_MAX;
    if (wide && !read_zip64(p + 46 + name, extra, fields))
        return wrong(z, err, "a zip64 entry without its sizes", *at);
    char *text = dg_arena_alloc(arena, name + 1);
    if (!text) return dg_fail(err, DG_ERR_NOMEM, "out of memory while reading %s", z->where);
    memcpy(text, p + 46, name);
    if (memchr(text, 0, name)) return wrong(z, err, "a member's name holds a NUL", *at);
    m->name = text;
    uint32_t method = get2(p + 10);
    if (get2(p + 8) & 1)
        return dg_fail(err, DG_ERR_UNSUPPORTED, "%s: the member '%.200s' is encrypted", z->where, text);
    if (method != 0 && method != 8)
        return dg_fail(err, DG_ERR_UNSUPPORTED,
                       "%s: the member '%.200s' is compressed by method %u; only deflate is read", z->where,
                       text, method);
    m->deflated = method == 8;
    /* no deflate stream grows by more than 1032 to 1 */
    if (m->deflated ? m->size / 1032 > m->packed + 1 : m->size != m->packed)
        return dg_fail(err, DG_ERR_FORMAT, "%s: the member '%.200s' claims %llu bytes in %llu", z->where,
                       text, (unsigned long long)m->size, (unsigned long long)m->packed);
    *at += 46 + name + extra + comment;
    return find_data(z, m, local, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dg_zip_member *)a)->name, ((const dg_zip_member *)b)->name);
}

dg_status dg_zip_open(const void *bytes, size_t size, const char *where, dg_arena *arena, dg_zip *zip,
                      dg_error *err)
{
    *zip = (dg_zip){.where = where, .bytes = bytes, .bytes_size = size};
    central c = {0};
    DG_TRY(find_central(zip, &c, err));
    zip->members = dg_arena_alloc(arena, (size_t)(c.count + 1) * sizeof *zip->members);
    if (!zip->members) return dg_fail(err, DG_ERR_NOMEM, "out of memory while reading %s", where);
    uint64_t at = c.at;
    for (; zip->n < c.count; zip->n++) DG_TRY(read_member(zip, &at, &c, arena, &zip->members[zip->n], err));
    qsort(zip->members, zip->n, sizeof *zip->members, by_name);
    for (size_t i = 1; i < zip->n; i++)
        if (!strcmp(zip->members[i - 1].name, zip->members[i].name))
            return dg_fail(err, DG_ERR_FORMAT, "%s: the member '%.200s' is there twice", where,
                           zip->members[i].name);
    return DG_OK;
}

dg_zip_member *dg_zip_find(const dg_zip *zip, const char *name)
{
    dg_zip_member key = {.name = name};
    return zip->n ? bsearch(&key, zip->members, zip->n, sizeof key, by_name) : NULL;
}

static bool inflate_all(const dg_zip_member *m, unsigned char *out)
{
    z_stream s = {0};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return false;
    uint64_t in = 0, done = 0;
    int r = Z_OK;
    while (r == Z_OK || r == Z_BUF_ERROR) { /* zlib counts in 32 bits */
        uint64_t more_in = m->packed - in, more_out = m->size - done;
        uInt give = (uInt)(more_in < 1u << 30 ? more_in : 1u << 30),
             room = (uInt)(more_out < 1u << 30 ? more_out : 1u << 30);
        s.next_in = (Bytef *)(uintptr_t)(m->data + in);
        s.avail_in = give;
        s.next_out = out + done;
        s.avail_out = room;
        r = inflate(&s, Z_NO_FLUSH);
        in += give - s.avail_in;
        done += room - s.avail_out;
        if (r == Z_BUF_ERROR || (r == Z_OK && give == s.avail_in && room == s.avail_out)) break;
    }
    inflateEnd(&s);
    return r == Z_STREAM_END && done == m->size;
}

static uint32_t crc_of(const unsigned char *p, uint64_t n)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), p, n);
}

dg_status dg_zip_content(dg_zip *zip, dg_zip_member *m, dg_arena *arena, const unsigned char **out,
                         dg_error *err)
{
    *out = m->deflated ? m->inflated : m->data;
    if (*out) return DG_OK;
    if (zip->inflated + m->size > 1100 * zip->bytes_size)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: its members inflate to more than the file can hold: it is made to fill memory",
                       zip->where);
    unsigned char *p = dg_arena_alloc(arena, (size_t)m->size + 1);
    if (!p)
        return dg_fail(err, DG_ERR_NOMEM, "no memory for the %llu bytes of '%.200s' in %s",
                       (unsigned long long)m->size, m->name, zip->where);
    if (!inflate_all(m, p) || crc_of(p, m->size) != m->crc)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: the member '%.200s' is damaged: it does not inflate to its size and checksum",
                       zip->where, m->name);
    zip->inflated += m->size;
    *out = m->inflated = p;
    return DG_OK;
}
