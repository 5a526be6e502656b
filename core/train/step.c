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

void dg_step_output_loss(dg_graph *g, dg_value loss, uint32_t ranks)
{
    if (ranks > 1) dg_tap(g, loss, "%s", loss_of_rank);
    dg_graph_output(g, mean_over_ranks(g, loss, ranks), "loss");
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
    dg_step_output_loss(g, total, ranks);
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
        return dg_classify_forward(parts, spec->classify, spec->batch / ranks, ranks, graph, names, err);
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

static dg_value state_leaf(dg_graph *g, const char *prefix, const char *name, dg_type type, dg_per per)
{
    char full[700];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                    .kind = DG_LEAF_STATE,
                    .name = full,
                    .type = type,
                    .init = dg_init_value(DG_INIT_CONSTANT, 0),
                    .layer = -1,
                    .per = (uint32_t)per};
    return g->api->leaf(g, &leaf);
}

/* ---- the optimizer's work shared among ranks (Rajbhandari et al., "ZeRO: Memory Optimizations Toward
 * Training Trillion Parameter Models", 2020, stage 1): of each parameter, as a vector with zeros after it, a
 * rank has one of equal parts. Only it gets the mean gradient of that part, keeps the moments and makes the
 * update; then all give each other the new values. */

/* The type of a rank's share of a tensor, which is all of it where nothing is shared. */
static dg_type share_type(const backward *b, dg_type t)
{
    const int64_t ranks = b->spec->ranks, n = dg_type_count(&t);
    return b->spec->shard ? dg_make_type(DG_F32, (int64_t[]){(n + ranks - 1) / ranks}, 1) : t;
}

/* State of a rank's share of a parameter. */
static dg_value share_leaf(const backward *b, const char *prefix, const dg_leaf *of)
{
    return state_leaf(b->g, prefix, of->name, share_type(b, of->type),
                      b->spec->shard ? DG_PER_RANK : DG_PER_BATCH);
}

/* v as equal parts, rank by rank. */
static dg_value in_parts(const backward *b, dg_value v)
{
    const dg_type t = dg_type_of(b->g, v), part = share_type(b, t);
    const int64_t rest = part.dims[0] * b->spec->ranks - dg_type_count(&t);
    v = dg_reshape(b->g, v, DG_LIST(-1));
    return rest ? dg_pad(b->g, v, DG_LIST(0), DG_LIST(rest), 0) : v;
}

/* This rank's share of the mean gradient. */
static dg_value share_of_mean(const backward *b, dg_value grad)
{
    if (!b->spec->shard) return mean_over_ranks(b->g, grad, b->spec->ranks);
    dg_value sum = dg_reduce_scatter(b->g, in_parts(b, grad), b->spec->ranks);
    return dg_mul(b->g, sum, dg_fill(b->g, DG_F32, NULL, 0, 1.0 / b->spec->ranks));
}

/* The whole tensor of type t from every rank's share. */
static dg_value from_shares(const backward *b, dg_value share, dg_type t)
{
    if (!b->spec->shard) return share;
    dg_value all = dg_all_gather(b->g, share, b->spec->ranks);
    all = dg_slice(b->g, all, DG_LIST(0), DG_LIST(dg_type_count(&t)));
    return dg_reshape(b->g, all, t.dims, (size_t)t.rank);
}

/* ---- updates */

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
    dg_value old = state_leaf(g, DG_AVERAGE, leaf->name, leaf->type, DG_PER_BATCH);
    dg_graph_set_scope(g, "average");
    dg_value kept = dg_mul(g, old, dg_fill(g, DG_F32, NULL, 0, d));
    dg_value mean = dg_add(g, kept, dg_mul(g, next, dg_fill(g, DG_F32, NULL, 0, 1 - d)));
    dg_graph_update(g, old, dg_is_value(b->ok) ? dg_select(g, b->ok, mean, old) : mean);
}

