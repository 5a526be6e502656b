/* graph.c - the builder: nodes and leaves in an arena, scopes, sticky errors, outputs, updates and taps. */
#include "graph.h"

#include "base/mem.h"

typedef struct graph {
    dg_graph base;
    dg_arena arena;
    dg_node **nodes; /* each in the arena: they stay where they are while the graph grows */
    size_t n_nodes, nodes_room;
    dg_named_value *outputs, *taps;
    dg_update *updates;
    size_t n_outputs, outputs_room, n_taps, taps_room, n_updates, updates_room;
    int32_t *leaf_table; /* open addressing by name: node index + 1 */
    size_t leaf_slots, n_leaves;
    char scope[512];
    const char *scope_copy; /* of `scope`, in the arena; NULL when stale */
    size_t scope_marks[64];
    int depth;
    dg_error error;
} graph;

static graph *of(dg_graph *g)
{
    return (graph *)g;
}
static const graph *of_const(const dg_graph *g)
{
    return (const graph *)g;
}

static void record(graph *g, dg_status code, const char *message)
{
    if (g->error.code != DG_OK) return;
    if (g->scope[0])
        dg_fail(&g->error, code, "in '%s': %s", g->scope, message);
    else
        dg_fail(&g->error, code, "%s", message);
}

DG_PRINTF(3, 4) static dg_value reject(graph *g, dg_status code, const char *fmt, ...)
{
    char message[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    record(g, code, message);
    return DG_NO_VALUE;
}

static dg_value out_of_memory(graph *g)
{
    return reject(g, DG_ERR_NOMEM, "out of memory while building the graph");
}

static const char *current_scope(graph *g)
{
    if (!g->scope_copy) g->scope_copy = dg_arena_strdup(&g->arena, g->scope);
    return g->scope_copy;
}

static bool exists(const graph *g, dg_value v)
{
    return v.node >= 0 && (size_t)v.node < g->n_nodes && v.out >= 0 && v.out < g->nodes[v.node]->n_out;
}

/* ---- attributes: those given, matched to the row, copied, defaults filled in */

static uint32_t attr_type_of(char code)
{
    switch (code) {
    case 'f':
        return DG_ATTR_FLOAT;
    case 'I':
        return DG_ATTR_INTS;
    case 'F':
        return DG_ATTR_FLOATS;
    case 'B':
        return DG_ATTR_BYTES;
    default:
        return DG_ATTR_INT;
    }
}

static bool copy_attr(graph *g, dg_attr *to, const dg_attr *from)
{
    size_t unit = from->type == DG_ATTR_INTS     ? sizeof(int64_t)
                  : from->type == DG_ATTR_FLOATS ? sizeof(double)
                                                 : 1;
    to->n = from->n;
    if (from->type == DG_ATTR_INT || from->type == DG_ATTR_FLOAT) {
        to->v = from->v;
        return true;
    }
    void *p = dg_arena_alloc(&g->arena, from->n * unit + 1);
    if (!p) return false;
    if (from->n) memcpy(p, from->v.bytes, from->n * unit);
    to->v.bytes = p;
    return true;
}

static bool complete_attrs(graph *g, const dg_op *op, const dg_attr *given, size_t n, dg_attr *out)
{
    for (int k = 0; k < op->n_attrs; k++) {
        const dg_op_attr *row = &op->attrs[k];
        out[k] = (dg_attr){.name = row->name, .type = attr_type_of(row->type)};
        const dg_attr *a = dg_attr_find(given, (uint32_t)n, row->name);
        if (!a) {
            if (!row->has_default) {
                reject(g, DG_ERR_INVALID, "%s: attribute '%s' is missing", op->name, row->name);
                return false;
            }
            if (row->type == 'f')
                out[k].v.f = row->def;
            else
                out[k].v.i = (int64_t)row->def;
        } else if (a->type != out[k].type) {
            reject(g, DG_ERR_INVALID, "%s: attribute '%s' has the wrong kind", op->name, row->name);
            return false;
        } else if (!copy_attr(g, &out[k], a)) {
            out_of_memory(g);
            return false;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (!dg_attr_find(out, (uint32_t)op->n_attrs, given[i].name)) {
            reject(g, DG_ERR_INVALID, "%s has no attribute '%s'", op->name, given[i].name);
            return false;
        }
    return true;
}

/* ---- nodes */

/* Checks arity and presence; false after a record (or silently after an earlier error). */
static bool inputs_ok(graph *g, const dg_op *op, const dg_value *in, size_t n_in)
{
    if ((int64_t)n_in < op->n_in_least || (op->n_in_most >= 0 && (int64_t)n_in > op->n_in_most)) {
        reject(g, DG_ERR_INVALID, "%s takes %d%s inputs (%s), not %zu", op->name, op->n_in_least,
               op->n_in_most == op->n_in_least ? "" : " or more", op->inputs, n_in);
        return false;
    }
    for (size_t i = 0; i < n_in; i++) {
        if (exists(g, in[i])) continue;
        bool optional = op->n_in_most >= 0 && op->optional[i];
        if (!dg_is_value(in[i]) && optional) continue;
        if (g->error.code == DG_OK)
            reject(g, DG_ERR_INVALID, "%s: input '%s' is not a value of this graph", op->name,
                   op->n_in_most < 0 ? op->in_name[0] : op->in_name[i]);
        return false;
    }
    return true;
}

static bool type_ok(const dg_type *t)
{
    if (t->dtype <= DG_NONE || t->dtype >= DG_DTYPE_COUNT || t->rank < 0 || t->rank > DG_MAX_RANK)
        return false;
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] < 1 || t->dims[i] > ((int64_t)1 << 40) / n) return false;
        n *= t->dims[i];
    }
    return true;
}

