/* step.c - see step.h: forward graph, policies, gradient, optimizer. */
#include "step.h"

#include <math.h>

#include "base/mem.h"
#include "train/classify.h"

/* ---- forward */

static dg_value declare_image(dg_graph *g, const char *name, int64_t batch, int64_t h, int64_t w)
{
    return dg_input(g, name, DG_U8, DG_LIST(batch, h, w, 3), DG_PER_SAMPLE);
}

static dg_status build_tokens(const dg_parts *p, dg_graph *g, int64_t batch, dg_value image, dg_value *tokens,
                              dg_error *err)
{
    *tokens = DG_NO_VALUE;
    if (!p->tokens.struct_size) return DG_OK;
    if (p->cache) {
        *tokens = dg_input(g, "tokens", DG_F32, DG_LIST(batch, dg_token_count(&p->tokens), p->tokens.width),
                           DG_PER_SAMPLE);
        return dg_graph_error(g, err);
    }
    dg_value seen = image;
    if (p->tokens.image_h != p->image_h || p->tokens.image_w != p->image_w)
        seen = declare_image(g, "image_tokenizer", batch, p->tokens.image_h, p->tokens.image_w);
    dg_push(g, "tokenizer");
    dg_status s = dg_tokenizer_of(p)->build(p->tokenizer.self, g, seen, tokens, err);
    if (s == DG_OK) dg_tap(g, *tokens, "tokens");
    dg_pop(g);
    return s;
}

/* The tap of this rank's own loss, whose mean over ranks is the loss; only with more than one. */
static const char loss_of_rank[] = "loss_of_rank";

static dg_value mean_over_ranks(dg_graph *g, dg_value v, uint32_t ranks)
{
    return ranks > 1 ? dg_mul(g, dg_all_reduce(g, v), dg_fill(g, DG_F32, NULL, 0, 1.0 / ranks)) : v;
}

/* Mean over batch and positions of the loss of one prediction, weighted; f32[]. Its mean over ranks is the
 * whole batch's: the weights are divided by the mean over ranks of their sums. */
static dg_status one_loss(const dg_parts *p, dg_graph *g, const dg_prediction *x, uint32_t ranks,
                          dg_value *loss, dg_error *err)
{
    dg_value each;
    dg_push(g, "loss.%s", x->name);
    dg_status s = dg_loss_of(p)->build(p->loss.self, g, x->prediction, x->target, &each, err);
    if (s == DG_OK) {
        dg_tap(g, each, "loss_tokens.%s", x->name);
        dg_type t = dg_type_of(g, each);
        int64_t axes[DG_MAX_RANK] = {0, 1, 2, 3, 4, 5};
        if (dg_is_value(x->weight)) {
            dg_value sum = dg_reduce_sum(g, dg_mul(g, each, x->weight), axes, (size_t)t.rank, false, DG_NONE);
            dg_value weights = dg_reduce_sum(g, x->weight, axes, (size_t)t.rank, false, DG_NONE);
            *loss = dg_div(g, sum, mean_over_ranks(g, weights, ranks));
        } else {
            dg_value sum = dg_reduce_sum(g, each, axes, (size_t)t.rank, false, DG_NONE);
            *loss = dg_mul(g, sum, dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)dg_type_count(&t)));
        }
        if (t.rank != 2 || t.dtype != DG_F32)
            s = dg_fail_key(err, DG_ERR_MISMATCH, "loss",
                            "the loss must give f32 [batch, positions] for '%s'", x->name);
    }
    dg_pop(g);
    return s;
}

