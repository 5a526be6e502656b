/* pth.c - see pth.h: from a pickle's values to named tensors, for both kinds of file. */
#include "pth.h"

#include <stdlib.h>

#include "base/str.h"
#include "json.h"
#include "pickle.h"
#include "weights_build.h"
#include "zipdir.h"

enum { MAX_WALK_DEPTH = 48, MAX_VISITS = 1000000, MAX_NAME = 512, MAX_META = 4096, MAX_REPEATED = 1 << 24 };

/* A storage of the legacy kind: where its bytes lie. */
typedef struct legacy_storage {
    const char *key;
    size_t n_key;
    const dg_pk *value; /* any STORAGE of this key */
    const unsigned char *data;
    int64_t elements;
} legacy_storage;

typedef struct reader {
    const char *where;
    dg_weights_builder *b;
    dg_arena arena; /* values of the pickle, the directory: gone after parsing */
    dg_zip zip;
    const char *root;       /* zip: "archive/" */
    legacy_storage *legacy; /* legacy: [n_legacy] by key; NULL for zip */
    size_t n_legacy;
    size_t visits;
    dg_str path; /* of the value that is being walked */
    dg_error *err;
} reader;

static dg_status no_memory(const reader *r)
{
    dg_fail(r->err, DG_ERR_NOMEM, "out of memory while reading %s", r->where);
    return DG_ERR_NOMEM;
}

static dg_status wrong(const reader *r, const char *what)
{
    dg_fail(r->err, DG_ERR_FORMAT, "%s: tensor '%.200s': %s", r->where, r->path.text ? r->path.text : "",
            what);
    return DG_ERR_FORMAT;
}

/* ---- element types */

static const struct {
    const char *storage, *constant; /* torch.FloatStorage, torch.float32 */
    dg_stored type;
} types[] = {
    {"FloatStorage", "float32", DG_STORED_F32},
    {"DoubleStorage", "float64", DG_STORED_F64},
    {"HalfStorage", "float16", DG_STORED_F16},
    {"BFloat16Storage", "bfloat16", DG_STORED_BF16},
    {"LongStorage", "int64", DG_STORED_I64},
    {"IntStorage", "int32", DG_STORED_I32},
    {"ShortStorage", "int16", DG_STORED_I16},
    {"CharStorage", "int8", DG_STORED_I8},
    {"ByteStorage", "uint8", DG_STORED_U8},
    {"BoolStorage", "bool", DG_STORED_BOOL},
    {"", "float8_e4m3fn", DG_STORED_F8_E4M3},
    {"", "float8_e5m2", DG_STORED_F8_E5M2},
    {"", "uint64", DG_STORED_U64},
    {"", "uint32", DG_STORED_U32},
    {"", "uint16", DG_STORED_U16},
};

/* The type that torch.<name>Storage (or, with `constant`, torch.<name>) stands for; UntypedStorage counts
 * bytes. */
static dg_stored type_of(const dg_pk *global, bool constant)
{
    if (global->kind != DG_PK_GLOBAL || strncmp(global->v.name, "torch.", 6)) return DG_STORED_NONE;
    const char *name = strrchr(global->v.name, '.') + 1; /* torch.cuda.FloatStorage holds the same */
    if (!constant && !strcmp(name, "UntypedStorage")) return DG_STORED_U8;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(constant ? types[i].constant : types[i].storage, name)) return types[i].type;
    return DG_STORED_NONE;
}

static dg_status need_type(const reader *r, const dg_pk *global, bool constant, dg_stored *out)
{
    *out = type_of(global, constant);
    if (*out != DG_STORED_NONE) return DG_OK;
    dg_fail(r->err, DG_ERR_UNSUPPORTED,
            "%s: tensor '%.200s' has elements of '%.100s', which are not supported", r->where,
            r->path.text ? r->path.text : "", global->kind == DG_PK_GLOBAL ? global->v.name : "?");
    return DG_ERR_UNSUPPORTED;
}

/* ---- storages */

static int compare_keys(const void *a, const void *b)
{
    const legacy_storage *x = a, *y = b;
    size_t n = x->n_key < y->n_key ? x->n_key : y->n_key;
    int c = memcmp(x->key, y->key, n);
    return c ? c : (x->n_key > y->n_key) - (x->n_key < y->n_key);
}

