/* emit_rows.c - steps of the ops that work row by row, of rows by index, of patches, and of the optimizer. */
#include "cpu.h"

static const dg_program_node *node_at(const dg_cpu_plan *c, uint32_t n)
{
    return &c->p->nodes[n];
}

static int64_t last_dim(const dg_type *t)
{
    return t->rank ? t->dims[t->rank - 1] : 1;
}

/* Rows of a piece of work: some 16 Ki elements. */
static int64_t grain_of(int64_t width)
{
    return width >= 16384 ? 1 : 16384 / width;
}

static int64_t row_scratch(int64_t width)
{
    return 2 * width * (int64_t)sizeof(float);
}

/* ---- norms, softmax, cross-entropy */

void dg_cpu_emit_layer_norm(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cpu_type(c, n->in[0]), *y = dg_cpu_type(c, n->out);
    dg_cpu_layer_norm a = {.x = dg_cpu_in(c, n->in[0]),
                           .x_dtype = x->dtype,
                           .y_dtype = y->dtype,
                           .gamma = dg_cpu_in(c, n->in[1]),
                           .beta = dg_cpu_in(c, n->in[2]),
                           .y = dg_cpu_out(c, n->out),
                           .mean = dg_cpu_out(c, n->out + 1),
                           .rstd = dg_cpu_out(c, n->out + 2),
                           .width = last_dim(x),
                           .eps = (float)dg_cpu_real(n, "eps")};
    DG_CPU_STEP(c, c->cpu->kernels->layer_norm, a, dg_type_count(x) / a.width, grain_of(a.width),
                row_scratch(a.width));
}

void dg_cpu_emit_layer_norm_grad(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cpu_type(c, n->in[1]);
    int64_t width = last_dim(x), rows = dg_type_count(x) / width,
            chunks = (rows + DG_CPU_CHUNK - 1) / DG_CPU_CHUNK;
    float *partial = dg_cpu_scratch(c, (uint64_t)(chunks * 2 * width) * sizeof *partial);
    float *sums = dg_cpu_scratch(c, (uint64_t)(2 * width) * sizeof *sums);
    dg_cpu_layer_norm_grad a = {.dy = dg_cpu_in(c, n->in[0]),
                                .x = dg_cpu_in(c, n->in[1]),
                                .dy_dtype = dg_cpu_type(c, n->in[0])->dtype,
                                .x_dtype = x->dtype,
                                .mean = dg_cpu_in(c, n->in[2]),
                                .rstd = dg_cpu_in(c, n->in[3]),
                                .gamma = dg_cpu_in(c, n->in[4]),
                                .dx = dg_cpu_out(c, n->out),
                                .partial = partial,
                                .rows = rows,
                                .width = width};
    float *dgamma = dg_cpu_out(c, n->out + 1), *dbeta = dg_cpu_out(c, n->out + 2);
    DG_CPU_STEP(c, c->cpu->kernels->layer_norm_grad, a, chunks, 1, row_scratch(width));
    dg_cpu_emit_reduction(c, partial, DG_F32, 1, chunks, 2 * width, sums, DG_F32, false);
    /* The two halves of the sums, to where they belong. */
    dg_cpu_recode halves[] = {{sums, dgamma, width}, {sums ? sums + width : NULL, dbeta, width}};
    int64_t blocks = (width + DG_CPU_BLOCK - 1) / DG_CPU_BLOCK;
    for (int k = 0; k < 2; k++) DG_CPU_STEP(c, c->cpu->kernels->copy, halves[k], blocks, 32, 0);
}

static void emit_row_op(dg_cpu_plan *c, const dg_program_node *n, dg_cpu_kernel kernel, dg_cpu_rows a)
{
    const dg_type *t = dg_cpu_type(c, n->in[0]);
    a.x = dg_cpu_in(c, n->in[0]);
    a.out = dg_cpu_out(c, n->out);
    a.dtype = t->dtype;
    a.width = last_dim(t);
    DG_CPU_STEP(c, kernel, a, dg_type_count(t) / a.width, grain_of(a.width), row_scratch(a.width));
}