static dg_status total_loss(const dg_parts *p, dg_graph *g, const dg_model_output *out, dg_step *names,
                            uint32_t ranks, dg_error *err)
{
    dg_value total = out->loss;
    names->n_predictions = 0;
    for (uint32_t i = 0; i < out->n_predictions; i++) {
        const dg_prediction *x = &out->predictions[i];
        dg_value loss;
        if (!p->loss.ref.factory)
            return dg_fail_key(err, DG_ERR_INVALID, "loss",
                               "the model '%s' predicts '%s' and the recipe names no loss",
                               p->model.ref.factory->name, x->name);
        DG_TRY(one_loss(p, g, x, ranks, &loss, err));
        char name[64];
        snprintf(name, sizeof name, "loss.%s", x->name);
        dg_graph_output(g, mean_over_ranks(g, loss, ranks), name);
        snprintf(names->prediction_names[names->n_predictions++], sizeof names->prediction_names[0], "%s",
                 x->name);
        if (x->scale != 1) loss = dg_mul(g, loss, dg_fill(g, DG_F32, NULL, 0, x->scale));
        total = dg_is_value(total) ? dg_add(g, total, loss) : loss;
    }
    if (!dg_is_value(total))
        return dg_fail_key(err, DG_ERR_INVALID, "model",
                           "the model '%s' gives neither a prediction nor a loss",
                           p->model.ref.factory->name);
    if (ranks > 1) dg_tap(g, total, "%s", loss_of_rank);
    dg_graph_output(g, mean_over_ranks(g, total, ranks), "loss");
    return dg_graph_error(g, err);
}

static dg_status build_forward(const dg_parts *p, int64_t batch, uint32_t ranks, dg_graph *g, dg_step *names,
                               dg_error *err)
{
    dg_value image = declare_image(g, "image", batch, p->image_h, p->image_w);
    dg_field fields[2] = {{"image", image}};
    dg_model_batch in = {(uint32_t)sizeof in, 1, batch, fields, DG_NO_VALUE};
    int64_t caption = dg_recipe_int(p->recipe, "data.caption_length");
    if (caption > 0)
        fields[in.n_fields++] =
            (dg_field){"caption", dg_input(g, "caption", DG_I32, DG_LIST(batch, caption), DG_PER_SAMPLE)};
    DG_TRY(build_tokens(p, g, batch, image, &in.tokens, err));
    dg_model_output out = {.struct_size = (uint32_t)sizeof out, .loss = DG_NO_VALUE};
    dg_push(g, "model");
    dg_status s = dg_model_of(p)->build(p->model.self, g, &in, &out, err);
    dg_pop(g);
    if (s == DG_OK && out.n_predictions > DG_MAX_PREDICTIONS)
        s = dg_fail_key(err, DG_ERR_INVALID, "model", "too many predictions");
    DG_TRY(s);
    DG_TRY(dg_graph_error(g, err));
    return total_loss(p, g, &out, names, ranks, err);
}

/* For one of `ranks` ranks, which has `batch` samples. */
static dg_status forward_of_rank(const dg_parts *parts, int64_t batch, uint32_t ranks, dg_graph **graph,
                                 dg_step *names, dg_error *err)
{
    *graph = NULL;
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = build_forward(parts, batch, ranks, g, names, err);
    if (s != DG_OK)
        dg_graph_destroy(g);
    else
        *graph = g;
    return s;
}

dg_status dg_step_forward(const dg_parts *parts, const dg_step_spec *spec, dg_graph **graph, dg_step *names,
                          dg_error *err)
{
    uint32_t ranks = spec->ranks > 1 ? spec->ranks : 1;
    if (spec->classify)
        return dg_classify_forward(parts, spec->classify, spec->batch, true, graph, names, err);
    return forward_of_rank(parts, spec->batch / ranks, ranks, graph, names, err);
}

/* ---- policies */

/* Before the gradient only that is lowered which has no gradient rule and may need one. */
static bool differentiable(void *user, const dg_work *work)
{
    (void)user;
    const dg_op *op = dg_op_find(work->op);
    return op->grad != NULL || strcmp(work->op, "patchify") == 0;
}

