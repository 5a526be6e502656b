/* token_error.c - see token_error.h. */
#include "token_error.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "train/dataset.h"
#include "train/inputs.h"
#include "train/run.h"
#include "train/state.h"
#include "train/tokenize.h"

/* One way of running the tokenizer. */
typedef struct way {
    dg_graph *graph;
    dg_program *program;
    dg_state state;
    dg_inputs inputs;
    dg_backend_exe *exe;
    void **outputs; /* [n_outputs] */
} way;

static void close_way(const dg_parts *parts, way *w)
{
    for (uint32_t k = 0; w->outputs && k < w->program->n_outputs; k++) dg_free(w->outputs[k]);
    dg_free(w->outputs);
    if (w->exe) dg_backend_of(parts)->release(w->exe);
    dg_inputs_close(&w->inputs);
    dg_state_close(&w->state);
    dg_program_destroy(w->program);
    dg_graph_destroy(w->graph);
}

static const dg_type *output_type(const way *w, uint32_t k)
{
    return &w->program->values[w->program->outputs[k].value].type;
}

static dg_status run_way(const dg_parts *parts, const dg_batch *batch, dg_dtype compute, bool int8, way *w,
                         dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(parts);
    DG_TRY(dg_tokenize_graph(parts, batch->size, compute, &w->graph, err));
    DG_TRY(dg_finish_tokens(w->graph, parts, "tokenize", true, int8, &w->program, err));
    DG_TRY(dg_state_open(parts, &w->state, err));
    DG_TRY(dg_state_init(&w->state, w->graph, parts->seed, false, err));
    DG_TRY(dg_inputs_open(parts, w->program, &w->inputs, err));
    DG_TRY(dg_inputs_fill(&w->inputs, batch, NULL, err));
    DG_TRY(b->compile(parts->backend.self, w->program, w->state.store, &w->exe, err));
    w->outputs = dg_calloc(w->program->n_outputs + 1, sizeof *w->outputs);
    for (uint32_t k = 0; w->outputs && k < w->program->n_outputs; k++)
        w->outputs[k] = dg_alloc_aligned((size_t)dg_type_bytes(output_type(w, k)));
    for (uint32_t k = 0; k < w->program->n_outputs; k++)
        if (!w->outputs || !w->outputs[k]) return dg_fail(err, DG_ERR_NOMEM, "no memory for the tokens");
    dg_run io = {.struct_size = (uint32_t)sizeof io,
                 .n_inputs = w->inputs.n,
                 .inputs = w->inputs.data,
                 .n_outputs = w->program->n_outputs,
                 .outputs = w->outputs};
    return b->run(w->exe, &io, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One output of both ways, [..., width]. */
static dg_status compare(const way *exact, const way *other, uint32_t k, dg_str *table, dg_error *err)
{
    const dg_type *t = output_type(exact, k), *u = output_type(other, k);
    const int64_t width = t->dims[t->rank - 1], n = dg_type_count(t) / width;
    double *x = dg_calloc((size_t)(n * width), sizeof *x), *y = dg_calloc((size_t)(n * width), sizeof *y);
    double *cosines = dg_calloc((size_t)n, sizeof *cosines), sum = 0, off = 0, all = 0;
    dg_status s = x && y && cosines ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory to compare tokens");
    if (s == DG_OK) {
        dg_to_doubles((dg_dtype)t->dtype, exact->outputs[k], n * width, x);
        dg_to_doubles((dg_dtype)u->dtype, other->outputs[k], n * width, y);
        for (int64_t i = 0; i < n; i++) {
            double xx = 0, yy = 0, xy = 0;
            for (int64_t j = i * width; j < (i + 1) * width; j++) {
                xx += x[j] * x[j];
                yy += y[j] * y[j];
                xy += x[j] * y[j];
            }
            cosines[i] = xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : xx == yy;
            sum += cosines[i];
            off += xx + yy - 2 * xy;
            all += xx;
        }
        qsort(cosines, (size_t)n, sizeof *cosines, ascending);
        dg_str_printf(table, "%s\t%.6f\t%.6f\t%.6f\t%.4f\n", exact->program->outputs[k].name, sum / (double)n,
                      cosines[n / 100], cosines[0], all > 0 ? sqrt(fmax(off, 0) / all) : 0);
        s = dg_str_check(table, err);
    }
    dg_free(x);
    dg_free(y);
    dg_free(cosines);
    return s;
}

static dg_status both(const dg_parts *parts, const dg_batch *batch, dg_dtype compute, bool int8,
                      dg_str *table, dg_error *err)
{
    way exact = {0}, other = {0};
    dg_status s = run_way(parts, batch, DG_F32, false, &exact, err);
    if (s == DG_OK) s = run_way(parts, batch, compute, int8, &other, err);
    dg_str_printf(table, "LAYER\tMEAN COSINE\t1 %%\tLEAST\tERROR\n");
    for (uint32_t i = 0; s == DG_OK && i < exact.program->n_outputs; i++) {
        uint32_t k = (i + 1) % exact.program->n_outputs; /* the tokens, which come first, last */
        s = compare(&exact, &other, k, table, err);
    }
    close_way(parts, &exact);
    close_way(parts, &other);
    return s;
}

dg_status dg_token_error(const dg_recipe *recipe, const dg_registry *registry, dg_str *table, dg_error *err)
{
    dg_parts parts = {0};
    dg_run_plan plan;
    dg_source *source = NULL;
    dg_loader *loader = NULL;
    const dg_batch *batch = NULL;
    dg_status s = dg_parts_open(recipe, registry, true, &parts, err);
    if (s == DG_OK && parts.tokens.struct_size && parts.tokens.discrete)
        s = dg_fail_key(err, DG_ERR_UNSUPPORTED, "tokenizer", "the tokens are ids, which have no cosine");
    if (s == DG_OK) s = dg_dataset_open(recipe, NULL, &source, err);
    if (s == DG_OK) s = dg_run_make_plan(&parts, dg_source_count(source), &plan, err);
    if (s == DG_OK) {
        const dg_loader_config c = dg_dataset_config(&parts, 0, 1);
        s = dg_loader_open(&c, source, &loader, err);
    }
    if (s == DG_OK) s = dg_loader_next(loader, &batch, err);
    if (s == DG_OK)
        s = both(&parts, batch, plan.compute,
                 strcmp(dg_recipe_string(recipe, "tokenizer.precision"), "int8") == 0, table, err);
    dg_loader_close(loader);
    dg_source_close(source);
    dg_parts_close(&parts);
    return s;
}
