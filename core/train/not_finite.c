/* not_finite.c - see not_finite.h. */
#include "not_finite.h"

#include "base/mem.h"

typedef struct search {
    const dg_inputs *inputs; /* of the step */
    uint32_t ranks;          /* over which the counts are summed */
    const dg_parts *parts;
    dg_program *program; /* its last n outputs f32[] are the counts, in the order of the pass */
    char **names;        /* [n] of what was counted */
    size_t n;
} search;

static dg_status count_node(search *s, dg_graph *g, int32_t i, dg_error *err)
{
    const dg_node *node = dg_graph_node(g, i);
    char name[640];
    if (!dg_dtype_is_float((dg_dtype)node->out[0].dtype)) return DG_OK;
    if (node->leaf)
        snprintf(name, sizeof name, "%s", node->leaf->name);
    else
        snprintf(name, sizeof name, "%s in '%s'", node->op->name, node->scope);
    s->names[s->n] = dg_strdup(name);
    if (!s->names[s->n]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_value bad = dg_convert(g, dg_not(g, dg_is_finite(g, (dg_value){i, 0})), DG_F32);
    bad = dg_reduce_sum(g, dg_reshape(g, bad, DG_LIST(-1)), DG_LIST(0), false, DG_NONE); // []
    if (s->ranks > 1) bad = dg_all_reduce(g, bad);
    snprintf(name, sizeof name, "bad.%zu", s->n++);
    dg_graph_output(g, bad, name);
    return dg_graph_error(g, err);
}

static dg_status build(search *s, const dg_graph *forward, dg_error *err)
{
    dg_graph *g = NULL;
    DG_TRY(dg_rewrite(forward, NULL, NULL, &g, err));
    int32_t count = dg_graph_count(g);
    s->names = dg_calloc((size_t)count + 1, sizeof *s->names);
    dg_status status = s->names ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_graph_set_scope(g, "not_finite");
    for (int32_t i = 0; i < count && status == DG_OK; i++) status = count_node(s, g, i, err);
    if (status == DG_OK) status = dg_finish_program(g, s->parts, "not_finite", false, &s->program, err);
    dg_graph_destroy(g);
    return status;
}

static dg_status run(const search *s, const dg_state *state, const dg_batch *batch, float *bad, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(s->parts);
    uint32_t n_outputs = s->program->n_outputs;
    dg_backend_exe *exe = NULL;
    dg_inputs in = {.ranks = s->inputs->ranks};
    void **outputs = dg_calloc(n_outputs, sizeof *outputs);
    dg_status status = outputs ? dg_inputs_open(s->parts, s->program, &in, err)
                               : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    in.fill = s->inputs->fill; /* a task's own inputs */
    in.user = s->inputs->user;
    if (status == DG_OK) status = dg_inputs_fill(&in, batch, NULL, err);
    if (status == DG_OK) status = b->compile(s->parts->backend.self, s->program, state->store, &exe, err);
    for (size_t i = 0; outputs && i < s->n; i++) outputs[n_outputs - s->n + i] = &bad[i];
    const dg_run io = {(uint32_t)sizeof io, in.n, in.data, n_outputs, in.ranks, outputs};
    if (status == DG_OK) status = b->run(exe, &io, err);
    if (exe) b->release(exe);
    dg_inputs_close(&in);
    dg_free(outputs);
    return status;
}

dg_status dg_find_not_finite(const dg_inputs *inputs, const dg_step *step, const dg_state *state,
                             const dg_batch *batch, char *out, size_t size, dg_error *err)
{
    search s = {.inputs = inputs, .ranks = step->ranks, .parts = inputs->parts};
    dg_status status = build(&s, step->forward, err);
    float *bad = status == DG_OK ? dg_calloc(s.n + 1, sizeof *bad) : NULL;
    if (status == DG_OK)
        status = bad ? run(&s, state, batch, bad, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (status == DG_OK) {
        size_t i = 0;
        while (i < s.n && !(bad[i] > 0)) i++;
        if (i < s.n)
            snprintf(out, size, "%s (%.0f element%s)", s.names[i], (double)bad[i], bad[i] == 1 ? "" : "s");
        else
            snprintf(out, size, "none of the forward pass; a gradient is not finite");
    }
    dg_free(bad);
    for (size_t i = 0; s.names && i < s.n; i++) dg_free(s.names[i]);
    dg_free(s.names);
    dg_program_destroy(s.program);
    return status;
}