static dg_status apply_policies(dg_graph **g, dg_dtype compute, dg_error *err)
{
    dg_graph *a = NULL, *b = NULL, *c = NULL;
    dg_status s = dg_pass_lower(*g, differentiable, NULL, &a, err);
    if (s == DG_OK) s = dg_pass_precision(a, compute, &b, err);
    if (s == DG_OK) s = dg_pass_frozen(b, &c, err);
    dg_graph_destroy(a);
    dg_graph_destroy(b);
    if (s != DG_OK) return s;
    dg_graph_destroy(*g);
    *g = c;
    return DG_OK;
}

static dg_status copy_graph(const dg_graph *from, dg_graph **to, dg_error *err)
{
    return dg_rewrite(from, NULL, NULL, to, err);
}

/* ---- gradient and optimizer */

typedef struct backward {
    const dg_step_spec *spec;
    dg_graph *g;
    dg_value *params, *grads; /* [n] */
    size_t n;
    dg_value scalars, ok;
    int32_t last_layer; /* the head's: its learning rate is the whole one */
} backward;

static const char *leaf_name(const dg_graph *g, dg_value v)
{
    return dg_graph_node(g, v.node)->leaf->name;
}

static bool find_params(backward *b)
{
    int32_t count = dg_graph_count(b->g);
    size_t room = 0;
    for (int32_t i = 0; i < count; i++) {
        const dg_leaf *leaf = dg_graph_node(b->g, i)->leaf;
        if (!leaf || leaf->kind != DG_LEAF_PARAM) continue;
        if (!dg_grow(&b->params, b->n, &room, sizeof *b->params)) return false;
        if (leaf->layer > b->last_layer) b->last_layer = leaf->layer;
        b->params[b->n++] = (dg_value){i, 0};
    }
    b->grads = dg_calloc(b->n + 1, sizeof *b->grads);
    return b->grads != NULL;
}

static dg_value state_leaf(dg_graph *g, const char *prefix, const char *name, dg_type type)
{
    char full[700];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    dg_leaf leaf = {
        (uint32_t)sizeof leaf, DG_LEAF_STATE, full, type, dg_init_value(DG_INIT_CONSTANT, 0), 0, -1, 0, {0, 0}};
    return g->api->leaf(g, &leaf);
}

/* Weight decay of a parameter: none on vectors and biases unless it says otherwise (timm's rule). */
static double decay_of(const dg_leaf *leaf, double decay)
{
    size_t n = strlen(leaf->name);
    bool bias = n >= 5 && strcmp(leaf->name + n - 5, ".bias") == 0;
    bool on = leaf->decay < 0 ? leaf->type.rank > 1 && !bias : leaf->decay > 0;
    return on ? decay : 0;
}

/* Layer-wise learning rates (Clark et al., "ELECTRA", 2020): decay^(layers above). */
static double lr_scale_of(const backward *b, const dg_leaf *leaf)
{
    double decay = b->spec->optimizer.layer_decay;
    return decay > 0 && leaf->layer >= 0 ? pow(decay, b->last_layer - leaf->layer) : 1;
}

/* The moving average of a parameter, of which `next` is the new value. */
static void add_average(const backward *b, const dg_leaf *leaf, dg_value next)
{
    dg_graph *g = b->g;
    const double d = b->spec->ema_decay;
    dg_graph_set_scope(g, "");
    dg_value old = state_leaf(g, DG_AVERAGE, leaf->name, leaf->type);
    dg_graph_set_scope(g, "average");
    dg_value kept = dg_mul(g, old, dg_fill(g, DG_F32, NULL, 0, d));
    dg_value mean = dg_add(g, kept, dg_mul(g, next, dg_fill(g, DG_F32, NULL, 0, 1 - d)));
    dg_graph_update(g, old, dg_is_value(b->ok) ? dg_select(g, b->ok, mean, old) : mean);
}

