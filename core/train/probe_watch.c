/* probe_watch.c - see probe_watch.h. */
#include "probe_watch.h"

#include "base/log.h"
#include "train/collapse.h"
#include "train/dataset.h"
#include "train/knn.h"

enum { MOST_K = 8 }; /* of the schema */

static int64_t largest_k(const dg_recipe *r)
{
    size_t n;
    const int64_t *k = dg_recipe_ints(r, "knn.k", &n);
    int64_t most = 0;
    for (size_t i = 0; i < n; i++) most = k[i] > most ? k[i] : most;
    return most;
}

dg_status dg_probe_watch_open(const dg_parts *parts, const dg_run_plan *plan, const dg_source *training,
                              const dg_graph *trained, dg_state *state, const char *run_dir,
                              dg_probe_watch *w, dg_error *err)
{
    const dg_recipe *r = parts->recipe;
    char cache[1100];
    if (!dg_recipe_is_set(r, "train.probe_every")) return DG_OK;
    const dg_feature_spec spec = dg_feature_spec_read(r, "knn");
    int64_t most = dg_recipe_int(r, "train.probe_limit");
    snprintf(cache, sizeof cache, "%s/index", run_dir);
    w->parts = parts;
    w->training = training;
    w->bank = (dg_feature_range){dg_recipe_int(r, "data.limit"), most};
    w->queries = (dg_feature_range){0, most};
    DG_TRY(dg_dataset_open_validation(r, cache, training, &w->validation, err));
    w->labels = w->validation && dg_source_classes(training) > 0 && dg_source_classes(w->validation) > 0;
    if (!w->validation)
        dg_logf(
            DG_LOG_INFO,
            "train.probe_every: there is no data.val_path, so that rank and spread are of training images");
    else if (!w->labels)
        dg_logf(DG_LOG_INFO, "train.probe_every: the data has no labels, so that neighbours are left out");
    if (w->labels && largest_k(r) > (most > 0 && most < plan->images ? most : plan->images))
        return dg_fail_key(err, DG_ERR_INVALID, "knn.k",
                           "%lld neighbours are asked for and a probe takes fewer training images",
                           (long long)largest_k(r));
    dg_status s = dg_extractor_open(parts, &spec, plan->batch, plan->compute, &w->extractor, err);
    if (s == DG_OK) s = dg_extractor_bind(&w->extractor, state, trained, err);
    if (s == DG_OK) w->every = dg_recipe_int(r, "train.probe_every") * plan->steps_per_epoch;
    return s;
}

void dg_probe_watch_close(dg_probe_watch *w)
{
    dg_extractor_close(&w->extractor);
    dg_source_close(w->validation);
    memset(w, 0, sizeof *w);
}

/* Appends the accuracy of every K of knn.k. names: room for them. */
static dg_status neighbours(dg_probe_watch *w, const dg_feature_set *queries, char (*names)[24],
                            dg_named_number *rows, size_t *n, dg_error *err)
{
    size_t n_k;
    const int64_t *k = dg_recipe_ints(w->parts->recipe, "knn.k", &n_k);
    double temperature = dg_recipe_float(w->parts->recipe, "knn.temperature");
    dg_feature_set bank = {0};
    dg_neighbours found = {0};
    dg_status s = dg_features_extract(&w->extractor, w->training, w->bank, &bank, err);
    if (s == DG_OK) s = dg_knn_search(w->parts, &bank, queries, largest_k(w->parts->recipe), &found, err);
    for (size_t i = 0; i < n_k && s == DG_OK; i++) {
        dg_knn_score score;
        s = dg_knn_vote(&found, &bank, queries, dg_source_classes(w->training), k[i], temperature, &score,
                        err);
        snprintf(names[2 * i], sizeof names[0], "knn%lld_top1", (long long)k[i]);
        snprintf(names[2 * i + 1], sizeof names[0], "knn%lld_top5", (long long)k[i]);
        rows[(*n)++] = (dg_named_number){names[2 * i], score.top1};
        rows[(*n)++] = (dg_named_number){names[2 * i + 1], score.top5};
    }
    dg_neighbours_free(&found);
    dg_feature_set_free(&bank);
    return s;
}

dg_status dg_probe_watch_step(dg_probe_watch *w, bool last, int64_t step, double epoch, dg_journal *journal,
                              dg_error *err)
{
    char names[2 * MOST_K][24];
    dg_named_number rows[2 * MOST_K + 2];
    dg_feature_set queries = {0};
    dg_collapse collapse = {0};
    size_t n = 0;
    if (w->every == 0 || (step % w->every != 0 && !last)) return DG_OK;
    dg_status s = dg_features_extract(&w->extractor, w->validation ? w->validation : w->training,
                                      w->validation ? w->queries : w->bank, &queries, err);
    if (s == DG_OK && w->labels) s = neighbours(w, &queries, names, rows, &n, err);
    if (s == DG_OK) s = dg_collapse_measure(queries.x, queries.n, queries.width, &collapse, err);
    rows[n++] = (dg_named_number){"effective_rank", collapse.effective_rank};
    rows[n++] = (dg_named_number){"spread", collapse.spread};
    if (s == DG_OK) s = dg_journal_probe(journal, step, epoch, rows, n, err);
    dg_feature_set_free(&queries);
    return s;
}
