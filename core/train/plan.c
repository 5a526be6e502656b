/* plan.c - from a recipe's epochs, batches and learning-rate rule to steps (run.h). */
#include "run.h"

/* The recipe's value, or one that stands for "not set". */
static double given(const dg_recipe *r, const char *key, double otherwise)
{
    return dg_recipe_is_set(r, key) ? dg_recipe_float(r, key) : otherwise;
}

static dg_dtype compute_dtype(const dg_parts *p)
{
    const char *word = dg_recipe_string(p->recipe, "train.precision");
    if (strcmp(word, "f32") == 0) return DG_F32;
    if (strcmp(word, "bf16") == 0) return DG_BF16;
    return p->backend.self ? dg_backend_of(p)->preferred(p->backend.self) : DG_F32;
}

dg_status dg_run_make_plan(const dg_parts *parts, int64_t images, dg_run_plan *plan, dg_error *err)
{
    const dg_recipe *r = parts->recipe;
    size_t n;
    const double *betas = dg_recipe_floats(r, "optimizer.betas", &n);
    plan->batch = dg_recipe_int(r, "data.batch");
    plan->accumulate = dg_recipe_int(r, "train.accumulate");
    plan->effective_batch = dg_recipe_int(r, "train.effective_batch");
    if (plan->effective_batch == 0) plan->effective_batch = plan->batch * plan->accumulate;
    int64_t limit = dg_recipe_int(r, "data.limit");
    plan->images = images = limit > 0 && limit < images ? limit : images;
    int64_t batches = images / plan->batch;
    if (images > 0 && batches == 0)
        return dg_fail_key(err, DG_ERR_INVALID, "data.batch",
                           "a batch of %lld is more than the %lld images there are", (long long)plan->batch,
                           (long long)images);
    double epoch = (double)batches / (double)plan->accumulate; /* optimizer steps, not always whole */
    plan->steps_per_epoch = (int64_t)epoch > 0 ? (int64_t)epoch : batches > 0;
    plan->steps = dg_recipe_is_set(r, "train.steps")
                      ? dg_recipe_int(r, "train.steps")
                      : dg_recipe_int(r, "train.epochs") * batches / plan->accumulate;
    if (images > 0 && plan->steps < 1)
        return dg_fail_key(err, DG_ERR_INVALID, "train.accumulate",
                           "one optimizer step takes more batches than the whole run has");
    /* The linear rule: Goyal et al., "Accurate, Large Minibatch SGD", 2017. */
    plan->lr = given(r, "optimizer.lr",
                     dg_recipe_float(r, "optimizer.base_lr") * (double)plan->effective_batch / 256.0);
    plan->min_lr = dg_recipe_float(r, "optimizer.min_lr");
    plan->warmup_steps = dg_recipe_is_set(r, "optimizer.warmup_steps")
                             ? (double)dg_recipe_int(r, "optimizer.warmup_steps")
                             : dg_recipe_float(r, "optimizer.warmup_epochs") * epoch;
    plan->compute = compute_dtype(parts);
    plan->optimizer = (dg_optimizer){betas[0],
                                     betas[1],
                                     dg_recipe_float(r, "optimizer.eps"),
                                     dg_recipe_float(r, "optimizer.weight_decay"),
                                     given(r, "optimizer.clip_norm", 0),
                                     1};
    plan->ema_decay = dg_recipe_float(r, "train.ema_decay");
    return DG_OK;
}
