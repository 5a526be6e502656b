/* digpt/vit.h - the parts that vision transformers are made of, for models and tokenizers alike: header-only,
 * over digpt/ops.h.
 *
 * Everything takes a dg_vit: the graph, what kind of leaf its parameters are (trained or frozen), and where
 * their values come from. Parameters have the names of timm and of the official D-iGPT code: NAME.weight
 * [out, in], NAME.bias [out]; the scopes that are open (dg_push) stand before them. Nothing here fails on its
 * own: errors are those of the graph (dg_graph_error).
 *
 * Initial values follow MAE (He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022):
 * Xavier-uniform matrices, zero biases, unit norms, N(0, 0.02^2) tokens, fixed 2-d sine-cosine positions. */
#ifndef DIGPT_VIT_H
#define DIGPT_VIT_H

#include <math.h>
#include "digpt/ops.h"
#include "digpt/params.h"

typedef struct dg_vit dg_vit;
struct dg_vit {
    dg_graph *g;
    uint32_t kind;  /* of its parameters: DG_LEAF_PARAM or DG_LEAF_FROZEN */
    int32_t layer;  /* of parameters made next, for layer-wise learning rates; -1: not said */
    int64_t heads;  /* of attention; divides its width */
    int64_t hidden; /* width inside the MLP */
    double eps;     /* of the norms inside blocks */
    bool quick;     /* OpenAI CLIP's x * sigmoid(1.702 x) in place of exact GELU */
    /* Where the values of the parameter `name` ("attn.qkv.weight", without scopes) come from; NULL: `usual`.
     */
    dg_init (*init)(const dg_vit *v, const char *name, dg_init usual);
    void *user; /* for init */
};

/* Who sees whom in attention: a query sees keys whose group is not larger. i32 [batch or 1, tokens], or
 * DG_NO_VALUE for both: everyone sees everyone. */
typedef struct dg_vit_groups {
    dg_value q, k;
} dg_vit_groups;

#define DG_VIT_ALL ((dg_vit_groups){DG_NO_VALUE, DG_NO_VALUE})

static const double dg_imagenet_mean[3] DG_UNUSED = {0.485, 0.456, 0.406};
static const double dg_imagenet_std[3] DG_UNUSED = {0.229, 0.224, 0.225};
static const double dg_clip_mean[3] DG_UNUSED = {0.48145466, 0.4578275, 0.40821073};
static const double dg_clip_std[3] DG_UNUSED = {0.26862954, 0.26130258, 0.27577711};

/* ---- parameters */

static inline DG_UNUSED dg_value dg_vit_leaf(const dg_vit *v, const char *name, const int64_t *dims,
                                             size_t rank, dg_init usual)
{
    dg_init init = v->init ? v->init(v, name, usual) : usual;
    return v->kind == DG_LEAF_FROZEN ? dg_frozen(v->g, name, dims, rank, init)
                                     : dg_param(v->g, name, dims, rank, init, v->layer);
}

/* A learned vector of every sample, N(0, 0.02^2): [1, 1, width]. Being of rank 3 it is decayed by the usual
 * rule, as in the official code. */
static inline DG_UNUSED dg_value dg_vit_token(const dg_vit *v, const char *name, int64_t width)
{
    return dg_vit_leaf(v, name, DG_LIST(1, 1, width), dg_init_value(DG_INIT_NORMAL, 0.02));
}

/* LayerNorm over the last axis, with weight and bias [width]. */
static inline DG_UNUSED dg_value dg_vit_norm(const dg_vit *v, dg_value x, const char *name, double eps)
{
    char weight[96], bias[96];
    int64_t width = dg_dim(v->g, x, -1);
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    dg_value gamma = dg_vit_leaf(v, weight, DG_LIST(width), dg_init_value(DG_INIT_CONSTANT, 1));
    dg_value beta = dg_vit_leaf(v, bias, DG_LIST(width), dg_init_value(DG_INIT_CONSTANT, 0));
    return dg_layer_norm(v->g, x, gamma, beta, eps, DG_NONE);
}

/* x [..., in] times NAME.weight [out, in], plus NAME.bias [out] if `bias`: [..., out]. */
static inline DG_UNUSED dg_value dg_vit_linear(const dg_vit *v, dg_value x, const char *name, int64_t out,
                                               bool bias)
{
    char text[96];
    int64_t in = dg_dim(v->g, x, -1);
    snprintf(text, sizeof text, "%s.weight", name);
    dg_value w = dg_vit_leaf(v, text, DG_LIST(out, in), dg_init_value(DG_INIT_XAVIER_UNIFORM, 0)),
             b = DG_NO_VALUE;
    snprintf(text, sizeof text, "%s.bias", name);
    if (bias) b = dg_vit_leaf(v, text, DG_LIST(out), dg_init_value(DG_INIT_CONSTANT, 0));
    return dg_linear(v->g, x, w, b, DG_NONE);
}

