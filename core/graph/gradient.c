/* gradient.c - reverse-mode differentiation: walks the nodes backwards and asks each op's rule (grad.c). */
#include "graph.h"

#include "base/mem.h"

typedef struct sweep {
    dg_graph *g;
    int32_t n;         /* nodes before the backward pass */
    int32_t *first;    /* [n + 1] index of each node's first output in adjoint */
    dg_value *adjoint; /* [first[n]] gradient gathered so far */
    bool *depends;     /* [n] on any of wrt */
    int32_t *asked;    /* [n] index into wrt + 1 */
} sweep;

static bool is_float(const dg_graph *g, dg_value v)
{
    return dg_dtype_is_float((dg_dtype)dg_type_of(g, v).dtype);
}

static dg_value as_dtype(dg_graph *g, dg_value v, dg_dtype dtype)
{
    return (dg_dtype)dg_type_of(g, v).dtype == dtype ? v : dg_convert(g, v, dtype);
}

/* Sums of gradients are kept in f32 when the parts differ. */
static dg_value accumulate(dg_graph *g, dg_value a, dg_value b)
{
    if (!dg_is_value(a)) return b;
    if (dg_type_of(g, a).dtype != dg_type_of(g, b).dtype || dg_type_of(g, a).dtype != DG_F32) {
        a = as_dtype(g, a, DG_F32);
        b = as_dtype(g, b, DG_F32);
    }
    return dg_add(g, a, b);
}

static dg_status prepare(sweep *s, const dg_value *wrt, size_t n_wrt, dg_error *err)
{
    size_t n = (size_t)s->n;
    s->first = dg_calloc(n + 1, sizeof *s->first);
    s->depends = dg_calloc(n + 1, sizeof *s->depends);
    s->asked = dg_calloc(n + 1, sizeof *s->asked);
    if (!s->first || !s->depends || !s->asked) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 0; i < s->n; i++) s->first[i + 1] = s->first[i] + dg_graph_node(s->g, i)->n_out;
    s->adjoint = dg_calloc((size_t)s->first[s->n] + 1, sizeof *s->adjoint);
    if (!s->adjoint) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 0; i < s->first[s->n]; i++) s->adjoint[i] = DG_NO_VALUE;
    for (size_t k = 0; k < n_wrt; k++) {
        if (wrt[k].node < 0 || wrt[k].node >= s->n || !is_float(s->g, wrt[k]) || s->asked[wrt[k].node])
            return dg_fail(err, DG_ERR_INVALID,
                           "gradient number %zu is asked for twice or of something that has none", k);
        s->depends[wrt[k].node] = true;
        s->asked[wrt[k].node] = (int32_t)k + 1;
    }
    for (int32_t i = 0; i < s->n; i++) {
        const dg_node *node = dg_graph_node(s->g, i);
        for (int32_t k = 0; k < node->n_in && !s->depends[i]; k++)
            s->depends[i] = node->in[k].node >= 0 && s->depends[node->in[k].node];
    }
    return DG_OK;
}

