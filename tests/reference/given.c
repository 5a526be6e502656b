/* given.c - a tokenizer whose tokens the host gives: for fixtures that record tokens and no teacher. Tests
 * only. */
#include "digpt/tokenizer.h"

enum { GRID, WIDTH, CLASS_TOKEN, N_PARAMS };

static const dg_param_spec params[] = {
    [GRID] = DG_PARAM(INT, "grid", "16", "tokens", "side of the grid", 1, 4096, NULL),
    [WIDTH] = DG_PARAM(INT, "width", NULL, "", "numbers a token", 1, 65536, NULL),
    [CLASS_TOKEN] = DG_PARAM(BOOL, "class_token", "true", "", "a class token before the grid", 0, 0, NULL),
};

typedef struct given {
    const dg_host *host;
    dg_tokenizer_info info;
} given;

static dg_status create(const dg_host *host, const dg_params *p, const dg_tokenizer_env *env, void **self,
                        dg_error *err)
{
    given *s = host->allocate(sizeof *s);
    if (!s) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    s->host = host;
    s->info = (dg_tokenizer_info){.struct_size = (uint32_t)sizeof s->info,
                                  .image_h = env->image_h,
                                  .image_w = env->image_w,
                                  .grid_h = p->values[GRID].v.i,
                                  .grid_w = p->values[GRID].v.i,
                                  .class_token = (uint32_t)p->values[CLASS_TOKEN].v.i,
                                  .width = p->values[WIDTH].v.i,
                                  .summary = "given by the host"};
    *self = s;
    return DG_OK;
}

static void destroy(void *self)
{
    ((given *)self)->host->release(self);
}

static dg_status info(void *self, dg_tokenizer_info *out, dg_error *err)
{
    (void)err;
    *out = ((given *)self)->info;
    return DG_OK;
}

static dg_status build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err)
{
    const dg_tokenizer_info *t = &((given *)self)->info;
    *tokens = dg_input(g, "given", DG_F32, DG_LIST(dg_dim(g, image, 0), dg_token_count(t), t->width),
                       DG_PER_SAMPLE);
    return dg_graph_error(g, err);
}

static const dg_tokenizer_interface interface = {(uint32_t)sizeof interface, 0, create, destroy, info, build};

static const dg_factory factories[] = {
    {(uint32_t)sizeof(dg_factory), N_PARAMS, "given", "tokens that the host gives", params, &interface},
};

DG_PLUGIN("digpt.test.given", "1.0.0", DG_TOKENIZER_INTERFACE, factories)
