/* check_model.c - checks of tokenizers and models: what they build is what they say; see checks.h. */
#include "checks.h"

/* ---- tokenizers */

static dg_status check_info(const dg_tokenizer_info *t, dg_error *err)
{
    if (t->image_h < 1 || t->image_w < 1 || t->grid_h < 1 || t->grid_w < 1 || t->width < 1 ||
        t->class_token > 1)
        return dg_fail(err, DG_ERR_INVALID,
                       "its information has a size below 1: image %lld x %lld, grid %lld x %lld, width %lld",
                       (long long)t->image_h, (long long)t->image_w, (long long)t->grid_h,
                       (long long)t->grid_w, (long long)t->width);
    if (t->discrete && (t->width != 1 || t->vocabulary < 2))
        return dg_fail(err, DG_ERR_INVALID,
                       "discrete tokens have width 1 and a vocabulary of at least 2, not %lld and %lld",
                       (long long)t->width, (long long)t->vocabulary);
    if (!memchr(t->summary, 0, sizeof t->summary) || !t->summary[0])
        return dg_fail(err, DG_ERR_INVALID, "its summary is empty or has no end");
    return DG_OK;
}

static dg_status count_parameters(const dg_graph *g, uint32_t kind, size_t *n)
{
    *n = 0;
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        *n += leaf && leaf->kind == kind;
    }
    return DG_OK;
}

static dg_status build_tokens(const dg_component *c, int64_t batch, dg_graph *g, dg_error *err)
{
    const dg_tokenizer_interface *table = c->ref.factory->interface;
    dg_tokenizer_info t = {.struct_size = (uint32_t)sizeof t};
    dg_value tokens = DG_NO_VALUE;
    char text[96];
    size_t trained;
    DG_TRY(table->info(c->self, &t, err));
    DG_TRY(check_info(&t, err));
    dg_value image = dg_input(g, "image", DG_U8, DG_LIST(batch, t.image_h, t.image_w, 3), DG_PER_SAMPLE);
    DG_TRY(table->build(c->self, g, image, &tokens, err));
    DG_TRY(dg_graph_error(g, err));
    dg_type type = dg_type_of(g, tokens);
    bool right = type.dims[0] == batch && type.dims[1] == dg_token_count(&t) &&
                 (t.discrete ? type.dtype == DG_I32 && type.rank == 2
                             : type.dtype == DG_F32 && type.rank == 3 && type.dims[2] == t.width);
    if (!right)
        return dg_fail(err, DG_ERR_MISMATCH,
                       "its tokens are %s, and it announces %lld of %s %lld in a batch of %lld",
                       dg_type_text(&type, text, sizeof text), (long long)dg_token_count(&t),
                       t.discrete ? "ids below" : "width", (long long)(t.discrete ? t.vocabulary : t.width),
                       (long long)batch);
    count_parameters(g, DG_LEAF_PARAM, &trained);
    if (trained)
        return dg_fail(err, DG_ERR_INVALID, "%zu of its parameters would be trained: use dg_frozen", trained);
    return DG_OK;
}

static dg_verdict tokens(const dg_checked *c)
{
    dg_component made;
    dg_check_env env;
    dg_verdict verdict = DG_CHECK_PASS;
    dg_error err = DG_ERROR_INIT;
    if (!dg_check_instance(c, &made, &env, &verdict)) return verdict;
    for (int64_t batch = 1; batch <= 3 && verdict == DG_CHECK_PASS; batch += 2) {
        dg_graph *g = dg_graph_create();
        dg_status s = g ? build_tokens(&made, batch, g, &err) : dg_fail(&err, DG_ERR_NOMEM, "out of memory");
        if (s != DG_OK) verdict = dg_check_fail(c, "%s", err.message);
        dg_graph_destroy(g);
    }
    dg_component_destroy(&made);
    return verdict;
}

/* ---- models */

enum { BATCH = 2 };

static dg_status check_prediction(const dg_graph *g, const dg_prediction *x, const dg_check_env *env,
                                  dg_error *err)
{
    char a[96], b[96];
    dg_type p = dg_type_of(g, x->prediction), t = dg_type_of(g, x->target), w;
    if (!x->name || !x->name[0]) return dg_fail(err, DG_ERR_INVALID, "a prediction has no name");
    if (p.rank != 3 || p.dims[0] != BATCH)
        return dg_fail(err, DG_ERR_MISMATCH, "prediction '%s' is %s and not [batch, positions, width]",
                       x->name, dg_type_text(&p, a, sizeof a));
    bool ids = t.dtype == DG_I32 && t.rank == 2 && t.dims[0] == BATCH && t.dims[1] == p.dims[1];
    if (!ids && !dg_same_dims(&p, &t))
        return dg_fail(err, DG_ERR_MISMATCH, "prediction '%s' is %s and its target %s", x->name,
                       dg_type_text(&p, a, sizeof a), dg_type_text(&t, b, sizeof b));
    if (ids && env->model.tokens && env->tokens.discrete && p.dims[2] != env->tokens.vocabulary)
        return dg_fail(err, DG_ERR_MISMATCH, "prediction '%s' is %s for a vocabulary of %lld", x->name,
                       dg_type_text(&p, a, sizeof a), (long long)env->tokens.vocabulary);
    if (!dg_is_value(x->weight)) return DG_OK;
    w = dg_type_of(g, x->weight);
    if (w.dtype != DG_F32 || w.rank != 2 || w.dims[0] != BATCH || w.dims[1] != p.dims[1])
        return dg_fail(err, DG_ERR_MISMATCH, "the weight of '%s' is %s and its prediction %s", x->name,
                       dg_type_text(&w, a, sizeof a), dg_type_text(&p, b, sizeof b));
    return DG_OK;
}

