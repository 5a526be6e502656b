/* build.c - the computation of the model `clip`. Parameters have the names of OpenAI's code and OpenCLIP,
 * which the tokenizer `clip` reads; first values are those of OpenAI's text tower, in both towers. */
#include "clip.h"

#define NORM_EPS 1e-5
#define FIRST_SCALE 2.6592600369327779 /* ln(1 / 0.07) */
#define MOST_SCALE 4.6051701859880914  /* ln 100, section 2.5 */

/* What first values depend on. */
typedef struct tower {
    int64_t width, depth;
} tower;

static dg_init first_values(const dg_vit *v, const char *name, dg_init usual)
{
    const tower *t = v->user;
    double width = (double)t->width, residual = 1 / sqrt(width * 2 * (double)t->depth);
    if (strcmp(name, "attn.in_proj_weight") == 0) return dg_init_value(DG_INIT_NORMAL, 1 / sqrt(width));
    if (strcmp(name, "attn.out_proj.weight") == 0 || strcmp(name, "mlp.c_proj.weight") == 0)
        return dg_init_value(DG_INIT_NORMAL, residual);
    if (strcmp(name, "mlp.c_fc.weight") == 0) return dg_init_value(DG_INIT_NORMAL, 1 / sqrt(2 * width));
    return usual;
}

/* A pre-norm block on x [batch, n, width]; keep f32 [batch, 2] for drop path, or no value. */
static dg_value block(const dg_vit *v, dg_value x, dg_vit_groups groups, dg_value keep)
{
    dg_graph *g = v->g;
    int64_t width = dg_dim(g, x, -1);
    dg_value w =
        dg_vit_leaf(v, "attn.in_proj_weight", DG_LIST(3 * width, width), dg_init_value(DG_INIT_NORMAL, 0));
    dg_value b = dg_vit_leaf(v, "attn.in_proj_bias", DG_LIST(3 * width), dg_init_value(DG_INIT_CONSTANT, 0));
    dg_value qkv = dg_linear(g, dg_vit_norm(v, x, "ln_1", NORM_EPS), w, b, DG_NONE); // [batch, n, 3 width]
    dg_value y = dg_attention(g, dg_vit_part(g, qkv, 0, 3), dg_vit_part(g, qkv, 1, 3),
                              dg_vit_part(g, qkv, 2, 3), groups.q, groups.k, DG_NO_VALUE, v->heads, 0, false);
    x = dg_vit_residual(v, x, dg_vit_linear(v, y, "attn.out_proj", width, true), keep, 0);
    y = dg_vit_linear(v, dg_vit_norm(v, x, "ln_2", NORM_EPS), "mlp.c_fc", v->hidden, true);
    y = dg_vit_linear(v, dg_gelu(g, y, v->quick), "mlp.c_proj", width, true);
    return dg_vit_residual(v, x, y, keep, 1);
}

/* A parameter N(0, std^2) with a decay rule of its own; `grid`: of a table of positions, or NULL. */
static dg_value embedding(const dg_vit *v, const char *name, const int64_t *dims, size_t rank, double std,
                          int32_t decay, const int64_t *grid)
{
    dg_leaf leaf = {
        .struct_size = sizeof leaf,
        .kind = DG_LEAF_PARAM,
        .name = name,
        .type = dg_make_type(DG_F32, dims, rank),
        .init = dg_init_value(DG_INIT_NORMAL, std),
        .decay = decay,
        .layer = v->layer,
        .grid = {grid ? grid[0] : 0, grid ? grid[1] : 0},
    };
    return v->g->api->leaf(v->g, &leaf);
}

/* ---- images */

/* Patches f32 [batch, n, 3 ph pw] normalised as CLIP's; an image in f32 comes normalised as ImageNet's. */
static dg_value patches(const clip *s, dg_graph *g, dg_value image)
{
    const int64_t *patch = s->image.patch;
    double scale[3], shift[3];
    if (dg_type_of(g, image).dtype == DG_U8)
        return dg_vit_patches(g, image, patch[0], patch[1], dg_clip_mean, dg_clip_std, false);
    for (int c = 0; c < 3; c++) {
        scale[c] = dg_imagenet_std[c] / dg_clip_std[c];
        shift[c] = (dg_imagenet_mean[c] - dg_clip_mean[c]) / dg_clip_std[c];
    }
    return dg_patchify(g, image, patch[0], patch[1], scale, 3, shift, 3, false, DG_F32);
}

