/* plan.c - for each value: memory of its own, a view, or a chain; and the table of what is done with each op.
 */
#include "cpu.h"

static const dg_program_value *value_of(const dg_cpu_plan *c, int32_t v)
{
    return &c->p->values[v];
}

void dg_cpu_demand(dg_cpu_plan *c, int32_t v, bool strided)
{
    dg_cpu_value *value = &c->values[v];
    c->values[value->view.root].own = true;
    if (!strided && !dg_cpu_is_dense(&value->view, &value_of(c, v)->type)) value->own = true;
}

/* ---- views */

static bool is_constant(const dg_cpu_value *value)
{
    return value->chain && value->chain->e.n_steps == 1 && value->chain->values[0] < 0;
}

/* The result of n is the elements of its input seen otherwise, when `ok`; else it is made by a copy. */
static void set_view(dg_cpu_plan *c, const dg_program_node *n, dg_cpu_view view, bool ok)
{
    dg_cpu_value *out = &c->values[n->out];
    if (ok) out->view = view;
    if (is_constant(&c->values[n->in[0]])) /* a fill of another shape */
        out->chain = dg_cpu_chain_reshaped(c, c->values[n->in[0]].chain, NULL, &value_of(c, n->out)->type);
}

static void plan_reshape(dg_cpu_plan *c, const dg_program_node *n)
{
    dg_cpu_value *in = &c->values[n->in[0]], *out = &c->values[n->out];
    const dg_type *from = &value_of(c, n->in[0])->type, *to = &value_of(c, n->out)->type;
    dg_cpu_view view = in->view;
    bool ok = dg_cpu_restride(from, in->view.stride, to, view.stride);
    set_view(c, n, view, ok);
    if (!ok) dg_cpu_demand(c, n->in[0], true); /* copied in the order of its elements */
    if (ok && in->chain && !out->chain && in->uses == 1)
        out->chain = dg_cpu_chain_reshaped(c, in->chain, from, to);
}

static void plan_same(dg_cpu_plan *c, const dg_program_node *n)
{
    set_view(c, n, c->values[n->in[0]].view, true);
}

static void plan_transpose(dg_cpu_plan *c, const dg_program_node *n)
{
    dg_cpu_view in = c->values[n->in[0]].view, view = in;
    const dg_attr *perm = dg_cpu_attr(n, "perm");
    for (uint64_t a = 0; a < perm->n; a++) view.stride[a] = in.stride[perm->v.is[a]];
    set_view(c, n, view, true);
}

static void plan_broadcast(dg_cpu_plan *c, const dg_program_node *n)
{
    dg_cpu_view in = c->values[n->in[0]].view, view = in;
    dg_cpu_stretch(&value_of(c, n->in[0])->type, in.stride, &value_of(c, n->out)->type, view.stride);
    set_view(c, n, view, true);
}

static void plan_slice(dg_cpu_plan *c, const dg_program_node *n)
{
    dg_cpu_view view = c->values[n->in[0]].view;
    const dg_attr *starts = dg_cpu_attr(n, "starts");
    for (uint64_t a = 0; a < starts->n; a++) view.offset += starts->v.is[a] * view.stride[a];
    set_view(c, n, view, true);
}

/* ---- the other ops */

static void plan_chain(dg_cpu_plan *c, const dg_program_node *n)
{
    dg_cpu_chain_node(c, (uint32_t)(n - c->p->nodes));
}

/* Operands that the kernel reads as dense elements; results in memory of their own. */
static void plan_dense(dg_cpu_plan *c, const dg_program_node *n)
{
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) dg_cpu_demand(c, n->in[k], false);
    for (uint32_t k = 0; k < n->n_out; k++) c->values[n->out + (int32_t)k].own = true;
}

/* One process: the elements themselves. */
static void plan_all_reduce(dg_cpu_plan *c, const dg_program_node *n)
{
    if (c->cpu->ranks)
        plan_dense(c, n);
    else
        plan_same(c, n);
}

/* Rows of heads may lie apart, as the parts of a qkv do; within a row elements must follow each other. */
static void plan_attention(dg_cpu_plan *c, const dg_program_node *n)
{
    uint32_t n_rows = strcmp(n->op, "attention") == 0 ? 3 : 5; /* q k v, or dy q k v y */
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) dg_cpu_demand(c, n->in[k], k < n_rows && c->values[n->in[k]].view.stride[2] == 1);
    for (uint32_t k = 0; k < n->n_out; k++) c->values[n->out + (int32_t)k].own = true;
}

