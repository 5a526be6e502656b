/* evaluate.c - see evaluate.h. */
#include "evaluate.h"

#include <math.h>

#include "base/mem.h"
#include "train/dataset.h"

/* A parameter becomes the leaf of its moving average. */
static bool averaged(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                     dg_value *y)
{
    (void)user, (void)in;
    const dg_leaf *leaf = dg_graph_node(from, index)->leaf;
    char name[700];
    if (!leaf || leaf->kind != DG_LEAF_PARAM) return false;
    dg_leaf mean = *leaf;
    snprintf(name, sizeof name, "%s.%s", DG_AVERAGE, leaf->name);
    mean.name = name;
    *y = to->api->leaf(to, &mean);
    return true;
}

/* The graph of logits, of the parameters or of their averages. */
static dg_status build(const dg_parts *parts, const dg_classify_spec *spec, int64_t batch, bool average,
                       dg_graph **out, dg_error *err)
{
    dg_step names = {0};
    dg_graph *g = NULL;
    DG_TRY(dg_classify_forward(parts, spec, batch, 0, &g, &names, err));
    *out = g;
    if (!average) return DG_OK;
    dg_status s = dg_rewrite(g, averaged, NULL, out, err);
    dg_graph_destroy(g);
    return s;
}

dg_status dg_evaluator_open(const dg_parts *parts, const dg_classify_spec *spec, int64_t batch,
                            dg_dtype compute, bool average, const dg_state *state, dg_evaluator *e,
                            dg_error *err)
{
    dg_graph *g = NULL;
    e->parts = parts;
    e->batch = batch;
    e->classes = spec->classes;
    DG_TRY(build(parts, spec, batch, average, &g, err));
    dg_status s = dg_pass_precision(g, compute, &e->graph, err);
    dg_graph_destroy(g);
    if (s == DG_OK) s = dg_finish_program(e->graph, parts, "evaluate", false, &e->program, err);
    if (s == DG_OK) s = dg_inputs_open(parts, e->program, &e->inputs, err);
    if (s == DG_OK)
        s = dg_backend_of(parts)->compile(parts->backend.self, e->program, state->store, &e->exe, err);
    if (s != DG_OK) return s;
    e->logits = dg_calloc((size_t)(batch * spec->classes), sizeof *e->logits);
    return e->logits ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

void dg_evaluator_close(dg_evaluator *e)
{
    if (e->exe) dg_backend_of(e->parts)->release(e->exe);
    dg_inputs_close(&e->inputs);
    dg_program_destroy(e->program);
    dg_graph_destroy(e->graph);
    dg_free(e->logits);
    memset(e, 0, sizeof *e);
}

dg_loader_config dg_evaluation_config(const dg_parts *parts, int64_t batch)
{
    dg_loader_config c = dg_dataset_config(parts, 0, -1);
    c.batch = (int32_t)batch;
    c.shuffle = c.drop_last = false;
    c.limit = 0; /* of the training data */
    c.captions = false;
    c.augment = DG_AUGMENT_CENTRE;
    c.fraction = dg_recipe_float(parts->recipe, "data.eval_crop");
    c.second_height = c.second_width = 0;
    return c;
}

/* -log softmax(x)[label] */
static double cross_entropy(const float *x, int64_t n, int32_t label)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > most) most = x[i];
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - most);
    return log(sum) + most - x[label];
}

int64_t dg_rank_of(const float *x, int64_t n, int32_t label)
{
    int64_t before = 0;
    if (isnan(x[label])) return n;
    for (int64_t i = 0; i < n; i++) before += x[i] > x[label] || (x[i] == x[label] && i < label);
    return before;
}

/* The class of a place of the batch. */
static dg_status class_of(const dg_evaluator *e, const dg_batch *b, int32_t place, int32_t *label,
                          dg_error *err)
{
    int32_t given = b->labels[place];
    *label = e->class_of && given >= 0 && given < e->n_class_of ? e->class_of[given] : given;
    if (given < 0) return dg_fail(err, DG_ERR_MISMATCH, "sample %lld has no label", (long long)b->ids[place]);
    if ((!e->class_of || given < e->n_class_of) && *label >= 0 && *label < e->classes) return DG_OK;
    return dg_fail(err, DG_ERR_MISMATCH, "sample %lld has the label %d; the model has the classes 0 to %lld",
                   (long long)b->ids[place], given, (long long)e->classes - 1);
}