/* Applies the rule of node i, if any gradient reaches it. */
static dg_status visit(sweep *s, int32_t i, dg_value *y, dg_value *dx, bool *needed, dg_error *err)
{
    const dg_node *node = dg_graph_node(s->g, i);
    const dg_value *dy = &s->adjoint[s->first[i]];
    bool any = false;
    for (int32_t k = 0; k < node->n_out; k++) {
        any |= dg_is_value(dy[k]);
        y[k] = (dg_value){i, k};
        if (k > 0 && dg_is_value(dy[k]))
            return dg_fail(err, DG_ERR_UNSUPPORTED, "in '%s': no gradient flows through output %d of %s",
                           node->scope, k, node->op->name);
    }
    if (!any) return DG_OK;
    if (!node->op->grad) {
        if (node->op->cls == DG_COMP)
            return dg_fail(err, DG_ERR_UNSUPPORTED,
                           "in '%s': %s has no gradient rule; it must be lowered first", node->scope,
                           node->op->name);
        return DG_OK;
    }
    for (int32_t k = 0; k < node->n_in; k++) {
        dx[k] = DG_NO_VALUE;
        needed[k] = node->in[k].node >= 0 && s->depends[node->in[k].node] && is_float(s->g, node->in[k]);
    }
    char scope[512];
    snprintf(scope, sizeof scope, "grad.%s", node->scope);
    dg_graph_set_scope(s->g, scope);
    dg_grad rule = {s->g, node, node->in, y, dy, needed, dx};
    node->op->grad(&rule);
    for (int32_t k = 0; k < node->n_in; k++) {
        if (!needed[k] || !dg_is_value(dx[k])) continue;
        dg_value *to = &s->adjoint[s->first[node->in[k].node] + node->in[k].out];
        *to = accumulate(s->g, *to, dx[k]);
    }
    return dg_graph_error(s->g, err);
}

static dg_status walk(sweep *s, dg_value loss, const dg_value *wrt, dg_value *grads, dg_gradient_ready ready,
                      void *user, dg_error *err)
{
    size_t most = 1;
    for (int32_t i = 0; i < s->n; i++)
        if ((size_t)dg_graph_node(s->g, i)->n_in > most) most = (size_t)dg_graph_node(s->g, i)->n_in;
    dg_value *dx = dg_calloc(most, sizeof *dx), y[DG_OP_MAX_OUT];
    bool *needed = dg_calloc(most, sizeof *needed);
    dg_status status = dx && needed ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = s->n - 1; i >= 0 && status == DG_OK; i--) {
        if (!s->depends[i]) continue;
        if (dg_graph_node(s->g, i)->op && i <= loss.node) status = visit(s, i, y, dx, needed, err);
        if (status != DG_OK || !s->asked[i]) continue;
        size_t k = (size_t)s->asked[i] - 1;
        dg_value grad = s->adjoint[s->first[i] + wrt[k].out];
        if (dg_is_value(grad)) {
            grad = as_dtype(s->g, grad, DG_F32);
        } else {
            dg_type t = dg_type_of(s->g, wrt[k]);
            grad = dg_fill(s->g, DG_F32, t.dims, (size_t)t.rank, 0);
        }
        grads[k] = grad;
        if (ready) ready(user, s->g, k, grad);
        status = dg_graph_error(s->g, err);
    }
    dg_free(dx);
    dg_free(needed);
    return status;
}

dg_status dg_gradient_each(dg_graph *g, dg_value loss, const dg_value *wrt, size_t n, dg_value *grads,
                           dg_gradient_ready ready, void *user, dg_error *err)
{
    DG_TRY(dg_graph_error(g, err));
    dg_type t = dg_type_of(g, loss);
    if (t.dtype != DG_F32 || t.rank != 0) {
        char shown[96];
        return dg_fail(err, DG_ERR_INVALID, "the loss must be f32[], not %s",
                       dg_type_text(&t, shown, sizeof shown));
    }
    sweep s = {.g = g, .n = dg_graph_count(g)};
    dg_status status = prepare(&s, wrt, n, err);
    if (status == DG_OK) {
        dg_graph_set_scope(g, "grad");
        s.adjoint[s.first[loss.node] + loss.out] = dg_fill(g, DG_F32, NULL, 0, 1);
        status = walk(&s, loss, wrt, grads, ready, user, err);
        dg_graph_set_scope(g, "");
    }
    dg_free(s.first);
    dg_free(s.adjoint);
    dg_free(s.depends);
    dg_free(s.asked);
    return status;
}

dg_status dg_gradient(dg_graph *g, dg_value loss, const dg_value *wrt, size_t n, dg_value *grads,
                      dg_error *err)
{
    return dg_gradient_each(g, loss, wrt, n, grads, NULL, NULL, err);
}