static void add_adamw(const backward *b, size_t i, dg_value grad)
{
    dg_graph *g = b->g;
    const dg_optimizer *o = &b->spec->optimizer;
    const dg_leaf *leaf = dg_graph_node(g, b->params[i].node)->leaf;
    dg_graph_set_scope(g, "");
    dg_value m = state_leaf(g, "optimizer.m", leaf->name, leaf->type);
    dg_value v = state_leaf(g, "optimizer.v", leaf->name, leaf->type);
    dg_graph_set_scope(g, "optimizer");
    dg_value next = dg_adamw(g, b->params[i], grad, m, v, b->scalars, b->ok, o->beta1, o->beta2, o->eps,
                             lr_scale_of(b, leaf), decay_of(leaf, o->weight_decay));
    dg_graph_update(g, b->params[i], next);
    dg_graph_update(g, m, dg_output(next, 1));
    dg_graph_update(g, v, dg_output(next, 2));
    if (b->spec->ema_decay > 0) add_average(b, leaf, next);
}

static void on_gradient(void *user, dg_graph *g, size_t i, dg_value grad)
{
    const backward *b = user;
    char name[700];
    grad = mean_over_ranks(g, grad, b->spec->ranks);
    if (b->spec->gradients) {
        snprintf(name, sizeof name, "grad.%s", leaf_name(g, b->params[i]));
        dg_graph_output(g, grad, name);
    }
    if (b->spec->accumulate > 1) {
        const dg_leaf *leaf = dg_graph_node(g, b->params[i].node)->leaf;
        dg_graph_set_scope(g, "");
        dg_value sum = state_leaf(g, DG_ACCUMULATED, leaf->name, leaf->type);
        dg_graph_set_scope(g, "accumulate");
        dg_graph_update(g, sum, dg_select(g, b->ok, dg_add(g, sum, grad), sum));
    } else if (b->spec->optimizer.clip_norm == 0) {
        add_adamw(b, i, grad);
    }
}

/* Square root of the sum of squares of all gradients, and min(1, clip / norm) (torch's clip_grad_norm_, eps
 * 1e-6). */
static dg_value clip_factor(const backward *b, dg_value *norm)
{
    dg_graph *g = b->g;
    dg_value total = DG_NO_VALUE;
    dg_graph_set_scope(g, "clip");
    for (size_t i = 0; i < b->n; i++) {
        dg_value flat = dg_reshape(g, b->grads[i], DG_LIST(-1));
        dg_value square = dg_reduce_sum(g, dg_mul(g, flat, flat), DG_LIST(0), false, DG_NONE);
        total = i ? dg_add(g, total, square) : square;
    }
    *norm = dg_sqrt(g, total);
    dg_graph_output(g, *norm, "grad_norm");
    dg_value factor = dg_div(g, dg_fill(g, DG_F32, NULL, 0, b->spec->optimizer.clip_norm),
                             dg_add(g, *norm, dg_fill(g, DG_F32, NULL, 0, 1e-6)));
    return dg_min(g, factor, dg_fill(g, DG_F32, NULL, 0, 1));
}

static dg_value scalars_input(dg_graph *g)
{
    dg_graph_set_scope(g, "");
    return dg_input(g, "scalars", DG_F32, DG_LIST(3), DG_PER_BATCH);
}

static dg_status add_backward(backward *b, dg_error *err)
{
    const dg_named_value *outputs;
    size_t n = dg_graph_outputs(b->g, &outputs);
    dg_value loss = DG_NO_VALUE, norm;
    for (size_t i = 0; i < n; i++)
        if (strcmp(outputs[i].name, "loss") == 0) loss = outputs[i].value;
    b->ok = dg_is_finite(b->g, loss); /* of all ranks, so that all of them update or none */
    if (b->spec->ranks > 1) loss = dg_graph_tap(b->g, loss_of_rank);
    if (b->spec->accumulate == 1) b->scalars = scalars_input(b->g);
    DG_TRY(dg_gradient_each(b->g, loss, b->params, b->n, b->grads, on_gradient, b, err));
    if (b->spec->accumulate == 1 && b->spec->optimizer.clip_norm > 0) {
        for (size_t i = 0; i < b->n; i++) b->grads[i] = mean_over_ranks(b->g, b->grads[i], b->spec->ranks);
        dg_value factor = clip_factor(b, &norm);
        b->ok = dg_and(b->g, b->ok, dg_is_finite(b->g, norm));
        for (size_t i = 0; i < b->n; i++) {
            dg_graph_set_scope(b->g, "clip");
            add_adamw(b, i, dg_mul(b->g, b->grads[i], factor));
        }
    }
    return dg_graph_error(b->g, err);
}