/* Class token and patches after `layers` blocks: [batch, 1 + n, width]. decay: of class token and positions.
 * Leaves the scope "visual" open, so that what follows is named in it. */
static dg_value image_tokens(const clip *s, dg_vit *v, dg_value image, int64_t layers, dg_value keep,
                             int32_t decay)
{
    const dg_encoder *e = &s->image;
    dg_graph *g = v->g;
    int64_t batch = dg_dim(g, image, 0), n = e->grid[0] * e->grid[1], inside = 3 * e->patch[0] * e->patch[1];
    double std = 1 / sqrt((double)e->width);
    dg_push(g, "visual");
    dg_value token = embedding(v, "class_embedding", DG_LIST(e->width), std, decay, NULL);
    dg_value pos = embedding(v, "positional_embedding", DG_LIST(1 + n, e->width), std, decay, e->grid);
    dg_value conv = dg_vit_leaf(v, "conv1.weight", DG_LIST(e->width, 3, e->patch[0], e->patch[1]),
                                dg_init_value(DG_INIT_NORMAL, 1 / sqrt((double)inside)));
    dg_value x = dg_linear(g, patches(s, g, image), dg_reshape(g, conv, DG_LIST(e->width, inside)),
                           DG_NO_VALUE, DG_NONE);
    token = dg_broadcast(g, token, DG_LIST(batch, 1, e->width));
    x = dg_add(g, dg_concat(g, (dg_value[]){token, x}, 2, 1), pos);
    x = dg_vit_norm(v, x, "ln_pre", NORM_EPS);
    for (int64_t i = 0; i < layers; i++) {
        v->layer = (int32_t)i + 1;
        dg_push(g, "transformer.resblocks.%d", (int)i);
        x = dg_tap(g, block(v, x, DG_VIT_ALL, dg_encoder_keep(g, keep, i)), "block.%d", (int)i);
        dg_pop(g);
    }
    return x;
}

static dg_vit image_vit(const clip *s, dg_graph *g, tower *t)
{
    dg_vit v = dg_encoder_vit(g, s->image.heads, s->image.hidden, 0);
    *t = (tower){s->image.width, s->image.depth};
    v.quick = s->quick;
    v.init = first_values;
    v.user = t;
    return v;
}

/* x [batch, width] times NAME [width, out], scaled to length one: [batch, out]. */
static dg_value project(const clip *s, const dg_vit *v, dg_value x, const char *name)
{
    int64_t width = dg_dim(v->g, x, 1);
    dg_value w =
        dg_vit_leaf(v, name, DG_LIST(width, s->out), dg_init_value(DG_INIT_NORMAL, 1 / sqrt((double)width)));
    return dg_normalize(v->g, dg_matmul(v->g, x, w, false, false, DG_F32), 1e-12);
}

static dg_value image_features(const clip *s, dg_graph *g, dg_value image)
{
    tower t;
    dg_vit v = image_vit(s, g, &t);
    dg_value x = image_tokens(s, &v, image, s->image.depth, DG_NO_VALUE, -1);
    x = dg_reshape(g, dg_vit_rows(g, x, 0, 1), DG_LIST(dg_dim(g, image, 0), s->image.width));
    x = project(s, &v, dg_vit_norm(&v, x, "ln_post", NORM_EPS), "proj");
    dg_pop(g);
    return dg_tap(g, x, "image_features"); // [batch, out]
}

/* ---- texts */

/* i32 [1, length]: a token sees itself and those before it, so never the padding behind. */
static dg_vit_groups causal(dg_graph *g, int64_t length)
{
    dg_value places = dg_iota(g, DG_I32, DG_LIST(1, length), 1);
    return (dg_vit_groups){places, places};
}

