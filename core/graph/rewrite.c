/* rewrite.c - the walk that all passes share: a new graph from an old one, node by node. */
#include "graph.h"

#include "base/mem.h"

typedef struct walk {
    const dg_graph *from;
    dg_graph *to;
    int32_t *first; /* [n + 1] */
    dg_value *map;  /* [first[n]] where each old value went */
} walk;

static dg_value moved(const walk *w, dg_value v)
{
    return dg_is_value(v) ? w->map[w->first[v.node] + v.out] : v;
}

static dg_status one_node(walk *w, int32_t i, dg_value *in, dg_rewrite_rule rule, void *user, dg_error *err)
{
    const dg_node *node = dg_graph_node(w->from, i);
    dg_value y[DG_OP_MAX_OUT];
    for (int32_t k = 0; k < node->n_in; k++) in[k] = moved(w, node->in[k]);
    dg_graph_set_scope(w->to, node->leaf ? "" : node->scope);
    if (!rule || !rule(user, w->to, w->from, i, in, y)) {
        dg_value v = node->leaf ? w->to->api->leaf(w->to, node->leaf)
                                : w->to->api->node(w->to, node->op->name, in, (size_t)node->n_in, node->attrs,
                                                   (size_t)node->op->n_attrs);
        for (int32_t k = 0; k < node->n_out; k++) y[k] = dg_output(v, k);
    }
    DG_TRY(dg_graph_error(w->to, err));
    memcpy(&w->map[w->first[i]], y, sizeof *y * (size_t)node->n_out);
    return DG_OK;
}

static void carry_names(walk *w)
{
    const dg_named_value *names;
    const dg_update *updates;
    dg_graph_set_scope(w->to, "");
    size_t n = dg_graph_outputs(w->from, &names);
    for (size_t i = 0; i < n; i++) dg_graph_output(w->to, moved(w, names[i].value), names[i].name);
    n = dg_graph_taps(w->from, &names);
    for (size_t i = 0; i < n; i++) w->to->api->tap(w->to, moved(w, names[i].value), names[i].name);
    n = dg_graph_updates(w->from, &updates);
    for (size_t i = 0; i < n; i++)
        dg_graph_update(w->to, moved(w, updates[i].leaf), moved(w, updates[i].value));
}

dg_status dg_rewrite(const dg_graph *from, dg_rewrite_rule rule, void *user, dg_graph **to, dg_error *err)
{
    *to = NULL;
    DG_TRY(dg_graph_error(from, err));
    int32_t n = dg_graph_count(from), most = 1;
    walk w = {from, dg_graph_create(), dg_calloc((size_t)n + 1, sizeof(int32_t)), NULL};
    dg_value *in = NULL;
    if (w.first) {
        for (int32_t i = 0; i < n; i++) {
            const dg_node *node = dg_graph_node(from, i);
            w.first[i + 1] = w.first[i] + node->n_out;
            if (node->n_in > most) most = node->n_in;
        }
        w.map = dg_calloc((size_t)w.first[n] + 1, sizeof *w.map);
        in = dg_calloc((size_t)most, sizeof *in);
    }
    dg_status s = w.to && w.map && in ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 0; i < n && s == DG_OK; i++) s = one_node(&w, i, in, rule, user, err);
    if (s == DG_OK) {
        carry_names(&w);
        s = dg_graph_error(w.to, err);
    }
    dg_free(w.first);
    dg_free(w.map);
    dg_free(in);
    if (s == DG_OK)
        *to = w.to;
    else
        dg_graph_destroy(w.to);
    return s;
}
