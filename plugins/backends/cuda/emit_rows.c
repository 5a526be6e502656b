/* emit_rows.c - steps of the ops that work row by row, of rows by index, of patches, and of the optimizer. */
#include "cuda.h"

static const dg_program_node *node_at(const dg_cuda_plan *c, uint32_t n)
{
    return &c->p->nodes[n];
}

/* May four elements at a time be read and written there? */
static bool fours(const void *p, int32_t dtype)
{
    return dg_cuda_aligned(p, 4 * dg_dtype_size((dg_dtype)dtype));
}

/* ---- norms, softmax, cross-entropy */

void dg_cuda_emit_layer_norm(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cuda_type(c, n->in[0]), *y = dg_cuda_type(c, n->out);
    dg_cuda_layer_norm a = {.x = dg_cuda_in(c, n->in[0]),
                            .gamma = dg_cuda_in(c, n->in[1]),
                            .beta = dg_cuda_in(c, n->in[2]),
                            .y = dg_cuda_out(c, n->out),
                            .mean = dg_cuda_out(c, n->out + 1),
                            .rstd = dg_cuda_out(c, n->out + 2),
                            .width = dg_cuda_last_dim(x),
                            .x_dtype = x->dtype,
                            .y_dtype = y->dtype,
                            .eps = (float)dg_cuda_real(n, "eps")};
    a.rows = dg_type_count(x) / a.width;
    a.vector = a.width % 4 == 0 && fours(a.x, x->dtype) && fours(a.y, y->dtype) && fours(a.gamma, DG_F32) &&
               fours(a.beta, DG_F32);
    DG_CUDA_STEP(c, dg_cuda_launch_layer_norm, a);
}

void dg_cuda_emit_layer_norm_grad(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cuda_type(c, n->in[1]);
    int64_t width = dg_cuda_last_dim(x), rows = dg_type_count(x) / width,
            blocks = dg_cuda_layer_norm_grad_blocks(rows);
    float *partial =
        dg_cuda_scratch(c, (uint64_t)(2 * blocks * width) * sizeof *partial); // [2, blocks, width]
    dg_cuda_layer_norm_grad a = {.dy = dg_cuda_in(c, n->in[0]),
                                 .x = dg_cuda_in(c, n->in[1]),
                                 .mean = dg_cuda_in(c, n->in[2]),
                                 .rstd = dg_cuda_in(c, n->in[3]),
                                 .gamma = dg_cuda_in(c, n->in[4]),
                                 .dx = dg_cuda_out(c, n->out),
                                 .partial = partial,
                                 .rows = rows,
                                 .width = width,
                                 .blocks = blocks,
                                 .x_dtype = x->dtype,
                                 .dy_dtype = dg_cuda_type(c, n->in[0])->dtype};
    DG_CUDA_STEP(c, dg_cuda_launch_layer_norm_grad, a);
    for (int k = 0; k < 2; k++) {
        const float *sums = partial ? partial + k * blocks * width : NULL;
        dg_cuda_emit_reduction(c, sums, DG_F32, 1, blocks, width, dg_cuda_out(c, n->out + 1 + k), DG_F32,
                               false);
    }
}

static void emit_row_op(dg_cuda_plan *c, const dg_program_node *n, dg_cuda_launch launch, dg_cuda_rows a)
{
    const dg_type *t = dg_cuda_type(c, n->in[0]);
    a.x = dg_cuda_in(c, n->in[0]);
    a.out = dg_cuda_out(c, n->out);
    a.dtype = t->dtype;
    a.out_dtype = dg_cuda_type(c, n->out)->dtype;
    a.width = dg_cuda_last_dim(t);
    a.rows = dg_type_count(t) / a.width;
    DG_CUDA_STEP(c, launch, a);
}

void dg_cuda_emit_softmax(dg_cuda_plan *c, uint32_t i)
{
    emit_row_op(c, node_at(c, i), dg_cuda_launch_softmax, (dg_cuda_rows){0});
}

void dg_cuda_emit_normalize(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cuda_rows a = {.rnorm = dg_cuda_out(c, n->out + 1), .eps = (float)dg_cuda_real(n, "eps")};
    emit_row_op(c, n, dg_cuda_launch_normalize, a);
}

void dg_cuda_emit_normalize_grad(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cuda_rows a = {.y = dg_cuda_in(c, n->in[1]),
                      .y_dtype = dg_cuda_type(c, n->in[1])->dtype,
                      .rnorm = (float *)dg_cuda_in(c, n->in[2]), /* only read */
                      .eps = (float)dg_cuda_real(n, "eps")};
    emit_row_op(c, n, dg_cuda_launch_normalize_grad, a);
}

static dg_cuda_entropy entropy_of(dg_cuda_plan *c, const dg_program_node *n, uint32_t x)
{
    const dg_type *t = dg_cuda_type(c, n->in[x]);
    const void *target = dg_cuda_in(c, n->in[x + 1]);
    bool ids = dg_cuda_type(c, n->in[x + 1])->dtype == DG_I32;
    return (dg_cuda_entropy){.x = dg_cuda_in(c, n->in[x]),
                             .ids = ids ? target : NULL,
                             .soft = ids ? NULL : target,
                             .rows = dg_type_count(t) / dg_cuda_last_dim(t),
                             .classes = dg_cuda_last_dim(t),
                             .dtype = t->dtype,
                             .smoothing = (float)dg_cuda_real(n, "smoothing")};
}

