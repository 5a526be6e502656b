/* dataset.c - see dataset.h. */
#include "dataset.h"

#include <sched.h>

static dg_status open_synthetic(const dg_recipe *r, uint64_t seed, int64_t count, dg_source **source,
                                dg_error *err)
{
    int64_t h, w;
    dg_recipe_size(r, "data.synthetic_size", &h, &w);
    dg_synthetic_config c = {.seed = seed,
                             .count = count,
                             .height = (int32_t)h,
                             .width = (int32_t)w,
                             .classes = (int32_t)dg_recipe_int(r, "data.synthetic_classes"),
                             .turn = dg_recipe_float(r, "data.synthetic_turn"),
                             .clutter = dg_recipe_float(r, "data.synthetic_clutter")};
    memcpy(c.radius, dg_recipe_floats(r, "data.synthetic_radius", &(size_t){0}), sizeof c.radius);
    return dg_source_open_synthetic(&c, source, err);
}

/* A source that lies in files. `key` names the recipe key of its paths. */
static dg_status open_files(const dg_recipe *r, const char *key, const char *cache_dir, dg_source **source,
                            dg_error *err)
{
    const char *kind = dg_recipe_string(r, "data.source");
    size_t n = 0;
    const char *const *paths = dg_recipe_paths(r, key, &n);
    dg_status s;
    if (n == 0)
        return dg_fail_key(err, DG_ERR_INVALID, key, "data.source is '%s': %s must say where it is", kind,
                           key);
    if (strcmp(kind, "tar") == 0)
        s = dg_source_open_tar(paths, n, cache_dir, source, err);
    else if (n > 1)
        return dg_fail_key(err, DG_ERR_INVALID, key, "data.source '%s' takes one path, not %zu", kind, n);
    else if (strcmp(kind, "folder") == 0)
        s = dg_source_open_folder(paths[0], source, err);
    else
        s = dg_source_open_list(paths[0], source, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "%s", key);
    return s;
}

static bool is_synthetic(const dg_recipe *r)
{
    return strcmp(dg_recipe_string(r, "data.source"), "synthetic") == 0;
}

dg_status dg_dataset_open(const dg_recipe *r, const char *cache_dir, dg_source **source, dg_error *err)
{
    if (!is_synthetic(r)) return open_files(r, "data.path", cache_dir, source, err);
    dg_status s = open_synthetic(r, (uint64_t)dg_recipe_int(r, "seed"),
                                 dg_recipe_int(r, "data.synthetic_images"), source, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "data.source");
    return s;
}

static dg_status same_classes(const dg_source *training, const dg_source *validation, dg_error *err)
{
    int32_t n = dg_source_classes(training), m = dg_source_classes(validation);
    char a[64], b[64];
    for (int32_t i = 0; i < n && i < m; i++) {
        const char *x = dg_source_class_name(training, i, a, sizeof a);
        const char *y = dg_source_class_name(validation, i, b, sizeof b);
        if (strcmp(x, y) != 0)
            return dg_fail_key(err, DG_ERR_MISMATCH, "data.val_path",
                               "class %d is '%s' in the training data and '%s' in the validation data", i, x,
                               y);
    }
    if (m > n)
        return dg_fail_key(err, DG_ERR_MISMATCH, "data.val_path",
                           "the validation data has %d classes and the training data %d", m, n);
    return DG_OK;
}

dg_status dg_dataset_open_validation(const dg_recipe *r, const char *cache_dir, const dg_source *training,
                                     dg_source **source, dg_error *err)
{
    size_t n;
    dg_status s;
    *source = NULL;
    dg_recipe_paths(r, "data.val_path", &n);
    if (is_synthetic(r)) /* another seed: other pictures of the same classes */
        s = open_synthetic(r, ~(uint64_t)dg_recipe_int(r, "seed"),
                           dg_recipe_int(r, "data.synthetic_val_images"), source, err);
    else if (n == 0)
        return DG_OK;
    else
        s = open_files(r, "data.val_path", cache_dir, source, err);
    if (s == DG_OK && training) s = same_classes(training, *source, err);
    if (s != DG_OK) {
        dg_source_close(*source);
        *source = NULL;
    }
    return s;
}

/* Those that this process may run on, as many as the loader can use. */
static int32_t usable_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set) < 256 ? CPU_COUNT(&set) : 256;
}

dg_loader_config dg_dataset_config(const dg_parts *p, int64_t first, int64_t last)
{
    const dg_recipe *r = p->recipe;
    dg_loader_config c = DG_LOADER_CONFIG_INIT;
    size_t n;
    c.seed = c.view_seed = p->seed;
    c.batch = (int32_t)dg_recipe_int(r, "data.batch");
    c.shuffle = dg_recipe_bool(r, "data.shuffle");
    c.limit = dg_recipe_int(r, "data.limit");
    c.first_step = first;
    c.last_step = last;
    c.views = (int32_t)dg_recipe_int(r, "data.views");
    c.height = (int32_t)p->image_h;
    c.width = (int32_t)p->image_w;
    if (p->tokens.struct_size && !p->cache &&
        (p->tokens.image_h != p->image_h || p->tokens.image_w != p->image_w)) {
        c.second_height = (int32_t)p->tokens.image_h;
        c.second_width = (int32_t)p->tokens.image_w;
    }
    const double *pair = dg_recipe_floats(r, "data.crop_scale", &n);
    if (pair && n == 2) memcpy(c.scale, pair, sizeof c.scale);
    pair = dg_recipe_floats(r, "data.crop_ratio", &n);
    if (pair && n == 2) memcpy(c.ratio, pair, sizeof c.ratio);
    c.flip = dg_recipe_float(r, "data.flip");
    c.captions = dg_recipe_int(r, "data.caption_length") > 0;
    c.on_bad = strcmp(dg_recipe_string(r, "data.on_bad_image"), "fail") == 0 ? DG_BAD_FAIL : DG_BAD_SKIP;
    c.decode = strcmp(dg_recipe_string(r, "data.decode"), "fast") == 0 ? DG_DECODE_FAST : DG_DECODE_EXACT;
    c.threads = (int32_t)dg_recipe_int(r, "data.workers");
    if (c.threads == 0) c.threads = usable_processors();
    c.depth = (int32_t)dg_recipe_int(r, "data.prefetch");
    return c;
}
