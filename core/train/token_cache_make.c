/* token_cache_make.c - writing a token cache: the tokenizer alone over all views (token_cache.h). */
#include <math.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "train/dataset.h"
#include "train/inputs.h"
#include "train/run.h"
#include "train/state.h"
#include "train/token_cache_parts.h"
#include "train/tokenize.h"

typedef struct maker {
    const dg_parts *parts;
    const char *dir;
    bool int8;
    int64_t images, views, tokens, width, batch;
    dg_source *source;
    dg_graph *graph;
    dg_program *program;
    dg_state state;
    dg_backend_exe *exe;
    dg_inputs inputs;
    float *out;       // [batch, tokens, width]
    int8_t *bytes;    // one image: [tokens, width]
    uint16_t *narrow; // the same
    float *scales;    // one image: [tokens]
    int64_t done;
    void (*progress)(void *user, int64_t done, int64_t total);
    void *user;
} maker;

static dg_status build(maker *m, dg_error *err)
{
    dg_run_plan plan;
    DG_TRY(dg_run_make_plan(m->parts, 0, &plan, err));
    DG_TRY(dg_tokenize_graph(m->parts, m->batch, plan.compute, &m->graph, err));
    return dg_finish_program(m->graph, m->parts, "tokenize", false, &m->program, err);
}

static dg_status set_up(maker *m, dg_error *err)
{
    const dg_parts *p = m->parts;
    const dg_recipe *r = p->recipe;
    if (!p->tokenizer.self)
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer", "the recipe names no tokenizer");
    if (p->tokens.discrete)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "tokenizer", "only continuous tokens are cached");
    m->views = dg_recipe_int(r, "data.views");
    if (m->views < 1)
        return dg_fail_key(
            err, DG_ERR_INVALID, "data.views",
            "data.views must say how many crops of each image are cached; a new one every epoch cannot be");
    DG_TRY(dg_dataset_open(r, NULL, &m->source, err));
    m->images = dg_token_cache_images(r, dg_source_count(m->source));
    m->tokens = dg_token_count(&p->tokens);
    m->width = p->tokens.width;
    /* Shards hold whole batches. */
    for (m->batch = dg_recipe_int(r, "data.batch"); DG_CACHE_SHARD % m->batch; m->batch--) continue;
    DG_TRY(build(m, err));
    DG_TRY(dg_state_open(p, &m->state, err));
    DG_TRY(dg_state_init(&m->state, m->graph, p->seed, false, err));
    DG_TRY(dg_inputs_open(p, m->program, &m->inputs, err));
    DG_TRY(dg_backend_of(p)->compile(p->backend.self, m->program, m->state.store, &m->exe, err));
    m->out = dg_calloc((size_t)(m->batch * m->tokens * m->width), sizeof *m->out);
    m->bytes = dg_calloc((size_t)(m->tokens * m->width), sizeof *m->bytes);
    m->narrow = dg_calloc((size_t)(m->tokens * m->width), sizeof *m->narrow);
    m->scales = dg_calloc((size_t)m->tokens, sizeof *m->scales);
    return m->out && m->bytes && m->narrow && m->scales ? dg_dir_make(m->dir, err)
                                                        : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static void tear_down(maker *m)
{
    if (m->exe) dg_backend_of(m->parts)->release(m->exe);
    dg_inputs_close(&m->inputs);
    dg_state_close(&m->state);
    dg_program_destroy(m->program);
    dg_graph_destroy(m->graph);
    dg_source_close(m->source);
    dg_free(m->out);
    dg_free(m->bytes);
    dg_free(m->narrow);
    dg_free(m->scales);
}

/* Sends the tokens of image `id` to the file's tensors of a view: tensor `at`, and its scales in the next
 * one. */
