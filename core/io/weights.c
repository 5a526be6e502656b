/* weights.c - see weights.h: finding the files, telling their kind, and handing out values. */
#include "weights.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/str.h"
#include "json.h"
#include "pth.h"
#include "safetensors.h"
#include "weights_build.h"

struct dg_weights {
    dg_weights_builder b; /* tensors and meta sorted */
    dg_map *maps;         /* [n_maps] the mapped files */
    size_t n_maps, maps_capacity;
    char *where;
};

/* ---- building */

void dg_weight_set_dense(dg_weight *t)
{
    int64_t stride = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        t->strides[i] = stride;
        stride *= t->dims[i] > 0 ? t->dims[i] : 1; /* an empty tensor's strides do not matter */
    }
}

dg_status dg_weight_extent(dg_weight *t, const char *where, dg_error *err)
{
    int64_t whole = 1, bytes, size = (int64_t)dg_stored_size(t->dtype);
    bool overflow = false;
    t->count = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] < 0)
            return dg_fail(err, DG_ERR_FORMAT, "%s: tensor '%.200s': dimension %d is %lld", where, t->name, i,
                           (long long)t->dims[i]);
        /* the product without zeros bounds every stride as well */
        overflow |= __builtin_mul_overflow(whole, t->dims[i] ? t->dims[i] : 1, &whole);
        t->count = t->dims[i] ? t->count : 0;
    }
    overflow |= __builtin_mul_overflow(whole, size, &bytes);
    if (overflow)
        return dg_fail(err, DG_ERR_FORMAT,
                       "%s: tensor '%.200s': its dimensions multiply to more than 2^63 bytes", where,
                       t->name);
    t->count *= whole;
    t->bytes = (size_t)(t->count * size);
    return DG_OK;
}

dg_status dg_build_tensor(dg_weights_builder *b, const dg_weight *t, const char *where, dg_error *err)
{
    dg_weight copy = *t;
    DG_TRY(dg_weight_extent(&copy, where, err));
    copy.name = dg_arena_strdup(&b->arena, t->name);
    if (!copy.name || !dg_grow(&b->tensors, b->n, &b->capacity, sizeof *b->tensors))
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while reading %s", where);
    copy.dense = true;
    int64_t stride = 1;
    for (int i = copy.rank - 1; i >= 0; i--) {
        if (copy.dims[i] > 1 && copy.strides[i] != stride) copy.dense = false;
        stride *= copy.dims[i] > 0 ? copy.dims[i] : 1;
    }
    if (copy.count == 0) copy.dense = true;
    b->tensors[b->n++] = copy;
    return DG_OK;
}

dg_status dg_build_meta(dg_weights_builder *b, const char *key, const char *value, dg_error *err)
{
    if (!dg_grow(&b->meta, b->n_meta, &b->meta_capacity, sizeof *b->meta))
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while reading metadata");
    struct dg_meta_pair pair = {dg_arena_strdup(&b->arena, key), dg_arena_strdup(&b->arena, value)};
    if (!pair.key || !pair.value) return dg_fail(err, DG_ERR_NOMEM, "out of memory while reading metadata");
    b->meta[b->n_meta++] = pair;
    return DG_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dg_weight *)a)->name, ((const dg_weight *)b)->name);
}

static int by_meta_key(const void *a, const void *b)
{
    const struct dg_meta_pair *x = a, *y = b;
    int c = strcmp(x->key, y->key);
    return c ? c : strcmp(x->value, y->value);
}

static dg_status finish(dg_weights *w, dg_error *err)
{
    dg_weights_builder *b = &w->b;
    if (b->n) qsort(b->tensors, b->n, sizeof *b->tensors, by_name);
    for (size_t i = 1; i < b->n; i++)
        if (!strcmp(b->tensors[i - 1].name, b->tensors[i].name))
            return dg_fail(err, DG_ERR_FORMAT, "%s: the tensor '%.200s' is there twice", w->where,
                           b->tensors[i].name);
    if (b->n_meta) qsort(b->meta, b->n_meta, sizeof *b->meta, by_meta_key);
    size_t kept = 0;
    for (size_t i = 0; i < b->n_meta; i++)
        if (kept == 0 || strcmp(b->meta[kept - 1].key, b->meta[i].key)) b->meta[kept++] = b->meta[i];
    b->n_meta = kept;
    return DG_OK;
}

/* ---- the kind of a file */

