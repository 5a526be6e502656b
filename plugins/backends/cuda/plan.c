/* plan.c - for each value: memory of its own, a view, or a chain; and the table of what is done with each op.
 */
#include "cuda.h"

void dg_cuda_demand(dg_cuda_plan *c, int32_t v, bool strided)
{
    dg_cuda_value *value = &c->values[v];
    c->values[value->view.root].own = true;
    if (!strided && !dg_cuda_is_dense(value->view.stride, dg_cuda_type(c, v))) value->own = true;
}

/* ---- views */

/* The result of n is its input's elements seen otherwise, when `ok`; else it is made by a copy. */
static void set_view(dg_cuda_plan *c, const dg_program_node *n, dg_cuda_view view, bool ok)
{
    const dg_cuda_value *in = &c->values[n->in[0]];
    dg_cuda_value *out = &c->values[n->out];
    if (ok) out->view = view;
    if (dg_cuda_chain_is_constant(in->chain)) /* a fill of another shape */
        out->chain = dg_cuda_chain_reshaped(c, in->chain, NULL, dg_cuda_type(c, n->out));
}

static void plan_reshape(dg_cuda_plan *c, const dg_program_node *n)
{
    const dg_cuda_value *in = &c->values[n->in[0]];
    dg_cuda_value *out = &c->values[n->out];
    const dg_type *from = dg_cuda_type(c, n->in[0]), *to = dg_cuda_type(c, n->out);
    dg_cuda_view view = in->view;
    bool ok = dg_cuda_restride(from, in->view.stride, to, view.stride);
    set_view(c, n, view, ok);
    if (!ok)
        dg_cuda_demand(c, n->in[0], true); /* copied in the order of its elements */
    else if (in->chain && !out->chain && in->uses == 1)
        out->chain = dg_cuda_chain_reshaped(c, in->chain, from, to);
}

static void plan_same(dg_cuda_plan *c, const dg_program_node *n)
{
    set_view(c, n, c->values[n->in[0]].view, true);
}

static void plan_transpose(dg_cuda_plan *c, const dg_program_node *n)
{
    dg_cuda_view in = c->values[n->in[0]].view, view = in;
    const dg_attr *perm = dg_cuda_attr(n, "perm");
    for (uint64_t a = 0; a < perm->n; a++) view.stride[a] = in.stride[perm->v.is[a]];
    set_view(c, n, view, true);
}

static void plan_broadcast(dg_cuda_plan *c, const dg_program_node *n)
{
    dg_cuda_view in = c->values[n->in[0]].view, view = in;
    dg_cuda_stretch(dg_cuda_type(c, n->in[0]), in.stride, dg_cuda_type(c, n->out), view.stride);
    set_view(c, n, view, true);
}

static void plan_slice(dg_cuda_plan *c, const dg_program_node *n)
{
    dg_cuda_view view = c->values[n->in[0]].view;
    const dg_attr *starts = dg_cuda_attr(n, "starts");
    for (uint64_t a = 0; a < starts->n; a++) view.offset += starts->v.is[a] * view.stride[a];
    set_view(c, n, view, true);
}

/* ---- the other ops */

static void plan_chain(dg_cuda_plan *c, const dg_program_node *n)
{
    dg_cuda_chain_node(c, (uint32_t)(n - c->p->nodes));
}

/* Operands that the kernel reads as dense elements; results in memory of their own. */
static void plan_dense(dg_cuda_plan *c, const dg_program_node *n)
{
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) dg_cuda_demand(c, n->in[k], false);
    for (uint32_t k = 0; k < n->n_out; k++) c->values[n->out + (int32_t)k].own = true;
}

/* Rows may lie apart, as the parts of a qkv do, but evenly over samples and tokens. */
static bool has_even_rows(const dg_cuda_plan *c, int32_t v)
{
    const int64_t *stride = c->values[v].view.stride;
    const dg_type *t = dg_cuda_type(c, v);
    return stride[2] == 1 && (t->dims[0] == 1 || t->dims[1] == 1 || stride[0] == stride[1] * t->dims[1]);
}

