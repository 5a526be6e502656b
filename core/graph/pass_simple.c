/* pass_simple.c - passes of a few lines each: storing frozen weights narrow, lowering, folding, common
 * subexpressions. */
#include "graph.h"

#include "base/mem.h"

/* ---- frozen: leaves that are only ever converted to one dtype are kept in that dtype */

typedef struct frozen {
    int32_t *dtype; /* [nodes] DG_NONE: as it is */
} frozen;

static bool frozen_rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                        dg_value *y)
{
    const frozen *f = user;
    const dg_node *node = dg_graph_node(from, index);
    if (node->leaf && f->dtype[index] > DG_NONE) {
        dg_leaf leaf = *node->leaf;
        leaf.type.dtype = f->dtype[index];
        y[0] = to->api->leaf(to, &leaf);
        return true;
    }
    if (node->op && strcmp(node->op->name, "convert") == 0 &&
        dg_type_of(to, in[0]).dtype == node->attrs[0].v.i) {
        y[0] = in[0];
        return true;
    }
    return false;
}

dg_status dg_pass_frozen(const dg_graph *from, dg_graph **to, dg_error *err)
{
    int32_t n = dg_graph_count(from);
    frozen f = {dg_calloc((size_t)n + 1, sizeof(int32_t))};
    if (!f.dtype) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    enum { UNREAD = 0, MIXED = -1 };
    for (int32_t i = 0; i < n; i++) {
        const dg_node *node = dg_graph_node(from, i);
        for (int32_t k = 0; k < node->n_in; k++) {
            if (node->in[k].node < 0) continue;
            int32_t *d = &f.dtype[node->in[k].node];
            int32_t wanted = strcmp(node->op->name, "convert") == 0 ? (int32_t)node->attrs[0].v.i : MIXED;
            *d = *d == UNREAD || *d == wanted ? wanted : MIXED;
        }
    }
    const dg_named_value *names;
    size_t m = dg_graph_outputs(from, &names);
    for (size_t i = 0; i < m; i++) f.dtype[names[i].value.node] = MIXED;
    for (int32_t i = 0; i < n; i++) {
        const dg_leaf *leaf = dg_graph_node(from, i)->leaf;
        if (!leaf || leaf->kind != DG_LEAF_FROZEN) f.dtype[i] = DG_NONE;
    }
    dg_status s = dg_rewrite(from, frozen_rule, &f, to, err);
    dg_free(f.dtype);
    return s;
}

/* ---- lowering */

typedef struct lowering {
    dg_take_function take;
    void *user;
    int replaced;
} lowering;

static bool lower_rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                       dg_value *y)
{
    lowering *l = user;
    const dg_node *node = dg_graph_node(from, index);
    if (!node->op || node->op->cls != DG_COMP) return false;
    dg_type types[DG_OP_MAX_IN];
    for (int32_t k = 0; k < node->n_in; k++) types[k] = dg_type_of(to, in[k]);
    dg_work work = {(uint32_t)sizeof work,
                    node->op->name,
                    types,
                    (uint32_t)node->n_in,
                    (uint32_t)node->n_out,
                    node->out,
                    node->attrs,
                    (uint32_t)node->op->n_attrs,
                    0};
    if (l->take && l->take(l->user, &work)) return false;
    for (int32_t k = 0; k < node->n_out; k++) y[k] = DG_NO_VALUE;
    dg_lower rule = {to, node->op, in, (size_t)node->n_in, node->attrs, y};
    node->op->lower(&rule);
    l->replaced++;
    return true;
}

dg_status dg_pass_lower(const dg_graph *from, dg_take_function take, void *user, dg_graph **to, dg_error *err)
{
    lowering l = {take, user, 0};
    DG_TRY(dg_rewrite(from, lower_rule, &l, to, err));
    while (l.replaced) {
        dg_graph *next;
        l.replaced = 0;
        dg_status s = dg_rewrite(*to, lower_rule, &l, &next, err);
        dg_graph_destroy(*to);
        *to = NULL;
        DG_TRY(s);
        *to = next;
    }
    return DG_OK;
}

/* ---- folding: what depends on constants only is computed now */

enum { FOLD_MOST_ELEMENTS = 1 << 16 };

static bool fold_rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                      dg_value *y)
{
    (void)user;
    const dg_node *node = dg_graph_node(from, index);
    if (!node->op || node->op->cls != DG_PRIM || node->n_in == 0 || node->n_out != 1 ||
        node->n_in > DG_OP_MAX_IN)
        return false;
    int64_t total = dg_type_count(&node->out[0]);
    for (int32_t k = 0; k < node->n_in; k++) {
        const dg_node *source = dg_graph_node(to, in[k].node);
        if (!source->op || strcmp(source->op->name, "constant") != 0) return false;
        total += dg_type_count(&source->out[0]);
    }
    if (total > FOLD_MOST_ELEMENTS || dg_op_over_ranks(node->op)) return false;
    double *room = dg_calloc((size_t)total, sizeof *room), *ins[DG_OP_MAX_IN], *at = room;
    void *stored = dg_calloc((size_t)total, sizeof(double));
    dg_type types[DG_OP_MAX_IN];
    dg_error err = DG_ERROR_INIT;
    bool done = false;
    if (room && stored) {
        for (int32_t k = 0; k < node->n_in; k++) {
            const dg_node *source = dg_graph_node(to, in[k].node);
            types[k] = source->out[0];
            ins[k] = at;
            at += dg_type_count(&types[k]);
            dg_to_doubles((dg_dtype)types[k].dtype, source->attrs[2].v.bytes, dg_type_count(&types[k]),
                          ins[k]);
        }
        dg_work work = {(uint32_t)sizeof work,
                        node->op->name,
                        types,
                        (uint32_t)node->n_in,
                        1,
                        node->out,
                        node->attrs,
                        (uint32_t)node->op->n_attrs,
                        0};
        if (dg_eval(&work, (const double *const *)ins, &at, &err) == DG_OK) {
            const dg_type *t = &node->out[0];
            dg_from_doubles((dg_dtype)t->dtype, at, dg_type_count(t), stored);
            y[0] = dg_constant(to, (dg_dtype)t->dtype, t->dims, (size_t)t->rank, stored,
                               (size_t)dg_type_bytes(t));
            done = true;
        }
    }
    dg_free(room);
    dg_free(stored);
    return done;
}