void dg_cuda_emit_cross_entropy(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cuda_entropy a = entropy_of(c, n, 0);
    a.loss = dg_cuda_out(c, n->out);
    a.lse = dg_cuda_out(c, n->out + 1);
    DG_CUDA_STEP(c, dg_cuda_launch_cross_entropy, a);
}

void dg_cuda_emit_cross_entropy_grad(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cuda_entropy a = entropy_of(c, n, 1);
    a.dy = dg_cuda_in(c, n->in[0]);
    a.lse = (float *)dg_cuda_in(c, n->in[3]); /* only read */
    a.dx = dg_cuda_out(c, n->out);
    DG_CUDA_STEP(c, dg_cuda_launch_cross_entropy_grad, a);
}

/* ---- rows by index */

/* Elements of a row: what is behind the axes of the ids (and of the batch). */
static int64_t row_width(const dg_type *table, bool batch)
{
    int64_t n = 1;
    for (int a = 1 + batch; a < table->rank; a++) n *= table->dims[a];
    return n;
}

void dg_cuda_emit_gather(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cuda_type(c, n->in[0]), *ids = dg_cuda_type(c, n->in[1]);
    bool batch = dg_cuda_int(n, "batch") != 0;
    dg_cuda_gather a = {.x = dg_cuda_in(c, n->in[0]),
                        .ids = dg_cuda_in(c, n->in[1]),
                        .out = dg_cuda_out(c, n->out),
                        .groups = batch ? x->dims[0] : 1,
                        .rows = x->dims[batch],
                        .bytes = row_width(x, batch) * (int64_t)dg_dtype_size((dg_dtype)x->dtype),
                        .size = 16};
    a.per_group = dg_type_count(ids) / a.groups;
    while (a.bytes % a.size || !dg_cuda_aligned(a.x, (uintptr_t)a.size) ||
           !dg_cuda_aligned(a.out, (uintptr_t)a.size))
        a.size = a.size == 16 ? 4 : a.size / 2;
    DG_CUDA_STEP(c, dg_cuda_launch_gather, a);
}

void dg_cuda_emit_scatter_add(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *out = dg_cuda_type(c, n->out);
    bool batch = dg_cuda_int(n, "batch") != 0;
    dg_cuda_scatter a = {.ids = dg_cuda_in(c, n->in[0]),
                         .updates = dg_cuda_in(c, n->in[1]),
                         .out = dg_cuda_out(c, n->out),
                         .groups = batch ? out->dims[0] : 1,
                         .rows = out->dims[batch],
                         .width = row_width(out, batch),
                         .dtype = out->dtype};
    a.per_group = dg_type_count(dg_cuda_type(c, n->in[0])) / a.groups;
    DG_CUDA_STEP(c, dg_cuda_launch_scatter_add, a);
}

/* ---- patches, optimizer */

void dg_cuda_emit_patchify(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *t = dg_cuda_type(c, n->in[0]), *out = dg_cuda_type(c, n->out);
    dg_cuda_patchify a = {.image = dg_cuda_in(c, n->in[0]),
                          .out = dg_cuda_out(c, n->out),
                          .b = t->dims[0],
                          .height = t->dims[1],
                          .width = t->dims[2],
                          .channels = (int32_t)t->dims[3],
                          .ph = (int32_t)dg_cuda_int(n, "patch_h"),
                          .pw = (int32_t)dg_cuda_int(n, "patch_w"),
                          .channel_last = dg_cuda_int(n, "channel_last") != 0,
                          .in_dtype = t->dtype,
                          .out_dtype = out->dtype};
    for (int k = 0; k < a.channels; k++) {
        a.scale[k] = (float)dg_cuda_attr(n, "scale")->v.fs[k];
        a.shift[k] = (float)dg_cuda_attr(n, "shift")->v.fs[k];
    }
    DG_CUDA_STEP(c, dg_cuda_launch_patchify, a);
}

void dg_cuda_emit_adamw(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    double beta1 = dg_cuda_real(n, "beta1"), beta2 = dg_cuda_real(n, "beta2");
    dg_cuda_adamw a = {.p = dg_cuda_in(c, n->in[0]),
                       .grad = dg_cuda_in(c, n->in[1]),
                       .m = dg_cuda_in(c, n->in[2]),
                       .v = dg_cuda_in(c, n->in[3]),
                       .scalars = dg_cuda_in(c, n->in[4]),
                       .ok = dg_cuda_in(c, n->in[5]),
                       .p_new = dg_cuda_out(c, n->out),
                       .m_new = dg_cuda_out(c, n->out + 1),
                       .v_new = dg_cuda_out(c, n->out + 2),
                       .count = dg_type_count(dg_cuda_type(c, n->in[0])),
                       .beta1 = (float)beta1,
                       .beta2 = (float)beta2,
                       .one_less_beta1 = (float)(1 - beta1),
                       .one_less_beta2 = (float)(1 - beta2),
                       .eps = (float)dg_cuda_real(n, "eps"),
                       .lr_scale = (float)dg_cuda_real(n, "lr_scale"),
                       .decay = (float)dg_cuda_real(n, "decay")};
    const void *all[] = {a.p, a.grad, a.m, a.v, a.p_new, a.m_new, a.v_new};
    a.vector = 1;
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) a.vector &= fours(all[k], DG_F32);
    DG_CUDA_STEP(c, dg_cuda_launch_adamw, a);
}