/* Is v computed while it is copied into the concat? */
static bool is_inline(const dg_cpu_plan *c, int32_t v)
{
    return c->values[v].chain && (c->values[v].uses == 1 || is_constant(&c->values[v]));
}

static void plan_concat(dg_cpu_plan *c, const dg_program_node *n)
{
    for (uint32_t k = 0; k < n->n_in; k++)
        if (!is_inline(c, n->in[k])) dg_cpu_demand(c, n->in[k], true);
    c->values[n->out].own = true;
}

static void plan_constant(dg_cpu_plan *c, const dg_program_node *n)
{
    c->values[n->out].home = DG_CPU_CONSTANT;
}

/* ---- emission of what moves elements */

static void emit_chain(dg_cpu_plan *c, uint32_t i)
{
    int32_t v = c->p->nodes[i].out;
    if (!c->values[v].own) return;
    dg_cpu_chain_emit(c, c->values[v].chain, (dg_dtype)value_of(c, v)->type.dtype, dg_cpu_out(c, v), NULL);
}

static void emit_view(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cpu_chain copy;
    if (!c->values[n->out].own) return;
    /* A reshape that no strides express walks its input's shape instead. */
    dg_cpu_chain_load(c, &copy, c->values[n->out].view.root == n->out ? n->in[0] : n->out);
    dg_cpu_chain_emit(c, &copy, (dg_dtype)value_of(c, n->out)->type.dtype, dg_cpu_out(c, n->out), NULL);
}

static void emit_all_reduce(dg_cpu_plan *c, uint32_t i)
{
    if (c->cpu->ranks)
        dg_cpu_emit_all_reduce(c, i);
    else
        emit_view(c, i);
}

static void emit_concat(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = &value_of(c, n->out)->type;
    int64_t axis = dg_cpu_int(n, "axis"), at = 0;
    dg_cpu_view whole = dg_cpu_dense_view(n->out, t);
    char *out = dg_cpu_out(c, n->out);
    for (uint32_t k = 0; k < n->n_in; k++) {
        int32_t v = n->in[k];
        dg_cpu_chain copy;
        if (!is_inline(c, v)) dg_cpu_chain_load(c, &copy, v);
        char *to = out ? out + at * whole.stride[axis] * (int64_t)dg_dtype_size((dg_dtype)t->dtype) : NULL;
        dg_cpu_chain_emit(c, is_inline(c, v) ? c->values[v].chain : &copy, (dg_dtype)t->dtype, to,
                          whole.stride);
        at += value_of(c, v)->type.dims[axis];
    }
}

static void emit_iota(const dg_program_node *n, const dg_type *t, char *out)
{
    dg_cpu_view v = dg_cpu_dense_view(n->out, t);
    int64_t axis = dg_cpu_int(n, "axis"), count = dg_type_count(t);
    for (int64_t i = 0; i < count; i++) {
        int64_t k = i / v.stride[axis] % t->dims[axis];
        float f = (float)k;
        uint16_t h = dg_f32_to_bf16(f);
        int32_t w = (int32_t)k;
        if (t->dtype == DG_F32) memcpy(out + i * 4, &f, sizeof f);
        if (t->dtype == DG_I32) memcpy(out + i * 4, &w, sizeof w);
        if (t->dtype == DG_BF16) memcpy(out + i * 2, &h, sizeof h);
        if (t->dtype == DG_U8) out[i] = (char)(k > 255 ? 255 : k);
        if (t->dtype == DG_BOOL) out[i] = k != 0;
    }
}

/* Constants are made when the program is compiled. */
static void emit_constant(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = &value_of(c, n->out)->type;
    dg_cpu_value *value = &c->values[n->out];
    if (!value->own) return;
    uint64_t bytes = (uint64_t)dg_type_bytes(t);
    if (c->dry) {
        c->constant_bytes += bytes;
        return;
    }
    value->memory = dg_cpu_pool_take(&c->pool, bytes);
    if (!value->memory)
        dg_cpu_nomem(c, bytes, "a constant");
    else if (strcmp(n->op, "iota") == 0)
        emit_iota(n, t, value->memory);
    else
        memcpy(value->memory, dg_cpu_attr(n, "data")->v.bytes, (size_t)bytes);
}

/* ---- the table */