/* The bytes of a storage, and how many there are. */
static dg_status find_storage(reader *r, const dg_pk *storage, const unsigned char **data, uint64_t *bytes)
{
    const dg_pk *key = storage->v.items.p[2];
    if (key->kind != DG_PK_STR || key->v.text.n > 200) return wrong(r, "its storage has no proper key");
    if (r->legacy) {
        legacy_storage probe = {.key = key->v.text.p, .n_key = key->v.text.n}, *s;
        s = r->n_legacy ? bsearch(&probe, r->legacy, r->n_legacy, sizeof probe, compare_keys) : NULL;
        if (!s || !s->data) return wrong(r, "its storage is not in the file");
        *data = s->data;
        *bytes = (uint64_t)s->elements * dg_stored_size(type_of(s->value->v.items.p[1], false));
        return DG_OK;
    }
    char name[512];
    int n = snprintf(name, sizeof name, "%.255sdata/%.*s", r->root, (int)key->v.text.n, key->v.text.p);
    dg_zip_member *m = n > 0 && (size_t)n < sizeof name ? dg_zip_find(&r->zip, name) : NULL;
    if (!m) {
        dg_fail(r->err, DG_ERR_FORMAT, "%s: tensor '%.200s': its member '%.200s' is not in the archive",
                r->where, r->path.text, name);
        return DG_ERR_FORMAT;
    }
    *bytes = m->size;
    return dg_zip_content(&r->zip, m, &r->b->arena, data, r->err);
}

/* ---- tensors */

static bool to_int(const dg_pk *v, int64_t *out)
{
    *out = v->v.integer;
    return v->kind == DG_PK_INT && *out >= 0;
}

static dg_status read_dims(const reader *r, const dg_pk *size, const dg_pk *stride, dg_weight *t)
{
    if ((size->kind != DG_PK_TUPLE && size->kind != DG_PK_LIST) ||
        (stride->kind != DG_PK_TUPLE && stride->kind != DG_PK_LIST) || size->v.items.n != stride->v.items.n)
        return wrong(r, "its size and strides do not fit together");
    if (size->v.items.n > DG_MAX_RANK) {
        dg_fail(r->err, DG_ERR_UNSUPPORTED,
                "%s: tensor '%.200s' has %zu dimensions; at most %d are supported", r->where, r->path.text,
                size->v.items.n, DG_MAX_RANK);
        return DG_ERR_UNSUPPORTED;
    }
    t->rank = (int32_t)size->v.items.n;
    for (int i = 0; i < t->rank; i++)
        if (!to_int(size->v.items.p[i], &t->dims[i]) || !to_int(stride->v.items.p[i], &t->strides[i]))
            return wrong(r, "its sizes and strides must be integers of 0 or more");
    return DG_OK;
}

/* Elements of storage that the tensor reaches, from `offset` on: offset + sum (dim - 1) * stride + 1. */
static bool reach_of(const dg_weight *t, int64_t offset, int64_t *reach)
{
    *reach = offset;
    for (int i = 0; i < t->rank; i++) {
        int64_t step;
        if (__builtin_mul_overflow(t->dims[i] - 1, t->strides[i], &step) ||
            __builtin_add_overflow(*reach, step, reach))
            return false;
    }
    return !__builtin_add_overflow(*reach, (int64_t)1, reach);
}

/* Arguments: storage, offset, size, stride, and for version 3 the type at place 6. */
static dg_status add_tensor(reader *r, const dg_pk *v)
{
    dg_weight t = {.name = r->path.length ? r->path.text : "tensor"};
    int64_t offset, claimed, reach, view = 0;
    dg_stored stored;
    if (v->v.items.n < 4 || v->v.items.p[0]->kind != DG_PK_STORAGE)
        return wrong(r, "it is made from no storage");
    const dg_pk *storage = v->v.items.p[0];
    bool typed = v->v.items.n >= 7 && v->v.items.p[6]->kind == DG_PK_GLOBAL;
    DG_TRY(need_type(r, storage->v.items.p[1], false, &stored));
    t.dtype = stored;
    if (typed) DG_TRY(need_type(r, v->v.items.p[6], true, &t.dtype));
    if (!to_int(v->v.items.p[1], &offset) || !to_int(storage->v.items.p[4], &claimed))
        return wrong(r, "its offset or its storage's size is no integer of 0 or more");
    const dg_pk *window = storage->v.items.n >= 6 ? storage->v.items.p[5] : NULL;
    if (window && window->kind == DG_PK_TUPLE && /* legacy: key, offset and size within another storage */
        (window->v.items.n < 2 || !to_int(window->v.items.p[1], &view)))
        return wrong(r, "its storage is a view that makes no sense");
    DG_TRY(read_dims(r, v->v.items.p[2], v->v.items.p[3], &t));
    DG_TRY(dg_weight_extent(&t, r->where, r->err));
    const unsigned char *data;
    uint64_t bytes = 0, size = dg_stored_size(t.dtype);
    DG_TRY(find_storage(r, storage, &data, &bytes));
    if ((uint64_t)claimed > bytes / dg_stored_size(stored)) {
        dg_fail(r->err, DG_ERR_FORMAT,
                "%s: tensor '%.200s': its storage should have %lld elements and holds %llu bytes", r->where,
                t.name, (long long)claimed, (unsigned long long)bytes);
        return DG_ERR_FORMAT;
    }
    if (__builtin_add_overflow(offset, view, &offset)) return wrong(r, "its offset overflows");
    if (t.count > 0) {
        if (!reach_of(&t, offset, &reach) || (uint64_t)reach > bytes / size)
            return wrong(r, "its offset, size and strides lead outside of its storage");
        if ((uint64_t)t.count > bytes / size && t.count > MAX_REPEATED)
            return wrong(r, "it repeats its storage to more than 16 million elements");
        t.data = data + (uint64_t)offset * size;
    } else {
        t.data = data;
    }
    return dg_build_tensor(r->b, &t, r->where, r->err);
}