static void plan_attention(dg_cuda_plan *c, const dg_program_node *n)
{
    uint32_t n_rows = strcmp(n->op, "attention") == 0 ? 3 : 5; /* q k v, or dy q k v y */
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) dg_cuda_demand(c, n->in[k], k < n_rows && has_even_rows(c, n->in[k]));
    for (uint32_t k = 0; k < n->n_out; k++) c->values[n->out + (int32_t)k].own = true;
}

/* Is v computed while it is copied into a part of the result? */
static bool is_inline(const dg_cuda_plan *c, int32_t v)
{
    return c->values[v].chain && (c->values[v].uses == 1 || dg_cuda_chain_is_constant(c->values[v].chain));
}

static void plan_parts(dg_cuda_plan *c, const dg_program_node *n)
{
    for (uint32_t k = 0; k < n->n_in; k++)
        if (!is_inline(c, n->in[k])) dg_cuda_demand(c, n->in[k], true);
    c->values[n->out].own = true;
}

static void plan_constant(dg_cuda_plan *c, const dg_program_node *n)
{
    c->values[n->out].home = DG_CUDA_CONSTANT;
}

/* ---- emission of what moves elements */

static void emit_chain(dg_cuda_plan *c, uint32_t i)
{
    int32_t v = c->p->nodes[i].out;
    if (!c->values[v].own) return;
    dg_cuda_chain_emit(c, c->values[v].chain, dg_cuda_type(c, v)->dtype, dg_cuda_out(c, v), NULL);
}

static void emit_view(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    dg_cuda_chain copy;
    if (!c->values[n->out].own) return;
    if (c->values[n->out].chain)
        copy = *c->values[n->out].chain;
    else /* a reshape that no strides express walks its input's shape instead */
        dg_cuda_chain_load(c, &copy, c->values[n->out].view.root == n->out ? n->in[0] : n->out);
    dg_cuda_chain_emit(c, &copy, dg_cuda_type(c, n->out)->dtype, dg_cuda_out(c, n->out), NULL);
}

/* Puts v into the box of the result that begins at element `at`. */
static void emit_part(dg_cuda_plan *c, int32_t v, const dg_type *whole, char *out, int64_t at)
{
    dg_cuda_chain copy;
    dg_cuda_view dense = dg_cuda_dense_view(0, whole);
    if (!is_inline(c, v)) dg_cuda_chain_load(c, &copy, v);
    char *to = out ? out + at * (int64_t)dg_dtype_size((dg_dtype)whole->dtype) : NULL;
    dg_cuda_chain_emit(c, is_inline(c, v) ? c->values[v].chain : &copy, whole->dtype, to, dense.stride);
}

static void emit_concat(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cuda_type(c, n->out);
    int64_t axis = dg_cuda_int(n, "axis"), at = 0, step = dg_cuda_dense_view(0, t).stride[axis];
    char *out = dg_cuda_out(c, n->out);
    for (uint32_t k = 0; k < n->n_in; k++) {
        emit_part(c, n->in[k], t, out, at);
        at += dg_cuda_type(c, n->in[k])->dims[axis] * step;
    }
}

/* ---- constants: made on the host when the program is compiled, uploaded as one block */

