/* safetensors.c - reading the safetensors format; see safetensors.h. */
#include "safetensors.h"

#include <stdlib.h>

#include "json.h"
#include "weights_build.h"

enum { HEADER_LIMIT = 100000000 };

typedef struct span {
    int64_t begin, end;
    const char *name;
} span;

typedef struct reader {
    const char *where;
    const unsigned char *data; /* what follows the header */
    int64_t size;              /* its bytes */
    dg_weights_builder *b;
    dg_error *err;
} reader;

static dg_status wrong(const reader *r, const dg_json *at, const char *name, const char *what)
{
    return dg_fail(r->err, DG_ERR_FORMAT, "%s: tensor '%.200s' (header column %u): %s", r->where, name,
                   at->col, what);
}

static dg_status read_shape(const reader *r, const dg_json *entry, dg_weight *t)
{
    const dg_json *shape = dg_json_get(entry, "shape");
    if (!shape || shape->type != DG_JSON_ARRAY)
        return wrong(r, entry, t->name, "\"shape\" must be an array of integers");
    if (shape->count > DG_MAX_RANK)
        return dg_fail(r->err, DG_ERR_UNSUPPORTED,
                       "%s: tensor '%.200s' has %u dimensions; at most %d are supported", r->where, t->name,
                       shape->count, DG_MAX_RANK);
    for (const dg_json *d = shape->v.first; d; d = d->next) {
        if (d->type != DG_JSON_INT || d->v.integer < 0)
            return wrong(r, d, t->name, "a dimension must be an integer of 0 or more");
        t->dims[t->rank++] = d->v.integer;
    }
    return DG_OK;
}

static dg_status read_span(const reader *r, const dg_json *entry, const char *name, span *out)
{
    const dg_json *offsets = dg_json_get(entry, "data_offsets");
    if (!offsets || offsets->type != DG_JSON_ARRAY || offsets->count != 2)
        return wrong(r, entry, name, "\"data_offsets\" must be two integers");
    const dg_json *begin = offsets->v.first, *end = begin->next;
    if (begin->type != DG_JSON_INT || end->type != DG_JSON_INT)
        return wrong(r, offsets, name, "\"data_offsets\" must be two integers");
    *out = (span){begin->v.integer, end->v.integer, name};
    if (out->begin < 0 || out->end < out->begin)
        return wrong(r, offsets, name, "\"data_offsets\" must not be negative or run backwards");
    if (out->end > r->size)
        return dg_fail(
            r->err, DG_ERR_FORMAT,
            "%s: tensor '%.200s' ends at byte %lld of the data, which has %lld: the file is cut short or its "
            "header is wrong",
            r->where, name, (long long)out->end, (long long)r->size);
    return DG_OK;
}

static dg_status read_entry(const reader *r, const dg_json *entry, span *out)
{
    dg_weight t = {.name = entry->key};
    if (entry->type != DG_JSON_OBJECT) return wrong(r, entry, t.name, "its entry must be an object");
    const dg_json *dtype = dg_json_get(entry, "dtype");
    if (!dtype || dtype->type != DG_JSON_STRING) return wrong(r, entry, t.name, "\"dtype\" must be a string");
    t.dtype = dg_stored_from_name(dtype->v.text);
    if (t.dtype == DG_STORED_NONE)
        return dg_fail(r->err, DG_ERR_UNSUPPORTED,
                       "%s: tensor '%.200s' has the type '%.40s', which is not supported", r->where, t.name,
                       dtype->v.text);
    DG_TRY(read_shape(r, entry, &t));
    DG_TRY(read_span(r, entry, t.name, out));
    DG_TRY(dg_weight_extent(&t, r->where, r->err));
    if (t.bytes != (size_t)(out->end - out->begin)) {
        char type[160];
        return dg_fail(r->err, DG_ERR_FORMAT,
                       "%s: tensor '%.200s' is %s, %zu bytes, and its offsets span %lld", r->where, t.name,
                       dg_weight_text(&t, type, sizeof type), t.bytes, (long long)(out->end - out->begin));
    }
    dg_weight_set_dense(&t);
    t.data = r->data + out->begin;
    return dg_build_tensor(r->b, &t, r->where, r->err);
}