/* ---- walking */

/* Appends ".key" to the path; false for a key that names nothing. */
static bool enter(reader *r, const dg_pk *key, size_t index)
{
    if (r->path.length) dg_str_puts(&r->path, ".");
    if (key && key->kind == DG_PK_STR && key->v.text.n < MAX_NAME && !memchr(key->v.text.p, 0, key->v.text.n))
        dg_str_bytes(&r->path, key->v.text.p, key->v.text.n);
    else if (key && key->kind == DG_PK_INT)
        dg_str_printf(&r->path, "%lld", (long long)key->v.integer);
    else if (!key)
        dg_str_printf(&r->path, "%zu", index);
    else
        return false;
    return !r->path.failed && r->path.length <= MAX_NAME;
}

static void leave(reader *r, size_t length)
{
    r->path.length = length;
    if (r->path.text) r->path.text[length] = 0;
}

static bool is_container(const dg_pk *v)
{
    return v->kind == DG_PK_DICT || v->kind == DG_PK_LIST || v->kind == DG_PK_TUPLE;
}

/* Adds every tensor at or below v under its path. Circles end at the depth, repetition at the number of
 * visits. */
static dg_status add_tensors(reader *r, const dg_pk *v, int depth)
{
    if (++r->visits > MAX_VISITS) return wrong(r, "the state dict holds more than a million values");
    if (v->kind == DG_PK_TENSOR) return add_tensor(r, v);
    if (!is_container(v)) return DG_OK;
    if (depth > MAX_WALK_DEPTH) return wrong(r, "the state dict is nested too deep, or in a circle");
    size_t length = r->path.length, step = v->kind == DG_PK_DICT ? 2 : 1;
    for (size_t i = 0; i + step <= v->v.items.n; i += step) {
        if (enter(r, step == 2 ? v->v.items.p[i] : NULL, i))
            DG_TRY(add_tensors(r, v->v.items.p[i + step - 1], depth + 1));
        else if (r->path.failed)
            return no_memory(r);
        leave(r, length);
    }
    return DG_OK;
}

static bool holds_tensor(reader *r, const dg_pk *v, int depth)
{
    if (v->kind == DG_PK_TENSOR) return true;
    if (!is_container(v) || depth > MAX_WALK_DEPTH) return false;
    size_t step = v->kind == DG_PK_DICT ? 2 : 1;
    for (size_t i = 0; i + step <= v->v.items.n && ++r->visits <= MAX_VISITS; i += step)
        if (holds_tensor(r, v->v.items.p[i + step - 1], depth + 1)) return true;
    return false;
}

/* Scalars as text; dicts below the top are entered, lists are not. */
static dg_status add_scalars(reader *r, const dg_pk *v, const dg_pk *except, int depth)
{
    dg_str text = {0};
    size_t length = r->path.length;
    dg_status s = DG_OK;
    if (v == except || depth > 2 || r->b->n_meta >= MAX_META || ++r->visits > MAX_VISITS) return DG_OK;
    switch (v->kind) {
    case DG_PK_BOOL:
        dg_str_puts(&text, v->v.integer ? "true" : "false");
        break;
    case DG_PK_INT:
        dg_str_printf(&text, "%lld", (long long)v->v.integer);
        break;
    case DG_PK_FLOAT:
        dg_json_put_number(&text, v->v.number);
        break;
    case DG_PK_STR:
        if (v->v.text.n < 65536 && !memchr(v->v.text.p, 0, v->v.text.n))
            dg_str_bytes(&text, v->v.text.p, v->v.text.n);
        break;
    case DG_PK_DICT:
        for (size_t i = 0; s == DG_OK && i + 1 < v->v.items.n; i += 2) {
            if (enter(r, v->v.items.p[i], i)) s = add_scalars(r, v->v.items.p[i + 1], except, depth + 1);
            leave(r, length);
        }
        break;
    default:
        break;
    }
    if (text.failed || r->path.failed) s = no_memory(r);
    if (s == DG_OK && text.text && r->path.length) s = dg_build_meta(r->b, r->path.text, text.text, r->err);
    dg_str_free(&text);
    return s;
}