/* What people hand over by mistake, told from the first bytes. */
static const struct {
    const char *magic, *what;
} strangers[] = {
    {"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'"},
    {"<!DOCTYPE", "a web page, not weights: the download went wrong"},
    {"<html", "a web page, not weights: the download went wrong"},
    {"\x89HDF", "an HDF5 file; convert it to safetensors first"},
    {"GGUF", "a GGUF file, which is not read; convert it to safetensors first"},
    {"\x1f\x8b", "compressed with gzip: unpack it first"},
    {"\x93NUMPY", "a NumPy array; convert it to safetensors first"},
};

static dg_status parse_bytes(dg_weights_builder *b, const unsigned char *bytes, size_t size,
                             const char *where, dg_error *err)
{
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        size_t n = strlen(strangers[i].magic);
        if (size >= n && !memcmp(bytes, strangers[i].magic, n))
            return dg_fail(err, DG_ERR_UNSUPPORTED, "%s is %s", where, strangers[i].what);
    }
    if (size == 0) return dg_fail(err, DG_ERR_FORMAT, "%s is empty", where);
    bool zip = size >= 4 && !memcmp(bytes, "PK\3\4", 4);
    bool pickle = size >= 2 && bytes[0] == 0x80 && bytes[1] <= 5 && !(size > 8 && bytes[8] == '{');
    if (zip || pickle) return dg_pth_parse(bytes, size, where, b, err);
    return dg_safetensors_parse(bytes, size, where, b, err);
}

/* ---- folders */

static dg_status add_file(dg_weights *w, const char *path, dg_error *err)
{
    if (!dg_grow(&w->maps, w->n_maps, &w->maps_capacity, sizeof *w->maps))
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while opening %s", path);
    DG_TRY(dg_map_open(path, &w->maps[w->n_maps], err));
    w->n_maps++;
    return parse_bytes(&w->b, w->maps[w->n_maps - 1].bytes, w->maps[w->n_maps - 1].size, path, err);
}

