/* digpt.c - the model `digpt`: its recipe keys, what they must agree on with
 * the image and the tokenizer, and the plugin's entry. */
#include "digpt.h"

enum {
    SEGMENTS = DG_ENCODER_KEYS,
    ORDER,
    FIXED_ORDER,
    TAPS,
    DECODER_WIDTH,
    DECODER_DEPTH,
    DECODER_HEADS,
    BRANCHES,
    N_PARAMS
};

static const char *const orders[] = {"random", "raster", "spiral", "fixed", NULL}; /* as enum order */
static const char *const branch_words[] = {"both", "next", "visible", NULL};       /* as enum branches */

static const dg_param_spec schema[N_PARAMS] = {
    DG_ENCODER_PARAMS,
    [SEGMENTS] =
        DG_PARAM(INTS, "segments", "[2, 2]", "", "rows and columns of segments", 1, MAX_SEGMENTS, NULL),
    [ORDER] = DG_PARAM(CHOICE, "order", "random", "",
                       "order of segments: random for each sample, raster (row "
                       "by row), spiral (inwards), fixed_order",
                       0, 0, orders),
    [FIXED_ORDER] = DG_PARAM(INTS, "fixed_order", "", "",
                             "for order: fixed; segments counted row by row from 0, each once", 0,
                             MAX_SEGMENTS - 1, NULL),
    [TAPS] = DG_PARAM(INTS, "taps", "", "blocks",
                      "after how many blocks the decoders read; not set: 6, 8, "
                      "10, 12 twelfths of depth",
                      1, 1024, NULL),
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

static dg_status read_decoders(const dg_params *params, digpt *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    const dg_encoder *e = &s->encoder;
    s->decoder_width = p[DECODER_WIDTH].v.i;
    s->decoder_depth = p[DECODER_DEPTH].v.i;
    s->decoder_heads = p[DECODER_HEADS].v.i;
    DG_TRY(dg_encoder_hidden(params, s->decoder_width, &s->decoder_hidden, err));
    DG_TRY(dg_encoder_check_sizes("encoder", "model.width", "model.heads", e->width, e->heads, err));
    return dg_encoder_check_sizes("decoders", "model.decoder_width", "model.decoder_heads", s->decoder_width,
                                  s->decoder_heads, err);
}

static dg_status read_taps(const dg_params *params, digpt *s, dg_error *err)
{
    static const int64_t twelfths[] = {6, 8, 10, 12};
    const dg_param_value *p = &params->values[TAPS];
    if (!p->is_set) {
        for (int i = 0; i < 4; i++) {
            int64_t tap = (s->encoder.depth * twelfths[i] + 6) / 12;
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
        if (tap <= last || tap > s->encoder.depth)
            return dg_fail_key(err, DG_ERR_INVALID, "model.taps",
                               "taps must rise and stay within the depth, %lld "
                               "blocks; %lld after %lld does not",
                               LL(s->encoder.depth), LL(tap), LL(last));
        s->taps[s->n_taps++] = last = tap;
    }
    if (last != s->encoder.depth)
        return dg_fail_key(err, DG_ERR_INVALID, "model.taps",
                           "the last tap is after block %lld of %lld: the blocks "
                           "behind it would never learn; end taps "
                           "with %lld, or set model.depth to %lld",
                           LL(last), LL(s->encoder.depth), LL(s->encoder.depth), LL(last));
    return DG_OK;
}

/* ---- the grid, its segments, and the tokenizer's */

/* The encoder alone takes any grid. */
static dg_status read_segments(const dg_params *params, const dg_model_env *env, digpt *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    const int64_t *grid = s->encoder.grid, *patch = s->encoder.patch;
    if (p[SEGMENTS].v.ints.n != 2)
        return dg_fail_key(err, DG_ERR_INVALID, "model.segments",
                           "segments takes [rows, columns], not %zu numbers", p[SEGMENTS].v.ints.n);
    s->segments[0] = p[SEGMENTS].v.ints.items[0];
    s->segments[1] = p[SEGMENTS].v.ints.items[1];
    s->n_segments = s->segments[0] * s->segments[1];
    if (s->n_segments < 2 || s->n_segments > MAX_SEGMENTS)
        return dg_fail_key(err, DG_ERR_INVALID, "model.segments",
                           "%lldx%lld segments: there must be 2 to %d of them", LL(s->segments[0]),
                           LL(s->segments[1]), MAX_SEGMENTS);
    if (env->tokens && (grid[0] % s->segments[0] || grid[1] % s->segments[1]))
        return dg_fail_key(err, DG_ERR_MISMATCH, "model.segments",
                           "the image's %lldx%lld patches (of %lldx%lld pixels) "
                           "cannot be cut into %lldx%lld equal "
                           "segments",
                           LL(grid[0]), LL(grid[1]), LL(patch[0]), LL(patch[1]), LL(s->segments[0]),
                           LL(s->segments[1]));
    s->segment_patches = grid[0] * grid[1] / s->n_segments;
    s->n_visible = s->segment_patches * (s->n_segments - 1);
    return DG_OK;
}

static dg_status read_target(const dg_model_env *env, digpt *s, dg_error *err)
{
    const dg_tokenizer_info *t = env->tokens;
    if (!t) return DG_OK; /* for the encoder alone; pretraining asks for one */
    if (t->grid_h % s->segments[0] || t->grid_w % s->segments[1])
        return dg_fail_key(err, DG_ERR_MISMATCH, "model.segments",
                           "the tokenizer's %lldx%lld tokens (%s) cannot be cut "
                           "into %lldx%lld equal segments",
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
        return dg_fail_key(err, DG_ERR_INVALID, "model.fixed_order",
                           "order: fixed needs fixed_order with all %lld segments, "
                           "counted row by row from 0, each once",
                           LL(s->n_segments));
    for (int64_t i = 0; i < s->n_segments; i++) {
        int64_t v = list->v.ints.items[i];
        if (v < 0 || v >= s->n_segments || seen[v])
            return dg_fail_key(err, DG_ERR_INVALID, "model.fixed_order",
                               "fixed_order must name each of the segments 0 to %lld "
                               "once; its entry %lld is %lld",
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
    digpt tmp = {.branches = (enum branches)params->values[BRANCHES].v.i};
    DG_TRY(dg_encoder_read(host, params, env, &tmp.encoder, err));
    DG_TRY(read_decoders(params, &tmp, err));
    DG_TRY(read_taps(params, &tmp, err));
    DG_TRY(read_segments(params, env, &tmp, err));
    DG_TRY(read_target(env, &tmp, err));
    DG_TRY(read_order(params, &tmp, err));
    digpt *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *s = tmp;
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    digpt *s = self;
    s->encoder.host->release(s);
}

static dg_status encode(void *self, dg_graph *g, dg_value image, int64_t layer, dg_value keep,
                        dg_features *out, dg_error *err)
{
    return dg_encoder_features(&((const digpt *)self)->encoder, g, image, layer, keep, out, err);
}

static const dg_model_interface digpt_interface = {
    .struct_size = sizeof digpt_interface,
    .create = create,
    .destroy = destroy,
    .build = digpt_build,
    .fill = digpt_fill,
    .encode = encode,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "digpt",
    .help = "D-iGPT: predicts the tokens of the next segment, and of the "
            "visible ones",
    .params = schema,
    .interface = &digpt_interface,
}};

DG_PLUGIN("digpt.digpt", "1.0.0", DG_MODEL_INTERFACE, factories)