static dg_status count_batch(dg_evaluator *e, const dg_batch *b, dg_eval_sink sink, void *user,
                             dg_eval_result *out, dg_error *err)
{
    for (int32_t i = 0; i < b->size; i++) {
        int32_t label;
        if (b->valid[i] == 0) continue;
        DG_TRY(class_of(e, b, i, &label, err));
        float *x = e->logits + (int64_t)i * e->classes;
        for (int64_t c = 0; e->among && c < e->classes; c++)
            if (!e->among[c]) x[c] = -INFINITY;
        double loss = cross_entropy(x, e->classes, label);
        int64_t rank = dg_rank_of(x, e->classes, label);
        out->images++;
        out->loss += loss;
        out->top1 += rank < 1;
        out->top5 += rank < 5;
        out->class_images[label]++;
        out->class_hits[label] += rank < 1;
        if (sink) DG_TRY(sink(user, b->ids[i], label, x, loss, err));
    }
    return DG_OK;
}

static dg_status one_pass(dg_evaluator *e, dg_loader *loader, int64_t batches, dg_eval_sink sink, void *user,
                          dg_eval_result *out, dg_error *err)
{
    void *outputs[] = {e->logits};
    for (int64_t k = 0; k < batches; k++) {
        const dg_batch *b;
        DG_TRY(dg_loader_next(loader, &b, err));
        dg_status s = dg_inputs_fill(&e->inputs, b, NULL, err);
        dg_run io = {(uint32_t)sizeof io, e->inputs.n, e->inputs.data, 1, 0, outputs};
        if (s == DG_OK) s = dg_backend_of(e->parts)->run(e->exe, &io, err);
        if (s == DG_OK) s = count_batch(e, b, sink, user, out, err);
        dg_loader_release(loader, b);
        DG_TRY(s);
    }
    return DG_OK;
}

/* What all ranks have counted. */
static dg_status add_up(dg_ranks *ranks, dg_status mine, dg_eval_result *r, dg_error *err)
{
    double sums[] = {r->top1, r->top5, r->loss};
    DG_TRY(dg_ranks_sum(ranks, mine, &r->images, 1, DG_SUM_I64, err));
    DG_TRY(dg_ranks_sum(ranks, DG_OK, sums, 3, DG_SUM_F64, err));
    DG_TRY(dg_ranks_sum(ranks, DG_OK, r->class_images, (uint64_t)r->classes, DG_SUM_I64, err));
    DG_TRY(dg_ranks_sum(ranks, DG_OK, r->class_hits, (uint64_t)r->classes, DG_SUM_I64, err));
    r->top1 = sums[0];
    r->top5 = sums[1];
    r->loss = sums[2];
    return DG_OK;
}

dg_status dg_evaluate(dg_evaluator *e, const dg_source *source, const dg_loader_config *config,
                      dg_ranks *ranks, dg_eval_sink sink, void *user, dg_eval_result *out, dg_error *err)
{
    dg_loader *loader = NULL;
    memset(out, 0, sizeof *out);
    out->classes = e->classes;
    out->class_images = dg_calloc((size_t)e->classes, sizeof *out->class_images);
    out->class_hits = dg_calloc((size_t)e->classes, sizeof *out->class_hits);
    dg_status s = out->class_images && out->class_hits ? dg_loader_open(config, source, &loader, err)
                                                       : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = one_pass(e, loader, dg_loader_steps_per_epoch(loader), sink, user, out, err);
    dg_loader_close(loader);
    if (ranks) s = add_up(ranks, s, out, err);
    if (s == DG_OK && out->images == 0) s = dg_fail(err, DG_ERR_INVALID, "there is no image to evaluate on");
    if (s != DG_OK) {
        dg_eval_result_free(out);
        return s;
    }
    out->top1 /= (double)out->images;
    out->top5 /= (double)out->images;
    out->loss /= (double)out->images;
    return DG_OK;
}

void dg_eval_result_free(dg_eval_result *r)
{
    dg_free(r->class_images);
    dg_free(r->class_hits);
    memset(r, 0, sizeof *r);
}
