/* digpt/encoder.h - the vision transformer that models train on images: what a recipe says of its size, its
 * fixed positions, and its pass over whole images for fine-tuning. Header-only, over digpt/vit.h. */
#ifndef DIGPT_ENCODER_H
#define DIGPT_ENCODER_H

#include "digpt/model.h"
#include "digpt/vit.h"

typedef struct dg_encoder {
    const dg_host *host;
    int64_t width, depth, heads, hidden; /* hidden: inside an MLP */
    int64_t patch[2];                    /* pixels: height, width */
    int64_t grid[2];                     /* patches: rows, columns */
} dg_encoder;

#define DG_ENCODER_EPS 1e-6 /* of its norms, as timm, MAE and the official D-iGPT code */

/* ---- recipe keys: a model's schema begins with DG_ENCODER_PARAMS, its own keys count from DG_ENCODER_KEYS
 */

enum {
    DG_ENCODER_SIZE,
    DG_ENCODER_WIDTH,
    DG_ENCODER_DEPTH,
    DG_ENCODER_HEADS,
    DG_ENCODER_MLP_RATIO,
    DG_ENCODER_PATCH,
    DG_ENCODER_KEYS
};

static const char *const dg_encoder_sizes[] DG_UNUSED = {"S", "B", "L", "H", "free", NULL};
/* DeiT's S (Touvron et al., ICML 2021), ViT's B, L, H (Dosovitskiy et al., ICLR 2021). */
static const struct {
    int64_t width, depth, heads;
} dg_encoder_presets[] DG_UNUSED = {{384, 12, 6}, {768, 12, 12}, {1024, 24, 16}, {1280, 32, 16}};
enum { DG_ENCODER_PRESETS = 4 };

#define DG_ENCODER_PARAMS                                                                                    \
    [DG_ENCODER_SIZE] = DG_PARAM(CHOICE, "size", "B", "",                                                    \
                                 "width, depth and heads of ViT-S (384, 12, 6), B (768, 12, 12), L (1024, "  \
                                 "24, 16), H (1280, 32, 16); free: given below",                             \
                                 0, 0, dg_encoder_sizes),                                                    \
    [DG_ENCODER_WIDTH] =                                                                                     \
        DG_PARAM(INT, "width", "", "", "width of the encoder; not set: that of size", 1, 65536, NULL),       \
    [DG_ENCODER_DEPTH] =                                                                                     \
        DG_PARAM(INT, "depth", "", "blocks", "depth of the encoder; not set: that of size", 1, 1024, NULL),  \
    [DG_ENCODER_HEADS] = DG_PARAM(INT, "heads", "", "",                                                      \
                                  "attention heads of the encoder; not set: that of size", 1, 1024, NULL),   \
    [DG_ENCODER_MLP_RATIO] = DG_PARAM(FLOAT, "mlp_ratio", "4", "",                                           \
                                      "width inside an MLP over the width outside", 0.125, 64, NULL),        \
    [DG_ENCODER_PATCH] =                                                                                     \
        DG_PARAM(INTS, "patch", "[16]", "pixels", "side of a patch, or [height, width]", 1, 1024, NULL)

/* Whether `width` can be split among `heads`; the keys are those to blame. */
static inline DG_UNUSED dg_status dg_encoder_check_heads(const char *part, const char *key_heads,
                                                         int64_t width, int64_t heads, dg_error *err)
{
    if (width % heads == 0) return DG_OK;
    return dg_fail_key(err, DG_ERR_INVALID, key_heads,
                       "the %s's width %lld cannot be divided among %lld heads", part, (long long)width,
                       (long long)heads);
}

/* That, and whether sine-cosine positions exist for `width`. */
static inline DG_UNUSED dg_status dg_encoder_check_sizes(const char *part, const char *key_width,
                                                         const char *key_heads, int64_t width, int64_t heads,
                                                         dg_error *err)
{
    if (width % 4)
        return dg_fail_key(
            err, DG_ERR_INVALID, key_width,
            "the %s's width %lld is no multiple of 4, which the positions (sine and cosine of row "
            "and column) need",
            part, (long long)width);
    return dg_encoder_check_heads(part, key_heads, width, heads, err);
}

/* The width inside an MLP of `width` by the recipe's mlp_ratio. */
static inline DG_UNUSED dg_status dg_encoder_hidden(const dg_params *params, int64_t width, int64_t *out,
                                                    dg_error *err)
{
    const dg_param_value *ratio = &params->values[DG_ENCODER_MLP_RATIO];
    *out = (int64_t)((double)width * ratio->v.f);
    if (*out >= 1) return DG_OK;
    return dg_fail_key(err, DG_ERR_INVALID, "model.mlp_ratio", "mlp_ratio %s leaves no width inside the MLP",
                       ratio->text);
}