/* Builds the pretraining pass; *total is a scalar that depends on every prediction. */
static dg_status build_model(const dg_component *c, const dg_check_env *env, dg_graph *g, dg_value *total,
                             dg_error *err)
{
    const dg_model_interface *table = c->ref.factory->interface;
    const dg_tokenizer_info *t = env->model.tokens;
    dg_field image = {"image",
                      dg_input(g, "image", DG_U8, DG_LIST(BATCH, env->model.image_h, env->model.image_w, 3),
                               DG_PER_SAMPLE)};
    dg_model_batch batch = {(uint32_t)sizeof batch, 1, BATCH, &image, DG_NO_VALUE};
    dg_model_output out = {.struct_size = (uint32_t)sizeof out, .loss = DG_NO_VALUE};
    if (t)
        batch.tokens =
            t->discrete
                ? dg_input(g, "tokens", DG_I32, DG_LIST(BATCH, dg_token_count(t)), DG_PER_SAMPLE)
                : dg_input(g, "tokens", DG_F32, DG_LIST(BATCH, dg_token_count(t), t->width), DG_PER_SAMPLE);
    DG_TRY(table->build(c->self, g, &batch, &out, err));
    DG_TRY(dg_graph_error(g, err));
    if (out.n_predictions > DG_MAX_PREDICTIONS || (out.n_predictions == 0 && !dg_is_value(out.loss)))
        return dg_fail(err, DG_ERR_INVALID, "it gives %u predictions and %s loss of its own",
                       out.n_predictions, dg_is_value(out.loss) ? "a" : "no");
    *total = out.loss;
    for (uint32_t i = 0; i < out.n_predictions; i++) {
        DG_TRY(check_prediction(g, &out.predictions[i], env, err));
        dg_value x = dg_convert(g, out.predictions[i].prediction, DG_F32);
        dg_value sum = dg_reduce_sum(g, dg_mul(g, x, x), DG_LIST(0, 1, 2), false, DG_F32);
        *total = dg_is_value(*total) ? dg_add(g, *total, sum) : sum;
    }
    dg_graph_output(g, *total, "total");
    return dg_graph_error(g, err);
}

typedef dg_status (*for_model)(const dg_component *c, const dg_check_env *env, dg_graph *g, dg_error *err);

static dg_verdict with_model(const dg_checked *c, for_model then)
{
    dg_component made;
    dg_check_env env;
    dg_verdict verdict = DG_CHECK_PASS;
    dg_error err = DG_ERROR_INIT;
    if (!dg_check_instance(c, &made, &env, &verdict)) return verdict;
    dg_value total;
    dg_graph *g = dg_graph_create();
    dg_status s =
        g ? build_model(&made, &env, g, &total, &err) : dg_fail(&err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK && then) s = then(&made, &env, g, &err);
    if (s == DG_ERR_UNSUPPORTED) {
        dg_str_puts(c->detail, err.message);
        verdict = DG_CHECK_SKIP;
    } else if (s != DG_OK)
        verdict = dg_check_fail(c, "%s", err.message);
    dg_graph_destroy(g);
    dg_component_destroy(&made);
    return verdict;
}

static dg_verdict predictions(const dg_checked *c)
{
    return with_model(c, NULL);
}

static bool has_gradient(void *user, const dg_work *work)
{
    (void)user;
    return dg_op_find(work->op)->grad != NULL;
}

/* The gradient exists, and reaches every parameter. */
static dg_status differentiate(const dg_component *c, const dg_check_env *env, dg_graph *from, dg_error *err)
{
    dg_graph *g = NULL;
    dg_value *wrt = NULL, *grads = NULL;
    const dg_named_value *outputs;
    size_t n = 0;
    (void)c;
    (void)env;
    dg_status s = dg_pass_lower(from, has_gradient, NULL, &g, err);
    if (s != DG_OK) return s;
    wrt = dg_calloc((size_t)dg_graph_count(g) + 1, sizeof *wrt);
    grads = dg_calloc((size_t)dg_graph_count(g) + 1, sizeof *grads);
    if (!wrt || !grads) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 0; s == DG_OK && i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (leaf && leaf->kind == DG_LEAF_PARAM) wrt[n++] = (dg_value){i, 0};
    }
    if (s == DG_OK && n == 0) s = dg_fail(err, DG_ERR_INVALID, "it has no parameters to train");
    if (s == DG_OK) {
        dg_graph_outputs(g, &outputs);
        s = dg_gradient(g, outputs[0].value, wrt, n, grads, err);
    }
    for (size_t i = 0; s == DG_OK && i < n; i++) {
        const dg_node *node = dg_graph_node(g, grads[i].node);
        if (node->op && !strcmp(node->op->name, "fill"))
            s = dg_fail(err, DG_ERR_INVALID,
                        "no prediction depends on the parameter '%s': make it frozen, or leave it out",
                        dg_graph_node(g, wrt[i].node)->leaf->name);
    }
    dg_free(wrt);
    dg_free(grads);
    dg_graph_destroy(g);
    return s;
}