static dg_status put_image(maker *m, dg_st_writer *w, size_t at, int64_t id, const float *x, dg_error *err)
{
    int64_t n = m->tokens * m->width;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return dg_fail(err, DG_ERR_NOT_FINITE,
                           "token %lld of sample %lld is not finite: the tokenizer's weights are spoilt, or "
                           "train.precision must be f32",
                           (long long)(i / m->width), (long long)id);
    if (!m->int8) {
        for (int64_t i = 0; i < n; i++) m->narrow[i] = dg_f32_to_bf16(x[i]);
        return dg_st_put(w, at, m->narrow, (size_t)n * sizeof *m->narrow, err);
    }
    for (int64_t t = 0; t < m->tokens; t++) {
        float most = 0;
        for (int64_t i = 0; i < m->width; i++) most = fmaxf(most, fabsf(x[t * m->width + i]));
        m->scales[t] = most / 127;
        for (int64_t i = 0; i < m->width; i++)
            m->bytes[t * m->width + i] = most > 0 ? (int8_t)lrintf(x[t * m->width + i] / m->scales[t]) : 0;
    }
    DG_TRY(dg_st_put(w, at, m->bytes, (size_t)n, err));
    return dg_st_put(w, at + 1, m->scales, (size_t)m->tokens * sizeof *m->scales, err);
}

/* One view of one shard: the loader walks the images in order, whose epoch is the view. */
static dg_status one_view(maker *m, dg_st_writer *w, int64_t shard, int64_t rows, int64_t view, dg_error *err)
{
    dg_loader *loader = NULL;
    int64_t per_epoch = (m->images + m->batch - 1) / m->batch,
            first = view * per_epoch + shard * (DG_CACHE_SHARD / m->batch);
    dg_loader_config c = dg_dataset_config(m->parts, first, first + (rows + m->batch - 1) / m->batch);
    size_t at = (size_t)view * (m->int8 ? 2 : 1);
    void *outputs[] = {m->out};
    c.batch = (int32_t)m->batch;
    c.shuffle = c.drop_last = false;
    DG_TRY(dg_loader_open(&c, m->source, &loader, err));
    dg_status s = DG_OK;
    for (int64_t row = 0; s == DG_OK && row < rows; row += m->batch) {
        const dg_batch *b;
        s = dg_loader_next(loader, &b, err);
        if (s != DG_OK) break;
        s = dg_inputs_fill(&m->inputs, b, NULL, err);
        dg_run io = {(uint32_t)sizeof io, m->inputs.n, m->inputs.data, 1, 0, outputs};
        if (s == DG_OK) s = dg_backend_of(m->parts)->run(m->exe, &io, err);
        for (int32_t i = 0; s == DG_OK && i < b->size && row + i < rows; i++)
            s = put_image(m, w, at, b->ids[i], m->out + i * m->tokens * m->width, err);
        dg_loader_release(loader, b);
        m->done += row + m->batch < rows ? m->batch : rows - row;
        if (m->progress) m->progress(m->user, m->done, m->images * m->views);
    }
    dg_loader_close(loader);
    return s;
}

static dg_status one_shard(maker *m, int64_t shard, dg_error *err)
{
    char path[1200], (*names)[32] = NULL;
    int64_t rows = m->images - shard * DG_CACHE_SHARD < DG_CACHE_SHARD ? m->images - shard * DG_CACHE_SHARD
                                                                       : DG_CACHE_SHARD;
    size_t n = (size_t)m->views * (m->int8 ? 2 : 1);
    dg_st_writer *w = NULL;
    snprintf(path, sizeof path, "%s/tokens-%05lld.safetensors", m->dir, (long long)shard);
    if (dg_path_is_file(path)) {
        m->done += rows * m->views;
        return DG_OK;
    }
    names = dg_calloc(n, sizeof *names);
    dg_st_tensor *tensors = dg_calloc(n, sizeof *tensors);
    dg_status s = names && tensors ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; s == DG_OK && i < n; i++) {
        bool scale = m->int8 && i % 2;
        snprintf(names[i], sizeof names[i], "view.%zu%s", m->int8 ? i / 2 : i, scale ? ".scale" : "");
        tensors[i] = (dg_st_tensor){names[i],
                                    scale     ? DG_STORED_F32
                                    : m->int8 ? DG_STORED_I8
                                              : DG_STORED_BF16,
                                    scale ? 2 : 3,
                                    {rows, m->tokens, m->width}};
        if (scale) tensors[i].dims[2] = 0;
    }
    if (s == DG_OK) s = dg_st_create(path, tensors, n, NULL, 0, &w, err);
    for (int64_t v = 0; s == DG_OK && v < m->views; v++) s = one_view(m, w, shard, rows, v, err);
    if (s == DG_OK)
        s = dg_st_finish(w, err);
    else
        dg_st_abandon(w);
    dg_free(names);
    dg_free(tensors);
    return s;
}