static const struct {
    const char *op;
    void (*plan)(dg_cpu_plan *c, const dg_program_node *n);
    void (*emit)(dg_cpu_plan *c, uint32_t n);
} table[] = {
    {"constant", plan_constant, emit_constant},
    {"iota", plan_constant, emit_constant},
    {"fill", plan_chain, emit_chain},
    {"pad", plan_chain, emit_chain},
    {"reshape", plan_reshape, emit_view},
    {"transpose", plan_transpose, emit_view},
    {"broadcast", plan_broadcast, emit_view},
    {"slice", plan_slice, emit_view},
    {"all_reduce", plan_all_reduce, emit_all_reduce},
    {"reduce_scatter", plan_same, emit_view}, /* one rank; so the next two */
    {"all_gather", plan_same, emit_view},
    {"shard", plan_same, emit_view},
    {"concat", plan_concat, emit_concat},
    {"gather", plan_dense, dg_cpu_emit_gather},
    {"scatter_add", plan_dense, dg_cpu_emit_scatter_add},
    {"reduce_sum", plan_dense, dg_cpu_emit_reduce_sum},
    {"reduce_max", plan_dense, dg_cpu_emit_reduce_max},
    {"argmax", plan_dense, dg_cpu_emit_argmax},
    {"top_k", plan_dense, dg_cpu_emit_top_k},
    {"matmul", plan_dense, dg_cpu_emit_matmul},
    {"linear", plan_dense, dg_cpu_emit_linear},
    {"linear_int8", plan_dense, dg_cpu_emit_linear_int8},
    {"layer_norm", plan_dense, dg_cpu_emit_layer_norm},
    {"layer_norm_grad", plan_dense, dg_cpu_emit_layer_norm_grad},
    {"softmax", plan_dense, dg_cpu_emit_softmax},
    {"attention", plan_attention, dg_cpu_emit_attention},
    {"attention_grad", plan_attention, dg_cpu_emit_attention_grad},
    {"normalize", plan_dense, dg_cpu_emit_normalize},
    {"normalize_grad", plan_dense, dg_cpu_emit_normalize_grad},
    {"cross_entropy", plan_dense, dg_cpu_emit_cross_entropy},
    {"cross_entropy_grad", plan_dense, dg_cpu_emit_cross_entropy_grad},
    {"patchify", plan_dense, dg_cpu_emit_patchify},
    {"adamw", plan_dense, dg_cpu_emit_adamw},
};

enum { N_TABLE = sizeof table / sizeof table[0] };

static int row_of(const char *op)
{
    for (int i = 0; i < N_TABLE; i++)
        if (strcmp(table[i].op, op) == 0) return i;
    return -1;
}

bool dg_cpu_knows(const char *op)
{
    return row_of(op) >= 0 || dg_cpu_is_lane_op(op);
}

/* ---- the rounds */

dg_status dg_cpu_plan_values(dg_cpu_plan *c)
{
    const dg_program *p = c->p;
    for (uint32_t v = 0; v < p->n_values; v++)
        c->values[v] = (dg_cpu_value){.view = dg_cpu_dense_view((int32_t)v, &p->values[v].type),
                                      .first = -2,
                                      .last = -1,
                                      .last_read = -1,
                                      .leaf = -1};
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        dg_cpu_value *leaf = &c->values[p->leaves[l].value];
        leaf->own = true;
        leaf->home = p->leaves[l].kind == DG_LEAF_INPUT ? DG_CPU_INPUT : DG_CPU_LEAF;
        if (p->leaves[l].update >= 0) c->values[p->leaves[l].update].uses++;
    }
    for (uint32_t k = 0; k < p->n_outputs; k++) c->values[p->outputs[k].value].uses++;
    for (uint32_t n = 0; n < p->n_nodes; n++)
        for (uint32_t k = 0; k < p->nodes[n].n_in; k++)
            if (p->nodes[n].in[k] >= 0) c->values[p->nodes[n].in[k]].uses++;
    for (uint32_t n = 0; n < p->n_nodes && c->status == DG_OK; n++) {
        int row = row_of(p->nodes[n].op);
        if (row >= 0)
            table[row].plan(c, &p->nodes[n]);
        else
            plan_chain(c, &p->nodes[n]);
    }
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].update >= 0) dg_cpu_demand(c, p->leaves[l].update, false);
    for (uint32_t k = 0; k < p->n_outputs; k++) dg_cpu_demand(c, p->outputs[k].value, false);
    return c->status;
}

dg_status dg_cpu_plan_emit(dg_cpu_plan *c)
{
    c->next_scratch = 0;
    for (uint32_t n = 0; n < c->p->n_nodes && c->status == DG_OK; n++) {
        int row = row_of(c->p->nodes[n].op);
        c->time = (int32_t)n;
        if (row >= 0)
            table[row].emit(c, n);
        else
            emit_chain(c, n);
    }
    return c->status;
}
