/* emit_attention.c - steps of attention and its adjoint. */
#include "cuda.h"

#include <math.h>

/* Rows of heads: dense, or apart by *row elements through the view. */
static const void *rows_of(dg_cuda_plan *c, int32_t v, int64_t *row)
{
    const dg_cuda_value *value = &c->values[v];
    const dg_type *t = dg_cuda_type(c, v); // [b, n, h d]
    if (value->own || dg_cuda_is_dense(value->view.stride, t)) {
        *row = t->dims[2];
        return dg_cuda_in(c, v);
    }
    *row = t->dims[1] > 1 ? value->view.stride[1] : value->view.stride[0];
    const char *root = dg_cuda_in_root(c, value->view.root);
    return root ? root + value->view.offset * (int64_t)dg_dtype_size((dg_dtype)t->dtype) : NULL;
}

/* What both directions share; the groups stand at `extra`. */
static dg_cuda_attention attention_of(dg_cuda_plan *c, const dg_program_node *n, uint32_t q, uint32_t extra)
{
    const dg_type *tq = dg_cuda_type(c, n->in[q]), *tk = dg_cuda_type(c, n->in[q + 1]);
    double scale = dg_cuda_real(n, "scale");
    dg_cuda_attention a = {.b = tq->dims[0],
                           .nq = tq->dims[1],
                           .nk = tk->dims[1],
                           .h = (int32_t)dg_cuda_int(n, "heads"),
                           .dtype = tq->dtype,
                           .strict = dg_cuda_int(n, "strict") != 0};
    a.d = (int32_t)(tq->dims[2] / a.h);
    a.scale = (float)(scale != 0 ? scale : 1 / sqrt((double)a.d));
    a.q = rows_of(c, n->in[q], &a.q_row);
    a.k = rows_of(c, n->in[q + 1], &a.k_row);
    a.v = rows_of(c, n->in[q + 2], &a.v_row);
    if (n->in[extra] < 0) return a;
    a.group_q = dg_cuda_in(c, n->in[extra]);
    a.group_k = dg_cuda_in(c, n->in[extra + 1]);
    a.group_q_each = dg_cuda_type(c, n->in[extra])->dims[0] > 1;
    a.group_k_each = dg_cuda_type(c, n->in[extra + 1])->dims[0] > 1;
    return a;
}

void dg_cuda_emit_attention(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cuda_attention a = attention_of(c, n, 0, 3);
    a.y = dg_cuda_out(c, n->out);
    a.lse = dg_cuda_out(c, n->out + 1);
    DG_CUDA_STEP(c, dg_cuda_flash_takes(&a) ? dg_cuda_launch_flash : dg_cuda_launch_attention, a);
}

void dg_cuda_emit_attention_grad(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cuda_attention a = attention_of(c, n, 1, 6);
    dg_cuda_chain zero;
    const dg_type *dbias = dg_cuda_type(c, n->out + 3);
    a.dy = rows_of(c, n->in[0], &a.dy_row);
    a.y_in = rows_of(c, n->in[4], &a.y_row);
    a.lse_in = dg_cuda_in(c, n->in[5]);
    a.delta = dg_cuda_scratch(c, (uint64_t)(a.b * a.h * a.nq) * sizeof(float));
    a.dq = dg_cuda_out(c, n->out);
    a.dk = dg_cuda_out(c, n->out + 1);
    a.dv = dg_cuda_out(c, n->out + 2);
    DG_CUDA_STEP(c, dg_cuda_flash_takes(&a) ? dg_cuda_launch_flash_grad : dg_cuda_launch_attention_grad, a);
    dg_cuda_chain_fill(&zero, dbias, 0); /* there is no bias */
    dg_cuda_chain_emit(c, &zero, dbias->dtype, dg_cuda_out(c, n->out + 3), NULL);
}