void dg_cpu_emit_softmax(dg_cpu_plan *c, uint32_t i)
{
    emit_row_op(c, node_at(c, i), c->cpu->kernels->softmax, (dg_cpu_rows){0});
}

void dg_cpu_emit_normalize(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cpu_rows a = {.rnorm = dg_cpu_out(c, n->out + 1), .eps = (float)dg_cpu_real(n, "eps")};
    emit_row_op(c, n, c->cpu->kernels->normalize, a);
}

void dg_cpu_emit_normalize_grad(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    /* The kernel only reads what it is given here. */
    dg_cpu_rows a = {.y = dg_cpu_in(c, n->in[1]),
                     .rnorm = (float *)dg_cpu_in(c, n->in[2]),
                     .eps = (float)dg_cpu_real(n, "eps")};
    emit_row_op(c, n, c->cpu->kernels->normalize_grad, a);
}

static dg_cpu_entropy entropy_of(dg_cpu_plan *c, const dg_program_node *n, uint32_t x)
{
    const dg_type *t = dg_cpu_type(c, n->in[x]);
    dg_cpu_entropy a = {.x = dg_cpu_in(c, n->in[x]),
                        .dtype = t->dtype,
                        .classes = last_dim(t),
                        .smoothing = (float)dg_cpu_real(n, "smoothing")};
    const void *target = dg_cpu_in(c, n->in[x + 1]);
    if (dg_cpu_type(c, n->in[x + 1])->dtype == DG_I32)
        a.ids = target;
    else
        a.soft = target;
    return a;
}

void dg_cpu_emit_cross_entropy(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cpu_entropy a = entropy_of(c, n, 0);
    a.loss = dg_cpu_out(c, n->out);
    a.lse = dg_cpu_out(c, n->out + 1);
    DG_CPU_STEP(c, c->cpu->kernels->cross_entropy, a, dg_type_count(dg_cpu_type(c, n->out)),
                grain_of(a.classes), row_scratch(a.classes));
}

void dg_cpu_emit_cross_entropy_grad(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    dg_cpu_entropy a = entropy_of(c, n, 1);
    a.dy = dg_cpu_in(c, n->in[0]);
    a.lse = (float *)dg_cpu_in(c, n->in[3]); /* read only */
    a.dx = dg_cpu_out(c, n->out);
    DG_CPU_STEP(c, c->cpu->kernels->cross_entropy_grad, a, dg_type_count(dg_cpu_type(c, n->in[0])),
                grain_of(a.classes), row_scratch(a.classes));
}

/* ---- rows by index */

/* Elements of a row: what is behind the axes of the ids (and of the batch). */
static int64_t row_width(const dg_type *table, bool batch)
{
    int64_t n = 1;
    for (int a = 1 + batch; a < table->rank; a++) n *= table->dims[a];
    return n;
}

void dg_cpu_emit_gather(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *x = dg_cpu_type(c, n->in[0]), *ids = dg_cpu_type(c, n->in[1]);
    bool batch = dg_cpu_int(n, "batch") != 0;
    int64_t count = dg_type_count(ids);
    dg_cpu_gather a = {.x = dg_cpu_in(c, n->in[0]),
                       .ids = dg_cpu_in(c, n->in[1]),
                       .out = dg_cpu_out(c, n->out),
                       .per_group = batch ? count / x->dims[0] : count,
                       .rows = x->dims[batch],
                       .bytes = row_width(x, batch) * (int64_t)dg_dtype_size((dg_dtype)x->dtype)};
    DG_CPU_STEP(c, c->cpu->kernels->gather, a, count, grain_of(a.bytes), 0);
}

