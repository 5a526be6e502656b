/* probe.c - the training of a linear probe. See probe.h. */
#include "probe.h"

#include <math.h>

#include "base/mem.h"
#include "data/sampler.h"
#include "train/probe_graph.h"
#include "train/schedule.h"

/* One program with its inputs. */
typedef struct program {
    dg_program *p;
    dg_inputs inputs;
    dg_backend_exe *exe;
} program;

typedef struct probe {
    const dg_parts *parts;
    dg_probe_spec spec; /* its batch is one that there is */
    int64_t width;
    dg_state state;
    program train, eval;
    float *logits; // [batch, n classes]
    float losses[DG_PROBE_MAX_LR];
} probe;

static dg_status open_program(probe *b, dg_graph *g, const char *name, program *out, dg_error *err)
{
    dg_status s = dg_finish_program(g, b->parts, name, false, &out->p, err);
    dg_graph_destroy(g);
    if (s == DG_OK) s = dg_inputs_open(b->parts, out->p, &out->inputs, err);
    if (s == DG_OK)
        s = dg_backend_of(b->parts)->compile(b->parts->backend.self, out->p, b->state.store, &out->exe, err);
    return s;
}

static void close_program(const probe *b, program *p)
{
    if (p->exe) dg_backend_of(b->parts)->release(p->exe);
    dg_inputs_close(&p->inputs);
    dg_program_destroy(p->p);
}

static dg_status run_program(const probe *b, const program *p, void *output, dg_error *err)
{
    void *outputs[] = {output};
    const dg_run io = {(uint32_t)sizeof io, p->inputs.n, p->inputs.data, 1, 0, outputs};
    return dg_backend_of(b->parts)->run(p->exe, &io, err);
}

/* All heads begin with the same weights; the running variance with 1; all else is zero in a new store. */
static dg_status first_values(const probe *b, const dg_graph *g, dg_error *err)
{
    const dg_leaf *leaf = dg_graph_node(g, dg_graph_leaf(g, DG_PROBE_WEIGHT).node)->leaf;
    const dg_type variance = dg_make_type(DG_F32, DG_LIST(1, b->width));
    size_t share = (size_t)b->spec.classes * (size_t)b->width;
    float *w = dg_calloc(share, b->spec.n * sizeof *w), *ones = dg_calloc((size_t)b->width, sizeof *ones);
    dg_leaf one = *leaf;
    one.type.dims[0] = b->spec.classes;
    dg_status s =
        w && ones ? dg_init_values(&one, b->spec.seed, w, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 1; s == DG_OK && i < b->spec.n; i++) memcpy(w + i * share, w, share * sizeof *w);
    for (int64_t i = 0; s == DG_OK && i < b->width; i++) ones[i] = 1;
    if (s == DG_OK) s = dg_state_write_f32(&b->state, leaf->name, &leaf->type, w, err);
    if (s == DG_OK) s = dg_state_write_f32(&b->state, DG_PROBE_VARIANCE, &variance, ones, err);
    dg_free(w);
    dg_free(ones);
    return s;
}