static dg_node *new_node(graph *g, int32_t n_in, int32_t n_out, int32_t n_attrs)
{
    if (g->n_nodes > INT32_MAX - 1 || !dg_grow(&g->nodes, g->n_nodes, &g->nodes_room, sizeof *g->nodes))
        return NULL;
    dg_node *node = g->nodes[g->n_nodes] = dg_arena_alloc(&g->arena, sizeof *node);
    if (!node) return NULL;
    node->n_in = n_in;
    node->n_out = n_out;
    node->in = dg_arena_alloc(&g->arena, sizeof(dg_value) * (size_t)(n_in + 1));
    node->out = dg_arena_alloc(&g->arena, sizeof(dg_type) * (size_t)n_out);
    node->attrs = dg_arena_alloc(&g->arena, sizeof(dg_attr) * (size_t)(n_attrs + 1));
    node->scope = current_scope(g);
    return node->in && node->out && node->attrs && node->scope ? node : NULL;
}

static dg_value add_node(dg_graph *base, const char *name, const dg_value *in, size_t n_in,
                         const dg_attr *attrs, size_t n_attrs)
{
    graph *g = of(base);
    const dg_op *op = dg_op_find(name);
    if (!op) return reject(g, DG_ERR_INVALID, "there is no op '%s'", name);
    if (!inputs_ok(g, op, in, n_in)) return DG_NO_VALUE;
    if (n_in > INT32_MAX / 64) return reject(g, DG_ERR_INVALID, "%s: too many inputs", name);
    /* Missing trailing optional inputs count as absent. */
    size_t arity = op->n_in_most < 0 ? n_in : (size_t)op->n_in_most;
    dg_node *node = new_node(g, (int32_t)arity, op->n_out, op->n_attrs);
    dg_type *types = dg_calloc(arity + 1, sizeof *types);
    if (!node || !types) {
        dg_free(types);
        return out_of_memory(g);
    }
    node->op = op;
    for (size_t i = 0; i < arity; i++) {
        node->in[i] = i < n_in ? in[i] : DG_NO_VALUE;
        if (dg_is_value(node->in[i])) types[i] = g->nodes[in[i].node]->out[in[i].out];
    }
    dg_value result = DG_NO_VALUE;
    if (complete_attrs(g, op, attrs, n_attrs, node->attrs)) {
        dg_error err = DG_ERROR_INIT;
        dg_infer infer = {op, types, arity, node->attrs, node->out, &err};
        dg_status s = op->shape(&infer);
        for (int k = 0; s == DG_OK && k < op->n_out; k++)
            if (!type_ok(&node->out[k]))
                s = dg_fail(&err, DG_ERR_INVALID, "the result is larger than any memory");
        if (s == DG_OK)
            result = (dg_value){(int32_t)g->n_nodes++, 0};
        else
            reject(g, s, "%s: %s", op->name, err.message);
    }
    dg_free(types);
    return result;
}

/* ---- leaves */

static uint64_t hash_name(const char *s)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static int32_t *leaf_slot(const graph *g, const char *name)
{
    for (size_t i = hash_name(name) & (g->leaf_slots - 1);; i = (i + 1) & (g->leaf_slots - 1)) {
        int32_t *slot = &g->leaf_table[i];
        if (!*slot || strcmp(g->nodes[*slot - 1]->leaf->name, name) == 0) return slot;
    }
}

static bool leaf_room(graph *g)
{
    if ((g->n_leaves + 1) * 2 <= g->leaf_slots) return true;
    size_t old_slots = g->leaf_slots;
    int32_t *old = g->leaf_table;
    g->leaf_slots = old_slots ? old_slots * 2 : 64;
    g->leaf_table = dg_calloc(g->leaf_slots, sizeof *g->leaf_table);
    if (!g->leaf_table) {
        g->leaf_table = old;
        g->leaf_slots = old_slots;
        return false;
    }
    for (size_t i = 0; i < old_slots; i++)
        if (old[i]) *leaf_slot(g, g->nodes[old[i] - 1]->leaf->name) = old[i];
    dg_free(old);
    return true;
}

