/* parts.h - what a recipe wires together, instantiated: tokenizer, model, loss, backend. */
#ifndef DG_TRAIN_PARTS_H
#define DG_TRAIN_PARTS_H

#include "digpt/backend.h"
#include "digpt/loss.h"
#include "digpt/model.h"
#include "digpt/tokenizer.h"
#include "plugin/component.h"
#include "recipe/recipe.h"

/* Starts as {0}; ends with dg_parts_close, also after a failure. */
typedef struct dg_parts {
    const dg_recipe *recipe;                      /* not owned */
    dg_component tokenizer, model, loss, backend; /* ref.factory NULL: the recipe has none */
    dg_tokenizer_info tokens;                     /* struct_size 0: no tokens */
    struct dg_token_cache *cache; /* where the tokens come from instead of a tokenizer, or NULL */
    int64_t image_h, image_w;
    uint64_t seed;
    const struct dg_vocabulary *vocabulary; /* of captions; set by whoever opened the data; not owned */
} dg_parts;

/* err->key names the recipe key to blame. `with_backend` false: for commands that only look at the model. */
dg_status dg_parts_open(const dg_recipe *recipe, const dg_registry *registry, bool with_backend,
                        dg_parts *parts, dg_error *err);
void dg_parts_close(dg_parts *parts);

static inline const dg_tokenizer_interface *dg_tokenizer_of(const dg_parts *p)
{
    return p->tokenizer.ref.factory->interface;
}
static inline const dg_model_interface *dg_model_of(const dg_parts *p)
{
    return p->model.ref.factory->interface;
}
static inline const dg_loss_interface *dg_loss_of(const dg_parts *p)
{
    return p->loss.ref.factory->interface;
}
static inline const dg_backend_interface *dg_backend_of(const dg_parts *p)
{
    return p->backend.ref.factory->interface;
}
/* Ranks that one run of the backend drives; 1 without a backend. */
static inline uint32_t dg_ranks_of(const dg_parts *p)
{
    const dg_backend_interface *b = p->backend.self ? dg_backend_of(p) : NULL;
    return b && DG_HAS(b, dg_backend_interface, ranks) && b->ranks ? b->ranks(p->backend.self) : 1;
}

#endif
