/* classify.c - see classify.h. */
#include "classify.h"

#include "digpt/vit.h"

enum { CHANNELS = 3 };

typedef struct build {
    const dg_parts *parts;
    const dg_classify_spec *spec;
    dg_graph *g;
    int64_t batch;
    dg_value label, mix; /* of training */
} build;

/* One number of the input "mix", f32[1]. */
static dg_value mix_number(const build *b, int64_t i)
{
    return dg_slice(b->g, b->mix, DG_LIST(i), DG_LIST(i + 1));
}

/* x with the samples in reverse order. */
static dg_value reversed(const build *b, dg_value x)
{
    dg_value i = dg_iota(b->g, DG_I32, DG_LIST(b->batch), 0);
    return dg_gather(b->g, x, dg_sub(b->g, dg_fill(b->g, DG_I32, NULL, 0, (double)(b->batch - 1)), i), false);
}

/* low <= at < high, for an index and bounds of one dtype; all broadcast. */
static dg_value within(dg_graph *g, dg_value at, dg_value low, dg_value high)
{
    return dg_and(g, dg_ge(g, at, low), dg_lt(g, at, high));
}

/* The index of a row or column as dtype, broadcast to [1, h, w, 1] by its shape. */
static dg_value row_index(const build *b, dg_dtype t)
{
    return dg_iota(b->g, t, DG_LIST(1, b->parts->image_h, 1, 1), 1);
}
static dg_value column_index(const build *b, dg_dtype t)
{
    return dg_iota(b->g, t, DG_LIST(1, 1, b->parts->image_w, 1), 2);
}

/* u8 [batch, h, w, 3] to f32 with ImageNet's mean and deviation. */
static dg_value normalised(const build *b, dg_value image)
{
    float scale[CHANNELS], shift[CHANNELS];
    for (int c = 0; c < CHANNELS; c++) {
        scale[c] = (float)(1.0 / (255.0 * dg_imagenet_std[c]));
        shift[c] = (float)(-dg_imagenet_mean[c] / dg_imagenet_std[c]);
    }
    dg_value x = dg_convert(b->g, image, DG_F32);
    x = dg_mul(b->g, x, dg_constant(b->g, DG_F32, DG_LIST(CHANNELS), scale, sizeof scale));
    return dg_add(b->g, x, dg_constant(b->g, DG_F32, DG_LIST(CHANNELS), shift, sizeof shift));
}

/* Random erasing (Zhong et al., 2020), timm's mode "pixel": the box is filled with noise. */
static dg_value erased(const build *b, dg_value x)
{
    dg_graph *g = b->g;
    dg_value box = dg_input(g, "erase_box", DG_I32, DG_LIST(b->batch, 4), DG_PER_SAMPLE);
    dg_value noise =
        dg_input(g, "erase_noise", DG_F32, DG_LIST(b->batch, b->parts->image_h, b->parts->image_w, CHANNELS),
                 DG_PER_SAMPLE);
    dg_value side[4];
    for (int64_t i = 0; i < 4; i++)
        side[i] = dg_reshape(g, dg_slice(g, box, DG_LIST(0, i), DG_LIST(b->batch, i + 1)),
                             DG_LIST(b->batch, 1, 1, 1));
    dg_value rows = within(g, row_index(b, DG_I32), side[0], dg_add(g, side[0], side[2]));
    dg_value columns = within(g, column_index(b, DG_I32), side[1], dg_add(g, side[1], side[3]));
    return dg_select(g, dg_and(g, rows, columns), noise, x);
}

/* mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019) in one form: a picture keeps one share inside a
 * box and another outside it. */
static dg_value mixed(const build *b, dg_value x)
{
    dg_graph *g = b->g;
    dg_value rows = within(g, row_index(b, DG_F32), mix_number(b, DG_MIX_TOP), mix_number(b, DG_MIX_BOTTOM));
    dg_value columns =
        within(g, column_index(b, DG_F32), mix_number(b, DG_MIX_LEFT), mix_number(b, DG_MIX_RIGHT));
    dg_value share =
        dg_select(g, dg_and(g, rows, columns), mix_number(b, DG_MIX_INSIDE), mix_number(b, DG_MIX_OUTSIDE));
    dg_value rest = dg_sub(g, dg_fill(g, DG_F32, NULL, 0, 1), share);
    return dg_add(g, dg_mul(g, x, share), dg_mul(g, reversed(b, x), rest));
}

/* f32 [batch, classes]: smoothed labels, mixed as the pictures are. */
static dg_value soft_targets(const build *b)
{
    dg_graph *g = b->g;
    double off = b->spec->smoothing / (double)b->spec->classes, on = 1 - b->spec->smoothing + off;
    dg_value label = dg_reshape(g, b->label, DG_LIST(b->batch, 1));
    dg_value hit = dg_eq(g, dg_iota(g, DG_I32, DG_LIST(1, b->spec->classes), 1), label);
    dg_value t = dg_select(g, hit, dg_fill(g, DG_F32, NULL, 0, on), dg_fill(g, DG_F32, NULL, 0, off));
    if (!b->spec->mix) return t;
    dg_value share = mix_number(b, DG_MIX_LABEL), rest = dg_sub(g, dg_fill(g, DG_F32, NULL, 0, 1), share);
    return dg_add(g, dg_mul(g, t, share), dg_mul(g, reversed(b, t), rest));
}

