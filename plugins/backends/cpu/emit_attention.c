/* emit_attention.c - steps of attention and its adjoint. */
#include "cpu.h"

#include <math.h>

/* An operand [batch, tokens, width], perhaps part of a wider row. */
static dg_cpu_heads operand(dg_cpu_plan *c, int32_t v)
{
    const dg_cpu_value *value = &c->values[v];
    const dg_type *t = dg_cpu_type(c, v);
    if (value->own || value->view.stride[2] != 1)
        return (dg_cpu_heads){(void *)dg_cpu_in(c, v), t->dims[1] * t->dims[2], t->dims[2]};
    const char *at = dg_cpu_in_root(c, value->view.root);
    int64_t offset = value->view.offset * (int64_t)dg_dtype_size((dg_dtype)t->dtype);
    return (dg_cpu_heads){(void *)(at ? at + offset : NULL), value->view.stride[0], value->view.stride[1]};
}

static dg_cpu_heads result(dg_cpu_plan *c, int32_t v)
{
    const dg_type *t = dg_cpu_type(c, v);
    return (dg_cpu_heads){dg_cpu_out(c, v), t->dims[1] * t->dims[2], t->dims[2]};
}

/* What both directions share: q, k, v at inputs q..q+2, groups and bias from `extra` on. */
static dg_cpu_attention attention_of(dg_cpu_plan *c, const dg_program_node *n, uint32_t q, uint32_t extra)
{
    const dg_type *tq = dg_cpu_type(c, n->in[q]), *tk = dg_cpu_type(c, n->in[q + 1]);
    int64_t heads = dg_cpu_int(n, "heads");
    double scale = dg_cpu_real(n, "scale");
    dg_cpu_attention a = {.dtype = tq->dtype,
                          .batch = tq->dims[0],
                          .heads = heads,
                          .nq = tq->dims[1],
                          .nk = tk->dims[1],
                          .d = tq->dims[2] / heads,
                          .strict = dg_cpu_int(n, "strict") != 0,
                          .q = operand(c, n->in[q]),
                          .k = operand(c, n->in[q + 1]),
                          .v = operand(c, n->in[q + 2]),
                          .group_q = dg_cpu_in(c, n->in[extra]),
                          .group_k = dg_cpu_in(c, n->in[extra + 1]),
                          .bias = dg_cpu_in(c, n->in[extra + 2])};
    a.scale = (float)(scale != 0 ? scale : 1 / sqrt((double)a.d));
    if (n->in[extra] >= 0 && dg_cpu_type(c, n->in[extra])->dims[0] > 1) a.group_q_stride = a.nq;
    if (n->in[extra + 1] >= 0 && dg_cpu_type(c, n->in[extra + 1])->dims[0] > 1) a.group_k_stride = a.nk;
    if (n->in[extra + 2] >= 0 && dg_cpu_type(c, n->in[extra + 2])->dims[0] > 1)
        a.bias_stride = heads * a.nq * a.nk;
    return a;
}

void dg_cpu_emit_attention(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cpu_attention a = attention_of(c, n, 0, 3);
    a.y = result(c, n->out);
    a.lse = dg_cpu_out(c, n->out + 1);
    DG_CPU_STEP(c, c->cpu->kernels->attention, a, a.batch * a.heads, 1,
                c->cpu->kernels->attention_scratch(&a, false));
}

void dg_cpu_emit_attention_grad(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cpu_attention a = attention_of(c, n, 1, 6);
    a.dy = operand(c, n->in[0]);
    a.y = operand(c, n->in[4]);
    a.lse = (float *)dg_cpu_in(c, n->in[5]); /* read only */
    a.dq = result(c, n->out);
    a.dk = result(c, n->out + 1);
    a.dv = result(c, n->out + 2);
    void *dbias = dg_cpu_out(c, n->out + 3);
    bool biased = n->in[8] >= 0;
    if (biased) a.dbias = dbias;
    bool shared = biased && a.bias_stride == 0; /* samples add to one bias, in order */
    DG_CPU_STEP(c, c->cpu->kernels->attention_grad, a, shared ? a.heads : a.batch * a.heads, 1,
                c->cpu->kernels->attention_scratch(&a, true));
    if (biased) return;
    dg_cpu_recode zero = {NULL, dbias, 1};
    DG_CPU_STEP(c, c->cpu->kernels->zero, zero, 1, 1, 0);
}