static dg_value text_features(const clip *s, dg_graph *g, dg_value caption)
{
    const clip_text *t = &s->text;
    int64_t batch = dg_dim(g, caption, 0);
    tower first = {t->width, t->depth};
    dg_vit v = dg_encoder_vit(g, t->heads, t->hidden, -1);
    v.quick = s->quick;
    v.init = first_values;
    v.user = &first;
    dg_value table =
        embedding(&v, "token_embedding.weight", DG_LIST(t->vocabulary, t->width), 0.02, -1, NULL);
    dg_value pos = embedding(&v, "positional_embedding", DG_LIST(t->length, t->width), 0.01, -1, NULL);
    dg_value x = dg_add(g, dg_gather(g, table, caption, false), pos); // [batch, length, width]
    dg_vit_groups groups = causal(g, t->length);
    for (int64_t i = 0; i < t->depth; i++) {
        dg_push(g, "transformer.resblocks.%d", (int)i);
        x = block(&v, x, groups, DG_NO_VALUE);
        dg_pop(g);
    }
    x = dg_vit_norm(&v, x, "ln_final", NORM_EPS);
    dg_value end = dg_reshape(g, dg_argmax(g, caption, 1), DG_LIST(batch, 1));
    x = dg_reshape(g, dg_gather(g, x, end, true), DG_LIST(batch, t->width));
    return dg_tap(g, project(s, &v, x, "text_projection"), "text_features"); // [batch, out]
}

/* ---- the loss */

/* logits [batch, batch], row i belongs to column i: the mean cross-entropy of rows. */
static dg_value matching_loss(dg_graph *g, dg_value logits)
{
    int64_t batch = dg_dim(g, logits, 0);
    dg_value each = dg_cross_entropy(g, logits, dg_iota(g, DG_I32, DG_LIST(batch), 0), 0);
    return dg_mul(g, dg_reduce_sum(g, each, DG_LIST(0), false, DG_NONE),
                  dg_fill(g, DG_F32, NULL, 0, 1.0 / (double)batch));
}

dg_status clip_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out,
                     dg_error *err)
{
    const clip *s = self;
    dg_value caption = dg_batch_field(batch, "caption");
    dg_type t = dg_type_of(g, caption);
    if (!dg_is_value(caption))
        return dg_fail_key(
            err, DG_ERR_UNSUPPORTED, "data.caption_length",
            "model clip learns from captions, and is given none; set data.caption_length to "
            "model.context_length, %lld, and take a source that has captions (tar with .txt members, "
            "list with captions, synthetic)",
            (long long)s->text.length);
    if (t.dtype != DG_I32 || t.rank != 2 || t.dims[1] != s->text.length) {
        char have[96];
        return dg_fail_key(err, DG_ERR_MISMATCH, "model.context_length",
                           "captions are %s, and model clip reads i32 [batch, %lld]",
                           dg_type_text(&t, have, sizeof have), (long long)s->text.length);
    }
    dg_value images = image_features(s, g, dg_batch_field(batch, "image")),
             texts = text_features(s, g, caption);
    dg_value scale = dg_param(g, "logit_scale", NULL, 0, dg_init_value(DG_INIT_CONSTANT, FIRST_SCALE), -1);
    scale = dg_exp(g, dg_min(g, scale, dg_fill(g, DG_F32, NULL, 0, MOST_SCALE)));
    dg_value logits = dg_mul(g, dg_matmul(g, images, texts, false, true, DG_F32), scale);
    dg_tap(g, logits, "logits"); // [batch images, batch texts]
    dg_value both =
        dg_add(g, matching_loss(g, logits), matching_loss(g, dg_transpose(g, logits, DG_LIST(1, 0))));
    out->n_predictions = 0;
    out->loss = dg_mul(g, both, dg_fill(g, DG_F32, NULL, 0, 0.5));
    return dg_graph_error(g, err);
}

/* ---- the encoder alone: the image tower before its last norm */

dg_status clip_encode(void *self, dg_graph *g, dg_value image, int64_t layer, dg_value keep, dg_features *out,
                      dg_error *err)
{
    const clip *s = self;
    tower t;
    DG_TRY(dg_encoder_check_layer(&s->image, layer, err));
    dg_vit v = image_vit(s, g, &t);
    dg_value x = image_tokens(s, &v, image, layer ? layer : s->image.depth, keep, 0);
    dg_pop(g);
    *out = (dg_features){.struct_size = sizeof *out,
                         .n_classes = 1,
                         .tokens = x,
                         .width = s->image.width,
                         .depth = s->image.depth};
    return dg_graph_error(g, err);
}
