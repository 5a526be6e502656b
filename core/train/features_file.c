/* features_file.c - features on disk: the cache of a run, and what is exported. See features.h. */
#include "features.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "io/weights.h"
#include "train/evaluate.h"

/* ---- writing */

dg_status dg_features_write(const char *path, const char *key, const dg_feature_set *f, dg_error *err)
{
    const dg_st_tensor tensors[] = {{"features", DG_STORED_F32, 2, {f->n, f->width}},
                                    {"labels", DG_STORED_I32, 1, {f->n}},
                                    {"ids", DG_STORED_I64, 1, {f->n}}};
    const dg_st_meta meta[] = {{"format", "digpt"}, {"role", "features"}, {"key", key}};
    const void *data[] = {f->x, f->labels, f->ids};
    return dg_st_write(path, tensors, data, 3, meta, 3, err);
}

dg_status dg_features_write_npy(const char *path, const dg_feature_set *f, dg_error *err)
{
    enum { PREAMBLE = 10, ALIGN = 64 }; /* magic, version and length of the header; header padded to 64 */
    char header[ALIGN * 3];
    size_t body = (size_t)f->n * (size_t)f->width * sizeof *f->x;
    int n = snprintf(header + PREAMBLE, sizeof header - PREAMBLE,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }", (long long)f->n,
                     (long long)f->width);
    size_t size = ((size_t)n + 1 + PREAMBLE + ALIGN - 1) / ALIGN * ALIGN;
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((size - PREAMBLE) & 255);
    header[9] = (char)((size - PREAMBLE) >> 8);
    memset(header + PREAMBLE + n, ' ', size - PREAMBLE - (size_t)n);
    header[size - 1] = '\n';
    char *bytes = dg_calloc(size + body, 1);
    if (!bytes) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", path);
    memcpy(bytes, header, size);
    memcpy(bytes + size, f->x, body);
    dg_status s = dg_file_write_atomic(path, bytes, size + body, err);
    dg_free(bytes);
    return s;
}

/* ---- what features depend on */

/* Of every leaf's name and bytes, in the program's order. */
static dg_status hash_weights(const dg_extractor *e, uint64_t *hash, dg_error *err)
{
    const dg_program *p = e->program;
    dg_status s = DG_OK;
    *hash = 0;
    for (uint32_t i = 0; i < p->n_leaves && s == DG_OK; i++) {
        const dg_program_leaf *leaf = &p->leaves[i];
        const dg_type *type = &p->values[leaf->value].type;
        if (leaf->kind == DG_LEAF_INPUT) continue;
        uint64_t bytes = (uint64_t)dg_type_bytes(type);
        void *data = dg_calloc((size_t)bytes, 1);
        s = data ? e->state->backend->store_read(e->state->store, leaf->name, data, 0, bytes, err)
                 : dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", leaf->name);
        if (s == DG_OK)
            *hash = XXH3_64bits_withSeed(data, (size_t)bytes,
                                         XXH3_64bits_withSeed(leaf->name, strlen(leaf->name), *hash));
        dg_free(data);
    }
    return s;
}

static dg_status make_key(const dg_extractor *e, const dg_source *source, dg_feature_range range, char *key,
                          size_t size, dg_error *err)
{
    uint64_t weights;
    char backend[256] = "";
    const dg_loader_config c = dg_evaluation_config(e->parts, e->batch);
    DG_TRY(hash_weights(e, &weights, err));
    dg_backend_of(e->parts)->fingerprint(e->parts->backend.self, backend, sizeof backend);
    snprintf(key, size,
             "weights %016llx, data %016llx, images below %lld, at most %lld by seed %llu, %d x %d of %.10g, "
             "layer %lld, %s%s, %s on %s",
             (unsigned long long)weights, (unsigned long long)dg_source_fingerprint(source),
             (long long)range.first, (long long)range.most, (unsigned long long)e->parts->seed, c.height,
             c.width, c.fraction, (long long)e->spec.layer,
             e->spec.pool == DG_POOL_CLASS ? "class token" : "mean", e->spec.norm ? ", normed" : "",
             dg_dtype_name(e->compute), backend);
    return DG_OK;
}