/* `grad`: this rank's share. */
static void add_adamw(const backward *b, size_t i, dg_value grad)
{
    dg_graph *g = b->g;
    const dg_optimizer *o = &b->spec->optimizer;
    const dg_leaf *leaf = dg_graph_node(g, b->params[i].node)->leaf;
    dg_graph_set_scope(g, "");
    dg_value m = share_leaf(b, DG_MOMENT_1, leaf), v = share_leaf(b, DG_MOMENT_2, leaf);
    dg_graph_set_scope(g, "optimizer");
    dg_value p = b->spec->shard ? dg_shard(g, in_parts(b, b->params[i]), b->spec->ranks) : b->params[i];
    dg_value share = dg_adamw(g, p, grad, m, v, b->scalars, b->ok, o->beta1, o->beta2, o->eps,
                              lr_scale_of(b, leaf), decay_of(leaf, o->weight_decay));
    dg_value next = from_shares(b, share, leaf->type);
    dg_graph_update(g, b->params[i], next);
    dg_graph_update(g, m, dg_output(share, 1));
    dg_graph_update(g, v, dg_output(share, 2));
    if (b->spec->ema_decay > 0) add_average(b, leaf, next);
}

static void on_gradient(void *user, dg_graph *g, size_t i, dg_value grad)
{
    const backward *b = user;
    char name[700];
    if (b->spec->gradients) {
        snprintf(name, sizeof name, "grad.%s", leaf_name(g, b->params[i]));
        dg_graph_output(g, mean_over_ranks(g, grad, b->spec->ranks), name);
    }
    grad = share_of_mean(b, grad);
    if (b->spec->accumulate > 1) {
        const dg_leaf *leaf = dg_graph_node(g, b->params[i].node)->leaf;
        dg_graph_set_scope(g, "");
        dg_value sum = share_leaf(b, DG_ACCUMULATED, leaf);
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
    if (b->spec->shard) total = dg_all_reduce(g, total);
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
        for (size_t i = 0; i < b->n; i++) b->grads[i] = share_of_mean(b, b->grads[i]);
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
            dg_value sum = share_leaf(&b, DG_ACCUMULATED, leaf);
            dg_type share = dg_type_of(b.g, sum);
            dg_graph_set_scope(b.g, "accumulate");
            b.grads[i] = dg_mul(b.g, sum, dg_fill(b.g, DG_F32, NULL, 0, 1.0 / b.spec->accumulate));
            dg_graph_update(b.g, sum, dg_fill(b.g, DG_F32, share.dims, (size_t)share.rank, 0));
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

static dg_status check_ranks(const dg_parts *parts, const dg_step_spec *spec, uint32_t ranks, dg_error *err)
{
    if (spec->batch % ranks)
        return dg_fail_key(err, DG_ERR_INVALID, "data.batch",
                           "%lld images cannot be shared by %u ranks evenly", (long long)spec->batch, ranks);
    if (spec->shard && ranks == 1)
        return dg_fail_key(
            err, DG_ERR_UNSUPPORTED, "optimizer.shard",
            "the optimizer's state is shared among ranks, and the backend '%s' drives one here: "
            "leave it out, or take a backend with several (backend.name=pjrt "
            "backend.replicas=2)",
            parts->backend.self ? parts->backend.ref.factory->name : "");
    return DG_OK;
}

dg_status dg_step_build(const dg_parts *parts, const dg_step_spec *spec, dg_step *step, dg_error *err)
{
    dg_graph *g = NULL, *apply = NULL;
    backward b = {.spec = spec};
    step->ranks = spec->ranks > 1 ? spec->ranks : 1;
    DG_TRY(check_ranks(parts, spec, step->ranks, err));
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

dg_type dg_step_whole_type(const dg_step *step, const dg_program *p, const dg_program_leaf *leaf)
{
    static const char *const prefixes[] = {DG_MOMENT_1 ".", DG_MOMENT_2 ".", DG_ACCUMULATED "."};
    for (size_t i = 0; leaf->per == DG_PER_RANK && i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(leaf->name, prefixes[i], n) != 0) continue;
        dg_value of = dg_graph_leaf(step->forward, leaf->name + n);
        if (dg_is_value(of)) return dg_type_of(step->forward, of);
    }
    return p->values[leaf->value].type;
}

void dg_step_destroy(dg_step *step)
{
    dg_program_destroy(step->train);
    dg_program_destroy(step->apply);
    dg_graph_destroy(step->forward);
    memset(step, 0, sizeof *step);
}
