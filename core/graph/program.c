/* program.c - flattens a graph into the program that backends get: only what outputs and updates need. */
#include "graph.h"

#include "base/mem.h"

typedef struct owned_program {
    dg_program public;
    dg_arena arena;
} owned_program;

typedef struct flatten {
    const dg_graph *g;
    owned_program *p;
    bool *needed;   /* [nodes] */
    int32_t *first; /* [nodes] number of the node's first output */
    dg_program_value *values;
    dg_program_node *nodes;
    dg_program_leaf *leaves;
    dg_program_output *outputs;
} flatten;

static void *take(flatten *f, size_t n, size_t size)
{
    return dg_arena_alloc(&f->p->arena, n * size + 1);
}

static const char *copy_text(flatten *f, const char *s)
{
    return dg_arena_strdup(&f->p->arena, s ? s : "");
}

static void mark_needed(flatten *f, bool taps)
{
    const dg_named_value *names;
    const dg_update *updates;
    size_t n = dg_graph_outputs(f->g, &names);
    for (size_t i = 0; i < n; i++) f->needed[names[i].value.node] = true;
    n = taps ? dg_graph_taps(f->g, &names) : 0;
    for (size_t i = 0; i < n; i++) f->needed[names[i].value.node] = true;
    n = dg_graph_updates(f->g, &updates);
    for (size_t i = 0; i < n; i++) f->needed[updates[i].leaf.node] = f->needed[updates[i].value.node] = true;
    for (int32_t i = dg_graph_count(f->g) - 1; i >= 0; i--) {
        const dg_node *node = dg_graph_node(f->g, i);
        for (int32_t k = 0; f->needed[i] && k < node->n_in; k++)
            if (node->in[k].node >= 0) f->needed[node->in[k].node] = true;
    }
}

/* Sets f->first and the counts; leaves are numbered first. */
static void number(flatten *f)
{
    dg_program *p = &f->p->public;
    int32_t n = dg_graph_count(f->g);
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < n; i++) {
            const dg_node *node = dg_graph_node(f->g, i);
            if (!f->needed[i] || (node->leaf != NULL) != (pass == 0)) continue;
            f->first[i] = (int32_t)p->n_values;
            p->n_values += (uint32_t)node->n_out;
            if (node->leaf)
                p->n_leaves++;
            else
                p->n_nodes++;
        }
}

static int32_t number_of(const flatten *f, dg_value v)
{
    return v.node < 0 ? -1 : f->first[v.node] + v.out;
}

static const dg_attr *copy_attrs(flatten *f, const dg_node *node)
{
    dg_attr *out = take(f, (size_t)node->op->n_attrs, sizeof *out);
    for (int k = 0; out && k < node->op->n_attrs; k++) {
        const dg_attr *a = &node->attrs[k];
        out[k] = *a;
        out[k].name = copy_text(f, a->name);
        if (a->type == DG_ATTR_INT || a->type == DG_ATTR_FLOAT) continue;
        size_t bytes = (size_t)a->n * (a->type == DG_ATTR_BYTES ? 1 : sizeof(int64_t));
        void *data = take(f, bytes, 1);
        if (!data) return NULL;
        if (bytes) memcpy(data, a->v.bytes, bytes);
        out[k].v.bytes = data;
    }
    return out;
}

static bool fill_nodes(flatten *f)
{
    int32_t n = dg_graph_count(f->g), at = 0, leaf = 0;
    for (int32_t i = 0; i < n; i++) {
        const dg_node *node = dg_graph_node(f->g, i);
        if (!f->needed[i]) continue;
        for (int32_t k = 0; k < node->n_out; k++)
            f->values[f->first[i] + k] =
                (dg_program_value){node->out[k], node->leaf ? -1 : at, node->leaf ? leaf : -1, -1, 0};
        if (node->leaf) {
            f->leaves[leaf++] = (dg_program_leaf){copy_text(f, node->leaf->name), node->leaf->kind,
                                                  node->leaf->per, f->first[i], -1};
            continue;
        }
        int32_t *in = take(f, (size_t)node->n_in, sizeof *in);
        const dg_attr *attrs = copy_attrs(f, node);
        if (!in || !attrs) return false;
        for (int32_t k = 0; k < node->n_in; k++) {
            in[k] = number_of(f, node->in[k]);
            if (in[k] >= 0) f->values[in[k]].last = at;
        }
        f->nodes[at++] = (dg_program_node){
            copy_text(f, node->op->name), in,    (uint32_t)node->n_in,     (uint32_t)node->n_out, f->first[i],
            (uint32_t)node->op->n_attrs,  attrs, copy_text(f, node->scope)};
    }
    return true;
}

static void fill_results(flatten *f, bool taps)
{
    dg_program *p = &f->p->public;
    const dg_named_value *names;
    const dg_update *updates;
    for (int pass = 0; pass < (taps ? 2 : 1); pass++) {
        size_t n = pass ? dg_graph_taps(f->g, &names) : dg_graph_outputs(f->g, &names);
        for (size_t i = 0; i < n; i++) {
            int32_t v = number_of(f, names[i].value);
            f->outputs[p->n_outputs++] = (dg_program_output){copy_text(f, names[i].name), v, 0};
            f->values[v].last = (int32_t)p->n_nodes;
        }
    }
    size_t n = dg_graph_updates(f->g, &updates);
    for (size_t i = 0; i < n; i++) {
        int32_t v = number_of(f, updates[i].value);
        f->leaves[f->values[f->first[updates[i].leaf.node]].leaf].update = v;
        f->values[v].last = (int32_t)p->n_nodes;
    }
}

dg_status dg_program_make(const dg_graph *g, const char *name, bool taps, dg_program **out, dg_error *err)
{
    *out = NULL;
    DG_TRY(dg_graph_error(g, err));
    size_t n = (size_t)dg_graph_count(g);
    const dg_named_value *names;
    size_t n_outputs = dg_graph_outputs(g, &names) + (taps ? dg_graph_taps(g, &names) : 0);
    flatten f = {.g = g,
                 .p = dg_calloc(1, sizeof *f.p),
                 .needed = dg_calloc(n, 1),
                 .first = dg_calloc(n, sizeof *f.first)};
    bool ok = f.p && f.needed && f.first;
    if (ok) {
        dg_program *p = &f.p->public;
        mark_needed(&f, taps);
        number(&f);
        p->values = f.values = take(&f, p->n_values, sizeof *f.values);
        p->nodes = f.nodes = take(&f, p->n_nodes, sizeof *f.nodes);
        p->leaves = f.leaves = take(&f, p->n_leaves, sizeof *f.leaves);
        p->outputs = f.outputs = take(&f, n_outputs, sizeof *f.outputs);
        p->name = copy_text(&f, name);
        p->struct_size = (uint32_t)sizeof *p;
        ok = f.values && f.nodes && f.leaves && f.outputs && fill_nodes(&f);
        if (ok) fill_results(&f, taps);
    }
    dg_free(f.needed);
    dg_free(f.first);
    if (!ok) {
        if (f.p) dg_program_destroy(&f.p->public);
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while making the program '%s'", name);
    }
    *out = &f.p->public;
    return DG_OK;
}

void dg_program_destroy(dg_program *p)
{
    if (!p) return;
    owned_program *o = (owned_program *)p;
    dg_arena_free(&o->arena);
    dg_free(o);
}