/* Why a cache that is there cannot be gone on with. */
static dg_status refuse(const maker *m, const char *path, const char *old, size_t size, const char *key,
                        dg_error *err)
{
    dg_arena arena = {0};
    const dg_json *root;
    const char *then;
    char why[400];
    int64_t int8;
    dg_status s = dg_json_parse(old, size, path, &arena, &root, err);
    if (s == DG_OK) s = dg_json_need_text(root, "key", path, &then, err);
    if (s == DG_OK) s = dg_json_need_int(root, "int8", path, &int8, err);
    if (s == DG_OK) {
        if (strcmp(then, key) != 0)
            dg_token_cache_difference(then, key, why, sizeof why);
        else
            snprintf(why, sizeof why, "%s",
                     !int8 == !m->int8 ? "its data or tokenizer has changed"
                     : int8            ? "its tokens have 8 bits, without --int8 they have 16"
                                       : "its tokens have 16 bits, with --int8 they have 8");
        s = dg_fail(err, DG_ERR_MISMATCH, "'%s' is another token cache: %s. Take another folder", m->dir,
                    why);
    }
    dg_arena_free(&arena);
    return s;
}

/* cache.json: written first, so that shards of another recipe are never mixed with it. */
static dg_status write_header(const maker *m, dg_error *err)
{
    const dg_tokenizer_info *t = &m->parts->tokens;
    char path[1200], *key = dg_token_cache_key(m->parts->recipe), *old = NULL;
    size_t size;
    dg_str row = {0}, text = {0};
    snprintf(path, sizeof path, "%s/cache.json", m->dir);
    dg_row_int(&row, "images", m->images);
    dg_row_int(&row, "views", m->views);
    dg_row_int(&row, "int8", m->int8);
    dg_row_int(&row, "discrete", t->discrete);
    dg_row_int(&row, "image_h", t->image_h);
    dg_row_int(&row, "image_w", t->image_w);
    dg_row_int(&row, "grid_h", t->grid_h);
    dg_row_int(&row, "grid_w", t->grid_w);
    dg_row_int(&row, "class_token", t->class_token);
    dg_row_int(&row, "width", t->width);
    dg_row_text(&row, "summary", t->summary);
    if (key) dg_row_text(&row, "key", key);
    dg_str_printf(&text, "%s}\n", row.text ? row.text : "{");
    dg_status s = key && !row.failed ? dg_str_check(&text, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && dg_path_is_file(path)) {
        s = dg_file_read(path, 1 << 20, &old, &size, err);
        if (s == DG_OK && strcmp(old, text.text) != 0) s = refuse(m, path, old, size, key, err);
    } else if (s == DG_OK) {
        s = dg_file_write_atomic(path, text.text, text.length, err);
    }
    dg_free(old);
    dg_free(key);
    dg_str_free(&row);
    dg_str_free(&text);
    return s;
}

dg_status dg_token_cache_make(const dg_parts *parts, const char *dir, bool int8,
                              void (*progress)(void *user, int64_t done, int64_t total), void *user,
                              dg_error *err)
{
    maker m = {.parts = parts, .dir = dir, .int8 = int8, .progress = progress, .user = user};
    dg_status s = set_up(&m, err);
    if (s == DG_OK) s = write_header(&m, err);
    if (s == DG_OK && progress) progress(user, 0, m.images * m.views);
    for (int64_t i = 0; s == DG_OK && i * DG_CACHE_SHARD < m.images; i++) s = one_shard(&m, i, err);
    tear_down(&m);
    return s;
}
