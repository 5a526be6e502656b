/* look.c - running a tokenizer and a model on a few images for their numbers. See look.h. */
#include "look.h"

#include <math.h>

#include "base/mem.h"
#include "train/token_cache.h"
#include "train/tokenize.h"

/* ---- graphs */

static dg_status finish(const dg_parts *parts, dg_graph *g, dg_dtype compute, const char *name,
                        dg_look_program *p, dg_error *err)
{
    dg_graph *narrow = NULL;
    dg_status s = dg_graph_error(g, err);
    if (s == DG_OK) s = dg_pass_precision(g, compute, &narrow, err);
    if (s == DG_OK) s = dg_pass_frozen(narrow, &p->graph, err);
    dg_graph_destroy(narrow);
    if (s == DG_OK) s = dg_finish_program(p->graph, parts, name, false, &p->program, err);
    if (s == DG_OK) s = dg_inputs_open(parts, p->program, &p->inputs, err);
    if (s != DG_OK) return s;
    p->outputs = dg_calloc(p->program->n_outputs + 1, sizeof *p->outputs);
    for (uint32_t i = 0; p->outputs && i < p->program->n_outputs; i++) {
        const dg_type *t = &p->program->values[p->program->outputs[i].value].type;
        p->outputs[i] = dg_calloc((size_t)dg_type_count(t), sizeof(float));
        if (!p->outputs[i])
            return dg_fail(err, DG_ERR_NOMEM, "no memory for the output '%s'", p->program->outputs[i].name);
    }
    return p->outputs ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static void output_f32(dg_graph *g, dg_value v, const char *kind, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", kind, name);
    dg_graph_output(g, dg_convert(g, v, DG_F32), full);
}

static dg_status build_tokenizer(dg_look *l, dg_dtype compute, dg_error *err)
{
    dg_value tokens;
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = dg_tokenize_build(l->parts, g, l->batch, &tokens, err);
    if (s == DG_OK) output_f32(g, tokens, "look", "tokens");
    if (s == DG_OK) s = finish(l->parts, g, compute, "look_tokens", &l->tokenizer, err);
    dg_graph_destroy(g);
    return s;
}

static dg_value declare_tokens(const dg_look *l, dg_graph *g)
{
    const dg_tokenizer_info *t = &l->parts->tokens;
    if (!t->struct_size) return DG_NO_VALUE;
    return t->discrete
               ? dg_input(g, "tokens", DG_I32, DG_LIST(l->batch, dg_token_count(t)), DG_PER_SAMPLE)
               : dg_input(g, "tokens", DG_F32, DG_LIST(l->batch, dg_token_count(t), t->width), DG_PER_SAMPLE);
}

static dg_status declare_prediction(dg_look *l, dg_graph *g, const dg_prediction *x, dg_error *err)
{
    dg_look_prediction *p = &l->predictions[l->n_predictions];
    dg_type t = dg_type_of(g, x->prediction);
    dg_value each;
    if (!l->parts->loss.ref.factory || t.rank != 3) return DG_OK;
    snprintf(p->name, sizeof p->name, "%s", x->name);
    p->positions = t.dims[1];
    p->width = t.dims[2];
    dg_push(g, "loss.%s", x->name);
    dg_status s = dg_loss_of(l->parts)->build(l->parts->loss.self, g, x->prediction, x->target, &each, err);
    dg_pop(g);
    DG_TRY(s);
    t = dg_type_of(g, each);
    if (t.rank != 2 || t.dims[1] != p->positions) return DG_OK;
    output_f32(g, x->prediction, "prediction", p->name);
    output_f32(g, x->target, "target", p->name);
    output_f32(g, each, "loss", p->name);
    if (dg_is_value(x->weight)) output_f32(g, x->weight, "weight", p->name);
    l->n_predictions++;
    return DG_OK;
}

static void declare_features(dg_look *l, dg_graph *g)
{
    dg_value image = dg_graph_tap(g, "image_features"), text = dg_graph_tap(g, "text_features");
    if (!dg_is_value(image) || !dg_is_value(text)) return;
    dg_type a = dg_type_of(g, image), b = dg_type_of(g, text);
    if (a.rank != 2 || a.dims[0] != l->batch || !dg_same_dims(&a, &b)) return;
    l->feature_width = a.dims[1];
    output_f32(g, image, "features", "image");
    output_f32(g, text, "features", "text");
}

static dg_status declare_model(dg_look *l, dg_graph *g, dg_error *err)
{
    const dg_parts *parts = l->parts;
    dg_value image =
        dg_input(g, "image", DG_U8, DG_LIST(l->batch, parts->image_h, parts->image_w, 3), DG_PER_SAMPLE);
    dg_field fields[2] = {{"image", image}};
    dg_model_batch in = {(uint32_t)sizeof in, 1, l->batch, fields, declare_tokens(l, g)};
    dg_model_output out = {.struct_size = (uint32_t)sizeof out, .loss = DG_NO_VALUE};
    int64_t caption = dg_recipe_int(parts->recipe, "data.caption_length");
    if (caption > 0)
        fields[in.n_fields++] =
            (dg_field){"caption", dg_input(g, "caption", DG_I32, DG_LIST(l->batch, caption), DG_PER_SAMPLE)};
    dg_push(g, "model");
    dg_status s = dg_model_of(parts)->build(parts->model.self, g, &in, &out, err);
    dg_pop(g);
    if (s == DG_OK) s = dg_graph_error(g, err);
    for (uint32_t i = 0; s == DG_OK && i < out.n_predictions && i < DG_MAX_PREDICTIONS; i++)
        s = declare_prediction(l, g, &out.predictions[i], err);
    if (s == DG_OK) declare_features(l, g);
    return s;
}

dg_status dg_look_open(const dg_parts *parts, int64_t batch, dg_dtype compute, dg_look *l, dg_error *err)
{
    l->parts = parts;
    l->batch = batch;
    if (parts->tokens.struct_size && !parts->cache) DG_TRY(build_tokenizer(l, compute, err));
    dg_graph *g = dg_graph_create();
    if (!g) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s = declare_model(l, g, err);
    const dg_named_value *outputs;
    if (s == DG_OK && dg_graph_outputs(g, &outputs) > 0)
        s = finish(parts, g, compute, "look_model", &l->model, err);
    dg_graph_destroy(g);
    return s;
}

static void close_program(const dg_look *l, dg_look_program *p)
{
    if (p->exe) dg_backend_of(l->parts)->release(p->exe);
    for (uint32_t i = 0; p->outputs && i < p->program->n_outputs; i++) dg_free(p->outputs[i]);
    dg_free(p->outputs);
    dg_inputs_close(&p->inputs);
    dg_program_destroy(p->program);
    dg_graph_destroy(p->graph);
}

void dg_look_close(dg_look *l)
{
    close_program(l, &l->tokenizer);
    close_program(l, &l->model);
    for (uint32_t i = 0; i < l->n_predictions; i++) {
        dg_look_prediction *p = &l->predictions[i];
        dg_free(p->prediction);
        dg_free(p->loss);
        dg_free(p->weight);
        dg_free(p->place);
    }
    dg_free(l->tokens);
    dg_free(l->image_features);
    dg_free(l->text_features);
    memset(l, 0, sizeof *l);
}

/* ---- running */

static int64_t token_width(const dg_tokenizer_info *t)
{
    return t->discrete ? 1 : t->width;
}

static dg_status run_program(dg_look *l, dg_look_program *p, dg_error *err)
{
    const dg_run io = {(uint32_t)sizeof io,   p->inputs.n, p->inputs.data,
                       p->program->n_outputs, 0,           p->outputs};
    return dg_backend_of(l->parts)->run(p->exe, &io, err);
}

/* Takes an output over: the program gets new room. NULL: there is none of that name. */
static dg_status take(dg_look_program *p, const char *kind, const char *name, float **out, dg_error *err)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", kind, name);
    *out = NULL;
    for (uint32_t i = 0; i < p->program->n_outputs; i++) {
        const dg_type *t = &p->program->values[p->program->outputs[i].value].type;
        if (strcmp(p->program->outputs[i].name, full) != 0) continue;
        *out = dg_calloc((size_t)dg_type_count(t), sizeof **out);
        if (!*out) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        memcpy(*out, p->outputs[i], (size_t)dg_type_count(t) * sizeof **out);
    }
    return DG_OK;
}