static dg_status open_probe(probe *b, dg_error *err)
{
    dg_graph *train = NULL, *eval = NULL;
    DG_TRY(dg_state_open(b->parts, &b->state, err));
    DG_TRY(dg_probe_train_graph(&b->spec, b->width, &train, err));
    dg_status s = first_values(b, train, err);
    if (s == DG_OK) s = dg_probe_eval_graph(&b->spec, b->width, &eval, err);
    if (s != DG_OK) {
        dg_graph_destroy(train);
        return s;
    }
    s = open_program(b, train, "probe", &b->train, err);
    if (s != DG_OK) {
        dg_graph_destroy(eval);
        return s;
    }
    DG_TRY(open_program(b, eval, "probe_evaluate", &b->eval, err));
    b->logits = dg_calloc((size_t)b->spec.batch * b->spec.n, (size_t)b->spec.classes * sizeof *b->logits);
    return b->logits ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static void close_probe(probe *b)
{
    close_program(b, &b->train);
    close_program(b, &b->eval);
    dg_state_close(&b->state);
    dg_free(b->logits);
}

/* ---- evaluation */

static void count_one(const float *x, int32_t classes, int32_t label, dg_probe_score *score)
{
    double most = -INFINITY, sum = 0;
    int32_t before = 0;
    for (int32_t c = 0; c < classes; c++) {
        if (x[c] > most) most = (double)x[c];
        before += x[c] > x[label] || (x[c] == x[label] && c < label);
    }
    for (int32_t c = 0; c < classes; c++) sum += exp((double)x[c] - most);
    score->val_loss += log(sum) + most - (double)x[label];
    if (!isfinite(sum)) return;
    score->val_top1 += before < 1;
    score->val_top5 += before < 5;
}

static dg_status evaluate(probe *b, const dg_feature_set *f, dg_probe_score *score, dg_error *err)
{
    float *x = dg_inputs_buffer(&b->eval.inputs, "x");
    int32_t classes = b->spec.classes;
    for (size_t h = 0; h < b->spec.n; h++) score[h].val_loss = score[h].val_top1 = score[h].val_top5 = 0;
    for (int64_t at = 0; at < f->n; at += b->spec.batch) {
        int64_t n = f->n - at < b->spec.batch ? f->n - at : b->spec.batch;
        memcpy(x, f->x + at * f->width, (size_t)(n * f->width) * sizeof *x);
        DG_TRY(run_program(b, &b->eval, b->logits, err));
        for (int64_t i = 0; i < n; i++)
            for (size_t h = 0; h < b->spec.n; h++)
                count_one(b->logits + ((size_t)i * b->spec.n + h) * (size_t)classes, classes,
                          f->labels[at + i], &score[h]);
    }
    for (size_t h = 0; h < b->spec.n; h++) {
        score[h].val_loss /= (double)f->n;
        score[h].val_top1 /= (double)f->n;
        score[h].val_top5 /= (double)f->n;
    }
    return DG_OK;
}

/* ---- training */

static dg_status one_step(probe *b, const dg_feature_set *f, const dg_sampler *order, int64_t step,
                          int64_t steps, dg_error *err)
{
    float *x = dg_inputs_buffer(&b->train.inputs, "x"), *lr = dg_inputs_buffer(&b->train.inputs, "lr");
    int32_t *label = dg_inputs_buffer(&b->train.inputs, "label");
    for (int32_t i = 0; i < order->batch; i++) {
        int64_t ordinal, id = dg_sampler_at(order, step, i, &ordinal);
        memcpy(x + (int64_t)i * f->width, f->x + id * f->width, (size_t)f->width * sizeof *x);
        label[i] = f->labels[id];
    }
    double epoch = (double)step / (double)steps, batch = (double)b->spec.batch / 256;
    for (size_t h = 0; h < b->spec.n; h++) {
        const dg_schedule s = {b->spec.base_lr[h] * batch, 0, b->spec.warmup, (double)b->spec.epochs};
        lr[h] = (float)dg_schedule_lr(&s, epoch);
    }
    return run_program(b, &b->train, b->losses, err);
}

static dg_status train(probe *b, const dg_feature_set *f, const dg_feature_set *validation,
                       dg_probe_sink sink, void *user, dg_probe_score *score, dg_error *err)
{
    const dg_sampler order = {b->spec.seed, f->n, (int32_t)b->spec.batch, 0, 1, true, true};
    DG_TRY(dg_sampler_check(&order, err));
    int64_t steps = dg_sampler_steps(&order), step = 0;
    for (int64_t epoch = 1; epoch <= b->spec.epochs; epoch++) {
        for (size_t h = 0; h < b->spec.n; h++) score[h].loss = 0;
        for (int64_t k = 0; k < steps; k++, step++) {
            DG_TRY(one_step(b, f, &order, step, steps, err));
            for (size_t h = 0; h < b->spec.n; h++) score[h].loss += (double)b->losses[h] / (double)steps;
        }
        DG_TRY(evaluate(b, validation, score, err));
        if (sink) DG_TRY(sink(user, step, epoch, score, err));
    }
    return DG_OK;
}

dg_status dg_probe_train(const dg_parts *parts, const dg_probe_spec *spec, const dg_feature_set *training,
                         const dg_feature_set *validation, dg_probe_sink sink, void *user,
                         dg_probe_score *score, dg_error *err)
{
    probe b = {.parts = parts, .spec = *spec, .width = training->width};
    if (validation->width != training->width || training->n < 2 || validation->n < 1)
        return dg_fail(
            err, DG_ERR_INVALID,
            "a linear probe needs two images to train on and one to evaluate on, with features of one width");
    if (spec->n < 1 || spec->n > DG_PROBE_MAX_LR)
        return dg_fail_key(err, DG_ERR_INVALID, "probe.base_lr",
                           "%zu learning rates; 1 to %d can be tried together", spec->n, DG_PROBE_MAX_LR);
    DG_TRY(dg_features_check_labels(training, spec->classes, "training", err));
    DG_TRY(dg_features_check_labels(validation, spec->classes, "validation", err));
    if (b.spec.batch > training->n) b.spec.batch = training->n;
    dg_status s = open_probe(&b, err);
    if (s == DG_OK) s = train(&b, training, validation, sink, user, score, err);
    close_probe(&b);
    return s;
}