static int by_begin(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty tensors first */
}

/* The format wants every byte of the data to belong to exactly one tensor. */
static dg_status check_cover(const reader *r, span *spans, size_t n)
{
    if (n) qsort(spans, n, sizeof *spans, by_begin);
    int64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].begin < end)
            return dg_fail(r->err, DG_ERR_FORMAT,
                           "%s: the tensors '%.200s' and '%.200s' overlap at byte %lld of the data", r->where,
                           spans[i - 1].name, spans[i].name, (long long)spans[i].begin);
        if (spans[i].begin > end)
            return dg_fail(r->err, DG_ERR_FORMAT,
                           "%s: bytes %lld to %lld of the data, before '%.200s', belong to no tensor",
                           r->where, (long long)end, (long long)spans[i].begin, spans[i].name);
        end = spans[i].end;
    }
    if (end != r->size)
        return dg_fail(r->err, DG_ERR_FORMAT, "%s: the data have %lld bytes, and the tensors end at %lld",
                       r->where, (long long)r->size, (long long)end);
    return DG_OK;
}

static dg_status read_metadata(const reader *r, const dg_json *meta)
{
    if (meta->type != DG_JSON_OBJECT)
        return dg_fail(r->err, DG_ERR_FORMAT, "%s: \"__metadata__\" must be an object of strings", r->where);
    for (const dg_json *m = meta->v.first; m; m = m->next) {
        if (m->type != DG_JSON_STRING)
            return dg_fail(r->err, DG_ERR_FORMAT,
                           "%s: \"__metadata__\": the value of '%.200s' must be a string", r->where, m->key);
        DG_TRY(dg_build_meta(r->b, m->key, m->v.text, r->err));
    }
    return DG_OK;
}

static dg_status read_header(const reader *r, const dg_json *root, dg_arena *arena)
{
    if (root->type != DG_JSON_OBJECT)
        return dg_fail(r->err, DG_ERR_FORMAT, "%s: its header must be a JSON object", r->where);
    span *spans = dg_arena_alloc(arena, ((size_t)root->count + 1) * sizeof *spans);
    if (!spans) return dg_fail(r->err, DG_ERR_NOMEM, "out of memory while reading %s", r->where);
    size_t n = 0;
    for (const dg_json *m = root->v.first; m; m = m->next) {
        if (!strcmp(m->key, "__metadata__"))
            DG_TRY(read_metadata(r, m));
        else
            DG_TRY(read_entry(r, m, &spans[n++]));
    }
    return check_cover(r, spans, n);
}

dg_status dg_safetensors_parse(const void *bytes, size_t size, const char *where,
                               struct dg_weights_builder *b, dg_error *err)
{
    const unsigned char *p = bytes;
    uint64_t header = 0;
    if (size < 8)
        return dg_fail(err, DG_ERR_FORMAT, "%s has only %zu bytes: no weights file is that short", where,
                       size);
    for (int i = 7; i >= 0; i--) header = header << 8 | p[i];
    if (size < 9 || header < 2 || p[8] != '{')
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s is no weights file that is read here: neither safetensors nor a PyTorch file by "
                       "its first bytes",
                       where);
    if (header > HEADER_LIMIT)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: its header claims %llu bytes, more than the %d that the format allows", where,
                       (unsigned long long)header, HEADER_LIMIT);
    if (header > size - 8)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: its header claims %llu bytes and the file has %zu: it is cut short", where,
                       (unsigned long long)header, size);
    reader r = {where, p + 8 + header, (int64_t)(size - 8 - header), b, err};
    dg_arena arena = {0};
    const dg_json *root;
    dg_status s = dg_json_parse((const char *)p + 8, (size_t)header, where, &arena, &root, err);
    if (s == DG_OK) s = read_header(&r, root, &arena);
    dg_arena_free(&arena);
    return s;
}
