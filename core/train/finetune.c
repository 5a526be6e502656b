/* finetune.c - see finetune.h. */
#include "finetune.h"

#include "data/mix.h"
#include "digpt/philox.h"
#include "train/probe_task.h"

dg_status dg_finetune_read(const dg_parts *parts, int64_t classes, dg_finetune *f, dg_error *err)
{
    const dg_recipe *r = parts->recipe;
    const char *policy = dg_recipe_string(r, "finetune.randaugment");
    int64_t said = dg_recipe_int(r, "finetune.classes");
    memset(f, 0, sizeof *f);
    f->classify.classes = said ? said : classes < 0 ? 1000 : classes;
    if (f->classify.classes < 2)
        return dg_fail_key(err, DG_ERR_INVALID, "finetune.classes",
                           "the training data has %lld classes: fine-tuning needs labels of at least two",
                           (long long)f->classify.classes);
    if (classes > f->classify.classes)
        return dg_fail_key(err, DG_ERR_MISMATCH, "finetune.classes",
                           "%lld classes are asked for and the training data has %lld",
                           (long long)f->classify.classes, (long long)classes);
    f->classify.pool = dg_recipe_choice(r, "finetune.pool") == 1 ? DG_POOL_CLASS : DG_POOL_MEAN;
    f->classify.smoothing = dg_recipe_float(r, "finetune.smoothing");
    f->classify.head_std = dg_recipe_float(r, "finetune.head_std");
    f->layer_decay = dg_recipe_float(r, "finetune.layer_decay");
    f->drop_path = dg_recipe_float(r, "finetune.drop_path");
    f->mixup = dg_recipe_float(r, "finetune.mixup");
    f->cutmix = dg_recipe_float(r, "finetune.cutmix");
    f->mix_switch = dg_recipe_float(r, "finetune.mix_switch");
    f->mix_probability = dg_recipe_float(r, "finetune.mix_probability");
    f->erase = dg_recipe_float(r, "finetune.erase");
    f->randaugment = policy && policy[0] ? policy : NULL;
    f->colour_jitter = dg_recipe_float(r, "finetune.colour_jitter");
    f->classify.mix = (f->mixup > 0 || f->cutmix > 0) && f->mix_probability > 0;
    f->classify.erase = f->erase > 0;
    f->classify.drop_path = f->drop_path > 0;
    f->seed = parts->seed;
    f->image_h = parts->image_h;
    f->image_w = parts->image_w;
    return DG_OK;
}

dg_status dg_task_spec(const dg_parts *parts, const dg_run_plan *plan, int64_t classes, dg_finetune *f,
                       dg_step_spec *spec, dg_error *err)
{
    *spec = (dg_step_spec){.batch = plan->batch,
                           .ranks = dg_ranks_of(parts),
                           .accumulate = (int32_t)plan->accumulate,
                           .compute = plan->compute,
                           .ema_decay = plan->ema_decay,
                           .shard = dg_recipe_bool(parts->recipe, "optimizer.shard"),
                           .optimizer = plan->optimizer};
    const char *task = dg_recipe_string(parts->recipe, "task");
    if (dg_is_probe_task(parts->recipe))
        return dg_fail_key(
            err, DG_ERR_UNSUPPORTED, "task",
            "the task '%s' has no training step of the model; digpt recipe check says what it costs", task);
    if (strcmp(task, "finetune") != 0) return DG_OK;
    DG_TRY(dg_finetune_read(parts, classes, f, err));
    spec->classify = &f->classify;
    spec->optimizer.layer_decay = f->layer_decay;
    return DG_OK;
}

/* f32 [2 depth] of one sample: the rate grows linearly from 0 at the first block to drop_path at the last, as
 * timm's. */
static void fill_drop_path(const dg_finetune *f, uint64_t ordinal, float *keep, size_t n)
{
    dg_rng rng = dg_rng_make(f->seed, DG_RNG_DROP, ordinal, 0);
    size_t depth = n / 2;
    for (size_t i = 0; i < n; i++) {
        double rate = depth > 1 ? f->drop_path * (double)(i / 2) / (double)(depth - 1) : f->drop_path;
        keep[i] = dg_rng_uniform(&rng) < rate ? 0 : (float)(1 / (1 - rate));
    }
}

static dg_box erase_box(const dg_finetune *f, uint64_t ordinal)
{
    dg_erasing e = DG_ERASING_INIT;
    e.probability = f->erase;
    return dg_draw_erase(&e, f->seed, ordinal, (int32_t)f->image_h, (int32_t)f->image_w);
}

/* Standard normal numbers where the sample's box is, [h, w, 3]; elsewhere nothing is read. */
static void fill_noise(const dg_finetune *f, uint64_t ordinal, float *noise)
{
    dg_box b = erase_box(f, ordinal);
    dg_rng rng = dg_rng_make(f->seed, DG_RNG_ERASE, ordinal, 1);
    for (int32_t y = b.top; y < b.top + b.height; y++)
        for (int64_t i = (int64_t)b.left * 3; i < ((int64_t)b.left + b.width) * 3; i++)
            noise[y * f->image_w * 3 + i] = (float)dg_rng_normal(&rng);
}

static void fill_mix(const dg_finetune *f, int64_t step, float *mix)
{
    dg_mixing m = {.mixup = f->mixup,
                   .cutmix = f->cutmix,
                   .probability = f->mix_probability,
                   .switch_probability = f->mix_switch};
    dg_mix x = dg_draw_mix(&m, f->seed, (uint64_t)step, 0, (int32_t)f->image_h, (int32_t)f->image_w);
    mix[DG_MIX_INSIDE] = x.box.height > 0 ? 0 : (float)x.pixels;
    mix[DG_MIX_OUTSIDE] = (float)x.pixels;
    mix[DG_MIX_LABEL] = (float)x.targets;
    mix[DG_MIX_TOP] = (float)x.box.top;
    mix[DG_MIX_BOTTOM] = (float)(x.box.top + x.box.height);
    mix[DG_MIX_LEFT] = (float)x.box.left;
    mix[DG_MIX_RIGHT] = (float)(x.box.left + x.box.width);
}

dg_status dg_finetune_fill(void *user, const char *name, const dg_batch *batch, void *dst, size_t bytes,
                           dg_error *err)
{
    const dg_finetune *f = user;
    size_t share = bytes / (size_t)batch->size;
    if (strcmp(name, "mix") == 0) {
        fill_mix(f, batch->step, dst);
        return DG_OK;
    }
    for (int32_t i = 0; i < batch->size; i++) {
        void *mine = (char *)dst + (size_t)i * share;
        uint64_t ordinal = (uint64_t)batch->ordinals[i];
        if (strcmp(name, "drop_path") == 0) {
            fill_drop_path(f, ordinal, mine, share / sizeof(float));
        } else if (strcmp(name, "erase_noise") == 0) {
            fill_noise(f, ordinal, mine);
        } else if (strcmp(name, "erase_box") == 0) {
            dg_box b = erase_box(f, ordinal);
            const int32_t box[4] = {b.top, b.left, b.height, b.width};
            memcpy(mine, box, sizeof box);
        } else {
            return dg_fail(err, DG_ERR_INTERNAL, "nothing fills the input '%s'", name);
        }
    }
    return DG_OK;
}