dg_status dg_pass_fold(const dg_graph *from, dg_graph **to, dg_error *err)
{
    return dg_rewrite(from, fold_rule, NULL, to, err);
}

/* ---- common subexpressions */

typedef struct seen {
    int32_t *slots; /* node of `to` + 1, open addressing */
    size_t n_slots;
} seen;

static size_t attr_bytes(const dg_attr *a)
{
    return (size_t)a->n * (a->type == DG_ATTR_INTS     ? sizeof(int64_t)
                           : a->type == DG_ATTR_FLOATS ? sizeof(double)
                                                       : 1);
}

static bool is_scalar_attr(const dg_attr *a)
{
    return a->type == DG_ATTR_INT || a->type == DG_ATTR_FLOAT;
}

static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static uint64_t hash_node(const dg_op *op, const dg_value *in, int32_t n_in, const dg_attr *attrs)
{
    uint64_t h = mix(1469598103934665603u, &op, sizeof op);
    h = mix(h, in, sizeof *in * (size_t)n_in);
    for (int k = 0; k < op->n_attrs; k++)
        h = is_scalar_attr(&attrs[k]) ? mix(h, &attrs[k].v, sizeof attrs[k].v)
                                      : mix(h, attrs[k].v.bytes, attr_bytes(&attrs[k]));
    return h;
}

static bool equal_node(const dg_node *a, const dg_op *op, const dg_value *in, int32_t n_in,
                       const dg_attr *attrs)
{
    if (a->op != op || a->n_in != n_in || memcmp(a->in, in, sizeof *in * (size_t)n_in) != 0) return false;
    for (int k = 0; k < op->n_attrs; k++) {
        const dg_attr *x = &a->attrs[k], *y = &attrs[k];
        if (x->n != y->n) return false;
        if (is_scalar_attr(x) ? memcmp(&x->v, &y->v, sizeof x->v) != 0
                              : memcmp(x->v.bytes, y->v.bytes, attr_bytes(x)) != 0)
            return false;
    }
    return true;
}

/* reshape of reshape, transpose or convert back to where it came from, reshape and convert to the same type.
 */
static dg_value shortcut(const dg_graph *to, const dg_node *node, const dg_value *in)
{
    const char *op = node->op->name;
    bool convert = strcmp(op, "convert") == 0, reshape = strcmp(op, "reshape") == 0;
    if (!convert && !reshape && strcmp(op, "broadcast") != 0) return DG_NO_VALUE;
    dg_type t = dg_type_of(to, in[0]);
    return t.dtype == node->out[0].dtype && dg_same_dims(&t, &node->out[0]) ? in[0] : DG_NO_VALUE;
}

static bool cse_rule(void *user, dg_graph *to, const dg_graph *from, int32_t index, const dg_value *in,
                     dg_value *y)
{
    seen *s = user;
    const dg_node *node = dg_graph_node(from, index);
    if (!node->op || dg_op_over_ranks(node->op)) return false;
    dg_value same = shortcut(to, node, in);
    if (dg_is_value(same)) {
        y[0] = same;
        return true;
    }
    dg_value inner = in ? in[0] : DG_NO_VALUE;
    if (strcmp(node->op->name, "reshape") == 0) { /* only the last of several reshapes counts */
        const dg_node *source = dg_graph_node(to, in[0].node);
        if (source->op && strcmp(source->op->name, "reshape") == 0) inner = source->in[0];
        dg_type t = dg_type_of(to, inner);
        if (dg_same_dims(&t, &node->out[0])) {
            y[0] = inner;
            return true;
        }
        in = &inner;
    }
    size_t i = hash_node(node->op, in, node->n_in, node->attrs) & (s->n_slots - 1);
    for (; s->slots[i]; i = (i + 1) & (s->n_slots - 1))
        if (equal_node(dg_graph_node(to, s->slots[i] - 1), node->op, in, node->n_in, node->attrs)) {
            for (int32_t k = 0; k < node->n_out; k++) y[k] = (dg_value){s->slots[i] - 1, k};
            return true;
        }
    dg_value v =
        to->api->node(to, node->op->name, in, (size_t)node->n_in, node->attrs, (size_t)node->op->n_attrs);
    for (int32_t k = 0; k < node->n_out; k++) y[k] = dg_output(v, k);
    if (dg_is_value(v)) s->slots[i] = v.node + 1;
    return true;
}

dg_status dg_pass_cse(const dg_graph *from, dg_graph **to, dg_error *err)
{
    seen s = {NULL, 64};
    while (s.n_slots < (size_t)dg_graph_count(from) * 2) s.n_slots *= 2;
    s.slots = dg_calloc(s.n_slots, sizeof *s.slots);
    if (!s.slots) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_status status = dg_rewrite(from, cse_rule, &s, to, err);
    dg_free(s.slots);
    return status;
}
