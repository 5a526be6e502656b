/* tar_scan.c - reads the headers of a tar, and groups its members into samples. See tar_index.h.
 * The formats: POSIX.1-2017 pax, "pax Interchange Format" and "ustar Interchange Format"; GNU tar manual,
 * "Basic Tar Format". */
#include "tar_index.h"

#include <xxhash.h>

#include "base/log.h"
#include "base/str.h"
#include "source_parts.h"

#define BLOCK 512
#define MAX_NAME ((size_t)4096)
#define MAX_PAX ((size_t)1 << 20)

typedef struct member {
    char name[MAX_NAME + 1];
    uint64_t header_at, at, size;
    char type;
} member;

typedef struct scan {
    int fd;
    uint64_t tar_bytes, at;
    char long_name[MAX_NAME + 1]; /* from a PAX or GNU header, for the next member; "" if none */
    uint64_t pax_size;            /* for the next member */
    bool has_pax_size;
    /* the group being put together */
    char stem[MAX_NAME + 1];
    dg_tar_entry group;
    bool has_image;
    /* the index */
    dg_str entries, classes, strings;
    dg_arena arena;
    struct class_slot *slots; /* hash table: open addressing */
    size_t slot_count, class_count;
} scan;

typedef struct class_slot {
    const char *name; /* NULL: free */
    int32_t index;
} class_slot;

#define AT(S) (unsigned long long)(S)

/* ---- headers */

static dg_status parse_number(const unsigned char *field, size_t n, const char *what, uint64_t *value,
                              dg_error *err)
{
    uint64_t v = 0;
    size_t i = 0;
    if (field[0] == 0x80) {
        for (i = 1; i < n; i++) {
            if (v >> 55) return dg_fail(err, DG_ERR_FORMAT, "the %s field is too large", what);
            v = v << 8 | field[i];
        }
        *value = v;
        return DG_OK;
    }
    while (i < n && field[i] == ' ') i++;
    const size_t begin = i;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) v = v << 3 | (uint64_t)(field[i] - '0');
    const bool ends = i == n || field[i] == 0 || field[i] == ' ';
    if (!ends || (i == begin && i < n && field[i] != 0))
        return dg_fail(err, DG_ERR_FORMAT, "the %s field is not an octal number", what);
    *value = v;
    return DG_OK;
}

static dg_status check_sum(const unsigned char *h, dg_error *err)
{
    uint64_t said = 0;
    uint32_t sum = 0;
    int32_t old = 0; /* some old programs added signed bytes */
    for (int i = 0; i < BLOCK; i++) {
        const unsigned char c = i >= 148 && i < 156 ? ' ' : h[i];
        sum += c;
        old += (signed char)c;
    }
    DG_TRY(parse_number(h + 148, 8, "checksum", &said, err));
    if (said == sum || (int64_t)said == old) return DG_OK;
    return dg_fail(err, DG_ERR_FORMAT,
                   "the header's checksum is %llu and its bytes give %u: not a tar, or damaged", AT(said),
                   sum);
}

static void copy_name(const unsigned char *h, char *out)
{
    size_t n = 0;
    const bool posix = !memcmp(h + 257, "ustar\0", 6);
    if (posix && h[345]) {
        n = strnlen((const char *)h + 345, 155);
        memcpy(out, h + 345, n);
        out[n++] = '/';
    }
    const size_t m = strnlen((const char *)h, 100);
    memcpy(out + n, h, m);
    out[n + m] = 0;
}

static dg_status set_long_name(scan *s, const char *bytes, size_t n, dg_error *err)
{
    while (n && bytes[n - 1] == 0) n--;
    if (n > MAX_NAME)
        return dg_fail(err, DG_ERR_FORMAT, "a member's name has %zu bytes; %zu are allowed", n, MAX_NAME);
    if (memchr(bytes, 0, n)) return dg_fail(err, DG_ERR_FORMAT, "a member's name has a zero byte in it");
    memcpy(s->long_name, bytes, n);
    s->long_name[n] = 0;
    return DG_OK;
}

