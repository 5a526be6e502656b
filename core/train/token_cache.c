/* token_cache.c - reading cached tokens (token_cache.h). */
#include "token_cache.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/weights.h"
#include "train/token_cache_parts.h"

struct dg_token_cache {
    dg_tokenizer_info info;
    int64_t images, views;
    bool int8;
    size_t n_shards;
    dg_weights **shards; /* [n_shards] */
};

uint64_t dg_token_cache_bytes(const dg_tokenizer_info *t, int64_t images, int64_t views, bool int8)
{
    uint64_t token = int8 ? (uint64_t)t->width + sizeof(float) : (uint64_t)t->width * 2;
    return (uint64_t)images * (uint64_t)views * (uint64_t)dg_token_count(t) * token;
}

int64_t dg_token_cache_images(const dg_recipe *recipe, int64_t count)
{
    int64_t limit = dg_recipe_int(recipe, "data.limit");
    return limit > 0 && limit < count ? limit : count;
}

/* Keys of `data` that tokens do not depend on, or that put_size says. All others count, those of later
 * versions too. */
static bool is_harmless(const char *line, size_t length)
{
    static const char *const keys[] = {"val_path",
                                       "batch",
                                       "shuffle",
                                       "workers",
                                       "prefetch",
                                       "eval_crop",
                                       "caption_length",
                                       "vocabulary",
                                       "image_size",
                                       "synthetic_size",
                                       "vocabulary_kind",
                                       "vocabulary_size",
                                       "synthetic_val_images"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strlen(keys[i]) == length && memcmp(line, keys[i], length) == 0) return true;
    return false;
}

/* One number stands for both. */
static void put_size(const dg_recipe *recipe, const char *key, dg_str *out)
{
    int64_t h, w;
    dg_recipe_size(recipe, key, &h, &w);
    dg_str_printf(out, "%s: [%lld, %lld]\n", key, (long long)h, (long long)w);
}

/* The lines "  key: value" below "section:" of the printed recipe. */
static void put_section(const char *recipe, const char *section, dg_str *out)
{
    char head[32];
    snprintf(head, sizeof head, "\n%s:\n", section);
    const char *p = strstr(recipe, head);
    for (p = p ? p + strlen(head) : ""; p[0] == ' '; p += strcspn(p, "\n") + 1) {
        const char *key = p + strspn(p, " ");
        if (is_harmless(key, strcspn(key, ":"))) continue;
        dg_str_printf(out, "%s.%.*s\n", section, (int)strcspn(key, "\n"), key);
    }
}

char *dg_token_cache_key(const dg_recipe *recipe)
{
    dg_str out = {0}, printed = {0};
    dg_recipe_print(recipe, false, &printed);
    dg_str_printf(&out, "seed: %lld\n", (long long)dg_recipe_int(recipe, "seed"));
    put_size(recipe, "data.image_size", &out);
    put_size(recipe, "data.synthetic_size", &out);
    if (printed.text) {
        put_section(printed.text, "data", &out);
        put_section(printed.text, "tokenizer", &out);
    }
    if (printed.failed || out.failed) dg_str_free(&out);
    dg_str_free(&printed);
    return out.text;
}

void dg_token_cache_difference(const char *then, const char *now, char *out, size_t size)
{
    while (*then || *now) {
        size_t a = strcspn(then, "\n"), b = strcspn(now, "\n");
        if (a != b || memcmp(then, now, a) != 0) {
            snprintf(out, size, "'%.*s' then, '%.*s' now", (int)a, then, (int)b, now);
            return;
        }
        then += a + (then[a] != 0);
        now += b + (now[b] != 0);
    }
    snprintf(out, size, "nothing");
}

static dg_status read_header(const char *path, const dg_recipe *recipe, dg_token_cache *c, dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root;
    const char *key = NULL, *summary = NULL;
    int64_t v[10] = {0};
    static const char *const names[10] = {"images",  "views",  "int8",   "discrete",    "image_h",
                                          "image_w", "grid_h", "grid_w", "class_token", "width"};
    dg_status s = dg_json_read_file(path, 1 << 20, &arena, &root, err);
    for (int i = 0; i < 10 && s == DG_OK; i++) {
        s = dg_json_need_int(root, names[i], path, &v[i], err);
        if (s == DG_OK && (v[i] < 0 || v[i] > 1 << 30))
            s = dg_fail(err, DG_ERR_FORMAT, "'%s': %s is %lld", path, names[i], (long long)v[i]);
    }
    if (s == DG_OK) s = dg_json_need_text(root, "key", path, &key, err);
    if (s == DG_OK) s = dg_json_need_text(root, "summary", path, &summary, err);
    if (s == DG_OK) {
        c->images = v[0];
        c->views = v[1];
        c->int8 = v[2] != 0;
        c->info = (dg_tokenizer_info){.struct_size = (uint32_t)sizeof c->info,
                                      .discrete = v[3] != 0,
                                      .image_h = v[4],
                                      .image_w = v[5],
                                      .grid_h = v[6],
                                      .grid_w = v[7],
                                      .class_token = v[8] != 0,
                                      .width = v[9]};
        snprintf(c->info.summary, sizeof c->info.summary, "%s, cached", summary);
        char *now = dg_token_cache_key(recipe), difference[400];
        if (!now) {
            s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
        } else if (strcmp(now, key) != 0) {
            dg_token_cache_difference(key, now, difference, sizeof difference);
            s = dg_fail(
                err, DG_ERR_MISMATCH,
                "'%s' was made for another recipe: %s. Make one for this recipe with `digpt tokenize`", path,
                difference);
        }
        dg_free(now);
    }
    dg_arena_free(&arena);
    return s;
}