/* The update on its own: gradients come from the accumulators, which start anew. */
static dg_status build_apply(const backward *forward, dg_graph **out, dg_error *err)
{
    backward b = *forward;
    dg_value *params = dg_calloc(b.n + 1, sizeof *params);
    b.g = dg_graph_create();
    b.grads = dg_calloc(b.n + 1, sizeof *b.grads);
    dg_status s = params && b.g && b.grads ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) {
        b.scalars = scalars_input(b.g);
        b.ok = DG_NO_VALUE;
        b.params = params;
        for (size_t i = 0; i < b.n; i++) {
            const dg_leaf *leaf = dg_graph_node(forward->g, forward->params[i].node)->leaf;
            dg_graph_set_scope(b.g, "");
            params[i] = b.g->api->leaf(b.g, leaf);
            dg_value sum = state_leaf(b.g, DG_ACCUMULATED, leaf->name, leaf->type);
            dg_graph_set_scope(b.g, "accumulate");
            b.grads[i] = dg_mul(b.g, sum, dg_fill(b.g, DG_F32, NULL, 0, 1.0 / b.spec->accumulate));
            dg_graph_update(b.g, sum, dg_fill(b.g, DG_F32, leaf->type.dims, (size_t)leaf->type.rank, 0));
        }
        dg_value norm, factor = b.spec->optimizer.clip_norm > 0 ? clip_factor(&b, &norm) : DG_NO_VALUE;
        if (dg_is_value(factor)) b.ok = dg_is_finite(b.g, norm);
        for (size_t i = 0; i < b.n; i++)
            add_adamw(&b, i, dg_is_value(factor) ? dg_mul(b.g, b.grads[i], factor) : b.grads[i]);
        s = dg_graph_error(b.g, err);
    }
    dg_free(params);
    dg_free(b.grads);
    if (s == DG_OK)
        *out = b.g;
    else
        dg_graph_destroy(b.g);
    return s;
}

dg_status dg_step_build(const dg_parts *parts, const dg_step_spec *spec, dg_step *step, dg_error *err)
{
    dg_graph *g = NULL, *apply = NULL;
    backward b = {.spec = spec};
    step->ranks = spec->ranks > 1 ? spec->ranks : 1;
    if (spec->batch % step->ranks)
        return dg_fail_key(err, DG_ERR_INVALID, "data.batch",
                           "%lld images cannot be shared by %u ranks evenly", (long long)spec->batch,
                           step->ranks);
    if (spec->classify && step->ranks > 1)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "backend",
                           "fine-tuning runs on one rank; this backend was told to drive %u", step->ranks);
    DG_TRY(dg_step_forward(parts, spec, &step->forward, step, err));
    dg_status s = apply_policies(&step->forward, spec->compute, err);
    if (s == DG_OK) s = copy_graph(step->forward, &g, err);
    b.g = g;
    if (s == DG_OK && !find_params(&b)) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = add_backward(&b, err);
    if (s == DG_OK) s = dg_finish_program(g, parts, "train", spec->taps, &step->train, err);
    if (s == DG_OK && spec->accumulate > 1) {
        s = build_apply(&b, &apply, err);
        if (s == DG_OK) s = dg_finish_program(apply, parts, "apply", false, &step->apply, err);
    }
    dg_free(b.params);
    dg_free(b.grads);
    dg_graph_destroy(apply);
    dg_graph_destroy(g);
    return s;
}

void dg_step_destroy(dg_step *step)
{
    dg_program_destroy(step->train);
    dg_program_destroy(step->apply);
    dg_graph_destroy(step->forward);
    memset(step, 0, sizeof *step);
}
