/* mae.c - the model `mae`: its recipe keys, what they must agree on with the image and the tokenizer, the
 * patches that are kept, and the plugin's entry. */
#include "mae.h"

enum { MASK_RATIO = DG_ENCODER_KEYS, DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS, N_PARAMS };

/* Defaults are those of the official code for ViT-B, L and H. */
static const dg_param_spec schema[N_PARAMS] = {
    DG_ENCODER_PARAMS,
    [MASK_RATIO] = DG_PARAM(FLOAT, "mask_ratio", "0.75", "",
                            "share of the patches that is removed and predicted", 0, 1, NULL),
    [DECODER_WIDTH] =
        DG_PARAM(INT, "decoder_width", "512", "", "width of the decoder, a multiple of 4", 4, 65536, NULL),
    [DECODER_DEPTH] = DG_PARAM(INT, "decoder_depth", "8", "blocks", "depth of the decoder", 1, 1024, NULL),
    [DECODER_HEADS] =
        DG_PARAM(INT, "decoder_heads", "16", "", "attention heads of the decoder", 1, 1024, NULL),
};

#define LL(x) ((long long)(x))
#define MOST_PATCHES (1 << 24)

static dg_status read_decoder(const dg_params *params, mae *s, dg_error *err)
{
    const dg_param_value *p = params->values;
    s->decoder_width = p[DECODER_WIDTH].v.i;
    s->decoder_depth = p[DECODER_DEPTH].v.i;
    s->decoder_heads = p[DECODER_HEADS].v.i;
    DG_TRY(dg_encoder_hidden(params, s->decoder_width, &s->decoder_hidden, err));
    DG_TRY(dg_encoder_check_sizes("encoder", "model.width", "model.heads", s->encoder.width, s->encoder.heads,
                                  err));
    return dg_encoder_check_sizes("decoder", "model.decoder_width", "model.decoder_heads", s->decoder_width,
                                  s->decoder_heads, err);
}

static dg_status read_mask(const dg_params *params, mae *s, dg_error *err)
{
    const dg_param_value *ratio = &params->values[MASK_RATIO];
    s->n_patches = s->encoder.grid[0] * s->encoder.grid[1];
    if (s->n_patches > MOST_PATCHES)
        return dg_fail_key(err, DG_ERR_INVALID, "model.patch", "%lld patches are more than %d",
                           LL(s->n_patches), MOST_PATCHES);
    s->n_keep = (int64_t)((double)s->n_patches * (1 - ratio->v.f)); /* rounded down, as the official code */
    if (s->n_keep >= 1 && s->n_keep < s->n_patches) return DG_OK;
    return dg_fail_key(
        err, DG_ERR_INVALID, "model.mask_ratio",
        "mask_ratio %s of %lldx%lld patches leaves %lld to see and %lld to predict; there must be at "
        "least one of each",
        ratio->text, LL(s->encoder.grid[0]), LL(s->encoder.grid[1]), LL(s->n_keep),
        LL(s->n_patches - s->n_keep));
}

static dg_status read_target(const dg_model_env *env, mae *s, dg_error *err)
{
    const dg_tokenizer_info *t = env->tokens;
    const int64_t *grid = s->encoder.grid;
    if (!t) return DG_OK; /* for the encoder alone; pretraining asks for one */
    if (t->grid_h != grid[0] || t->grid_w != grid[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "model.patch",
            "model mae predicts one token a patch: the image has %lldx%lld patches (of %lldx%lld "
            "pixels), the tokenizer %lldx%lld tokens (%s)",
            LL(grid[0]), LL(grid[1]), LL(s->encoder.patch[0]), LL(s->encoder.patch[1]), LL(t->grid_h),
            LL(t->grid_w), t->summary);
    s->target_width = t->discrete ? t->vocabulary : t->width;
    s->target_class = t->class_token != 0;
    s->target_discrete = t->discrete != 0;
    return DG_OK;
}

/* ---- the interface */

static dg_status create(const dg_host *host, const dg_params *params, const dg_model_env *env, void **self,
                        dg_error *err)
{
    mae tmp = {.n_keep = 0};
    DG_TRY(dg_encoder_read(host, params, env, &tmp.encoder, err));
    DG_TRY(read_decoder(params, &tmp, err));
    DG_TRY(read_mask(params, &tmp, err));
    DG_TRY(read_target(env, &tmp, err));
    mae *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *s = tmp;
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    mae *s = self;
    s->encoder.host->release(s);
}

/* One sample's kept patches, i32 [n_keep]: the first of a random permutation. */
static dg_status fill(void *self, const char *name, uint64_t seed, uint64_t ordinal, void *dst, size_t bytes,
                      dg_error *err)
{
    const mae *s = self;
    size_t want = (size_t)s->n_keep * sizeof(int32_t);
    if (strcmp(name, "keep") != 0 || bytes != want)
        return dg_fail(err, DG_ERR_INTERNAL, "model mae fills 'keep' of %zu bytes, not '%s' of %zu", want,
                       name, bytes);
    int32_t *order = s->encoder.host->allocate((size_t)s->n_patches * sizeof *order);
    if (!order) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_rng rng = dg_rng_make(seed, DG_RNG_MODEL, ordinal, 0);
    dg_rng_permutation(&rng, order, (int32_t)s->n_patches);
    memcpy(dst, order, want);
    s->encoder.host->release(order);
    return DG_OK;
}

static dg_status encode(void *self, dg_graph *g, dg_value image, int64_t layer, dg_value keep,
                        dg_features *out, dg_error *err)
{
    return dg_encoder_features(&((const mae *)self)->encoder, g, image, layer, keep, out, err);
}

static const dg_model_interface mae_interface = {
    .struct_size = sizeof mae_interface,
    .create = create,
    .destroy = destroy,
    .build = mae_build,
    .fill = fill,
    .encode = encode,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "mae",
    .help = "masked autoencoder: sees a quarter of the patches, predicts the tokens of the others",
    .params = schema,
    .interface = &mae_interface,
}};

DG_PLUGIN("digpt.mae", "1.0.0", DG_MODEL_INTERFACE, factories)
