/* digpt.c - the model `digpt`: its recipe keys, what they must agree on with the image and the tokenizer, and
 * the plugin's entry. */
#include "digpt.h"

enum {
    SIZE,
    WIDTH,
    DEPTH,
    HEADS,
    MLP_RATIO,
    PATCH,
    SEGMENTS,
    ORDER,
    FIXED_ORDER,
    TAPS,
    DECODER_WIDTH,
    DECODER_DEPTH,
    DECODER_HEADS,
    BRANCHES,
    N_PARAMS
};

static const char *const sizes[] = {"S", "B", "L", "H", "free", NULL};
/* DeiT's S (Touvron et al., ICML 2021), ViT's B, L, H (Dosovitskiy et al., ICLR 2021). */
static const struct {
    int64_t width, depth, heads;
} presets[] = {{384, 12, 6}, {768, 12, 12}, {1024, 24, 16}, {1280, 32, 16}};
#define N_PRESETS ((int64_t)(sizeof presets / sizeof presets[0]))

static const char *const orders[] = {"random", "raster", "spiral", "fixed", NULL}; /* as enum order */
static const char *const branch_words[] = {"both", "next", "visible", NULL};       /* as enum branches */

static const dg_param_spec schema[N_PARAMS] = {
    [SIZE] = DG_PARAM(
        CHOICE, "size", "B", "",
        "width, depth and heads of ViT-S (384, 12, 6), B (768, 12, 12), L (1024, 24, 16), H (1280, 32, 16); "
        "free: given below",
        0, 0, sizes),
    [WIDTH] = DG_PARAM(INT, "width", "", "", "width of the encoder, a multiple of 4; not set: that of size",
                       4, 65536, NULL),
    [DEPTH] =
        DG_PARAM(INT, "depth", "", "blocks", "depth of the encoder; not set: that of size", 1, 1024, NULL),
    [HEADS] = DG_PARAM(INT, "heads", "", "", "attention heads of the encoder; not set: that of size", 1, 1024,
                       NULL),
    [MLP_RATIO] =
        DG_PARAM(FLOAT, "mlp_ratio", "4", "", "width inside an MLP over the width outside", 0.125, 64, NULL),
    [PATCH] = DG_PARAM(INTS, "patch", "[16]", "pixels", "side of a patch, or [height, width]", 1, 1024, NULL),
    [SEGMENTS] =
        DG_PARAM(INTS, "segments", "[2, 2]", "", "rows and columns of segments", 1, MAX_SEGMENTS, NULL),
    [ORDER] = DG_PARAM(
        CHOICE, "order", "random", "",
        "order of segments: random for each sample, raster (row by row), spiral (inwards), fixed_order", 0, 0,
        orders),
    [FIXED_ORDER] = DG_PARAM(INTS, "fixed_order", "", "",
                             "for order: fixed; segments counted row by row from 0, each once", 0,
                             MAX_SEGMENTS - 1, NULL),
    [TAPS] = DG_PARAM(INTS, "taps", "", "blocks",
                      "after how many blocks the decoders read; not set: 6, 8, 10, 12 twelfths of depth", 1,
                      1024, NULL),
    [DECODER_WIDTH] =
        DG_PARAM(INT, "decoder_width", "1024", "", "width of each decoder, a multiple of 4", 4, 65536, NULL),
    [DECODER_DEPTH] = DG_PARAM(INT, "decoder_depth", "2", "blocks", "depth of each decoder", 1, 64, NULL),
    [DECODER_HEADS] =
        DG_PARAM(INT, "decoder_heads", "32", "", "attention heads of each decoder", 1, 1024, NULL),
    [BRANCHES] = DG_PARAM(CHOICE, "branches", "both", "",
                          "what is predicted: next segments, the visible ones, or both", 0, 0, branch_words),
};

#define LL(x) ((long long)(x))

/* ---- sizes */

static dg_status check_width(const char *part, const char *key_width, const char *key_heads, int64_t width,
                             int64_t heads, dg_error *err)
{
    if (width % 4)
        return dg_fail_key(
            err, DG_ERR_INVALID, key_width,
            "the %s's width %lld is no multiple of 4, which the positions (sine and cosine of row and "
            "column) need",
            part, LL(width));
    if (width % heads)
        return dg_fail_key(err, DG_ERR_INVALID, key_heads,
                           "the %s's width %lld cannot be divided among %lld heads", part, LL(width),
                           LL(heads));
    return DG_OK;
}