void dg_cpu_emit_scatter_add(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *out = dg_cpu_type(c, n->out), *ids = dg_cpu_type(c, n->in[0]);
    bool batch = dg_cpu_int(n, "batch") != 0;
    dg_cpu_scatter a = {.ids = dg_cpu_in(c, n->in[0]),
                        .updates = dg_cpu_in(c, n->in[1]),
                        .out = dg_cpu_out(c, n->out),
                        .dtype = out->dtype,
                        .groups = batch ? out->dims[0] : 1,
                        .rows = out->dims[batch],
                        .width = row_width(out, batch)};
    a.per_group = dg_type_count(ids) / a.groups;
    a.first = dg_cpu_scratch(c, (uint64_t)(a.groups * (a.rows + 1)) * sizeof *a.first);
    a.order = dg_cpu_scratch(c, (uint64_t)(a.groups * a.per_group) * sizeof *a.order);
    DG_CPU_STEP(c, c->cpu->kernels->scatter_sort, a, a.groups, 1, 0);
    DG_CPU_STEP(c, c->cpu->kernels->scatter_add, a, a.groups * a.rows, grain_of(a.width),
                row_scratch(a.width));
}

/* ---- patches, optimizer */

void dg_cpu_emit_patchify(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    const dg_type *t = dg_cpu_type(c, n->in[0]), *out = dg_cpu_type(c, n->out);
    int64_t channels = t->dims[3], ph = dg_cpu_int(n, "patch_h"), pw = dg_cpu_int(n, "patch_w");
    dg_cpu_patchify a = {.image = dg_cpu_in(c, n->in[0]),
                         .out = dg_cpu_out(c, n->out),
                         .in_dtype = t->dtype,
                         .out_dtype = out->dtype,
                         .height = t->dims[1],
                         .width = t->dims[2],
                         .channels = channels,
                         .ph = ph,
                         .pw = pw,
                         .channel_last = dg_cpu_int(n, "channel_last") != 0};
    uint64_t bytes = (uint64_t)channels * sizeof(float);
    float *scale = dg_cpu_pool_take(&c->pool, bytes), *shift = dg_cpu_pool_take(&c->pool, bytes);
    if (!scale || !shift) {
        dg_cpu_nomem(c, bytes, "the steps");
        return;
    }
    for (int64_t k = 0; k < channels; k++) {
        scale[k] = (float)dg_cpu_attr(n, "scale")->v.fs[k];
        shift[k] = (float)dg_cpu_attr(n, "shift")->v.fs[k];
    }
    a.scale = scale;
    a.shift = shift;
    int64_t patch = channels * ph * pw;
    DG_CPU_STEP(c, c->cpu->kernels->patchify, a, t->dims[0] * (a.height / ph), 1, row_scratch(patch));
}

void dg_cpu_emit_adamw(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = node_at(c, i);
    double beta1 = dg_cpu_real(n, "beta1"), beta2 = dg_cpu_real(n, "beta2");
    dg_cpu_adamw a = {.p = dg_cpu_in(c, n->in[0]),
                      .grad = dg_cpu_in(c, n->in[1]),
                      .m = dg_cpu_in(c, n->in[2]),
                      .v = dg_cpu_in(c, n->in[3]),
                      .scalars = dg_cpu_in(c, n->in[4]),
                      .ok = dg_cpu_in(c, n->in[5]),
                      .p_new = dg_cpu_out(c, n->out),
                      .m_new = dg_cpu_out(c, n->out + 1),
                      .v_new = dg_cpu_out(c, n->out + 2),
                      .count = dg_type_count(dg_cpu_type(c, n->in[0])),
                      .beta1 = (float)beta1,
                      .beta2 = (float)beta2,
                      .one_less_beta1 = (float)(1 - beta1),
                      .one_less_beta2 = (float)(1 - beta2),
                      .eps = (float)dg_cpu_real(n, "eps"),
                      .lr_scale = (float)dg_cpu_real(n, "lr_scale"),
                      .decay = (float)dg_cpu_real(n, "decay")};
    DG_CPU_STEP(c, c->cpu->kernels->adamw, a, (a.count + DG_CPU_BLOCK - 1) / DG_CPU_BLOCK, 32, 0);
}
