/* pass_quantize.c - a frozen network's products in 8-bit integers. */
#include "graph.h"

typedef struct quantizing {
    const char *prefix;
    int32_t spared, count, seen; /* products that could be quantized, and how many of them the walk has met */
} quantizing;

static bool is_candidate(const quantizing *q, const dg_graph *g, int32_t index)
{
    const dg_node *node = dg_graph_node(g, index);
    if (!node->op || strcmp(node->op->name, "linear") != 0) return false;
    const dg_leaf *w = dg_graph_node(g, node->in[1].node)->leaf;
    return w && w->kind == DG_LEAF_FROZEN && strncmp(w->name, q->prefix, strlen(q->prefix)) == 0;
}

static bool rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                 dg_value *y)
{
    quantizing *q = user;
    if (!is_candidate(q, from, index)) return false;
    int32_t place = q->seen++;
    if (place < q->spared || place >= q->count - q->spared) return false;
    y[0] = dg_linear_int8(to, in[0], in[1], in[2], 10, (dg_dtype)dg_graph_node(from, index)->attrs[0].v.i);
    return true;
}

dg_status dg_pass_quantize(const dg_graph *from, const char *prefix, int32_t spared, dg_graph **to,
                           dg_error *err)
{
    quantizing q = {prefix, spared, 0, 0};
    for (int32_t i = 0; i < dg_graph_count(from); i++) q.count += is_candidate(&q, from, i);
    return dg_rewrite(from, rule, &q, to, err);
}