/* From the tokenizer, or from a cache. */
static dg_status make_tokens(dg_look *l, const dg_state *state, const dg_batch *batch, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(l->parts);
    const dg_tokenizer_info *t = &l->parts->tokens;
    dg_look_program *p = &l->tokenizer;
    if (l->parts->cache) {
        l->tokens = dg_calloc((size_t)(l->batch * dg_token_count(t) * t->width), sizeof *l->tokens);
        return l->tokens ? dg_token_cache_fill(l->parts->cache, batch, l->tokens, err)
                         : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    DG_TRY(b->compile(l->parts->backend.self, p->program, state->store, &p->exe, err));
    DG_TRY(dg_inputs_fill(&p->inputs, batch, NULL, err));
    DG_TRY(run_program(l, p, err));
    return take(p, "look", "tokens", &l->tokens, err);
}

/* The model reads the images' tokens, or of each token its place. */
static void put_tokens(dg_look *l, bool places)
{
    const dg_tokenizer_info *t = &l->parts->tokens;
    int64_t width = token_width(t), count = dg_token_count(t), n = l->batch * count * width;
    void *dst = dg_inputs_buffer(&l->model.inputs, "tokens");
    for (int64_t i = 0; dst && i < n; i++) {
        float value = places ? (float)(i / width % count) : l->tokens[i];
        if (t->discrete)
            ((int32_t *)dst)[i] = (int32_t)value;
        else
            ((float *)dst)[i] = value;
    }
}

/* put_tokens does it. */
static dg_status leave_tokens(void *user, const char *name, const dg_batch *batch, void *dst, size_t bytes,
                              dg_error *err)
{
    (void)user, (void)batch, (void)dst, (void)bytes;
    return strcmp(name, "tokens") == 0 ? DG_OK
                                       : dg_fail(err, DG_ERR_INTERNAL, "nothing fills the input '%s'", name);
}

/* Target rows of one value each that is a token's number; the class token, the first, is in no cell. */
static dg_status find_places(dg_look *l, dg_look_prediction *p, dg_error *err)
{
    const dg_tokenizer_info *t = &l->parts->tokens;
    int64_t count = dg_token_count(t), rows = l->batch * p->positions, width = token_width(t);
    float *target;
    DG_TRY(take(&l->model, "target", p->name, &target, err));
    p->place = dg_calloc((size_t)rows, sizeof *p->place);
    p->placed = target && p->place;
    for (int64_t i = 0; p->placed && i < rows; i++) {
        float first = target[i * width];
        bool whole = first >= 0 && first < (float)count && first == floorf(first);
        for (int64_t k = 1; k < width; k++) whole = whole && target[i * width + k] == first;
        p->placed = whole;
        p->place[i] = whole ? (int32_t)first - (t->class_token ? 1 : 0) : -1;
    }
    dg_free(target);
    return p->place ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static dg_status take_numbers(dg_look *l, dg_error *err)
{
    for (uint32_t i = 0; i < l->n_predictions; i++) {
        dg_look_prediction *p = &l->predictions[i];
        DG_TRY(take(&l->model, "prediction", p->name, &p->prediction, err));
        DG_TRY(take(&l->model, "loss", p->name, &p->loss, err));
        DG_TRY(take(&l->model, "weight", p->name, &p->weight, err));
    }
    DG_TRY(take(&l->model, "features", "image", &l->image_features, err));
    return take(&l->model, "features", "text", &l->text_features, err);
}

/* As unit vectors. */
static void normalise(float *x, int64_t rows, int64_t width)
{
    for (int64_t i = 0; x && i < rows; i++) {
        double square = 0;
        for (int64_t k = 0; k < width; k++) square += (double)x[i * width + k] * (double)x[i * width + k];
        double scale = square > 0 ? 1 / sqrt(square) : 0;
        for (int64_t k = 0; k < width; k++) x[i * width + k] = (float)((double)x[i * width + k] * scale);
    }
}

dg_status dg_look_run(dg_look *l, const dg_state *state, const dg_batch *batch, dg_error *err)
{
    dg_look_program *m = &l->model;
    if (batch->size != l->batch)
        return dg_fail(err, DG_ERR_INTERNAL, "a look at %lld images is given %d", (long long)l->batch,
                       batch->size);
    if (l->parts->tokens.struct_size) DG_TRY(make_tokens(l, state, batch, err));
    if (!m->program) return DG_OK;
    DG_TRY(dg_backend_of(l->parts)->compile(l->parts->backend.self, m->program, state->store, &m->exe, err));
    m->inputs.fill = leave_tokens;
    DG_TRY(dg_inputs_fill(&m->inputs, batch, NULL, err));
    put_tokens(l, false);
    DG_TRY(run_program(l, m, err));
    DG_TRY(take_numbers(l, err));
    normalise(l->image_features, l->batch, l->feature_width);
    normalise(l->text_features, l->batch, l->feature_width);
    if (l->n_predictions == 0) return DG_OK;
    put_tokens(l, true);
    DG_TRY(run_program(l, m, err));
    for (uint32_t i = 0; i < l->n_predictions; i++) DG_TRY(find_places(l, &l->predictions[i], err));
    return DG_OK;
}

const void *dg_look_input(dg_look *l, const char *name, dg_type *type)
{
    char full[96];
    snprintf(full, sizeof full, "model.%s", name);
    for (uint32_t i = 0; i < l->model.inputs.n; i++)
        if (strcmp(l->model.inputs.name[i], full) == 0) {
            *type = l->model.inputs.type[i];
            return l->model.inputs.data[i];
        }
    return NULL;
}
