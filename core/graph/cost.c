/* cost.c - what a program costs, counted from its shapes: FLOPs of its products (2mnk), bytes, parameters. */
#include "graph.h"

static double matmul_flops(const dg_work *w)
{
    const dg_type *a = &w->in[0];
    double k = (double)a->dims[a->rank - (dg_attr_int(w->attrs, w->n_attrs, "ta") ? 2 : 1)];
    return 2.0 * k * (double)dg_type_count(&w->out[0]);
}

static double linear_flops(const dg_work *w)
{
    return 2.0 * (double)w->in[1].dims[1] * (double)dg_type_count(&w->out[0]);
}

/* Two products forward (q k', p v), five backward (p again, dv, dp, dq, dk): as if no key were masked. */
static double attention_products(const dg_type *q, const dg_type *k)
{
    return 2.0 * (double)dg_type_count(q) * (double)k->dims[1];
}

static double attention_flops(const dg_work *w)
{
    return 2 * attention_products(&w->in[0], &w->in[1]);
}
static double attention_grad_flops(const dg_work *w)
{
    return 5 * attention_products(&w->in[1], &w->in[2]);
}

double dg_work_flops(const dg_work *w)
{
    static const struct {
        const char *op;
        double (*flops)(const dg_work *w);
    } rules[] = {
        {"matmul", matmul_flops},
        {"linear", linear_flops},
        {"linear_int8", linear_flops},
        {"attention", attention_flops},
        {"attention_grad", attention_grad_flops},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(w->op, rules[i].op) == 0) return rules[i].flops(w);
    return 0;
}

dg_cost dg_program_cost(const dg_program *p)
{
    dg_cost c = {0, 0, 0, 0};
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        int64_t n = dg_type_count(&p->values[p->leaves[i].value].type);
        if (p->leaves[i].kind == DG_LEAF_PARAM) c.parameters += n;
        if (p->leaves[i].kind == DG_LEAF_FROZEN) c.frozen += n;
    }
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        const dg_program_node *n = &p->nodes[i];
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0) c.bytes += (double)dg_type_bytes(&p->values[n->in[k]].type);
        for (uint32_t k = 0; k < n->n_out; k++)
            c.bytes += (double)dg_type_bytes(&p->values[n->out + (int32_t)k].type);
        if (n->n_in + n->n_out > DG_WORK_MAX_IN) continue; /* a long concat: no products */
        dg_type types[DG_WORK_MAX_IN];
        dg_work work;
        dg_program_work(p, i, types, &work);
        c.flops += dg_work_flops(&work);
    }
    return c;
}
