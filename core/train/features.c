/* features.c - the program that makes features, and its run over a source. See features.h. */
#include "features.h"

#include <math.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "digpt/vit.h"
#include "train/evaluate.h"

dg_feature_spec dg_feature_spec_read(const dg_recipe *recipe, const char *section)
{
    char key[64];
    dg_feature_spec spec;
    snprintf(key, sizeof key, "%s.layer", section);
    spec.layer = dg_recipe_int(recipe, key);
    snprintf(key, sizeof key, "%s.pool", section);
    spec.pool = dg_recipe_choice(recipe, key) == 1 ? DG_POOL_CLASS : DG_POOL_MEAN;
    snprintf(key, sizeof key, "%s.norm", section);
    spec.norm = dg_recipe_bool(recipe, key);
    return spec;
}

void dg_feature_set_free(dg_feature_set *f)
{
    dg_free(f->x);
    dg_free(f->labels);
    dg_free(f->ids);
    memset(f, 0, sizeof *f);
}

dg_status dg_features_check_labels(const dg_feature_set *f, int32_t classes, const char *what, dg_error *err)
{
    for (int64_t i = 0; i < f->n; i++) {
        if (f->labels[i] < 0)
            return dg_fail(err, DG_ERR_MISMATCH, "sample %lld of the %s data has no label",
                           (long long)f->ids[i], what);
        if (f->labels[i] >= classes)
            return dg_fail(err, DG_ERR_MISMATCH,
                           "sample %lld of the %s data has the label %d; the classes are 0 to %d",
                           (long long)f->ids[i], what, f->labels[i], classes - 1);
    }
    return DG_OK;
}

/* ---- the program */

/* f32 [batch, width] of an encoder's tokens. */
static dg_value pooled(dg_graph *g, const dg_feature_spec *spec, const dg_features *f, int64_t batch)
{
    dg_vit v = {.g = g, .kind = DG_LEAF_PARAM, .layer = -1};
    dg_value x = spec->norm ? dg_vit_norm(&v, f->tokens, "norm", 1e-6) : f->tokens;
    int64_t n = dg_dim(g, x, 1);
    x = dg_convert(g, x, DG_F32);
    if (spec->pool == DG_POOL_CLASS) return dg_reshape(g, dg_vit_rows(g, x, 0, 1), DG_LIST(batch, f->width));
    dg_value sum = dg_reduce_sum(g, dg_vit_rows(g, x, f->n_classes, n), DG_LIST(1), false, DG_F32);
    return dg_mul(g, sum, dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)(n - f->n_classes)));
}

static dg_status build_graph(dg_extractor *e, dg_graph *g, dg_error *err)
{
    const dg_parts *p = e->parts;
    const dg_model_interface *model = dg_model_of(p);
    const char *name = p->model.ref.factory->name;
    dg_features f = {.struct_size = (uint32_t)sizeof f};
    if (!model->encode)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "model.name",
                           "the model '%s' has no encoder to take features from", name);
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(e->batch, p->image_h, p->image_w, 3), DG_PER_SAMPLE);
    dg_push(g, "model");
    dg_status s = model->encode(p->model.self, g, image, e->spec.layer, DG_NO_VALUE, &f, err);
    if (s == DG_OK && e->spec.pool == DG_POOL_CLASS && f.n_classes == 0)
        s = dg_fail(err, DG_ERR_MISMATCH, "the model '%s' has no class token; take pool: mean", name);
    if (s == DG_OK) {
        e->width = f.width;
        dg_graph_output(g, pooled(g, &e->spec, &f, e->batch), "features");
        s = dg_graph_error(g, err);
    }
    dg_pop(g);
    return s;
}