static bool copy_init(graph *g, dg_leaf *to, const dg_leaf *from)
{
    const dg_init *init = &from->init;
    if (init->struct_size == 0) return true;
    if (init->kind == DG_INIT_DATA) {
        size_t bytes = (size_t)dg_type_count(&from->type) * sizeof(float);
        void *p = dg_arena_alloc(&g->arena, bytes + 1);
        if (!p) return false;
        memcpy(p, init->data, bytes);
        to->init.data = p;
    }
    for (int i = 0; init->kind == DG_INIT_WEIGHTS && i < 4 && init->names[i]; i++) {
        to->init.names[i] = dg_arena_strdup(&g->arena, init->names[i]);
        if (!to->init.names[i]) return false;
    }
    return true;
}

static dg_value add_leaf(dg_graph *base, const dg_leaf *given)
{
    graph *g = of(base);
    char name[640], a[96], b[96];
    if (!given->name || !given->name[0]) return reject(g, DG_ERR_INVALID, "a leaf has no name");
    snprintf(name, sizeof name, "%s%s%s", g->scope, g->scope[0] ? "." : "", given->name);
    if (!type_ok(&given->type))
        return reject(g, DG_ERR_INVALID, "'%s' cannot have the type %s", name,
                      dg_type_text(&given->type, a, sizeof a));
    if (given->kind < DG_LEAF_PARAM || given->kind > DG_LEAF_INPUT)
        return reject(g, DG_ERR_INVALID, "'%s' has an unknown kind of leaf, %u", name, given->kind);
    if (given->per == DG_PER_RANK && (given->kind != DG_LEAF_STATE || given->type.rank < 1))
        return reject(g, DG_ERR_INVALID, "'%s': only state with a first dim has a part on each rank", name);
    if (!leaf_room(g)) return out_of_memory(g);
    int32_t *slot = leaf_slot(g, name);
    if (*slot) {
        const dg_leaf *old = g->nodes[*slot - 1]->leaf;
        if (old->kind != given->kind || old->type.dtype != given->type.dtype ||
            !dg_same_dims(&old->type, &given->type))
            return reject(g, DG_ERR_INVALID, "'%s' was declared as %s and is now asked for as %s", name,
                          dg_type_text(&old->type, a, sizeof a), dg_type_text(&given->type, b, sizeof b));
        return (dg_value){*slot - 1, 0};
    }
    dg_node *node = new_node(g, 0, 1, 0);
    dg_leaf *leaf = dg_arena_alloc(&g->arena, sizeof *leaf);
    if (!node || !leaf) return out_of_memory(g);
    memcpy(leaf, given, given->struct_size < sizeof *leaf ? given->struct_size : sizeof *leaf);
    leaf->struct_size = (uint32_t)sizeof *leaf;
    leaf->name = dg_arena_strdup(&g->arena, name);
    if (!leaf->name || !copy_init(g, leaf, given)) return out_of_memory(g);
    node->out[0] = leaf->type;
    node->leaf = leaf;
    *slot = (int32_t)++g->n_nodes;
    g->n_leaves++;
    return (dg_value){*slot - 1, 0};
}

/* ---- the rest of the table */

static dg_status value_type(const dg_graph *base, dg_value v, dg_type *out)
{
    const graph *g = of_const(base);
    if (!exists(g, v)) return DG_ERR_INVALID;
    *out = g->nodes[v.node]->out[v.out];
    return DG_OK;
}

static void push_scope(dg_graph *base, const char *scope)
{
    graph *g = of(base);
    size_t n = strlen(g->scope), room = sizeof g->scope - n;
    if (g->depth >= 64 || strlen(scope) + 2 > room) {
        record(g, DG_ERR_INVALID, "scopes are nested too deeply");
        return;
    }
    g->scope_marks[g->depth++] = n;
    snprintf(g->scope + n, room, "%s%s", n && scope[0] ? "." : "", scope);
    g->scope_copy = NULL;
}

static void pop_scope(dg_graph *base)
{
    graph *g = of(base);
    if (g->depth == 0) {
        record(g, DG_ERR_INVALID, "dg_pop without dg_push");
        return;
    }
    g->scope[g->scope_marks[--g->depth]] = 0;
    g->scope_copy = NULL;
}

static void fail_graph(dg_graph *base, dg_status code, const char *message)
{
    record(of(base), code, message);
}

static dg_status graph_error(const dg_graph *base, dg_error *err)
{
    const dg_error *e = &of_const(base)->error;
    if (e->code == DG_OK) return DG_OK;
    return dg_fail(err, (dg_status)e->code, "%s", e->message);
}

