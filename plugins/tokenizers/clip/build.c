/* build.c - the computation of a CLIP image tower, class token first. */
#include "clip.h"

#define NORM_EPS 1e-5
#define RANDOM_STD 0.02

/* The names that a dg_init points to until the leaf is made. */
typedef struct source {
    const clip *s;
    char names[3][160];
} source;

/* Parameters of block i are made with v->layer = i. */
static dg_init from_file(const dg_vit *v, const char *name, dg_init usual)
{
    source *src = v->user;
    const tower_file *file = &src->s->file;
    bool transpose;
    if (!file->weights)
        return usual.kind == DG_INIT_XAVIER_UNIFORM ? dg_init_value(DG_INIT_NORMAL, RANDOM_STD) : usual;
    int n = clip_tensor_names(file, name, v->layer, src->names, &transpose);
    if (n == 0) {
        dg_graph_fail(v->g, DG_ERR_INTERNAL, "no CLIP tensor is known for '%s'", name);
        return usual;
    }
    dg_init init = {.struct_size = sizeof init, .kind = DG_INIT_WEIGHTS, .weights = file->weights};
    for (int i = 0; i < n; i++) init.names[i] = src->names[i];
    if (transpose) init.flags = DG_INIT_TRANSPOSE;
    return init;
}

dg_status clip_build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err)
{
    const clip *s = self;
    const tower *t = &s->tower;
    int64_t batch = dg_dim(g, image, 0), n = t->grid_h * t->grid_w + 1;
    source src = {.s = s};
    dg_vit v = {.g = g,
                .kind = DG_LEAF_FROZEN,
                .heads = t->heads,
                .hidden = t->hidden,
                .eps = NORM_EPS,
                .quick = s->quick,
                .init = from_file,
                .user = &src};
    dg_init small = dg_init_value(DG_INIT_NORMAL, RANDOM_STD);
    dg_value class_token = dg_vit_leaf(&v, "class_embedding", DG_LIST(t->width), small);
    dg_value pos = dg_vit_leaf(&v, "positional_embedding", DG_LIST(n, t->width), small);
    dg_value x = dg_vit_patches(g, image, t->patch_h, t->patch_w, s->mean, s->std, false);
    x = dg_vit_patch_embed(&v, x, t->patch_h, t->patch_w, t->width, false); // [batch, n - 1, width]
    class_token = dg_broadcast(g, class_token, DG_LIST(batch, 1, t->width));
    x = dg_concat(g, (dg_value[]){class_token, x}, 2, 1); // [batch, n, width]
    x = dg_vit_norm(&v, dg_add(g, x, pos), "norm_pre", NORM_EPS);
    for (int64_t i = 0; i < s->layers; i++) {
        v.layer = (int32_t)i;
        dg_push(g, "blocks.%d", (int)i);
        x = dg_tap(g, dg_vit_block(&v, x, DG_VIT_ALL, DG_NO_VALUE), "tokenizer.block.%d", (int)i);
        dg_pop(g);
    }
    x = dg_tap(g, dg_vit_norm(&v, x, "norm", NORM_EPS), "tokenizer.ln_post");
    if (s->projected) x = dg_vit_linear(&v, x, "head", t->out, false);
    *tokens = x; // [batch, n, width or out]
    return dg_graph_error(g, err);
}
