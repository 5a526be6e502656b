/* zeroshot.c - see zeroshot.h. */
#include "zeroshot.h"

#include <math.h>

#include "base/mem.h"
#include "data/loader.h"
#include "data/text.h"
#include "train/evaluate.h"
#include "train/inputs.h"
#include "train/state.h"
#include "train/step.h"

/* The model's forward pass, of which only the two features are wanted. */
typedef struct towers {
    const dg_parts *parts;
    int64_t batch, width;
    dg_graph *graph;
    dg_program *program;
    dg_state state;
    dg_inputs inputs;
    dg_backend_exe *exe;
    float *image, *text; // [batch, width]
} towers;

static dg_status feature_output(dg_graph *g, const char *tap, int64_t batch, int64_t *width, dg_error *err)
{
    dg_value v = dg_graph_tap(g, tap);
    dg_type t = dg_type_of(g, v);
    if (!dg_is_value(v) || t.rank != 2 || t.dims[0] != batch)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "model.name",
                           "the model gives no '%s' [batch, width]: zero-shot needs a model such as clip",
                           tap);
    *width = t.dims[1];
    dg_graph_output(g, dg_convert(g, v, DG_F32), tap);
    return dg_graph_error(g, err);
}

/* Images are read beside the captions of the last texts, whose features are not looked at. */
static dg_status keep_captions(void *user, const char *name, const dg_batch *batch, void *dst, size_t bytes,
                               dg_error *err)
{
    (void)user, (void)batch, (void)dst, (void)bytes;
    return strcmp(name, "caption") == 0 ? DG_OK
                                        : dg_fail(err, DG_ERR_INTERNAL, "nothing fills the input '%s'", name);
}

static dg_status open_towers(const dg_parts *parts, const char *weights, towers *t, dg_error *err)
{
    dg_graph *g = NULL, *only = NULL;
    dg_step names = {0};
    const dg_step_spec spec = {.batch = t->batch, .ranks = 1, .accumulate = 1, .compute = DG_F32};
    t->parts = parts;
    DG_TRY(dg_step_forward(parts, &spec, &g, &names, err));
    dg_status s = feature_output(g, "image_features", t->batch, &t->width, err);
    if (s == DG_OK) s = feature_output(g, "text_features", t->batch, &t->width, err);
    if (s == DG_OK) s = dg_pass_precision(g, DG_F32, &only, err);
    dg_graph_destroy(g);
    t->graph = only;
    if (s == DG_OK) s = dg_finish_program(t->graph, parts, "zeroshot", false, &t->program, err);
    if (s == DG_OK) s = dg_state_open(parts, &t->state, err);
    if (s == DG_OK) s = dg_state_init(&t->state, t->graph, parts->seed, false, err);
    if (s == DG_OK) s = dg_state_load(&t->state, t->graph, weights, NULL, err);
    if (s == DG_OK) s = dg_inputs_open(parts, t->program, &t->inputs, err);
    t->inputs.fill = keep_captions;
    if (s == DG_OK)
        s = dg_backend_of(parts)->compile(parts->backend.self, t->program, t->state.store, &t->exe, err);
    if (s != DG_OK) return s;
    t->image = dg_calloc((size_t)(t->batch * t->width), sizeof *t->image);
    t->text = dg_calloc((size_t)(t->batch * t->width), sizeof *t->text);
    return t->image && t->text ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static void close_towers(towers *t)
{
    if (t->exe) dg_backend_of(t->parts)->release(t->exe);
    dg_inputs_close(&t->inputs);
    dg_state_close(&t->state);
    dg_program_destroy(t->program);
    dg_graph_destroy(t->graph);
    dg_free(t->image);
    dg_free(t->text);
}

static dg_status run_towers(towers *t, dg_error *err)
{
    void *outputs[16] = {0};
    for (uint32_t i = 0; i < t->program->n_outputs && i < 16; i++) {
        if (strcmp(t->program->outputs[i].name, "image_features") == 0) outputs[i] = t->image;
        if (strcmp(t->program->outputs[i].name, "text_features") == 0) outputs[i] = t->text;
    }
    const dg_run io = {(uint32_t)sizeof io, t->inputs.n, t->inputs.data, t->program->n_outputs, 0, outputs};
    return dg_backend_of(t->parts)->run(t->exe, &io, err);
}

static const char gap_mark[] = "{}";

static dg_status check_templates(const dg_zeroshot_options *o, dg_error *err)
{
    for (size_t i = 0; i < o->n_templates; i++)
        if (!strstr(o->templates[i], gap_mark))
            return dg_fail(err, DG_ERR_INVALID,
                           "the text '%s' has no {} where the name of a class goes: it would be the same for "
                           "all classes",
                           o->templates[i]);
    return DG_OK;
}

/* "a photo of a {}" and "big_dog" to "a photo of a big dog". */
static void fill_template(const char *form, const char *name, char *out, size_t size)
{
    const char *gap = strstr(form, gap_mark);
    snprintf(out, size, "%.*s%s%s", (int)(gap - form), form, name, gap + sizeof gap_mark - 1);
    for (char *p = out; *p; p++)
        if (*p == '_') *p = ' ';
}

/* One over the length of x. */
static double unit_scale(const float *x, int64_t n)
{
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * (double)x[i];
    return square > 0 ? 1 / sqrt(square) : 0;
}

static void add_unit(const float *x, int64_t n, float *sum)
{
    double scale = unit_scale(x, n);
    for (int64_t i = 0; i < n; i++) sum[i] += (float)((double)x[i] * scale);
}

/* Features of the classes: f32 [classes, width], unit vectors along the mean of the templates' unit vectors.
 */
static dg_status class_features(towers *t, const dg_source *source, const dg_zeroshot_options *o,
                                int64_t classes, float *out, dg_error *err)
{
    int32_t *caption = dg_inputs_buffer(&t->inputs, "caption");
    int64_t total = classes * (int64_t)o->n_templates,
            length = dg_recipe_int(t->parts->recipe, "data.caption_length");
    char buffer[64], text[512];
    if (!caption)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "data.caption_length", "the model reads no captions");
    for (int64_t at = 0; at < total; at += t->batch) {
        for (int64_t i = 0; i < t->batch && at + i < total; i++) {
            const char *form = o->templates[(at + i) % (int64_t)o->n_templates];
            fill_template(form,
                          dg_source_class_name(source, (int32_t)((at + i) / (int64_t)o->n_templates), buffer,
                                               sizeof buffer),
                          text, sizeof text);
            DG_TRY(dg_vocabulary_encode(t->parts->vocabulary, text, caption + i * length, length, err));
        }
        DG_TRY(run_towers(t, err));
        for (int64_t i = 0; i < t->batch && at + i < total; i++)
            add_unit(t->text + i * t->width, t->width, out + (at + i) / (int64_t)o->n_templates * t->width);
    }
    for (int64_t c = 0; c < classes; c++) {
        float *x = out + c * t->width;
        double scale = unit_scale(x, t->width);
        for (int64_t i = 0; i < t->width; i++) x[i] = (float)((double)x[i] * scale);
    }
    return DG_OK;
}