static dg_status read_sizes(const dg_params *params, digpt *s, dg_error *err)
{
    static const int keys[3] = {WIDTH, DEPTH, HEADS};
    int64_t *const to[3] = {&s->width, &s->depth, &s->heads};
    const dg_param_value *p = params->values;
    int64_t size = p[SIZE].v.i;
    if (size < N_PRESETS) {
        s->width = presets[size].width;
        s->depth = presets[size].depth;
        s->heads = presets[size].heads;
    }
    for (int i = 0; i < 3; i++) {
        if (p[keys[i]].is_set) *to[i] = p[keys[i]].v.i;
        if (*to[i] == 0)
            return dg_fail_key(err, DG_ERR_INVALID, "model.size", "size: free needs model.%s",
                               schema[keys[i]].key);
    }
    s->decoder_width = p[DECODER_WIDTH].v.i;
    s->decoder_depth = p[DECODER_DEPTH].v.i;
    s->decoder_heads = p[DECODER_HEADS].v.i;
    s->hidden = (int64_t)((double)s->width * p[MLP_RATIO].v.f);
    s->decoder_hidden = (int64_t)((double)s->decoder_width * p[MLP_RATIO].v.f);
    if (s->hidden < 1 || s->decoder_hidden < 1)
        return dg_fail_key(err, DG_ERR_INVALID, "model.mlp_ratio",
                           "mlp_ratio %s leaves no width inside the MLP", p[MLP_RATIO].text);
    DG_TRY(check_width("encoder", "model.width", "model.heads", s->width, s->heads, err));
    return check_width("decoders", "model.decoder_width", "model.decoder_heads", s->decoder_width,
                       s->decoder_heads, err);
}

static dg_status read_taps(const dg_params *params, digpt *s, dg_error *err)
{
    static const int64_t twelfths[] = {6, 8, 10, 12};
    const dg_param_value *p = &params->values[TAPS];
    if (!p->is_set) {
        for (int i = 0; i < 4; i++) {
            int64_t tap = (s->depth * twelfths[i] + 6) / 12;
            if (tap > 0 && (s->n_taps == 0 || tap > s->taps[s->n_taps - 1])) s->taps[s->n_taps++] = tap;
        }
        return DG_OK;
    }
    int64_t n = (int64_t)p->v.ints.n, last = 0;
    if (n < 1 || n > MAX_TAPS)
        return dg_fail_key(err, DG_ERR_INVALID, "model.taps", "taps needs 1 to %d numbers, not %lld",
                           MAX_TAPS, LL(n));
    for (int64_t i = 0; i < n; i++) {
        int64_t tap = p->v.ints.items[i];
        if (tap <= last || tap > s->depth)
            return dg_fail_key(
                err, DG_ERR_INVALID, "model.taps",
                "taps must rise and stay within the depth, %lld blocks; %lld after %lld does not",
                LL(s->depth), LL(tap), LL(last));
        s->taps[s->n_taps++] = last = tap;
    }
    if (last != s->depth)
        return dg_fail_key(
            err, DG_ERR_INVALID, "model.taps",
            "the last tap is after block %lld of %lld: the blocks behind it would never learn; end taps "
            "with %lld, or set model.depth to %lld",
            LL(last), LL(s->depth), LL(s->depth), LL(last));
    return DG_OK;
}

/* ---- the grid, its segments, and the tokenizer's */