/* Finds the state dict in what the pickle holds, and adds it and what stands beside it. */
static dg_status add_all(reader *r, const dg_pickle *pickle)
{
    static const char *const keys[] = {"model",       "state_dict", "model_state_dict",
                                       "model_state", "module",     "model_ema"};
    const dg_pk *top = pickle->root, *state = top;
    const char *key = "";
    for (size_t i = 0; state == top && i < sizeof keys / sizeof *keys; i++) {
        const dg_pk *v = dg_pk_get(top, keys[i]);
        if (!v || !holds_tensor(r, v, 0)) continue;
        state = v;
        key = keys[i];
    }
    r->visits = 0;
    DG_TRY(add_tensors(r, state, 0));
    if (r->b->n == 0) {
        const char *opaque = pickle->opaque.text ? pickle->opaque.text : "";
        dg_fail(r->err, DG_ERR_FORMAT, "%s holds no tensors in plain containers%s%.400s%s", r->where,
                *opaque ? "; it is made of objects of classes whose code is not run (" : "", opaque,
                *opaque ? "): save its state_dict() instead" : "");
        return DG_ERR_FORMAT;
    }
    r->visits = 0;
    DG_TRY(add_scalars(r, top, state == top ? NULL : state, 0));
    DG_TRY(dg_build_meta(r->b, "pytorch.state_dict", key, r->err));
    return pickle->opaque.text ? dg_build_meta(r->b, "pytorch.not_executed", pickle->opaque.text, r->err)
                               : DG_OK;
}

/* ---- the zip kind */

static bool is_pickle_member(const char *name)
{
    const char *slash = strchr(name, '/');
    return !strcmp(slash && !strchr(slash + 1, '/') ? slash + 1 : name, "data.pkl");
}

static dg_status parse_zip(reader *r, const void *bytes, size_t size, dg_pickle *pickle)
{
    DG_TRY(dg_zip_open(bytes, size, r->where, &r->arena, &r->zip, r->err));
    dg_zip_member *data = NULL, *order;
    for (size_t i = 0; i < r->zip.n && !data; i++)
        if (is_pickle_member(r->zip.members[i].name)) data = &r->zip.members[i];
    if (!data || strlen(data->name) > 200)
        return dg_fail(r->err, DG_ERR_FORMAT, "%s is a zip archive without a data.pkl: it is no PyTorch file",
                       r->where);
    char *root = dg_arena_strdup(&r->arena, data->name), name[256], where[640];
    if (!root) return no_memory(r);
    root[strlen(root) - strlen("data.pkl")] = 0;
    r->root = root;
    const unsigned char *content;
    snprintf(name, sizeof name, "%sbyteorder", root);
    order = dg_zip_find(&r->zip, name);
    if (order) {
        DG_TRY(dg_zip_content(&r->zip, order, &r->arena, &content, r->err));
        if (order->size != 6 || memcmp(content, "little", 6))
            return dg_fail(r->err, DG_ERR_UNSUPPORTED,
                           "%s was written on a big-endian machine, which is not supported", r->where);
    }
    DG_TRY(dg_zip_content(&r->zip, data, &r->arena, &content, r->err));
    snprintf(where, sizeof where, "%.600s (data.pkl)", r->where);
    DG_TRY(dg_pickle_read(content, (size_t)data->size, where, &r->arena, pickle, r->err));
    return add_all(r, pickle);
}

/* ---- the legacy kind: five pickles (magic, protocol, system, object, keys), then for each key its storage
 */