/* ---- shapes */

/* x [b, n, d] from `first` up to `limit` along axis 1: [b, limit - first, d]. */
static inline DG_UNUSED dg_value dg_vit_rows(dg_graph *g, dg_value x, int64_t first, int64_t limit)
{
    return dg_slice(g, x, DG_LIST(0, first, 0), DG_LIST(dg_dim(g, x, 0), limit, dg_dim(g, x, 2)));
}

/* x [b, n, parts * width], its part-th piece of the last axis: [b, n, width]. */
static inline DG_UNUSED dg_value dg_vit_part(dg_graph *g, dg_value x, int64_t part, int64_t parts)
{
    int64_t width = dg_dim(g, x, 2) / parts;
    return dg_slice(g, x, DG_LIST(0, 0, part * width),
                    DG_LIST(dg_dim(g, x, 0), dg_dim(g, x, 1), (part + 1) * width));
}

/* ---- blocks */

/* x [b, n, width]: NAME.qkv (query, key and value one after the other), attention, NAME.proj. */
static inline DG_UNUSED dg_value dg_vit_self_attention(const dg_vit *v, dg_value x, const char *name,
                                                       dg_vit_groups groups)
{
    char text[80];
    int64_t width = dg_dim(v->g, x, -1);
    snprintf(text, sizeof text, "%s.qkv", name);
    dg_value qkv = dg_vit_linear(v, x, text, 3 * width, true); // [b, n, 3 width]
    dg_value y =
        dg_attention(v->g, dg_vit_part(v->g, qkv, 0, 3), dg_vit_part(v->g, qkv, 1, 3),
                     dg_vit_part(v->g, qkv, 2, 3), groups.q, groups.k, DG_NO_VALUE, v->heads, 0, false);
    snprintf(text, sizeof text, "%s.proj", name);
    return dg_vit_linear(v, y, text, width, true);
}

/* x [b, n, width] asks, memory [b, m, width] answers: NAME.q, NAME.kv, NAME.proj. */
static inline DG_UNUSED dg_value dg_vit_cross_attention(const dg_vit *v, dg_value x, dg_value memory,
                                                        const char *name, dg_vit_groups groups)
{
    char text[80];
    int64_t width = dg_dim(v->g, x, -1);
    snprintf(text, sizeof text, "%s.q", name);
    dg_value q = dg_vit_linear(v, x, text, width, true);
    snprintf(text, sizeof text, "%s.kv", name);
    dg_value kv = dg_vit_linear(v, memory, text, 2 * width, true); // [b, m, 2 width]
    dg_value y = dg_attention(v->g, q, dg_vit_part(v->g, kv, 0, 2), dg_vit_part(v->g, kv, 1, 2), groups.q,
                              groups.k, DG_NO_VALUE, v->heads, 0, false);
    snprintf(text, sizeof text, "%s.proj", name);
    return dg_vit_linear(v, y, text, width, true);
}

/* x [b, n, width]: mlp.fc1 to v->hidden, GELU, mlp.fc2. */
static inline DG_UNUSED dg_value dg_vit_mlp(const dg_vit *v, dg_value x)
{
    dg_value h = dg_gelu(v->g, dg_vit_linear(v, x, "mlp.fc1", v->hidden, true), v->quick);
    return dg_vit_linear(v, h, "mlp.fc2", dg_dim(v->g, x, -1), true);
}

/* x + keep[:, column] * branch; keep f32 [b, columns] is 0 or 1/(1 - p) (drop path: Huang et al., "Deep
 * Networks with Stochastic Depth", ECCV 2016), or DG_NO_VALUE. */
static inline DG_UNUSED dg_value dg_vit_residual(const dg_vit *v, dg_value x, dg_value branch, dg_value keep,
                                                 int64_t column)
{
    int64_t batch = dg_dim(v->g, x, 0);
    if (dg_is_value(keep)) {
        dg_value one = dg_slice(v->g, keep, DG_LIST(0, column), DG_LIST(batch, column + 1));
        branch = dg_mul(v->g, branch, dg_reshape(v->g, one, DG_LIST(batch, 1, 1)));
    }
    return dg_add(v->g, x, branch);
}

/* A pre-norm block on x [b, n, width]: norm1, attn, norm2, mlp. keep f32 [b, 2] for the two branches (timm draws
 * one number for each), or DG_NO_VALUE. */
