/* assess_report.c - what is told of an assessment: predictions, confusions, the worst. See assess.h. */
#include <stdlib.h>

#include "base/mem.h"
#include "io/jsonl.h"
#include "train/assess.h"

static dg_status write_one(dg_jsonl *file, const dg_assessor *a, const char *name, const dg_assessed *x,
                           dg_error *err)
{
    dg_str row = {0};
    dg_row_int(&row, "id", x->id);
    dg_row_text(&row, "name", name);
    dg_row_int(&row, "label", x->label);
    dg_row_text(&row, "class", a->classes.names[x->label]);
    dg_row_int(&row, "prediction", x->best[0]);
    dg_row_text(&row, "predicted_class", a->classes.names[x->best[0]]);
    dg_str_puts(&row, ",\"top5\":[");
    for (int i = 0; i < DG_ASSESS_BEST && x->best[i] >= 0; i++)
        dg_str_printf(&row, "%s%d", i ? "," : "", x->best[i]);
    dg_str_puts(&row, "]");
    dg_row_number(&row, "probability", (double)x->probability);
    dg_row_number(&row, "loss", x->loss);
    dg_status s = dg_jsonl_append(file, &row, err);
    dg_str_free(&row);
    return s;
}

dg_status dg_assess_write(const char *path, const dg_assessor *a, const dg_source *source,
                          const dg_assessment *x, dg_error *err)
{
    dg_jsonl *file = NULL;
    dg_sample sample = {0};
    dg_status s = dg_jsonl_open(path, 0, &file, err);
    for (int64_t i = 0; s == DG_OK && i < x->result.images; i++) {
        s = dg_source_read(source, x->images[i].id, &sample, err);
        if (s == DG_OK) s = write_one(file, a, sample.name, &x->images[i], err);
    }
    if (s == DG_OK) s = dg_jsonl_sync(file, err);
    dg_sample_free(&sample);
    dg_jsonl_close(file);
    return s;
}

static int by_classes(const void *a, const void *b)
{
    const dg_confusion *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->prediction > y->prediction) - (x->prediction < y->prediction);
}

static int by_images(const void *a, const void *b)
{
    const dg_confusion *x = a, *y = b;
    return x->images != y->images ? x->images < y->images ? 1 : -1 : by_classes(a, b);
}

dg_status dg_confusions(const dg_assessment *x, dg_confusion **list, int64_t *n, dg_error *err)
{
    dg_confusion *all = dg_calloc((size_t)x->result.images + 1, sizeof *all);
    int64_t wrong = 0, kinds = 0;
    *list = all;
    *n = 0;
    if (!all) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; i < x->result.images; i++)
        if (x->images[i].best[0] != x->images[i].label)
            all[wrong++] = (dg_confusion){x->images[i].label, x->images[i].best[0], 1};
    qsort(all, (size_t)wrong, sizeof *all, by_classes);
    for (int64_t i = 0; i < wrong; i++)
        if (kinds && by_classes(&all[kinds - 1], &all[i]) == 0)
            all[kinds - 1].images++;
        else
            all[kinds++] = all[i];
    qsort(all, (size_t)kinds, sizeof *all, by_images);
    *n = kinds;
    return DG_OK;
}

typedef struct ranked {
    double loss;
    int64_t i;
} ranked;

static int by_loss(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->loss != y->loss) return x->loss < y->loss ? 1 : -1;
    return (x->i > y->i) - (x->i < y->i);
}

dg_status dg_worst_losses(const dg_assessment *x, int64_t most, int64_t **order, int64_t *n, dg_error *err)
{
    int64_t count = x->result.images;
    ranked *all = dg_calloc((size_t)count + 1, sizeof *all);
    *n = most < count ? most : count;
    *order = dg_calloc((size_t)*n + 1, sizeof **order);
    dg_status s = all && *order ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; s == DG_OK && i < count; i++) all[i] = (ranked){x->images[i].loss, i};
    if (s == DG_OK) qsort(all, (size_t)count, sizeof *all, by_loss);
    for (int64_t i = 0; s == DG_OK && i < *n; i++) (*order)[i] = all[i].i;
    dg_free(all);
    return s;
}