/* One record "length key=value\n" of a PAX header. */
static dg_status pax_record(scan *s, const char *key, size_t n, dg_error *err)
{
    const char *equals = memchr(key, '=', n);
    if (!equals) return dg_fail(err, DG_ERR_FORMAT, "a PAX record has no '='");
    const size_t key_size = (size_t)(equals - key), value_size = n - key_size - 1;
    const char *value = equals + 1;
    if (key_size >= 10 && !memcmp(key, "GNU.sparse", 10))
        return dg_fail(err, DG_ERR_UNSUPPORTED, "sparse members are not read: pack again without --sparse");
    if (key_size == 4 && !memcmp(key, "path", 4)) return set_long_name(s, value, value_size, err);
    if (key_size != 4 || memcmp(key, "size", 4) != 0) return DG_OK;
    uint64_t v = 0;
    for (size_t i = 0; i < value_size; i++) {
        if (value[i] < '0' || value[i] > '9' || v > UINT64_MAX / 16)
            return dg_fail(err, DG_ERR_FORMAT, "the size of a PAX record is not a number");
        v = v * 10 + (uint64_t)(value[i] - '0');
    }
    s->pax_size = v;
    s->has_pax_size = true;
    return DG_OK;
}

static dg_status pax_records(scan *s, const char *bytes, size_t size, dg_error *err)
{
    size_t at = 0;
    while (at < size && bytes[at]) {
        size_t length = 0, i = at;
        for (; i < size && bytes[i] >= '0' && bytes[i] <= '9' && length < size; i++)
            length = length * 10 + (size_t)(bytes[i] - '0');
        if (i == at || i >= size || bytes[i] != ' ' || length > size - at || at + length < i + 2 ||
            bytes[at + length - 1] != '\n')
            return dg_fail(err, DG_ERR_FORMAT, "a PAX record is malformed");
        DG_TRY(pax_record(s, bytes + i + 1, at + length - 1 - (i + 1), err));
        at += length;
    }
    return DG_OK;
}

/* The contents of a PAX ('x') or GNU long name ('L') header, which are for the next member. */
static dg_status read_extra(scan *s, const member *m, dg_error *err)
{
    if (m->size > MAX_PAX)
        return dg_fail(err, DG_ERR_FORMAT, "an extension header of %llu bytes", AT(m->size));
    char *bytes = dg_calloc((size_t)m->size + 1, 1);
    if (!bytes) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status r = dg_read_at(s->fd, m->at, bytes, (size_t)m->size, err);
    if (r == DG_OK)
        r = m->type == 'x' ? pax_records(s, bytes, (size_t)m->size, err)
                           : set_long_name(s, bytes, (size_t)m->size, err);
    dg_free(bytes);
    return r;
}

static bool all_zero(const unsigned char *b)
{
    for (int i = 0; i < BLOCK; i++)
        if (b[i]) return false;
    return true;
}

/* Parses the header at s->at and moves past the member. *end: the zero block, or the end of the file. */
static dg_status next_member(scan *s, member *m, bool *end, dg_error *err)
{
    unsigned char h[BLOCK];
    *end = s->at >= s->tar_bytes;
    if (*end) {
        dg_logf(DG_LOG_WARNING, "a tar of %llu bytes has no end mark: it may have been cut",
                AT(s->tar_bytes));
        return DG_OK;
    }
    if (s->tar_bytes - s->at < BLOCK)
        return dg_fail(err, DG_ERR_FORMAT, "the file ends inside a header: it was truncated");
    DG_TRY(dg_read_at(s->fd, s->at, h, BLOCK, err));
    *end = all_zero(h);
    if (*end) return DG_OK;
    if (s->at == 0 && h[0] == 0x1f && h[1] == 0x8b)
        return dg_fail(err, DG_ERR_UNSUPPORTED,
                       "compressed with gzip: unpack it with gunzip, members are read in place");
    DG_TRY(check_sum(h, err));
    DG_TRY(parse_number(h + 124, 12, "size", &m->size, err));
    m->type = (char)h[156];
    m->header_at = s->at;
    m->at = s->at + BLOCK;
    const bool extra = m->type == 'x' || m->type == 'g' || m->type == 'L' || m->type == 'K';
    copy_name(h, m->name);
    if (!extra && s->long_name[0]) memcpy(m->name, s->long_name, strlen(s->long_name) + 1);
    if (!extra && s->has_pax_size) m->size = s->pax_size;
    if (m->type >= '1' && m->type <= '6') m->size = 0; /* links, devices, folders: no data follows */
    if (m->size > s->tar_bytes - m->at)
        return dg_fail(err, DG_ERR_FORMAT,
                       "'%.200s' should have %llu bytes and the file has only %llu more: it was truncated, "
                       "or the size is wrong",
                       m->name, AT(m->size), AT(s->tar_bytes - m->at));
    s->at = m->at + (m->size + BLOCK - 1) / BLOCK * BLOCK;
    if (m->type == 'x' || m->type == 'L') return read_extra(s, m, err);
    if (extra) return DG_OK;
    s->long_name[0] = 0;
    s->has_pax_size = false;
    return DG_OK;
}

