/* fuzz_run.c - what a run's folder holds for those who come later: the state of a checkpoint, the names of
 * classes, and the lines of metrics and facts that pages are made of. */
#include "fuzz.h"

#include "io/safetensors.h"
#include "train/checkpoint.h"
#include "train/classes.h"
#include "train/logbook.h"

static char state_path[600], classes_path[600], metrics_path[600], facts_path[600];

/* A run that is whole but for those files. */
static void set_up(void)
{
    static const char *const files[] = {"model", "optimizer"};
    char path[600];
    snprintf(path, sizeof path, "%s/checkpoints/step-0000000007", fuzz_folder());
    FUZZ_CHECK(dg_dir_make(path, NULL) == DG_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-0000000007/%s.safetensors", fuzz_folder(), files[i]);
        FUZZ_CHECK(dg_st_write(path, NULL, NULL, 0, NULL, 0, NULL) == DG_OK);
    }
    snprintf(path, sizeof path, "%s/recipe.yaml", fuzz_folder());
    fuzz_put(path, "name: fuzz\nmodel: {name: vit}\n", 30);
    snprintf(metrics_path, sizeof metrics_path, "%s/metrics.jsonl", fuzz_folder());
    snprintf(facts_path, sizeof facts_path, "%s/run.json", fuzz_folder());
    snprintf(classes_path, sizeof classes_path, "%s/" DG_CLASSES_FILE, fuzz_folder());
    snprintf(state_path, sizeof state_path, "%s/checkpoints/step-0000000007/state.json", fuzz_folder());
}

static void read_checkpoint(void)
{
    char *path = NULL;
    dg_progress progress;
    dg_error err = DG_ERROR_INIT;
    dg_status s = dg_checkpoint_latest(fuzz_folder(), &path, &progress, &err);
    if (s == DG_OK) {
        FUZZ_CHECK(path && progress.step >= 0 && progress.window >= 0);
        FUZZ_CHECK(progress.recipe && progress.backend && progress.data && progress.precision &&
                   progress.plugins && progress.weights);
    } else {
        fuzz_check_failure(s, &err);
        FUZZ_CHECK(!path && !progress.recipe);
    }
    dg_progress_free(&progress);
    dg_free(path);
}

static void read_classes(void)
{
    dg_classes c;
    dg_error err = DG_ERROR_INIT;
    dg_status s = dg_classes_read(classes_path, &c, &err);
    if (s != DG_OK) fuzz_check_failure(s, &err);
    FUZZ_CHECK(s != DG_OK || c.n > 0);
    for (int32_t i = 0; i < c.n; i++) FUZZ_CHECK(c.names[i]);
    dg_classes_free(&c);
}

static void read_series(const dg_series_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        FUZZ_CHECK(list->items[i].n > 0);
        FUZZ_CHECK(dg_series_find(list, list->items[i].name));
    }
}

static void read_logbook(void)
{
    dg_logbook book = {0};
    dg_error err = DG_ERROR_INIT;
    dg_status s = dg_logbook_open(fuzz_folder(), &book, &err);
    if (s == DG_OK) {
        read_series(&book.metrics);
        for (size_t i = 0; i < book.n_facts; i++) FUZZ_CHECK(book.facts[i].key && book.facts[i].value);
    } else {
        fuzz_check_failure(s, &err);
    }
    dg_logbook_close(&book);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    if (!state_path[0]) set_up();
    fuzz_put(state_path, data, size);
    fuzz_put(classes_path, data, size);
    fuzz_put(metrics_path, data, size);
    fuzz_put(facts_path, data, size);
    read_checkpoint();
    read_classes();
    read_logbook();
    return 0;
}