static void score(const towers *t, const float *classes, int64_t n, const dg_batch *b, float *logits,
                  dg_zeroshot_result *out)
{
    for (int32_t i = 0; i < b->size; i++) {
        if (b->valid[i] == 0 || b->labels[i] < 0) continue;
        for (int64_t c = 0; c < n; c++) {
            double dot = 0;
            for (int64_t k = 0; k < t->width; k++)
                dot += (double)t->image[i * t->width + k] * (double)classes[c * t->width + k];
            logits[c] = (float)dot;
        }
        int64_t rank = dg_rank_of(logits, n, b->labels[i]);
        out->images++;
        out->top1 += rank < 1;
        out->top5 += rank < 5;
    }
}

static dg_status all_images(towers *t, const dg_source *source, const float *classes, int64_t n,
                            dg_zeroshot_result *out, dg_error *err)
{
    dg_loader *loader = NULL;
    dg_loader_config c = dg_evaluation_config(t->parts, t->batch);
    float *logits = dg_calloc((size_t)n, sizeof *logits);
    dg_status s =
        logits ? dg_loader_open(&c, source, &loader, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    int64_t batches = s == DG_OK ? dg_loader_steps_per_epoch(loader) : 0;
    for (int64_t k = 0; k < batches && s == DG_OK; k++) {
        const dg_batch *b;
        s = dg_loader_next(loader, &b, err);
        if (s != DG_OK) break;
        s = dg_inputs_fill(&t->inputs, b, NULL, err);
        if (s == DG_OK) s = run_towers(t, err);
        if (s == DG_OK) score(t, classes, n, b, logits, out);
        dg_loader_release(loader, b);
    }
    dg_loader_close(loader);
    dg_free(logits);
    return s;
}

dg_status dg_zeroshot(const dg_parts *parts, const dg_source *source, const dg_zeroshot_options *o,
                      dg_zeroshot_result *out, dg_error *err)
{
    int64_t n = dg_source_classes(source);
    towers t = {.batch = dg_recipe_int(parts->recipe, "data.batch")};
    memset(out, 0, sizeof *out);
    out->classes = n;
    if (n < 2)
        return dg_fail_key(err, DG_ERR_INVALID, "data.path",
                           "zero-shot needs data with at least two classes (%s)", dg_source_describe(source));
    DG_TRY(check_templates(o, err));
    dg_status s = open_towers(parts, o->weights, &t, err);
    float *classes = s == DG_OK ? dg_calloc((size_t)(n * t.width), sizeof *classes) : NULL;
    if (s == DG_OK && !classes) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = class_features(&t, source, o, n, classes, err);
    if (s == DG_OK) s = all_images(&t, source, classes, n, out, err);
    if (s == DG_OK && out->images == 0) s = dg_fail(err, DG_ERR_INVALID, "there is no image with a label");
    if (s == DG_OK) {
        out->top1 /= (double)out->images;
        out->top5 /= (double)out->images;
    }
    dg_free(classes);
    close_towers(&t);
    return s;
}