static dg_status read_grid(const dg_params *params, const dg_model_env *env, digpt *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    if (!dg_vit_pair(&p[PATCH], s->patch))
        return dg_fail_key(err, DG_ERR_INVALID, "model.patch",
                           "patch takes one number or [height, width], not %zu numbers", p[PATCH].v.ints.n);
    if (p[SEGMENTS].v.ints.n != 2)
        return dg_fail_key(err, DG_ERR_INVALID, "model.segments",
                           "segments takes [rows, columns], not %zu numbers", p[SEGMENTS].v.ints.n);
    if (env->image_h % s->patch[0] || env->image_w % s->patch[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "model.patch",
            "an image of %lldx%lld pixels cannot be cut into patches of %lldx%lld (height x width)",
            LL(env->image_h), LL(env->image_w), LL(s->patch[0]), LL(s->patch[1]));
    s->grid[0] = env->image_h / s->patch[0];
    s->grid[1] = env->image_w / s->patch[1];
    s->segments[0] = p[SEGMENTS].v.ints.items[0];
    s->segments[1] = p[SEGMENTS].v.ints.items[1];
    s->n_segments = s->segments[0] * s->segments[1];
    if (s->n_segments < 2 || s->n_segments > MAX_SEGMENTS)
        return dg_fail_key(err, DG_ERR_INVALID, "model.segments",
                           "%lldx%lld segments: there must be 2 to %d of them", LL(s->segments[0]),
                           LL(s->segments[1]), MAX_SEGMENTS);
    if (s->grid[0] % s->segments[0] || s->grid[1] % s->segments[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "model.segments",
            "the image's %lldx%lld patches (of %lldx%lld pixels) cannot be cut into %lldx%lld equal "
            "segments",
            LL(s->grid[0]), LL(s->grid[1]), LL(s->patch[0]), LL(s->patch[1]), LL(s->segments[0]),
            LL(s->segments[1]));
    s->segment_patches = s->grid[0] * s->grid[1] / s->n_segments;
    s->n_visible = s->segment_patches * (s->n_segments - 1);
    return DG_OK;
}

static dg_status read_target(const dg_model_env *env, digpt *s, dg_error *err)
{
    const dg_tokenizer_info *t = env->tokens;
    if (!t) return DG_OK; /* for the encoder alone; pretraining asks for one */
    if (t->grid_h % s->segments[0] || t->grid_w % s->segments[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "model.segments",
            "the tokenizer's %lldx%lld tokens (%s) cannot be cut into %lldx%lld equal segments",
            LL(t->grid_h), LL(t->grid_w), t->summary, LL(s->segments[0]), LL(s->segments[1]));
    s->target_grid[0] = t->grid_h / s->segments[0];
    s->target_grid[1] = t->grid_w / s->segments[1];
    s->target_width = t->discrete ? t->vocabulary : t->width;
    s->target_class = t->class_token != 0;
    s->target_discrete = t->discrete != 0;
    return DG_OK;
}

static dg_status read_order(const dg_params *params, digpt *s, dg_error *err)
{
    const dg_param_value *list = &params->values[FIXED_ORDER];
    bool seen[MAX_SEGMENTS] = {false};
    s->order = (enum order)params->values[ORDER].v.i;
    if (s->order == ORDER_SPIRAL) digpt_spiral(s->segments[0], s->segments[1], s->fixed);
    if (s->order == ORDER_RASTER)
        for (int32_t i = 0; i < s->n_segments; i++) s->fixed[i] = i;
    if (s->order != ORDER_FIXED) {
        if (!list->is_set) return DG_OK;
        return dg_fail_key(err, DG_ERR_INVALID, "model.fixed_order",
                           "fixed_order is only for order: fixed, not for %s", params->values[ORDER].text);
    }
    if (!list->is_set || (int64_t)list->v.ints.n != s->n_segments)
        return dg_fail_key(
            err, DG_ERR_INVALID, "model.fixed_order",
            "order: fixed needs fixed_order with all %lld segments, counted row by row from 0, each once",
            LL(s->n_segments));
    for (int64_t i = 0; i < s->n_segments; i++) {
        int64_t v = list->v.ints.items[i];
        if (v < 0 || v >= s->n_segments || seen[v])
            return dg_fail_key(
                err, DG_ERR_INVALID, "model.fixed_order",
                "fixed_order must name each of the segments 0 to %lld once; its entry %lld is %lld",
                LL(s->n_segments - 1), LL(i), LL(v));
        seen[v] = true;
        s->fixed[i] = (int32_t)v;
    }
    return DG_OK;
}

/* ---- the interface */

static dg_status create(const dg_host *host, const dg_params *params, const dg_model_env *env, void **self,
                        dg_error *err)
{
    digpt *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->host = host;
    s->branches = (enum branches)params->values[BRANCHES].v.i;
    dg_status st = read_sizes(params, s, err);
    if (st == DG_OK) st = read_taps(params, s, err);
    if (st == DG_OK) st = read_grid(params, env, s, err);
    if (st == DG_OK) st = read_target(env, s, err);
    if (st == DG_OK) st = read_order(params, s, err);
    if (st == DG_OK)
        *self = s;
    else
        host->release(s);
    return st;
}

static void destroy(void *self)
{
    digpt *s = self;
    s->host->release(s);
}

static const dg_model_interface digpt_interface = {
    .struct_size = sizeof digpt_interface,
    .create = create,
    .destroy = destroy,
    .build = digpt_build,
    .fill = digpt_fill,
    .encode = digpt_encode,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "digpt",
    .help = "D-iGPT: predicts the tokens of the next segment, and of the visible ones",
    .params = schema,
    .interface = &digpt_interface,
}};

DG_PLUGIN("digpt.digpt", "1.0.0", DG_MODEL_INTERFACE, factories)
