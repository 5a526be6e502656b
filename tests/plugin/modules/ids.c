/* ids.c - a tokenizer of ids: the brightness of each patch of 8 x 8 pixels, in 16 steps. */
#include "module.h"

#include "digpt/tokenizer.h"

enum { PATCH = 8, STEPS = 16 };

typedef struct ids {
    const dg_host *host;
    dg_tokenizer_info info;
} ids;

static dg_status create(const dg_host *host, const dg_params *params, const dg_tokenizer_env *env,
                        void **self, dg_error *err)
{
    (void)params;
    ids *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "no memory for a tokenizer");
    s->host = host;
    s->info = (dg_tokenizer_info){.struct_size = (uint32_t)sizeof s->info,
                                  .discrete = 1,
                                  .image_h = env->image_h,
                                  .image_w = env->image_w,
                                  .grid_h = env->image_h / PATCH,
                                  .grid_w = env->image_w / PATCH,
                                  .width = 1,
                                  .vocabulary = STEPS,
                                  .summary = "brightness in 16 steps"};
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    ((ids *)self)->host->release(self);
}

static dg_status info(void *self, dg_tokenizer_info *out, dg_error *err)
{
    (void)err;
    *out = ((ids *)self)->info;
    return DG_OK;
}

static dg_status build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err)
{
    (void)self;
    const double scale[3] = {STEPS / 256.0, STEPS / 256.0, STEPS / 256.0}, shift[3] = {0, 0, 0};
    dg_value x = dg_patchify(g, image, PATCH, PATCH, scale, 3, shift, 3, false, DG_F32); // [b, n, 192]
    x = dg_reduce_sum(g, x, DG_LIST(2), false, DG_NONE);
    x = dg_mul(g, x, dg_fill(g, DG_F32, NULL, 0, 1.0 / (3 * PATCH * PATCH)));
    *tokens = dg_convert(g, x, DG_I32); // [b, n]
    return dg_graph_error(g, err);
}

static const dg_tokenizer_interface interface = {(uint32_t)sizeof interface, 0, create, destroy, info, build};
static const dg_factory factories[] = {PLAIN("ids", &interface)};
DG_PLUGIN("test.ids", "1.0.0", DG_TOKENIZER_INTERFACE, factories)
