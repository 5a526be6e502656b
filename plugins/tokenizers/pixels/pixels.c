/* pixels.c - the tokenizer `pixels`: a token is a patch of the image itself, normalised over its own pixels,
 * as the target of MAE (He et al., CVPR 2022, section 4.1). It needs no weights and takes the student's image
 * size. */
#include "digpt/tokenizer.h"
#include "digpt/vit.h"

enum { PATCH, NORMALISE, N_PARAMS };

static const dg_param_spec schema[N_PARAMS] = {
    [PATCH] = DG_PARAM(INTS, "patch", "[16]", "pixels", "side of a patch, or [height, width]", 1, 1024, NULL),
    [NORMALISE] =
        DG_PARAM(BOOL, "normalise", "true", "", "give each patch mean 0 and variance 1", 0, 0, NULL),
};

typedef struct pixels {
    const dg_host *host;
    bool normalise;
    int64_t patch[2]; /* height, width */
    dg_tokenizer_info info;
} pixels;

static dg_status check(const dg_params *params, const dg_tokenizer_env *env, pixels *s, dg_error *err)
{
    if (!dg_vit_pair(&params->values[PATCH], s->patch))
        return dg_fail_key(err, DG_ERR_INVALID, "tokenizer.patch",
                           "patch takes one number or [height, width], not %zu numbers",
                           params->values[PATCH].v.ints.n);
    if (env->image_h % s->patch[0] || env->image_w % s->patch[1])
        return dg_fail_key(
            err, DG_ERR_MISMATCH, "tokenizer.patch",
            "an image of %lldx%lld pixels cannot be cut into patches of %lldx%lld (height x width); "
            "choose a patch that divides both sides",
            (long long)env->image_h, (long long)env->image_w, (long long)s->patch[0], (long long)s->patch[1]);
    return DG_OK;
}

static dg_status create(const dg_host *host, const dg_params *params, const dg_tokenizer_env *env,
                        void **self, dg_error *err)
{
    pixels tmp = {.host = host, .normalise = params->values[NORMALISE].v.i != 0};
    DG_TRY(check(params, env, &tmp, err));
    pixels *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *s = tmp;
    s->info = (dg_tokenizer_info){
        .struct_size = sizeof s->info,
        .image_h = env->image_h,
        .image_w = env->image_w,
        .grid_h = env->image_h / s->patch[0],
        .grid_w = env->image_w / s->patch[1],
        .width = 3 * s->patch[0] * s->patch[1],
    };
    snprintf(s->info.summary, sizeof s->info.summary, "pixels of %lldx%lld patches%s", (long long)s->patch[0],
             (long long)s->patch[1], s->normalise ? ", each normalised" : "");
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    pixels *s = self;
    s->host->release(s);
}

static dg_status info(void *self, dg_tokenizer_info *out, dg_error *err)
{
    (void)err;
    *out = ((const pixels *)self)->info;
    return DG_OK;
}

static dg_value scalar(dg_graph *g, double value)
{
    return dg_fill(g, DG_F32, NULL, 0, value);
}

static dg_status build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err)
{
    const pixels *s = self;
    double n = (double)s->info.width;
    /* A token is (row, column, channel): [batch, grid, width]. */
    dg_value x = dg_vit_patches(g, image, s->patch[0], s->patch[1], dg_imagenet_mean, dg_imagenet_std, true);
    if (s->normalise) {
        dg_value mean =
            dg_div(g, dg_reduce_sum(g, x, DG_LIST(2), true, DG_F32), scalar(g, n)); // [batch, grid, 1]
        dg_value d = dg_sub(g, x, mean);
        dg_value squares = dg_reduce_sum(g, dg_mul(g, d, d), DG_LIST(2), true, DG_F32);
        dg_value variance = dg_div(g, squares, scalar(g, n - 1)); /* unbiased, and 1e-6, as MAE */
        x = dg_mul(g, d, dg_rsqrt(g, dg_add(g, variance, scalar(g, 1e-6))));
    }
    *tokens = x;
    return dg_graph_error(g, err);
}

static const dg_tokenizer_interface pixels_interface = {
    .struct_size = sizeof pixels_interface,
    .create = create,
    .destroy = destroy,
    .info = info,
    .build = build,
};

static const dg_factory factories[] = {{
    .struct_size = sizeof(dg_factory),
    .n_params = N_PARAMS,
    .name = "pixels",
    .help = "normalised pixels of each patch (MAE's target); needs no weights",
    .params = schema,
    .interface = &pixels_interface,
}};

DG_PLUGIN("digpt.pixels", "1.0.0", DG_TOKENIZER_INTERFACE, factories)