static dg_status open_shard(const char *dir, size_t i, dg_token_cache *c, dg_error *err)
{
    char path[1200], name[32];
    int64_t rows = c->images - (int64_t)i * DG_CACHE_SHARD < DG_CACHE_SHARD
                       ? c->images - (int64_t)i * DG_CACHE_SHARD
                       : DG_CACHE_SHARD;
    snprintf(path, sizeof path, "%s/tokens-%05zu.safetensors", dir, i);
    if (!dg_path_is_file(path))
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "'%s' is not there: the cache is not finished; `digpt tokenize` goes on with it",
                       path);
    if (dg_weights_open(path, &c->shards[i], err) != DG_OK)
        return dg_fail_in(err, "a shard is damaged; delete it, and `digpt tokenize` makes it again");
    for (int64_t v = 0; v < c->views; v++) {
        const dg_weight *t;
        snprintf(name, sizeof name, "view.%lld", (long long)v);
        DG_TRY(dg_weights_need(c->shards[i], name, &t, err));
        if (t->rank != 3 || t->dims[0] != rows || t->dims[1] != dg_token_count(&c->info) ||
            t->dims[2] != c->info.width || t->dtype != (c->int8 ? DG_STORED_I8 : DG_STORED_BF16))
            return dg_fail(err, DG_ERR_MISMATCH, "'%s': %s has not the shape or type that cache.json says",
                           path, name);
        snprintf(name, sizeof name, "view.%lld.scale", (long long)v);
        if (c->int8) DG_TRY(dg_weights_need(c->shards[i], name, &t, err));
        if (c->int8 && (t->rank != 2 || t->dims[0] != rows || t->dims[1] != dg_token_count(&c->info) ||
                        t->dtype != DG_STORED_F32))
            return dg_fail(err, DG_ERR_MISMATCH, "'%s': %s has not the shape or type that cache.json says",
                           path, name);
    }
    return DG_OK;
}

dg_status dg_token_cache_open(const char *dir, const dg_recipe *recipe, dg_token_cache **out,
                              dg_tokenizer_info *info, dg_error *err)
{
    char path[1200];
    dg_token_cache *c = *out = dg_calloc(1, sizeof *c);
    if (!c) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    snprintf(path, sizeof path, "%s/cache.json", dir);
    dg_status s = dg_path_is_file(path)
                      ? read_header(path, recipe, c, err)
                      : dg_fail(err, DG_ERR_NOT_FOUND,
                                "'%s' is not there: make a token cache for this recipe with "
                                "`digpt tokenize`",
                                path);
    if (s == DG_OK && (c->images < 1 || c->views < 1 || c->info.discrete))
        s = dg_fail(err, DG_ERR_FORMAT, "'%s' holds no tokens", path);
    if (s == DG_OK) {
        c->n_shards = (size_t)((c->images + DG_CACHE_SHARD - 1) / DG_CACHE_SHARD);
        c->shards = dg_calloc(c->n_shards, sizeof *c->shards);
        if (!c->shards) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; s == DG_OK && i < c->n_shards; i++) s = open_shard(dir, i, c, err);
    if (s == DG_OK) {
        *info = c->info;
        return DG_OK;
    }
    dg_token_cache_close(c);
    *out = NULL;
    return s;
}

void dg_token_cache_close(dg_token_cache *c)
{
    if (!c) return;
    for (size_t i = 0; c->shards && i < c->n_shards; i++) dg_weights_close(c->shards[i]);
    dg_free(c->shards);
    dg_free(c);
}

/* One image's tokens of one view, [tokens, width]. */
static void read_tokens(const dg_token_cache *c, int64_t id, int64_t view, float *out)
{
    const dg_weights *shard = c->shards[id / DG_CACHE_SHARD];
    int64_t row = id % DG_CACHE_SHARD, tokens = dg_token_count(&c->info), width = c->info.width,
            n = tokens * width;
    char name[32];
    snprintf(name, sizeof name, "view.%lld", (long long)view);
    const unsigned char *data = dg_weights_find(shard, name)->data;
    if (!c->int8) {
        dg_stored_to_f32(DG_STORED_BF16, data + row * n * 2, (size_t)n, out);
        return;
    }
    snprintf(name, sizeof name, "view.%lld.scale", (long long)view);
    const unsigned char *scales = dg_weights_find(shard, name)->data;
    dg_stored_to_f32(DG_STORED_I8, data + row * n, (size_t)n, out);
    for (int64_t t = 0; t < tokens; t++) {
        float scale;
        memcpy(&scale, scales + (row * tokens + t) * (int64_t)sizeof scale, sizeof scale);
        for (int64_t i = 0; i < width; i++) out[t * width + i] *= scale;
    }
}

dg_status dg_token_cache_fill(const dg_token_cache *c, const dg_batch *batch, float *dst, dg_error *err)
{
    int64_t share = dg_token_count(&c->info) * c->info.width, view = batch->epoch % c->views;
    for (int32_t i = 0; i < batch->size; i++) {
        if (batch->ids[i] >= c->images)
            return dg_fail(err, DG_ERR_INTERNAL, "sample %lld is not in the token cache",
                           (long long)batch->ids[i]);
        if (batch->ids[i] >= 0) read_tokens(c, batch->ids[i], view, dst + i * share);
    }
    return DG_OK;
}