/* [batch, width]: what the head reads. */
static dg_value pooled(const build *b, const dg_features *f)
{
    dg_graph *g = b->g;
    dg_vit v = {.g = g, .kind = DG_LEAF_PARAM, .layer = (int32_t)f->depth + 1, .eps = 1e-6};
    int64_t n = dg_dim(g, f->tokens, 1);
    if (b->spec->pool == DG_POOL_CLASS) {
        dg_value x = dg_vit_norm(&v, f->tokens, "norm", 1e-6);
        return dg_reshape(g, dg_vit_rows(g, x, 0, 1), DG_LIST(b->batch, f->width));
    }
    dg_value sum = dg_reduce_sum(g, dg_vit_rows(g, f->tokens, f->n_classes, n), DG_LIST(1), false, DG_F32);
    dg_value mean = dg_mul(g, sum, dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)(n - f->n_classes)));
    return dg_tap(g, dg_vit_norm(&v, mean, "fc_norm", 1e-6), "fc_norm");
}

static dg_status logits_of(const build *b, dg_value image, dg_value keep, dg_value *logits, dg_error *err)
{
    const dg_model_interface *model = dg_model_of(b->parts);
    dg_features f = {.struct_size = (uint32_t)sizeof f};
    if (!model->encode)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "model.name",
                           "the model '%s' has no encoder that can be fine-tuned",
                           b->parts->model.ref.factory->name);
    dg_push(b->g, "model");
    dg_status s = model->encode(b->parts->model.self, b->g, image, 0, keep, &f, err);
    if (s == DG_OK && b->spec->pool == DG_POOL_CLASS && f.n_classes == 0)
        s = dg_fail_key(err, DG_ERR_MISMATCH, "finetune.pool",
                        "the model '%s' has no class token; take pool: mean",
                        b->parts->model.ref.factory->name);
    if (s == DG_OK) {
        dg_init head = dg_init_value(DG_INIT_TRUNC_NORMAL, b->spec->head_std);
        int layer = (int)f.depth + 1;
        dg_value x = pooled(b, &f);
        dg_value w = dg_param(b->g, "head.weight", DG_LIST(b->spec->classes, f.width), head, layer);
        dg_value bias =
            dg_param(b->g, "head.bias", DG_LIST(b->spec->classes), dg_init_value(DG_INIT_CONSTANT, 0), layer);
        *logits = dg_convert(b->g, dg_linear(b->g, x, w, bias, DG_NONE), DG_F32);
        s = dg_graph_error(b->g, err);
    }
    dg_pop(b->g);
    return s;
}

static dg_status build_graph(build *b, uint32_t ranks, int64_t depth, dg_error *err)
{
    const dg_classify_spec *spec = b->spec;
    dg_graph *g = b->g;
    dg_value image = dg_input(
        g, "image", DG_U8, DG_LIST(b->batch, b->parts->image_h, b->parts->image_w, CHANNELS), DG_PER_SAMPLE);
    dg_value keep = DG_NO_VALUE, logits;
    if (ranks == 0) {
        DG_TRY(logits_of(b, image, keep, &logits, err));
        dg_graph_output(g, logits, "logits");
        return dg_graph_error(g, err);
    }
    b->label = dg_input(g, "label", DG_I32, DG_LIST(b->batch), DG_PER_SAMPLE);
    if (spec->drop_path) keep = dg_input(g, "drop_path", DG_F32, DG_LIST(b->batch, 2 * depth), DG_PER_SAMPLE);
    if (spec->mix) b->mix = dg_input(g, "mix", DG_F32, DG_LIST(DG_MIX_SIZE), DG_PER_BATCH);
    dg_value x = spec->erase || spec->mix ? normalised(b, image) : image;
    if (spec->erase) x = erased(b, x);
    if (spec->mix) x = mixed(b, x);
    dg_tap(g, x, "seen");
    DG_TRY(logits_of(b, x, keep, &logits, err));
    dg_tap(g, logits, "logits");
    dg_value targets = dg_tap(g, soft_targets(b), "targets");
    dg_value each = dg_cross_entropy(g, logits, targets, 0); // [batch]
    dg_value sum = dg_reduce_sum(g, each, DG_LIST(0), false, DG_NONE);
    dg_step_output_loss(g, dg_mul(g, sum, dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)b->batch)), ranks);
    return dg_graph_error(g, err);
}

/* Blocks of the model's encoder, from a build that is thrown away. */
static dg_status encoder_depth(const dg_parts *parts, int64_t *depth, dg_error *err)
{
    const dg_model_interface *model = dg_model_of(parts);
    dg_features f = {.struct_size = (uint32_t)sizeof f};
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_value image =
        dg_input(g, "image", DG_U8, DG_LIST(1, parts->image_h, parts->image_w, CHANNELS), DG_PER_SAMPLE);
    dg_status s = model->encode ? model->encode(parts->model.self, g, image, 0, DG_NO_VALUE, &f, err) : DG_OK;
    *depth = f.depth;
    dg_graph_destroy(g);
    return s;
}

dg_status dg_classify_forward(const dg_parts *parts, const dg_classify_spec *spec, int64_t batch,
                              uint32_t ranks, dg_graph **graph, dg_step *names, dg_error *err)
{
    int64_t depth = 0;
    *graph = NULL;
    names->n_predictions = 0;
    DG_TRY(encoder_depth(parts, &depth, err));
    build b = {parts, spec, dg_graph_create(), batch, DG_NO_VALUE, DG_NO_VALUE};
    if (!b.g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = build_graph(&b, ranks, depth, err);
    if (s == DG_OK)
        *graph = b.g;
    else
        dg_graph_destroy(b.g);
    return s;
}