/* ---- groups */

static dg_status class_of(scan *s, const char *name, size_t length, int32_t *index, dg_error *err)
{
    if (2 * s->class_count >= s->slot_count) { /* grow, and put all in again */
        const size_t n = s->slot_count ? 2 * s->slot_count : 64;
        class_slot *slots = dg_calloc(n, sizeof *slots);
        if (!slots) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
        for (size_t i = 0; i < s->slot_count; i++) {
            if (!s->slots[i].name) continue;
            size_t at = XXH3_64bits(s->slots[i].name, strlen(s->slots[i].name)) & (n - 1);
            while (slots[at].name) at = (at + 1) & (n - 1);
            slots[at] = s->slots[i];
        }
        dg_free(s->slots);
        s->slots = slots;
        s->slot_count = n;
    }
    size_t at = XXH3_64bits(name, length) & (s->slot_count - 1);
    for (; s->slots[at].name; at = (at + 1) & (s->slot_count - 1))
        if (strlen(s->slots[at].name) == length && !memcmp(s->slots[at].name, name, length)) {
            *index = s->slots[at].index;
            return DG_OK;
        }
    char *copy = dg_arena_alloc(&s->arena, length + 1);
    if (!copy) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
    memcpy(copy, name, length);
    const uint64_t offset = s->strings.length;
    dg_str_bytes(&s->strings, copy, length + 1);
    dg_str_bytes(&s->classes, &offset, sizeof offset);
    *index = (int32_t)s->class_count++;
    s->slots[at] = (class_slot){copy, *index};
    return DG_OK;
}

static void flush_group(scan *s)
{
    if (s->has_image) dg_str_bytes(&s->entries, &s->group, sizeof s->group);
    s->has_image = false;
    s->group = (dg_tar_entry){.label = -1, .class_index = -1};
    s->stem[0] = 0;
}

/* The image of a group: its name, with control characters made harmless for messages, and its folder. */
static dg_status take_image(scan *s, member *m, dg_error *err)
{
    if (m->size > DG_MAX_FILE_BYTES)
        return dg_fail(err, DG_ERR_FORMAT, "'%.200s' has %llu bytes, too many for an image", m->name,
                       AT(m->size));
    for (char *c = m->name; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    const char *slash = strrchr(m->name, '/'), *dir = slash;
    while (dir > m->name && dir[-1] != '/') dir--;
    if (slash && slash > dir && !(slash - dir == 1 && *dir == '.'))
        DG_TRY(class_of(s, dir, (size_t)(slash - dir), &s->group.class_index, err));
    s->group.at = m->at;
    s->group.size = m->size;
    s->group.name = s->strings.length;
    dg_str_bytes(&s->strings, m->name, strlen(m->name) + 1);
    s->has_image = true;
    return DG_OK;
}

static dg_status take_label(scan *s, const member *m, dg_error *err)
{
    char text[32];
    size_t n = (size_t)m->size;
    if (m->size == 0 || m->size > sizeof text)
        return dg_fail(err, DG_ERR_FORMAT, "'%.200s' has %llu bytes; it should be one integer", m->name,
                       AT(m->size));
    DG_TRY(dg_read_at(s->fd, m->at, text, n, err));
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' ')) n--;
    s->group.label = dg_parse_label(text, n);
    if (s->group.label < 0)
        return dg_fail(err, DG_ERR_FORMAT, "'%.200s' does not hold an integer from 0 to %d", m->name,
                       DG_MAX_LABEL);
    return DG_OK;
}

