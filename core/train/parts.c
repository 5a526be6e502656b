/* parts.c - see parts.h. */
#include "parts.h"

#include "train/token_cache.h"

static dg_status open_one(const dg_recipe *recipe, const dg_registry *registry, const char *section,
                          const char *interface, const void *env, dg_component *out, dg_error *err)
{
    const dg_params *params;
    const char *name = dg_recipe_component(recipe, section, &params);
    dg_component_ref ref;
    if (!name) return DG_OK;
    dg_status s = dg_registry_find(registry, interface, name, &ref, err);
    if (s == DG_OK) s = dg_component_create(&ref, params, NULL, env, out, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "%s", section);
    return s;
}

static dg_status open_tokenizer(dg_parts *p, const dg_registry *registry, dg_error *err)
{
    if (dg_recipe_is_set(p->recipe, "tokens.cache")) {
        dg_status s = dg_token_cache_open(dg_recipe_string(p->recipe, "tokens.cache"), p->recipe, &p->cache,
                                          &p->tokens, err);
        if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "tokens.cache");
        return s;
    }
    dg_tokenizer_env env = {(uint32_t)sizeof env, 0, p->image_h, p->image_w, p->seed};
    DG_TRY(open_one(p->recipe, registry, "tokenizer", DG_TOKENIZER_INTERFACE, &env, &p->tokenizer, err));
    if (!p->tokenizer.self) return DG_OK;
    p->tokens.struct_size = (uint32_t)sizeof p->tokens;
    dg_status s = dg_tokenizer_of(p)->info(p->tokenizer.self, &p->tokens, err);
    if (s != DG_OK && err && !err->key[0]) snprintf(err->key, sizeof err->key, "tokenizer");
    return s;
}

/* Do the loss and the tokens go together? */
static dg_status check_loss(const dg_parts *p, dg_error *err)
{
    if (!p->loss.ref.factory || !p->tokens.struct_size) return DG_OK;
    uint32_t kind = p->tokens.discrete ? DG_TARGET_DISCRETE : DG_TARGET_CONTINUOUS;
    if (dg_loss_of(p)->targets & kind) return DG_OK;
    return dg_fail_key(
        err, DG_ERR_MISMATCH, "loss.name", "the loss '%s' compares %s; the tokenizer '%s' gives %s: %s",
        p->loss.ref.factory->name, p->tokens.discrete ? "vectors" : "ids",
        dg_recipe_component(p->recipe, "tokenizer", NULL), p->tokens.discrete ? "discrete ids" : "vectors",
        p->tokens.discrete ? "take cross_entropy, or a tokenizer of vectors"
                           : "take cosine, mse or smooth_l1, or a tokenizer of ids");
}

dg_status dg_parts_open(const dg_recipe *recipe, const dg_registry *registry, bool with_backend, dg_parts *p,
                        dg_error *err)
{
    p->recipe = recipe;
    p->seed = (uint64_t)dg_recipe_int(recipe, "seed");
    dg_recipe_size(recipe, "data.image_size", &p->image_h, &p->image_w);
    DG_TRY(open_tokenizer(p, registry, err));
    dg_model_env env = {(uint32_t)sizeof env, 0, p->image_h, p->image_w,
                        p->tokens.struct_size ? &p->tokens : NULL};
    DG_TRY(open_one(recipe, registry, "model", DG_MODEL_INTERFACE, &env, &p->model, err));
    DG_TRY(open_one(recipe, registry, "loss", DG_LOSS_INTERFACE, NULL, &p->loss, err));
    if (with_backend)
        DG_TRY(open_one(recipe, registry, "backend", DG_BACKEND_INTERFACE, NULL, &p->backend, err));
    if (!p->model.self) return dg_fail_key(err, DG_ERR_INVALID, "model", "the recipe names no model");
    return check_loss(p, err);
}

void dg_parts_close(dg_parts *p)
{
    dg_component_destroy(&p->loss);
    dg_component_destroy(&p->model);
    dg_component_destroy(&p->tokenizer);
    dg_token_cache_close(p->cache);
    dg_component_destroy(&p->backend);
    memset(p, 0, sizeof *p);
}