dg_status dg_extractor_open(const dg_parts *parts, const dg_feature_spec *spec, int64_t batch,
                            dg_dtype compute, dg_extractor *e, dg_error *err)
{
    dg_graph *g = dg_graph_create();
    e->parts = parts;
    e->spec = *spec;
    e->batch = batch;
    e->compute = compute;
    dg_status s = g ? build_graph(e, g, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = dg_pass_precision(g, compute, &e->graph, err);
    dg_graph_destroy(g);
    if (s == DG_OK) s = dg_finish_program(e->graph, parts, "features", false, &e->program, err);
    if (s == DG_OK) s = dg_inputs_open(parts, e->program, &e->inputs, err);
    DG_TRY(s);
    e->out = dg_calloc((size_t)batch, (size_t)e->width * sizeof *e->out);
    return e->out ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static dg_status first_values(const dg_state *state, const dg_leaf *leaf, uint64_t seed, dg_error *err)
{
    float *values = dg_calloc((size_t)dg_type_count(&leaf->type), sizeof *values);
    dg_status s = values ? dg_init_values(leaf, seed, values, err)
                         : dg_fail(err, DG_ERR_NOMEM, "no memory for '%s'", leaf->name);
    if (s == DG_OK) s = dg_state_write_f32(state, leaf->name, &leaf->type, values, err);
    dg_free(values);
    return s;
}

dg_status dg_extractor_bind(dg_extractor *e, dg_state *state, const dg_graph *trained, dg_error *err)
{
    for (int32_t i = 0; trained && i < dg_graph_count(e->graph); i++) {
        const dg_leaf *leaf = dg_graph_node(e->graph, i)->leaf;
        if (leaf && leaf->kind != DG_LEAF_INPUT && !dg_is_value(dg_graph_leaf(trained, leaf->name)))
            DG_TRY(first_values(state, leaf, e->parts->seed, err));
    }
    e->state = state;
    return dg_backend_of(e->parts)->compile(e->parts->backend.self, e->program, state->store, &e->exe, err);
}

void dg_extractor_close(dg_extractor *e)
{
    if (e->exe) dg_backend_of(e->parts)->release(e->exe);
    dg_inputs_close(&e->inputs);
    dg_program_destroy(e->program);
    dg_graph_destroy(e->graph);
    dg_free(e->out);
    memset(e, 0, sizeof *e);
}

/* ---- over a source */

static bool set_room(dg_feature_set *f, int64_t n, int64_t width)
{
    f->width = width;
    f->x = dg_calloc((size_t)n, (size_t)width * sizeof *f->x);
    f->labels = dg_calloc((size_t)n, sizeof *f->labels);
    f->ids = dg_calloc((size_t)n, sizeof *f->ids);
    return f->x && f->labels && f->ids;
}

/* Appends the batch's valid places, up to `most` images in all. */
static dg_status take_batch(const dg_extractor *e, const dg_batch *b, int64_t most, dg_feature_set *f,
                            dg_error *err)
{
    for (int32_t i = 0; i < b->size && f->n < most; i++) {
        const float *x = e->out + (int64_t)i * e->width;
        if (b->valid[i] == 0) continue;
        for (int64_t k = 0; k < e->width; k++)
            if (!isfinite(x[k]))
                return dg_fail(err, DG_ERR_NOT_FINITE,
                               "feature %lld of sample %lld is %g: the weights are spoilt", (long long)k,
                               (long long)b->ids[i], (double)x[k]);
        memcpy(f->x + f->n * f->width, x, (size_t)f->width * sizeof *x);
        f->labels[f->n] = b->labels[i];
        f->ids[f->n++] = b->ids[i];
    }
    return DG_OK;
}

/* A line every half a minute: some sources take hours. */
static void tell(int64_t done, int64_t total, time_t *told)
{
    time_t t = time(NULL);
    if (t - *told < 30) return;
    *told = t;
    dg_logf(DG_LOG_INFO, "features of %lld of %lld images", (long long)done, (long long)total);
}

static dg_status run_batches(dg_extractor *e, dg_loader *loader, int64_t most, dg_feature_set *f,
                             dg_error *err)
{
    void *outputs[] = {e->out};
    time_t told = time(NULL);
    while (f->n < most) {
        const dg_batch *b;
        DG_TRY(dg_loader_next(loader, &b, err));
        if (!b) break;
        dg_status s = dg_inputs_fill(&e->inputs, b, NULL, err);
        const dg_run io = {(uint32_t)sizeof io, e->inputs.n, e->inputs.data, 1, 0, outputs};
        if (s == DG_OK) s = dg_backend_of(e->parts)->run(e->exe, &io, err);
        if (s == DG_OK) s = take_batch(e, b, most, f, err);
        dg_loader_release(loader, b);
        DG_TRY(s);
        tell(f->n, most, &told);
    }
    return DG_OK;
}

dg_status dg_features_extract(dg_extractor *e, const dg_source *source, dg_feature_range range,
                              dg_feature_set *out, dg_error *err)
{
    dg_loader *loader = NULL;
    dg_loader_config c = dg_evaluation_config(e->parts, e->batch);
    c.limit = range.first;
    int64_t count = dg_loader_count(&c, source),
            n = range.most > 0 && range.most < count ? range.most : count;
    c.shuffle = n < count; /* the beginning of a source sorted by class would be a few classes */
    c.last_step = n / e->batch + (n % e->batch > 0);
    memset(out, 0, sizeof *out);
    if (n < 1) return dg_fail(err, DG_ERR_INVALID, "there is no image to take features from");
    dg_status s = set_room(out, n, e->width)
                      ? dg_loader_open(&c, source, &loader, err)
                      : dg_fail(err, DG_ERR_NOMEM, "no memory for %lld features of width %lld", (long long)n,
                                (long long)e->width);
    if (s == DG_OK) s = run_batches(e, loader, n, out, err);
    dg_loader_close(loader);
    if (s != DG_OK) dg_feature_set_free(out);
    return s;
}