static void put_iota(const dg_program_node *n, const dg_type *t, char *out)
{
    dg_cuda_view v = dg_cuda_dense_view(n->out, t);
    int64_t axis = dg_cuda_int(n, "axis"), count = dg_type_count(t);
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

static void emit_constant(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *t = dg_cuda_type(c, n->out);
    dg_cuda_value *value = &c->values[n->out];
    if (!value->own) return;
    uint64_t bytes = (uint64_t)dg_type_bytes(t);
    if (c->dry) {
        value->at = c->constant_bytes;
        c->constant_bytes += (bytes + DG_PLAN_ALIGN - 1) / DG_PLAN_ALIGN * DG_PLAN_ALIGN;
        return;
    }
    value->memory = c->constants + value->at;
    if (strcmp(n->op, "iota") == 0)
        put_iota(n, t, c->constant_data + value->at);
    else
        memcpy(c->constant_data + value->at, dg_cuda_attr(n, "data")->v.bytes, (size_t)bytes);
}

/* ---- the table */

static const struct {
    const char *op;
    void (*plan)(dg_cuda_plan *c, const dg_program_node *n);
    void (*emit)(dg_cuda_plan *c, uint32_t n);
} table[] = {
    {"constant", plan_constant, emit_constant},
    {"iota", plan_constant, emit_constant},
    {"fill", plan_chain, emit_chain},
    {"reshape", plan_reshape, emit_view},
    {"transpose", plan_transpose, emit_view},
    {"broadcast", plan_broadcast, emit_view},
    {"slice", plan_slice, emit_view},
    {"all_reduce", plan_same, emit_view}, /* one rank; so the next three */
    {"reduce_scatter", plan_same, emit_view},
    {"all_gather", plan_same, emit_view},
    {"shard", plan_same, emit_view},
    {"pad", plan_chain, emit_chain},
    {"concat", plan_parts, emit_concat},
    {"gather", plan_dense, dg_cuda_emit_gather},
    {"scatter_add", plan_dense, dg_cuda_emit_scatter_add},
    {"reduce_sum", plan_dense, dg_cuda_emit_reduce_sum},
    {"reduce_max", plan_dense, dg_cuda_emit_reduce_max},
    {"argmax", plan_dense, dg_cuda_emit_argmax},
    {"top_k", plan_dense, dg_cuda_emit_top_k},
    {"matmul", plan_dense, dg_cuda_emit_matmul},
    {"linear", plan_dense, dg_cuda_emit_linear},
    {"layer_norm", plan_dense, dg_cuda_emit_layer_norm},
    {"layer_norm_grad", plan_dense, dg_cuda_emit_layer_norm_grad},
    {"softmax", plan_dense, dg_cuda_emit_softmax},
    {"attention", plan_attention, dg_cuda_emit_attention},
    {"attention_grad", plan_attention, dg_cuda_emit_attention_grad},
    {"normalize", plan_dense, dg_cuda_emit_normalize},
    {"normalize_grad", plan_dense, dg_cuda_emit_normalize_grad},
    {"cross_entropy", plan_dense, dg_cuda_emit_cross_entropy},
    {"cross_entropy_grad", plan_dense, dg_cuda_emit_cross_entropy_grad},
    {"patchify", plan_dense, dg_cuda_emit_patchify},
    {"adamw", plan_dense, dg_cuda_emit_adamw},
};

enum { N_TABLE = sizeof table / sizeof table[0] };

static int row_of(const char *op)
{
    for (int i = 0; i < N_TABLE; i++)
        if (strcmp(table[i].op, op) == 0) return i;
    return -1;
}

bool dg_cuda_knows(const char *op)
{
    return row_of(op) >= 0 || dg_cuda_is_lane_op(op);
}

/* ---- the rounds */

static void count_uses(dg_cuda_plan *c)
{
    const dg_program *p = c->p;
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].update >= 0) c->values[p->leaves[l].update].uses++;
    for (uint32_t k = 0; k < p->n_outputs; k++) c->values[p->outputs[k].value].uses++;
    for (uint32_t n = 0; n < p->n_nodes; n++)
        for (uint32_t k = 0; k < p->nodes[n].n_in; k++)
            if (p->nodes[n].in[k] >= 0) c->values[p->nodes[n].in[k]].uses++;
}

dg_status dg_cuda_plan_values(dg_cuda_plan *c)
{
    const dg_program *p = c->p;
    for (uint32_t v = 0; v < p->n_values; v++)
        c->values[v] = (dg_cuda_value){.view = dg_cuda_dense_view((int32_t)v, &p->values[v].type),
                                       .first = -2,
                                       .last = -1,
                                       .last_read = -1,
                                       .leaf = -1};
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        dg_cuda_value *leaf = &c->values[p->leaves[l].value];
        leaf->own = true;
        leaf->home = p->leaves[l].kind == DG_LEAF_INPUT ? DG_CUDA_INPUT : DG_CUDA_LEAF;
    }
    count_uses(c);
    for (uint32_t n = 0; n < p->n_nodes && c->status == DG_OK; n++) {
        int row = row_of(p->nodes[n].op);
        if (row >= 0)
            table[row].plan(c, &p->nodes[n]);
        else
            plan_chain(c, &p->nodes[n]);
    }
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].update >= 0) dg_cuda_demand(c, p->leaves[l].update, false);
    for (uint32_t k = 0; k < p->n_outputs; k++) dg_cuda_demand(c, p->outputs[k].value, false);
    return c->status;
}

dg_status dg_cuda_plan_emit(dg_cuda_plan *c)
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