static dg_verdict differentiable(const dg_checked *c)
{
    return with_model(c, differentiate);
}

/* One host input: the same ordinal gives the same bytes whatever was asked before, and no byte more is
 * written. */
static dg_status fill_one(const dg_component *c, const dg_leaf *leaf, dg_error *err)
{
    enum { GUARD = 64 };
    const dg_model_interface *table = c->ref.factory->interface;
    dg_type t = leaf->type;
    if (leaf->per == DG_PER_SAMPLE) t.dims[0] = 1;
    size_t bytes = (size_t)dg_type_bytes(&t);
    unsigned char *a = dg_calloc(bytes + GUARD, 1), *b = dg_calloc(bytes + GUARD, 1);
    dg_status s = a && b ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) {
        memset(a, 0xa5, bytes + GUARD);
        memset(b, 0x5a, bytes + GUARD);
        s = table->fill(c->self, leaf->name, 3, 5, a, bytes, err);
    }
    if (s == DG_OK) s = table->fill(c->self, leaf->name, 3, 1u << 20, b, bytes, err);
    if (s == DG_OK) s = table->fill(c->self, leaf->name, 3, 5, b, bytes, err);
    for (size_t i = 0; s == DG_OK && i < bytes; i++)
        if (a[i] != b[i])
            s = dg_fail(err, DG_ERR_INVALID, "fill of '%s' gives other bytes for the same ordinal",
                        leaf->name);
    for (size_t i = bytes; s == DG_OK && i < bytes + GUARD; i++)
        if (a[i] != 0xa5 || b[i] != 0x5a)
            s = dg_fail(err, DG_ERR_INVALID, "fill of '%s' writes past its end", leaf->name);
    dg_free(a);
    dg_free(b);
    return s;
}

static dg_status fill_all(const dg_component *c, const dg_check_env *env, dg_graph *g, dg_error *err)
{
    const dg_model_interface *table = c->ref.factory->interface;
    size_t n = 0;
    (void)env;
    for (int32_t i = 0; i < dg_graph_count(g); i++) {
        const dg_leaf *leaf = dg_graph_node(g, i)->leaf;
        if (!leaf || leaf->kind != DG_LEAF_INPUT || !strcmp(leaf->name, "image") ||
            !strcmp(leaf->name, "tokens"))
            continue;
        if (!table->fill)
            return dg_fail(err, DG_ERR_INVALID, "it declares the host input '%s' and has no fill",
                           leaf->name);
        DG_TRY(fill_one(c, leaf, err));
        n++;
    }
    return n ? DG_OK : dg_fail(err, DG_ERR_UNSUPPORTED, "it declares no host inputs");
}

static dg_verdict host_inputs(const dg_checked *c)
{
    return with_model(c, fill_all);
}

static dg_status encode_images(const dg_component *c, const dg_check_env *env, dg_graph *used, dg_error *err)
{
    const dg_model_interface *table = c->ref.factory->interface;
    dg_features f = {.struct_size = (uint32_t)sizeof f};
    char text[96];
    (void)used;
    if (!table->encode) return dg_fail(err, DG_ERR_UNSUPPORTED, "it offers no encoder");
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_value image =
        dg_input(g, "image", DG_U8, DG_LIST(BATCH, env->model.image_h, env->model.image_w, 3), DG_PER_SAMPLE);
    dg_status s = table->encode(c->self, g, image, 0, DG_NO_VALUE, &f, err);
    if (s == DG_OK) s = dg_graph_error(g, err);
    if (s == DG_OK) {
        dg_type t = dg_type_of(g, f.tokens);
        if (t.rank != 3 || t.dims[0] != BATCH || t.dims[2] != f.width || f.depth < 1 || f.n_classes > 1)
            s = dg_fail(err, DG_ERR_MISMATCH,
                        "its features are %s, and it announces width %lld, depth %lld, %u class tokens",
                        dg_type_text(&t, text, sizeof text), (long long)f.width, (long long)f.depth,
                        f.n_classes);
    }
    dg_graph_destroy(g);
    return s;
}

static dg_verdict encoder(const dg_checked *c)
{
    return with_model(c, encode_images);
}

const dg_check dg_model_checks[] = {{"tokens are as announced", DG_TOKENIZER_INTERFACE, tokens},
                                    {"predictions and targets agree", DG_MODEL_INTERFACE, predictions},
                                    {"every parameter has a gradient", DG_MODEL_INTERFACE, differentiable},
                                    {"host inputs are pure", DG_MODEL_INTERFACE, host_inputs},
                                    {"encoder", DG_MODEL_INTERFACE, encoder},
                                    {NULL, NULL, NULL}};
