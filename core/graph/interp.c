/* interp.c - runs a program of primitives in double precision; every value stays until the next run. */
#include "graph.h"

#include "base/mem.h"

struct dg_interp {
    const dg_program *p;
    bool round;
    dg_arena arena;
    double **values; /* [n_values][elements] */
    double **staged; /* [n_leaves][elements] room for updates whose new value is itself a leaf; else NULL */
    dg_type *types;  /* room for the widest node */
    const double **in;
    double **out;
};

/* Room for all values and for the widest node; false when out of memory. */
static bool allocate(dg_interp *it)
{
    const dg_program *p = it->p;
    size_t most = 1;
    it->values = dg_arena_alloc(&it->arena, (p->n_values + 1) * sizeof *it->values);
    it->staged = dg_arena_alloc(&it->arena, (p->n_leaves + 1) * sizeof *it->staged);
    if (!it->values || !it->staged) return false;
    for (uint32_t v = 0; v < p->n_values; v++) {
        it->values[v] =
            dg_arena_alloc(&it->arena, (size_t)dg_type_count(&p->values[v].type) * sizeof(double));
        if (!it->values[v]) return false;
    }
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        int32_t update = p->leaves[l].update;
        if (update < 0 || p->values[update].leaf < 0) continue;
        it->staged[l] =
            dg_arena_alloc(&it->arena, (size_t)dg_type_count(&p->values[update].type) * sizeof(double));
        if (!it->staged[l]) return false;
    }
    for (uint32_t n = 0; n < p->n_nodes; n++)
        if ((size_t)p->nodes[n].n_in + p->nodes[n].n_out > most)
            most = (size_t)p->nodes[n].n_in + p->nodes[n].n_out;
    it->types = dg_arena_alloc(&it->arena, most * sizeof *it->types);
    it->in = dg_arena_alloc(&it->arena, most * sizeof *it->in);
    it->out = dg_arena_alloc(&it->arena, most * sizeof *it->out);
    return it->types && it->in && it->out;
}

dg_status dg_interp_create(const dg_program *p, bool round, dg_interp **out, dg_error *err)
{
    *out = NULL;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        const dg_op *op = dg_op_find(p->nodes[n].op);
        if (!op || op->cls != DG_PRIM)
            return dg_fail(err, DG_ERR_UNSUPPORTED,
                           "'%s': node %u in '%s' is '%s', which is no primitive; lower the program first",
                           p->name, n, p->nodes[n].scope, p->nodes[n].op);
    }
    dg_interp *it = dg_calloc(1, sizeof *it);
    if (it) {
        it->p = p;
        it->round = round;
        if (allocate(it)) {
            *out = it;
            return DG_OK;
        }
    }
    dg_interp_destroy(it);
    return dg_fail(err, DG_ERR_NOMEM, "out of memory for the values of the program '%s'", p->name);
}

void dg_interp_destroy(dg_interp *it)
{
    if (!it) return;
    dg_arena_free(&it->arena);
    dg_free(it);
}

double *dg_interp_leaf(dg_interp *it, int32_t leaf)
{
    return it->values[it->p->leaves[leaf].value];
}

const double *dg_interp_value(const dg_interp *it, int32_t value)
{
    return it->values[value];
}

dg_status dg_interp_step(dg_interp *it, uint32_t n, dg_error *err)
{
    const dg_program_node *node = &it->p->nodes[n];
    dg_work work;
    dg_program_work(it->p, n, it->types, &work);
    for (uint32_t k = 0; k < node->n_in; k++) it->in[k] = node->in[k] < 0 ? NULL : it->values[node->in[k]];
    for (uint32_t k = 0; k < node->n_out; k++) it->out[k] = it->values[node->out + (int32_t)k];
    if (dg_eval(&work, it->in, it->out, err) != DG_OK)
        return dg_fail_in(err, "node %u in '%s'", n, node->scope);
    for (uint32_t k = 0; k < node->n_out && it->round; k++)
        dg_round_doubles((dg_dtype)work.out[k].dtype, it->out[k], dg_type_count(&work.out[k]));
    return DG_OK;
}

dg_status dg_interp_run(dg_interp *it, dg_error *err)
{
    for (uint32_t n = 0; n < it->p->n_nodes; n++) DG_TRY(dg_interp_step(it, n, err));
    return DG_OK;
}

void dg_interp_update(dg_interp *it)
{
    const dg_program *p = it->p;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t l = 0; l < p->n_leaves; l++) {
            int32_t update = p->leaves[l].update;
            if (update < 0 || (pass == 0 && !it->staged[l])) continue;
            size_t bytes = (size_t)dg_type_count(&p->values[update].type) * sizeof(double);
            if (pass == 0)
                memcpy(it->staged[l], it->values[update], bytes);
            else
                memcpy(it->values[p->leaves[l].value], it->staged[l] ? it->staged[l] : it->values[update],
                       bytes);
        }
}
