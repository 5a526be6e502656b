/* check_run.c - a small graph run on a backend with made-up inputs; see checks.h. */
#include "checks.h"

#include "digpt/philox.h"

void dg_check_fill(void *ids, const char *name, const dg_type *type, double *out)
{
    uint64_t key = 0;
    for (const char *p = name; *p; p++) key = key * 131 + (unsigned char)*p;
    dg_rng r = dg_rng_make(7, DG_RNG_PLUGIN, key, 1);
    int64_t n = dg_type_count(type);
    for (int64_t i = 0; i < n; i++)
        out[i] = dg_dtype_is_float((dg_dtype)type->dtype)
                     ? dg_rng_normal(&r)
                     : (double)dg_rng_below(&r, (uint32_t) * (int64_t *)ids);
    dg_round_doubles((dg_dtype)type->dtype, out, n);
}

static bool takes(void *user, const dg_work *work)
{
    const dg_component *b = user;
    return ((const dg_backend_interface *)b->ref.factory->interface)->supports(b->self, work);
}

static void complain(void *user, uint32_t node, const char *reason)
{
    dg_str *text = user;
    if (!text->text) dg_str_printf(text, "node %u: %s", node, reason);
}

/* Memory for one run: inputs in their stored form, and room for outputs. */
typedef struct buffers {
    void **in, **out;
} buffers;

static dg_status make_buffers(const dg_program *p, dg_check_filler fill, void *user, buffers *b, size_t *n,
                              dg_error *err)
{
    uint32_t k = 0;
    b->in = dg_calloc(p->n_leaves + 1, sizeof *b->in);
    b->out = dg_calloc(p->n_outputs + 1, sizeof *b->out);
    if (!b->in || !b->out) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        const dg_type *t = &p->values[p->leaves[i].value].type;
        if (p->leaves[i].kind != DG_LEAF_INPUT) continue;
        double *values = dg_calloc((size_t)dg_type_count(t) + 1, sizeof *values);
        b->in[k] = dg_calloc((size_t)dg_type_bytes(t) + 1, 1);
        if (values && b->in[k]) {
            fill(user, p->leaves[i].name, t, values);
            dg_from_doubles((dg_dtype)t->dtype, values, dg_type_count(t), b->in[k]);
        }
        dg_free(values);
        if (!values || !b->in[k++]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < p->n_outputs; i++) {
        const dg_type *t = &p->values[p->outputs[i].value].type;
        b->out[i] = dg_calloc((size_t)dg_type_bytes(t) + 1, 1);
        *n += (size_t)dg_type_count(t);
        if (!b->out[i]) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    }
    return DG_OK;
}

static void free_buffers(const dg_program *p, buffers *b)
{
    for (uint32_t i = 0; b->in && i < p->n_leaves; i++) dg_free(b->in[i]);
    for (uint32_t i = 0; b->out && i < p->n_outputs; i++) dg_free(b->out[i]);
    dg_free(b->in);
    dg_free(b->out);
}

static uint32_t count_inputs(const dg_program *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_leaves; i++) n += p->leaves[i].kind == DG_LEAF_INPUT;
    return n;
}

static dg_status run_program(const dg_component *backend, const dg_program *p, buffers *b, dg_error *err)
{
    const dg_backend_interface *table = backend->ref.factory->interface;
    dg_backend_store *store = NULL;
    dg_backend_exe *exe = NULL;
    dg_str complaint = {0};
    dg_status s = table->check(backend->self, p, complain, &complaint, err);
    if (s != DG_OK && complaint.text) dg_fail(err, s, "%s", complaint.text);
    if (s == DG_OK) s = table->store_create(backend->self, &store, err);
    if (s == DG_OK) s = table->compile(backend->self, p, store, &exe, err);
    if (s == DG_OK) {
        const dg_run run = {
            (uint32_t)sizeof run, count_inputs(p), (const void *const *)b->in, p->n_outputs, 0, b->out};
        s = table->run(exe, &run, err);
    }
    if (exe) table->release(exe);
    if (store) table->store_destroy(store);
    dg_str_free(&complaint);
    return s;
}

dg_status dg_check_run(const dg_component *backend, const dg_graph *g, dg_check_filler fill, void *user,
                       double **out, size_t *n, dg_error *err)
{
    dg_graph *lowered = NULL;
    dg_program *p = NULL;
    buffers b = {NULL, NULL};
    *out = NULL;
    *n = 0;
    dg_status s = dg_pass_lower(g, takes, (void *)(uintptr_t)backend, &lowered, err);
    if (s == DG_OK) s = dg_program_make(lowered, "check", false, &p, err);
    if (s == DG_OK) s = make_buffers(p, fill, user, &b, n, err);
    if (s == DG_OK) s = run_program(backend, p, &b, err);
    if (s == DG_OK && !(*out = dg_calloc(*n + 1, sizeof **out)))
        s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    double *at = *out;
    for (uint32_t i = 0; s == DG_OK && i < p->n_outputs; i++) {
        const dg_type *t = &p->values[p->outputs[i].value].type;
        dg_to_doubles((dg_dtype)t->dtype, b.out[i], dg_type_count(t), at);
        at += dg_type_count(t);
    }
    if (p) free_buffers(p, &b);
    dg_program_destroy(p);
    dg_graph_destroy(lowered);
    return s;
}