static inline DG_UNUSED dg_value dg_vit_block(const dg_vit *v, dg_value x, dg_vit_groups groups,
                                              dg_value keep)
{
    dg_value y = dg_vit_self_attention(v, dg_vit_norm(v, x, "norm1", v->eps), "attn", groups);
    x = dg_vit_residual(v, x, y, keep, 0);
    y = dg_vit_mlp(v, dg_vit_norm(v, x, "norm2", v->eps));
    return dg_vit_residual(v, x, y, keep, 1);
}

/* A decoder block on x [b, n, width] that reads memory [b, m, width]: norm1, attn1 among x; norm2_1 of x and
 * norm2_2 of memory, attn2 across; norm2, mlp. */
static inline DG_UNUSED dg_value dg_vit_cross_block(const dg_vit *v, dg_value x, dg_value memory,
                                                    dg_vit_groups self, dg_vit_groups cross)
{
    dg_value y = dg_vit_self_attention(v, dg_vit_norm(v, x, "norm1", v->eps), "attn1", self);
    x = dg_add(v->g, x, y);
    dg_value m = dg_vit_norm(v, memory, "norm2_2", v->eps);
    y = dg_vit_cross_attention(v, dg_vit_norm(v, x, "norm2_1", v->eps), m, "attn2", cross);
    x = dg_add(v->g, x, y);
    return dg_add(v->g, x, dg_vit_mlp(v, dg_vit_norm(v, x, "norm2", v->eps)));
}

/* ---- pixels */

/* image u8 [b, h, w, 3] -> patches f32 [b, h/ph * w/pw, 3 ph pw] of (pixel / 255 - mean) / std. */
static inline DG_UNUSED dg_value dg_vit_patches(dg_graph *g, dg_value image, int64_t ph, int64_t pw,
                                                const double mean[3], const double std[3], bool channel_last)
{
    double scale[3] = {1, 1, 1}, shift[3] = {0, 0, 0};
    for (int c = 0; c < 3 && dg_type_of(g, image).dtype == DG_U8; c++) {
        scale[c] = 1.0 / (255.0 * std[c]);
        shift[c] = -mean[c] / std[c];
    }
    return dg_patchify(g, image, ph, pw, scale, 3, shift, 3, channel_last, DG_F32);
}

/* The convolution that embeds patches, as a product: patches [b, n, 3 ph pw] in (channel, row, column) order
 * times patch_embed.proj.weight [width, 3, ph, pw] -> [b, n, width]. */
static inline DG_UNUSED dg_value dg_vit_patch_embed(const dg_vit *v, dg_value patches, int64_t ph, int64_t pw,
                                                    int64_t width, bool bias)
{
    dg_value b = DG_NO_VALUE;
    dg_value w = dg_vit_leaf(v, "patch_embed.proj.weight", DG_LIST(width, 3, ph, pw),
                             dg_init_value(DG_INIT_XAVIER_UNIFORM, 0));
    if (bias) b = dg_vit_leaf(v, "patch_embed.proj.bias", DG_LIST(width), dg_init_value(DG_INIT_CONSTANT, 0));
    return dg_linear(v->g, patches, dg_reshape(v->g, w, DG_LIST(width, 3 * ph * pw)), b, DG_NONE);
}

/* Fixed 2-d positions into out [1 + grid_h * grid_w, width]; width is a multiple of 4. Row 0, of the class
 * token, is zero. The first half of a row encodes the column, the second the row of the patch; each half is
 * sines, then cosines, of position / 10000^(i / (width/4)). Every step is rounded to float, as numpy does in
 * the official code. */
static inline DG_UNUSED void dg_vit_sincos(float *out, int64_t grid_h, int64_t grid_w, int64_t width)
{
    int64_t quarter = width / 4;
    for (int64_t i = 0; i < width; i++) out[i] = 0;
    for (int64_t i = 0; i < quarter; i++) {
        float exponent = (float)i / (float)quarter;
        float omega = 1.0f / (float)pow(10000.0, exponent);
        for (int64_t y = 0; y < grid_h; y++)
            for (int64_t x = 0; x < grid_w; x++) {
                float *row = out + (1 + y * grid_w + x) * width;
                float angle_x = (float)x * omega, angle_y = (float)y * omega;
                row[i] = (float)sin(angle_x);
                row[quarter + i] = (float)cos(angle_x);
                row[2 * quarter + i] = (float)sin(angle_y);
                row[3 * quarter + i] = (float)cos(angle_y);
            }
    }
}

/* ---- recipe values */

/* A size given as one number or as [height, width]; false for a list of another length. */
static inline DG_UNUSED bool dg_vit_pair(const dg_param_value *value, int64_t out[2])
{
    size_t n = value->v.ints.n;
    if (n != 1 && n != 2) return false;
    out[0] = value->v.ints.items[0];
    out[1] = value->v.ints.items[n - 1];
    return true;
}

#endif
