/* pictures_classes.c - images with what a classifier says of them, and those of the greatest losses. See
 * pictures.h. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "train/dataset.h"
#include "train/pictures.h"

enum { SIDE = 112, BEST = 3 }; /* pixels of a picture's longer side at least; classes that are named */

typedef struct judged {
    int64_t id;
    int32_t label; /* -1: none */
    int64_t best[BEST];
    float probability[BEST];
    double loss; /* of the label; -1: it has none */
} judged;

typedef struct judging {
    dg_evaluator *e;
    const dg_source *source;
    const char *const *classes;
    dg_gallery *gallery;
    judged *images; // [n]
    int64_t n, room;
} judging;

/* ---- asking */

static void judge(const judging *j, const float *logits, judged *out)
{
    int64_t n = j->e->classes;
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < n; c++) most = fmax(most, (double)logits[c]);
    for (int64_t c = 0; c < n; c++) sum += exp((double)logits[c] - most);
    for (int k = 0; k < BEST; k++) {
        int64_t best = -1;
        for (int64_t c = 0; c < n; c++) {
            bool taken = false;
            for (int i = 0; i < k; i++) taken = taken || out->best[i] == c;
            if (!taken && (best < 0 || logits[c] > logits[best])) best = c;
        }
        out->best[k] = best;
        out->probability[k] = best < 0 ? 0 : (float)(exp((double)logits[best] - most) / sum);
    }
    bool labelled = out->label >= 0 && out->label < n;
    out->loss = labelled ? log(sum) + most - (double)logits[out->label] : -1;
}

static dg_status ask(judging *j, dg_loader *loader, dg_error *err)
{
    void *outputs[] = {j->e->logits};
    while (j->n < j->room) {
        const dg_batch *b;
        DG_TRY(dg_loader_next(loader, &b, err));
        if (!b) break;
        dg_status s = dg_inputs_fill(&j->e->inputs, b, NULL, err);
        const dg_run io = {(uint32_t)sizeof io, j->e->inputs.n, j->e->inputs.data, 1, 0, outputs};
        if (s == DG_OK) s = dg_backend_of(j->e->parts)->run(j->e->exe, &io, err);
        for (int32_t i = 0; s == DG_OK && i < b->size && j->n < j->room; i++) {
            if (b->valid[i] == 0) continue;
            judged *x = &j->images[j->n++];
            *x = (judged){.id = b->ids[i], .label = b->labels[i]};
            judge(j, j->e->logits + (int64_t)i * j->e->classes, x);
        }
        dg_loader_release(loader, b);
        DG_TRY(s);
    }
    return DG_OK;
}

/* ---- drawing */

/* The central crop that the classifier saw. */
static dg_status draw(const judging *j, const judged *x, dg_sample *sample, dg_resampler *r, dg_canvas *c,
                      dg_error *err)
{
    const dg_parts *p = j->e->parts;
    int32_t h = (int32_t)p->image_h, w = (int32_t)p->image_w, longer = h > w ? h : w;
    DG_TRY(dg_source_read_image(j->source, x->id, 0, sample, err));
    dg_loader_config config = dg_evaluation_config(p, j->e->batch);
    dg_view view =
        dg_view_of_centre(sample->image.height, sample->image.width, h, w, config.fraction, config.fit);
    uint8_t *pixels = dg_calloc((size_t)h * (size_t)w, 3);
    dg_status s = pixels ? dg_resample(r, sample->image.pixels, sample->image.height, sample->image.width,
                                       &view, pixels, err)
                         : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK)
        s = dg_canvas_of_image(pixels, w, h, longer < SIDE ? (SIDE + longer - 1) / longer : 1, c, err);
    dg_free(pixels);
    return s;
}

static void put_class(const judging *j, int64_t class, dg_str *out)
{
    if (j->classes)
        dg_str_puts(out, j->classes[class]);
    else
        dg_str_printf(out, "%lld", (long long)class);
}

static void describe(const judging *j, const judged *x, const char *name, dg_str *note)
{
    const char *slash = strrchr(name, '/');
    bool known = x->loss >= 0, right = known && x->best[0] == x->label;
    if (known && !right) {
        dg_str_puts(note, "is ");
        put_class(j, x->label, note);
        dg_str_puts(note, "\n");
    }
    for (int k = 0; k < (known ? 1 : BEST) && x->best[k] >= 0; k++) {
        if (known && !right) dg_str_puts(note, "called ");
        put_class(j, x->best[k], note);
        dg_str_printf(note, " %.2f\n", (double)x->probability[k]);
    }
    dg_str_puts(note, slash ? slash + 1 : name);
}

static dg_status add(const judging *j, const judged *x, const char *section, const char *about, int64_t row,
                     dg_sample *sample, dg_resampler *r, dg_error *err)
{
    dg_canvas c = {0};
    dg_str note = {0};
    dg_status s = draw(j, x, sample, r, &c, err);
    if (s == DG_OK) describe(j, x, sample->name, &note);
    const dg_panel p = {.section = section,
                        .about = about,
                        .row = row,
                        .column = "",
                        .title = "",
                        .note = note.text ? note.text : "",
                        .verdict = x->loss < 0              ? 0
                                   : x->best[0] == x->label ? 1
                                                            : -1};
    if (s == DG_OK) s = dg_gallery_add(j->gallery, &p, &c, err);
    dg_canvas_free(&c);
    dg_str_free(&note);
    return s;
}

static int by_loss(const void *a, const void *b)
{
    const judged *x = a, *y = b;
    if (x->loss != y->loss) return x->loss < y->loss ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static dg_status add_all(judging *j, int64_t show, dg_error *err)
{
    char about[160];
    dg_sample sample = {0};
    dg_resampler r = {0};
    dg_status s = DG_OK;
    bool labels = true;
    for (int64_t i = 0; i < j->n; i++) labels = labels && j->images[i].loss >= 0;
    if (show > j->n) show = j->n;
    for (int64_t i = 0; i < show && s == DG_OK; i++)
        s = add(j, &j->images[i], "What the classifier says",
                "Classes with their probabilities; central crops, as the classifier sees them.", i, &sample,
                &r, err);
    if (labels && j->n > show) {
        snprintf(about, sizeof about, "Of %lld images of the same data.", (long long)j->n);
        qsort(j->images, (size_t)j->n, sizeof *j->images, by_loss);
        for (int64_t i = 0; i < show && s == DG_OK; i++)
            s = add(j, &j->images[i], "The greatest losses", about, i, &sample, &r, err);
    }
    dg_sample_free(&sample);
    dg_resampler_free(&r);
    return s;
}

dg_status dg_pictures_classes(dg_evaluator *e, const dg_source *source, const char *const *classes,
                              int64_t most, int64_t show, dg_gallery *gallery, dg_error *err)
{
    judging j = {.e = e, .source = source, .classes = classes, .gallery = gallery};
    dg_loader *loader = NULL;
    dg_loader_config c = dg_evaluation_config(e->parts, e->batch);
    int64_t count = dg_source_count(source);
    c.limit = 0;
    j.room = most > 0 && most < count ? most : count;
    c.shuffle = j.room < count; /* the beginning of a sorted source would be one class */
    c.last_step = j.room / e->batch + (j.room % e->batch > 0);
    j.images = dg_calloc((size_t)j.room + 1, sizeof *j.images);
    dg_status s =
        j.images ? dg_loader_open(&c, source, &loader, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = ask(&j, loader, err);
    dg_loader_close(loader);
    if (s == DG_OK) s = add_all(&j, show, err);
    dg_free(j.images);
    return s;
}