/* Reads the keys above and cuts the image into patches; whether the width suits the heads is not checked. */
static inline DG_UNUSED dg_status dg_encoder_read(const dg_host *host, const dg_params *params,
                                                  const dg_model_env *env, dg_encoder *e, dg_error *err)
{
    static const char *const keys[3] = {"width", "depth", "heads"};
    int64_t *const to[3] = {&e->width, &e->depth, &e->heads};
    const dg_param_value *p = params->values;
    int64_t size = p[DG_ENCODER_SIZE].v.i;
    *e = (dg_encoder){.host = host};
    if (size < DG_ENCODER_PRESETS) {
        e->width = dg_encoder_presets[size].width;
        e->depth = dg_encoder_presets[size].depth;
        e->heads = dg_encoder_presets[size].heads;
    }
    for (int i = 0; i < 3; i++) {
        if (p[DG_ENCODER_WIDTH + i].is_set) *to[i] = p[DG_ENCODER_WIDTH + i].v.i;
        if (*to[i] == 0)
            return dg_fail_key(err, DG_ERR_INVALID, "model.size", "size: free needs model.%s", keys[i]);
    }
    DG_TRY(dg_encoder_hidden(params, e->width, &e->hidden, err));
    if (!dg_vit_pair(&p[DG_ENCODER_PATCH], e->patch))
        return dg_fail_key(err, DG_ERR_INVALID, "model.patch",
                           "patch takes one number or [height, width], not %zu numbers",
                           p[DG_ENCODER_PATCH].v.ints.n);
    if (env->image_h % e->patch[0] || env->image_w % e->patch[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "model.patch",
            "an image of %lldx%lld pixels cannot be cut into patches of %lldx%lld (height x width)",
            (long long)env->image_h, (long long)env->image_w, (long long)e->patch[0], (long long)e->patch[1]);
    e->grid[0] = env->image_h / e->patch[0];
    e->grid[1] = env->image_w / e->patch[1];
    return DG_OK;
}

/* ---- computation */

static inline DG_UNUSED dg_vit dg_encoder_vit(dg_graph *g, int64_t heads, int64_t hidden, int32_t layer)
{
    return (dg_vit){.g = g,
                    .kind = DG_LEAF_PARAM,
                    .layer = layer,
                    .heads = heads,
                    .hidden = hidden,
                    .eps = DG_ENCODER_EPS};
}

/* Sine-cosine positions [1, 1 + patches, width]: frozen in pretraining; trained without decay in layer 0
 * elsewhere. */
static inline DG_UNUSED dg_value dg_encoder_positions(const dg_encoder *e, dg_graph *g, const char *name,
                                                      int64_t width, bool trained)
{
    int64_t n = 1 + e->grid[0] * e->grid[1];
    float *data = (float *)e->host->allocate((size_t)(n * width) * sizeof *data);
    if (!data) return dg_graph_fail(g, DG_ERR_NOMEM, "out of memory");
    dg_vit_sincos(data, e->grid[0], e->grid[1], width);
    dg_leaf leaf = {
        .struct_size = (uint32_t)sizeof leaf,
        .kind = trained ? DG_LEAF_PARAM : DG_LEAF_FROZEN,
        .name = name,
        .type = dg_make_type(DG_F32, DG_LIST(1, n, width)),
        .init = {.struct_size = (uint32_t)sizeof leaf.init, .kind = DG_INIT_DATA, .data = data},
        .decay = 0,
        .layer = 0,
        .grid = {e->grid[0], e->grid[1]},
    };
    dg_value v = g->api->leaf(g, &leaf);
    e->host->release(data);
    return v;
}

/* The numbers of block `i` in keep [batch, 2 depth]: [batch, 2]; none without keep. */
static inline DG_UNUSED dg_value dg_encoder_keep(dg_graph *g, dg_value keep, int64_t i)
{
    if (!dg_is_value(keep)) return keep;
    return dg_slice(g, keep, DG_LIST(0, 2 * i), DG_LIST(dg_dim(g, keep, 0), 2 * i + 2));
}

static inline DG_UNUSED dg_status dg_encoder_check_layer(const dg_encoder *e, int64_t layer, dg_error *err)
{
    if (layer >= 0 && layer <= e->depth) return DG_OK;
    return dg_fail(err, DG_ERR_INVALID,
                   "the encoder has %lld blocks; features after block %lld were asked for",
                   (long long)e->depth, (long long)layer);
}

/* A dg_model_interface.encode: class token, patches, `layer` blocks (0: all), no final norm. Positions and
 * class token are trained without decay, in layer 0, as in MAE's fine-tuning. Taps: enc_in, block.N. */
static inline DG_UNUSED dg_status dg_encoder_features(const dg_encoder *e, dg_graph *g, dg_value image,
                                                      int64_t layer, dg_value keep, dg_features *out,
                                                      dg_error *err)
{
    DG_TRY(dg_encoder_check_layer(e, layer, err));
    int64_t batch = dg_dim(g, image, 0), n_blocks = layer ? layer : e->depth;
    dg_vit v = dg_encoder_vit(g, e->heads, e->hidden, 0);
    dg_value pos = dg_encoder_positions(e, g, "pos_embed", e->width, true);
    dg_leaf class_token = {
        .struct_size = (uint32_t)sizeof class_token,
        .kind = DG_LEAF_PARAM,
        .name = "cls_token",
        .type = dg_make_type(DG_F32, DG_LIST(1, 1, e->width)),
        .init = dg_init_value(DG_INIT_NORMAL, 0.02),
        .decay = 0,
        .layer = 0,
    };
    dg_value x = dg_vit_patches(g, image, e->patch[0], e->patch[1], dg_imagenet_mean, dg_imagenet_std, false);
    x = dg_vit_patch_embed(&v, x, e->patch[0], e->patch[1], e->width, true);
    dg_value token = dg_broadcast(g, g->api->leaf(g, &class_token), DG_LIST(batch, 1, e->width));
    const dg_value parts[] = {token, x};
    x = dg_add(g, dg_concat(g, parts, 2, 1), pos); // [batch, 1 + patches, width]
    dg_tap(g, x, "enc_in");
    for (int64_t i = 0; i < n_blocks; i++) {
        v.layer = (int32_t)i + 1;
        dg_push(g, "blocks.%d", (int)i);
        x = dg_tap(g, dg_vit_block(&v, x, DG_VIT_ALL, dg_encoder_keep(g, keep, i)), "block.%d", (int)i);
        dg_pop(g);
    }
    *out = (dg_features){.struct_size = (uint32_t)sizeof *out,
                         .n_classes = 1,
                         .tokens = x,
                         .width = e->width,
                         .depth = e->depth};
    return dg_graph_error(g, err);
}

#endif