static dg_status add_shard(dg_weights *w, const char *dir, const char *name, const char *where, dg_error *err)
{
    if (strchr(name, '/') || name[0] == '.' || name[0] == 0)
        return dg_fail(err, DG_ERR_FORMAT, "%s: the shard '%.200s' must be a plain file name", where, name);
    char *path = dg_path_join(dir, name);
    dg_status s = path ? add_file(w, path, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(path);
    return s;
}

static int by_text(const void *a, const void *b)
{
    return strcmp((*(const dg_json *const *)a)->v.text, (*(const dg_json *const *)b)->v.text);
}

/* {"weight_map": {"tensor name": "shard's file name", ...}} */
static dg_status add_index(dg_weights *w, const char *path, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root, **order = NULL;
    char *dir = dg_path_dir(path);
    dg_status s = dir ? dg_json_read_file(path, 100000000, &arena, &root, err)
                      : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    const dg_json *map = s == DG_OK ? dg_json_get(root, "weight_map") : NULL;
    if (s == DG_OK && (!map || map->type != DG_JSON_OBJECT))
        s = dg_fail(err, DG_ERR_FORMAT, "%s: no object \"weight_map\": it is not an index of shards", path);
    if (s == DG_OK && !(order = dg_arena_alloc(&arena, (map->count + 1) * sizeof *order)))
        s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    size_t n = 0;
    for (const dg_json *m = s == DG_OK ? map->v.first : NULL; m && s == DG_OK; m = m->next) {
        if (m->type != DG_JSON_STRING)
            s = dg_fail(err, DG_ERR_FORMAT, "%s:%u:%u: a shard's file name must be a string", path, m->line,
                        m->col);
        order[n++] = m;
    }
    if (s == DG_OK) qsort(order, n, sizeof *order, by_text);
    for (size_t i = 0; s == DG_OK && i < n; i++)
        if (i == 0 || strcmp(order[i - 1]->v.text, order[i]->v.text))
            s = add_shard(w, dir, order[i]->v.text, path, err);
    if (s == DG_OK) s = finish(w, err);
    for (size_t i = 0; s == DG_OK && i < n; i++)
        if (!dg_weights_find(w, order[i]->key))
            s = dg_fail(err, DG_ERR_FORMAT, "%s: '%s' should hold the tensor '%.200s', which is not there",
                        path, order[i]->v.text, order[i]->key);
    dg_arena_free(&arena);
    dg_free(dir);
    return s;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static dg_status add_path(dg_weights *w, const char *path, dg_error *err)
{
    if (ends_with(path, ".index.json")) return add_index(w, path, err);
    DG_TRY(add_file(w, path, err));
    return finish(w, err);
}

static dg_status add_folder(dg_weights *w, const char *path, dg_error *err)
{
    static const char *const names[] = {
        "model.safetensors.index.json", "model.safetensors", "open_clip_model.safetensors",
        "pytorch_model.bin.index.json", "pytorch_model.bin", "open_clip_pytorch_model.bin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *file = dg_path_join(path, names[i]);
        if (!file) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        bool there = dg_path_is_file(file);
        dg_status s = there ? add_path(w, file, err) : DG_OK;
        dg_free(file);
        if (there) return s;
    }
    return dg_fail(
        err, DG_ERR_NOT_FOUND,
        "the folder '%s' holds no weights under a known name (model.safetensors, pytorch_model.bin, "
        "open_clip_model.safetensors, or an index of shards); name the file itself",
        path);
}

/* ---- opening */

static dg_status begin(const char *where, dg_weights **out, dg_error *err)
{
    dg_weights *w = dg_calloc(1, sizeof *w);
    if (w) w->where = dg_strdup(where);
    if (!w || !w->where) {
        dg_free(w);
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while opening %s", where);
    }
    *out = w;
    return DG_OK;
}

dg_status dg_weights_open(const char *path, dg_weights **out, dg_error *err)
{
    *out = NULL;
    dg_weights *w = NULL;
    DG_TRY(begin(path, &w, err));
    dg_status s = dg_path_is_dir(path) ? add_folder(w, path, err) : add_path(w, path, err);
    if (s == DG_OK)
        *out = w;
    else
        dg_weights_close(w);
    return s;
}

dg_status dg_weights_parse(const void *bytes, size_t size, const char *where, dg_weights **out, dg_error *err)
{
    *out = NULL;
    dg_weights *w = NULL;
    DG_TRY(begin(where, &w, err));
    dg_status s = parse_bytes(&w->b, bytes, size, where, err);
    if (s == DG_OK) s = finish(w, err);
    if (s == DG_OK)
        *out = w;
    else
        dg_weights_close(w);
    return s;
}

void dg_weights_close(dg_weights *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->n_maps; i++) dg_map_close(&w->maps[i]);
    dg_free(w->maps);
    dg_free(w->b.tensors);
    dg_free(w->b.meta);
    dg_arena_free(&w->b.arena);
    dg_free(w->where);
    dg_free(w);
}

/* ---- asking */

size_t dg_weights_count(const dg_weights *w)
{
    return w->b.n;
}

const dg_weight *dg_weights_at(const dg_weights *w, size_t i)
{
    return i < w->b.n ? &w->b.tensors[i] : NULL;
}

const dg_weight *dg_weights_find(const dg_weights *w, const char *name)
{
    dg_weight key = {.name = name};
    return w->b.n ? bsearch(&key, w->b.tensors, w->b.n, sizeof key, by_name) : NULL;
}

dg_status dg_weights_need(const dg_weights *w, const char *name, const dg_weight **out, dg_error *err)
{
    *out = dg_weights_find(w, name);
    if (*out) return DG_OK;
    const char *near = NULL;
    size_t best = strlen(name) / 3 + 1;
    for (size_t i = 0; i < w->b.n; i++) {
        size_t d = dg_edit_distance(name, w->b.tensors[i].name);
        if (d < best) {
            best = d;
            near = w->b.tensors[i].name;
        }
    }
    return dg_fail(err, DG_ERR_NOT_FOUND, "%s holds no tensor '%.200s' among its %zu%s%.200s%s", w->where,
                   name, w->b.n, near ? "; the nearest name is '" : "", near ? near : "", near ? "'" : "");
}

size_t dg_weights_meta_count(const dg_weights *w)
{
    return w->b.n_meta;
}

void dg_weights_meta_at(const dg_weights *w, size_t i, const char **key, const char **value)
{
    *key = w->b.meta[i].key;
    *value = w->b.meta[i].value;
}

const char *dg_weights_meta(const dg_weights *w, const char *key)
{
    size_t low = 0, high = w->b.n_meta;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcmp(key, w->b.meta[mid].key);
        if (c == 0) return w->b.meta[mid].value;
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const char *dg_weight_text(const dg_weight *t, char *out, size_t size)
{
    int n = snprintf(out, size, "%s[", dg_stored_name(t->dtype));
    for (int i = 0; i < t->rank && n >= 0 && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, i ? ",%lld" : "%lld", (long long)t->dims[i]);
    if (n >= 0 && (size_t)n < size) snprintf(out + n, size - (size_t)n, "]");
    return out;
}

/* ---- values */

typedef void sink(void *user, const unsigned char *bytes, size_t elements);

/* Hands the elements in row-major order to `put`, in runs along the last axis, or at once when dense. */
static void each_run(const dg_weight *t, sink *put, void *user)
{
    if (t->count == 0) return;
    if (t->dense) {
        put(user, t->data, (size_t)t->count);
        return;
    }
    size_t size = dg_stored_size(t->dtype);
    int last = t->rank - 1;
    bool run = t->strides[last] == 1;
    int64_t at[DG_MAX_RANK] = {0};
    for (;;) {
        int64_t offset = 0;
        for (int i = 0; i < last; i++) offset += at[i] * t->strides[i];
        const unsigned char *row = t->data + (size_t)offset * size;
        if (run) put(user, row, (size_t)t->dims[last]);
        for (int64_t k = 0; !run && k < t->dims[last]; k++)
            put(user, row + (size_t)(k * t->strides[last]) * size, 1);
        int axis = last - 1;
        while (axis >= 0 && ++at[axis] == t->dims[axis]) at[axis--] = 0;
        if (axis < 0) return;
    }
}

typedef struct to_f32 {
    dg_stored dtype;
    float *out;
} to_f32;

static void put_f32(void *user, const unsigned char *bytes, size_t elements)
{
    to_f32 *s = user;
    dg_stored_to_f32(s->dtype, bytes, elements, s->out);
    s->out += elements;
}

typedef struct to_raw {
    size_t size; /* of an element */
    unsigned char *out;
} to_raw;

static void put_raw(void *user, const unsigned char *bytes, size_t elements)
{
    to_raw *s = user;
    memcpy(s->out, bytes, elements * s->size);
    s->out += elements * s->size;
}

dg_status dg_weight_read_f32(const dg_weight *t, float *out, size_t room, dg_error *err)
{
    if (room < (size_t)t->count)
        return dg_fail(err, DG_ERR_INVALID, "'%s' has %lld elements, and there is room for %zu", t->name,
                       (long long)t->count, room);
    to_f32 s = {t->dtype, out};
    each_run(t, put_f32, &s);
    return DG_OK;
}

dg_status dg_weight_read_raw(const dg_weight *t, void *out, size_t room, dg_error *err)
{
    if (room < t->bytes)
        return dg_fail(err, DG_ERR_INVALID, "'%s' has %zu bytes, and there is room for %zu", t->name,
                       t->bytes, room);
    to_raw s = {dg_stored_size(t->dtype), out};
    each_run(t, put_raw, &s);
    return DG_OK;
}

dg_status dg_weight_read_rows_f32(const dg_weight *t, int64_t first, int64_t rows, float *out, size_t room,
                                  dg_error *err)
{
    if (t->rank == 0) return dg_fail(err, DG_ERR_INVALID, "'%s' is a scalar and has no rows", t->name);
    if (first < 0 || rows < 0 || first > t->dims[0] || rows > t->dims[0] - first)
        return dg_fail(err, DG_ERR_INVALID, "'%s' has %lld rows; %lld from row %lld on were asked for",
                       t->name, (long long)t->dims[0], (long long)rows, (long long)first);
    dg_weight part = *t;
    part.count = t->dims[0] ? t->count / t->dims[0] * rows : 0;
    part.dims[0] = rows;
    if (part.count) part.data += (size_t)(first * t->strides[0]) * dg_stored_size(t->dtype);
    return dg_weight_read_f32(&part, out, room, err);
}

/* ---- fingerprint */

typedef struct to_hash {
    size_t size;
    XXH3_state_t *state;
} to_hash;

static void put_hash(void *user, const unsigned char *bytes, size_t elements)
{
    to_hash *s = user;
    XXH3_128bits_update(s->state, bytes, elements * s->size);
}

dg_status dg_weights_fingerprint(const dg_weights *w, char out[33], dg_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    XXH3_128bits_reset(state);
    for (size_t i = 0; i < w->b.n; i++) {
        const dg_weight *t = &w->b.tensors[i];
        char type[160];
        dg_weight_text(t, type, sizeof type);
        XXH3_128bits_update(state, t->name, strlen(t->name) + 1);
        XXH3_128bits_update(state, type, strlen(type) + 1);
        to_hash s = {dg_stored_size(t->dtype), state};
        each_run(t, put_hash, &s);
    }
    XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
    return DG_OK;
}
