/* pass_precision.c - the bf16 policy: operands of products in the compute dtype, all else in f32 (the
 * official code's autocast). Reads the precision column of the op table. Runs before the gradient, so that
 * the backward pass works on the same converted operands.
 *
 * layer_norm gets its second form here: when only products read it, it writes their dtype itself. */
#include "graph.h"

#include "base/mem.h"

typedef struct policy {
    dg_dtype compute;
    bool *narrow_norm; /* [nodes] layer_norm nodes that only COMPUTE ops (or what follows them) read */
} policy;

static dg_value as_dtype(dg_graph *g, dg_value v, dg_dtype dtype)
{
    dg_type t = dg_type_of(g, v);
    if (!dg_is_value(v) || !dg_dtype_is_float((dg_dtype)t.dtype) || (dg_dtype)t.dtype == dtype) return v;
    return dg_convert(g, v, dtype);
}

/* Which inputs of a COMPUTE op are operands: the rest (bias, groups, statistics) stay as they are. */
static int operands(const dg_op *op)
{
    if (strcmp(op->name, "attention") == 0) return 3;
    return 2;
}

static bool rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                 dg_value *y)
{
    const policy *p = user;
    const dg_node *node = dg_graph_node(from, index);
    if (!node->op) return false;
    dg_value mine[64];
    dg_attr attrs[DG_OP_MAX_ATTRS];
    if (node->n_in > 64) return false;
    memcpy(attrs, node->attrs, sizeof *attrs * (size_t)node->op->n_attrs);
    for (int32_t k = 0; k < node->n_in; k++) {
        mine[k] = in[k];
        if (node->op->precision == DG_COMPUTE && k < operands(node->op))
            mine[k] = as_dtype(to, in[k], p->compute);
        if (node->op->precision == DG_KEEP && dg_is_value(in[k])) {
            /* What the model built in f32 stays f32; what it built narrow on purpose stays so. */
            dg_dtype built = (dg_dtype)dg_graph_node(from, node->in[k].node)->out[node->in[k].out].dtype;
            mine[k] = as_dtype(to, in[k], built);
        }
    }
    if (strcmp(node->op->name, "concat") == 0)
        for (int32_t k = 0; k < node->n_in; k++)
            if (dg_type_of(to, mine[k]).dtype != dg_type_of(to, mine[0]).dtype)
                for (int32_t j = 0; j < node->n_in; j++) mine[j] = as_dtype(to, in[j], DG_F32);
    if (p->narrow_norm[index]) attrs[1].v.i = p->compute;
    dg_value v =
        to->api->node(to, node->op->name, mine, (size_t)node->n_in, attrs, (size_t)node->op->n_attrs);
    for (int32_t k = 0; k < node->n_out; k++) y[k] = dg_output(v, k);
    return true;
}

/* A norm is narrow if each reader of its first output is an operand of a product, and it is not tapped or put
 * out. */
static void find_narrow_norms(const dg_graph *g, bool *narrow)
{
    int32_t n = dg_graph_count(g);
    for (int32_t i = 0; i < n; i++) {
        const dg_node *node = dg_graph_node(g, i);
        narrow[i] = node->op && strcmp(node->op->name, "layer_norm") == 0 && node->attrs[1].v.i == DG_NONE &&
                    node->out[0].dtype == DG_F32;
    }
    for (int32_t i = 0; i < n; i++) {
        const dg_node *node = dg_graph_node(g, i);
        for (int32_t k = 0; k < node->n_in; k++)
            if (node->in[k].node >= 0 && (node->op->precision != DG_COMPUTE || k >= operands(node->op)))
                narrow[node->in[k].node] = false;
    }
    const dg_named_value *names;
    const dg_update *updates;
    size_t m = dg_graph_outputs(g, &names);
    for (size_t i = 0; i < m; i++) narrow[names[i].value.node] = false;
    m = dg_graph_updates(g, &updates);
    for (size_t i = 0; i < m; i++) narrow[updates[i].value.node] = false;
}

dg_status dg_pass_precision(const dg_graph *from, dg_dtype compute, dg_graph **to, dg_error *err)
{
    policy p = {compute, dg_calloc((size_t)dg_graph_count(from) + 1, sizeof(bool))};
    if (!p.narrow_norm) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status s;
    if (compute == DG_F32) {
        s = dg_rewrite(from, NULL, NULL, to, err);
    } else {
        find_narrow_norms(from, p.narrow_norm);
        s = dg_rewrite(from, rule, &p, to, err);
    }
    dg_free(p.narrow_norm);
    return s;
}