static void add_named(graph *g, dg_value v, const char *name, dg_named_value **list, size_t *n, size_t *room)
{
    if (!exists(g, v)) {
        if (g->error.code == DG_OK) reject(g, DG_ERR_INVALID, "'%s' names no value of this graph", name);
        return;
    }
    char *copy = dg_arena_strdup(&g->arena, name);
    if (!copy || !dg_grow(list, *n, room, sizeof **list)) {
        out_of_memory(g);
        return;
    }
    (*list)[(*n)++] = (dg_named_value){copy, v};
}

static void add_tap(dg_graph *base, dg_value v, const char *name)
{
    graph *g = of(base);
    add_named(g, v, name, &g->taps, &g->n_taps, &g->taps_room);
}

static const dg_graph_api api = {(uint32_t)sizeof api, add_node,    add_leaf,
                                 value_type,           push_scope,  pop_scope,
                                 fail_graph,           graph_error, add_tap};

/* ---- for the core */

dg_graph *dg_graph_create(void)
{
    graph *g = dg_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->base.api = &api;
    g->error = (dg_error)DG_ERROR_INIT;
    return &g->base;
}

void dg_graph_destroy(dg_graph *base)
{
    if (!base) return;
    graph *g = of(base);
    dg_arena_free(&g->arena);
    dg_free(g->nodes);
    dg_free(g->outputs);
    dg_free(g->taps);
    dg_free(g->updates);
    dg_free(g->leaf_table);
    dg_free(g);
}

int32_t dg_graph_count(const dg_graph *g)
{
    return (int32_t)of_const(g)->n_nodes;
}

const dg_node *dg_graph_node(const dg_graph *g, int32_t i)
{
    return of_const(g)->nodes[i];
}

static dg_value find_named(const dg_named_value *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0) return list[i].value;
    return DG_NO_VALUE;
}

void dg_graph_output(dg_graph *base, dg_value v, const char *name)
{
    graph *g = of(base);
    if (dg_is_value(find_named(g->outputs, g->n_outputs, name)))
        reject(g, DG_ERR_INVALID, "there is an output '%s' already", name);
    else
        add_named(g, v, name, &g->outputs, &g->n_outputs, &g->outputs_room);
}

void dg_graph_update(dg_graph *base, dg_value leaf, dg_value v)
{
    graph *g = of(base);
    if (!exists(g, leaf) || !exists(g, v)) {
        if (g->error.code == DG_OK) reject(g, DG_ERR_INVALID, "an update needs a leaf and a value");
        return;
    }
    const dg_node *node = g->nodes[leaf.node];
    const dg_type *a = &node->out[0], *b = &g->nodes[v.node]->out[v.out];
    if (!node->leaf || node->leaf->kind == DG_LEAF_INPUT || a->dtype != b->dtype || !dg_same_dims(a, b)) {
        reject(g, DG_ERR_INVALID, "an update must give a state leaf a value of its own type (%s)",
               node->leaf ? node->leaf->name : node->op->name);
        return;
    }
    for (size_t i = 0; i < g->n_updates; i++)
        if (dg_same_value(g->updates[i].leaf, leaf)) {
            reject(g, DG_ERR_INVALID, "'%s' is updated twice", node->leaf->name);
            return;
        }
    if (!dg_grow(&g->updates, g->n_updates, &g->updates_room, sizeof *g->updates)) {
        out_of_memory(g);
        return;
    }
    g->updates[g->n_updates++] = (dg_update){leaf, v};
}

size_t dg_graph_outputs(const dg_graph *g, const dg_named_value **out)
{
    *out = of_const(g)->outputs;
    return of_const(g)->n_outputs;
}

size_t dg_graph_updates(const dg_graph *g, const dg_update **out)
{
    *out = of_const(g)->updates;
    return of_const(g)->n_updates;
}

size_t dg_graph_taps(const dg_graph *g, const dg_named_value **out)
{
    *out = of_const(g)->taps;
    return of_const(g)->n_taps;
}

dg_value dg_graph_leaf(const dg_graph *base, const char *name)
{
    const graph *g = of_const(base);
    if (!g->leaf_slots) return DG_NO_VALUE;
    int32_t slot = *leaf_slot(g, name);
    return slot ? (dg_value){slot - 1, 0} : DG_NO_VALUE;
}

dg_value dg_graph_tap(const dg_graph *g, const char *name)
{
    return find_named(of_const(g)->taps, of_const(g)->n_taps, name);
}

void dg_graph_set_scope(dg_graph *base, const char *scope)
{
    graph *g = of(base);
    if (g->scope_copy && strcmp(g->scope, scope) == 0) return;
    snprintf(g->scope, sizeof g->scope, "%s", scope);
    g->depth = 0;
    g->scope_copy = NULL;
}