/* The table of the storages that the object names, each once, by key. */
static dg_status collect_storages(reader *r, const dg_pk *storages)
{
    size_t n = storages->v.items.n, kept = 0;
    r->legacy = dg_arena_alloc(&r->arena, (n + 1) * sizeof *r->legacy);
    if (!r->legacy) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const dg_pk *key = storages->v.items.p[i]->v.items.p[2];
        if (key->kind != DG_PK_STR) return wrong(r, "a storage has no proper key");
        r->legacy[i] =
            (legacy_storage){.key = key->v.text.p, .n_key = key->v.text.n, .value = storages->v.items.p[i]};
    }
    qsort(r->legacy, n, sizeof *r->legacy, compare_keys);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || compare_keys(&r->legacy[kept - 1], &r->legacy[i])) r->legacy[kept++] = r->legacy[i];
    r->n_legacy = kept;
    return DG_OK;
}

/* Walks the list of keys: int64 number of elements, then the elements, in the order of the list. */
static dg_status place_storages(reader *r, const dg_pk *keys, const unsigned char *p, size_t size)
{
    if (keys->kind != DG_PK_LIST)
        return dg_fail(r->err, DG_ERR_FORMAT, "%s: its list of storages is no list", r->where);
    for (size_t i = 0; i < keys->v.items.n; i++) {
        const dg_pk *key = keys->v.items.p[i];
        legacy_storage probe = {.key = key->v.text.p, .n_key = key->v.text.n}, *s = NULL;
        if (key->kind == DG_PK_STR && r->n_legacy)
            s = bsearch(&probe, r->legacy, r->n_legacy, sizeof probe, compare_keys);
        if (!s || s->data)
            return dg_fail(r->err, DG_ERR_FORMAT, "%s: storage %zu of its list is unknown, or listed twice",
                           r->where, i);
        dg_stored type = type_of(s->value->v.items.p[1], false);
        if (type == DG_STORED_NONE)
            return dg_fail(r->err, DG_ERR_UNSUPPORTED,
                           "%s: storage %zu has elements of a type that is not supported", r->where, i);
        uint64_t n = 0, element = dg_stored_size(type);
        for (int k = 7; size >= 8 && k >= 0; k--) n = n << 8 | p[k];
        if (size < 8 || n > (size - 8) / element)
            return dg_fail(
                r->err, DG_ERR_FORMAT,
                "%s: storage %zu of %zu: %llu elements do not fit into the %zu bytes that are left: "
                "the file is cut short",
                r->where, i, keys->v.items.n, (unsigned long long)n, size);
        s->elements = (int64_t)n;
        s->data = p + 8;
        p += 8 + n * element;
        size -= (size_t)(8 + n * element);
    }
    return DG_OK;
}

static bool is_magic(const dg_pk *v)
{
    static const unsigned char magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    return v->kind == DG_PK_LONG && v->v.text.n == sizeof magic && !memcmp(v->v.text.p, magic, sizeof magic);
}

static dg_status parse_legacy(reader *r, const unsigned char *p, size_t size, dg_pickle pickles[5])
{
    static const char *const parts[5] = {"magic number", "version", "system record", "object",
                                         "list of storages"};
    for (int i = 0; i < 5; i++) {
        char where[640];
        snprintf(where, sizeof where, "%.600s (%s)", r->where, parts[i]);
        DG_TRY(dg_pickle_read(p, size, where, &r->arena, &pickles[i], r->err));
        if (i == 0 && !is_magic(pickles[i].root))
            return dg_fail(r->err, DG_ERR_FORMAT, "%s is a pickle, but not one that torch.save wrote",
                           r->where);
        const dg_pk *little = i == 2 ? dg_pk_get(pickles[i].root, "little_endian") : NULL;
        if (little && little->kind == DG_PK_BOOL && !little->v.integer)
            return dg_fail(r->err, DG_ERR_UNSUPPORTED,
                           "%s was written on a big-endian machine, which is not supported", r->where);
        p += pickles[i].used;
        size -= pickles[i].used;
    }
    DG_TRY(collect_storages(r, pickles[3].storages));
    DG_TRY(place_storages(r, pickles[4].root, p, size));
    return add_all(r, &pickles[3]);
}

dg_status dg_pth_parse(const void *bytes, size_t size, const char *where, struct dg_weights_builder *b,
                       dg_error *err)
{
    reader r = {.where = where, .b = b, .err = err};
    dg_pickle pickles[5] = {{0}};
    bool zip = size >= 4 && !memcmp(bytes, "PK\3\4", 4);
    dg_status s = zip ? parse_zip(&r, bytes, size, &pickles[0]) : parse_legacy(&r, bytes, size, pickles);
    for (int i = 0; i < 5; i++) dg_str_free(&pickles[i].opaque);
    dg_str_free(&r.path);
    dg_arena_free(&r.arena);
    return s;
}
