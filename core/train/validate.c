/* validate.c - see validate.h. */
#include "validate.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "train/dataset.h"

/* The greatest val_top1 of the lines of metrics.jsonl. */
static dg_status read_best(const char *run_dir, double *best, dg_error *err)
{
    char *path = dg_path_join(run_dir, "metrics.jsonl"), *bytes = NULL;
    size_t size = 0;
    dg_status s = path ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    *best = -1;
    if (s == DG_OK && dg_path_is_file(path)) s = dg_file_read(path, (size_t)1 << 30, &bytes, &size, err);
    for (char *at = bytes, *end; s == DG_OK && at && (end = memchr(at, '\n', (size_t)(bytes + size - at)));
         at = end + 1) {
        dg_arena arena = {0};
        const dg_json *row, *v;
        s = dg_json_parse(at, (size_t)(end - at), path, &arena, &row, err);
        v = s == DG_OK ? dg_json_get(row, "val_top1") : NULL;
        double top1 = v && v->type == DG_JSON_INT     ? (double)v->v.integer
                      : v && v->type == DG_JSON_FLOAT ? v->v.number
                                                      : -1;
        if (top1 > *best) *best = top1;
        dg_arena_free(&arena);
    }
    dg_free(bytes);
    dg_free(path);
    return s;
}

dg_status dg_validation_open(const dg_parts *parts, const dg_finetune *f, const dg_run_plan *plan,
                             const dg_source *training, const dg_state *state, const char *run_dir,
                             dg_ranks *ranks, dg_validation *v, dg_error *err)
{
    char cache[1100];
    int64_t batch = dg_recipe_int(parts->recipe, "finetune.evaluate_batch");
    v->parts = parts;
    v->ranks = ranks;
    snprintf(cache, sizeof cache, "%s/index", run_dir);
    snprintf(v->best_path, sizeof v->best_path, "%s/best.safetensors", run_dir);
    DG_TRY(dg_dataset_open_validation(parts->recipe, cache, training, &v->source, err));
    if (!v->source) return DG_OK;
    if (batch == 0) batch = plan->batch;
    v->every = dg_recipe_int(parts->recipe, "finetune.evaluate_every") * plan->steps_per_epoch;
    v->loader = dg_evaluation_config(parts, batch);
    dg_ranks_loader(ranks, parts->recipe, true, &v->loader);
    if (dg_ranks_first(ranks)) DG_TRY(read_best(run_dir, &v->best, err));
    return dg_evaluator_open(parts, &f->classify, batch, plan->compute, plan->ema_decay > 0, state,
                             &v->evaluator, err);
}

void dg_validation_close(dg_validation *v)
{
    dg_evaluator_close(&v->evaluator);
    dg_source_close(v->source);
    memset(v, 0, sizeof *v);
}

dg_status dg_validation_step(dg_validation *v, bool last, const dg_progress *progress, double epoch,
                             const dg_state *state, const dg_tensor_entry *entries, size_t n,
                             dg_journal *journal, dg_error *err)
{
    dg_eval_result r;
    if (!v->source || (progress->step % v->every != 0 && !last)) return DG_OK;
    DG_TRY(dg_evaluate(&v->evaluator, v->source, &v->loader, v->ranks, NULL, NULL, &r, err));
    dg_status s = DG_OK;
    if (dg_ranks_first(v->ranks))
        s = dg_journal_evaluation(journal, progress->step, epoch, r.top1, r.top5, r.loss, err);
    if (s == DG_OK && dg_ranks_first(v->ranks) && r.top1 > v->best) {
        v->best = r.top1;
        s = dg_checkpoint_export(v->best_path, progress, state, entries, n, err);
    }
    dg_eval_result_free(&r);
    return s;
}