static dg_status take_member(scan *s, member *m, dg_error *err)
{
    if (m->type == 'S')
        return dg_fail(err, DG_ERR_UNSUPPORTED, "sparse members are not read: pack again without --sparse");
    if (m->type != '0' && m->type != 0 && m->type != '7') return DG_OK;
    const char *slash = strrchr(m->name, '/'), *base = slash ? slash + 1 : m->name, *dot = strrchr(base, '.');
    if (!dot || dot == base || base[0] == '.') return DG_OK;
    const bool image = dg_is_image_name(m->name);
    const size_t stem = (size_t)(dot - m->name);
    if (strncmp(s->stem, m->name, stem) != 0 || s->stem[stem] != 0 || (image && s->has_image)) {
        flush_group(s);
        memcpy(s->stem, m->name, stem);
        s->stem[stem] = 0;
    }
    if (image) return take_image(s, m, err);
    if (!strcmp(dot, ".cls")) return take_label(s, m, err);
    if (strcmp(dot, ".txt") != 0) return DG_OK;
    if (m->size > DG_MAX_CAPTION_BYTES)
        return dg_fail(err, DG_ERR_FORMAT, "the caption '%.200s' has %llu bytes; %zu are allowed", m->name,
                       AT(m->size), DG_MAX_CAPTION_BYTES);
    s->group.caption_at = m->at;
    s->group.caption_size = (uint32_t)m->size;
    return DG_OK;
}

static dg_status scan_members(scan *s, dg_error *err)
{
    member *m = dg_calloc(1, sizeof *m);
    if (!m) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status r = DG_OK;
    flush_group(s);
    for (bool end = false; r == DG_OK;) {
        const uint64_t at = s->at;
        r = next_member(s, m, &end, err);
        if (end) break;
        if (r == DG_OK) r = take_member(s, m, err);
        if (r != DG_OK) dg_fail_in(err, "byte %llu", AT(at));
    }
    flush_group(s);
    dg_free(m);
    return r;
}

static dg_status pack(const scan *s, void **index, size_t *size, dg_error *err)
{
    DG_TRY(dg_str_check(&s->entries, err));
    DG_TRY(dg_str_check(&s->classes, err));
    DG_TRY(dg_str_check(&s->strings, err));
    const dg_str *parts[] = {&s->entries, &s->classes, &s->strings};
    const size_t total = sizeof(dg_tar_header) + s->entries.length + s->classes.length + s->strings.length;
    char *block = dg_calloc(total, 1);
    if (!block) return dg_fail(err, DG_ERR_NOMEM, "no memory for an index of %zu bytes", total);
    size_t at = sizeof(dg_tar_header);
    for (int i = 0; i < 3; i++) {
        if (parts[i]->length) memcpy(block + at, parts[i]->text, parts[i]->length);
        at += parts[i]->length;
    }
    dg_tar_header *h = (dg_tar_header *)block;
    h->entries = s->entries.length / sizeof(dg_tar_entry);
    h->classes = s->class_count;
    h->string_bytes = s->strings.length;
    *index = block;
    *size = total;
    return DG_OK;
}

dg_status dg_tar_scan(int fd, uint64_t tar_bytes, void **index, size_t *size, dg_error *err)
{
    if (tar_bytes == 0) return dg_fail(err, DG_ERR_FORMAT, "the tar is empty (0 bytes)");
    scan *s = dg_calloc(1, sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->fd = fd;
    s->tar_bytes = tar_bytes;
    dg_status r = scan_members(s, err);
    if (r == DG_OK) r = pack(s, index, size, err);
    dg_str_free(&s->entries);
    dg_str_free(&s->classes);
    dg_str_free(&s->strings);
    dg_arena_free(&s->arena);
    dg_free(s->slots);
    dg_free(s);
    return r;
}