/* ---- reading */

static dg_status need(const dg_weights *w, const char *name, dg_stored dtype, int32_t rank, int64_t n,
                      int64_t width, const dg_weight **out, dg_error *err)
{
    DG_TRY(dg_weights_need(w, name, out, err));
    const dg_weight *t = *out;
    if (t->dtype == dtype && t->rank == rank && t->dense && t->dims[0] == n &&
        (rank == 1 || t->dims[1] == width))
        return DG_OK;
    return dg_fail(err, DG_ERR_MISMATCH, "'%s' has another type or shape than features of %lld images", name,
                   (long long)n);
}

static dg_status copy_out(const dg_weight *t, void *to_pp, dg_error *err)
{
    void *copy = dg_calloc(t->bytes, 1);
    if (!copy) return dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", t->name);
    memcpy(to_pp, &copy, sizeof copy);
    return dg_weight_read_raw(t, copy, t->bytes, err);
}

static dg_status read_file(const char *path, const char *key, int64_t width, dg_feature_set *out,
                           dg_error *err)
{
    const dg_weight *x = NULL, *labels, *ids;
    dg_weights *w = NULL;
    DG_TRY(dg_weights_open(path, &w, err));
    const char *found = dg_weights_meta(w, "key");
    dg_status s = found && strcmp(found, key) == 0
                      ? DG_OK
                      : dg_fail(err, DG_ERR_MISMATCH, "'%s' was made for something else", path);
    if (s == DG_OK) s = dg_weights_need(w, "features", &x, err);
    int64_t n = s == DG_OK && x->rank == 2 ? x->dims[0] : 0;
    if (s == DG_OK) s = need(w, "features", DG_STORED_F32, 2, n, width, &x, err);
    if (s == DG_OK) s = need(w, "labels", DG_STORED_I32, 1, n, 0, &labels, err);
    if (s == DG_OK) s = need(w, "ids", DG_STORED_I64, 1, n, 0, &ids, err);
    *out = (dg_feature_set){n, width, NULL, NULL, NULL};
    if (s == DG_OK) s = copy_out(x, &out->x, err);
    if (s == DG_OK) s = copy_out(labels, &out->labels, err);
    if (s == DG_OK) s = copy_out(ids, &out->ids, err);
    dg_weights_close(w);
    if (s != DG_OK) dg_feature_set_free(out);
    return s;
}

dg_status dg_features_cached(dg_extractor *e, const dg_source *source, dg_feature_range range,
                             const char *dir, dg_feature_set *out, bool *hit, dg_error *err)
{
    char key[800], name[64];
    dg_error why = DG_ERROR_INIT;
    if (hit) *hit = false;
    if (!dir) return dg_features_extract(e, source, range, out, err);
    DG_TRY(make_key(e, source, range, key, sizeof key, err));
    DG_TRY(dg_dir_make(dir, err));
    snprintf(name, sizeof name, "%016llx.safetensors", (unsigned long long)XXH3_64bits(key, strlen(key)));
    char *path = dg_path_join(dir, name);
    if (!path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = DG_OK;
    if (dg_path_is_file(path) && read_file(path, key, e->width, out, &why) == DG_OK) {
        dg_logf(DG_LOG_INFO, "features of %lld images from '%s'", (long long)out->n, path);
        if (hit) *hit = true;
    } else {
        if (why.code) dg_logf(DG_LOG_WARNING, "features are made anew: %s", why.message);
        s = dg_features_extract(e, source, range, out, err);
        if (s == DG_OK) s = dg_features_write(path, key, out, err);
        if (s != DG_OK) dg_feature_set_free(out);
    }
    dg_free(path);
    return s;
}
