/* digpt/program.h - the flat list of work that a backend gets: what the graph became after gradient and passes.
 *
 * Values are numbered; leaves come first, then each node's outputs in order. Nodes stand in an order in which every
 * input is ready. Shapes are static. All memory belongs to the program and lives as long as it does; nothing points
 * into the core. Op names and attributes are those of the op table (digpt/ops.h); an op whose meaning ever changes
 * gets a new name. */
#ifndef DIGPT_PROGRAM_H
#define DIGPT_PROGRAM_H

#include "digpt/graph.h"

/* One piece of work, readable by itself: what supports() is asked with, before there is a program. */
typedef struct dg_work {
    uint32_t struct_size;
    const char *op;
    const dg_type *in; /* [n_in]; dtype DG_NONE: absent */
    uint32_t n_in;
    uint32_t n_out;
    const dg_type *out; /* [n_out] */
    const dg_attr *attrs;
    uint32_t n_attrs; /* all of the op's attributes, defaults filled in, in the table's order */
    uint32_t reserved;
} dg_work;

typedef struct dg_program_value {
    dg_type type;
    int32_t node; /* that computes it; -1: a leaf */
    int32_t leaf; /* index of the leaf; -1: computed */
    int32_t last; /* last node that reads it; n_nodes when it is an output or an update; -1: nobody */
    int32_t reserved;
} dg_program_value;

typedef struct dg_program_node {
    const char *op;
    const int32_t *in; /* [n_in] value numbers; -1: absent */
    uint32_t n_in;
    uint32_t n_out;
    int32_t out; /* number of the first output; the others follow it */
    uint32_t n_attrs;
    const dg_attr *attrs;
    const char *scope; /* for messages: "blocks.0.attn" */
} dg_program_node;

typedef struct dg_program_leaf {
    const char *name; /* state is found by it in a store: "model.blocks.0.attn.qkv.weight" */
    uint32_t kind;    /* dg_leaf_kind */
    uint32_t per;     /* dg_per */
    int32_t value;
    int32_t update; /* the value that replaces it after the run; -1: it stays */
} dg_program_leaf;

typedef struct dg_program_output {
    const char *name;
    int32_t value;
    int32_t reserved;
} dg_program_output;

typedef struct dg_program {
    uint32_t struct_size;
    uint32_t n_values, n_nodes, n_leaves, n_outputs;
    uint32_t reserved;
    const char *name; /* "train", "eval", ... */
    const dg_program_value *values;
    const dg_program_node *nodes;
    const dg_program_leaf *leaves; /* leaf i is value i */
    const dg_program_output *outputs;
} dg_program;

/* ---- reading */

#define DG_WORK_MAX_IN 64

/* Fills *work from node n; `types` gives room for n_in + n_out types and must live as long as *work. */
static inline DG_UNUSED void dg_program_work(const dg_program *p, uint32_t n, dg_type *types, dg_work *work)
{
    const dg_program_node *node = &p->nodes[n];
    static const dg_type none = {DG_NONE, 0, {0}};
    for (uint32_t i = 0; i < node->n_in; i++) types[i] = node->in[i] < 0 ? none : p->values[node->in[i]].type;
    for (uint32_t i = 0; i < node->n_out; i++) types[node->n_in + i] = p->values[node->out + (int32_t)i].type;
    *work = (dg_work){(uint32_t)sizeof *work, node->op,    types,         node->n_in, node->n_out,
                      types + node->n_in,     node->attrs, node->n_attrs, 0};
}

static inline DG_UNUSED const dg_attr *dg_attr_find(const dg_attr *attrs, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(attrs[i].name, name) == 0) return &attrs[i];
    return NULL;
}

static inline DG_UNUSED int64_t dg_attr_int(const dg_attr *attrs, uint32_t n, const char *name)
{
    const dg_attr *a = dg_attr_find(attrs, n, name);
    return a && a->type == DG_ATTR_INT ? a->v.i : 0;
}

static inline DG_UNUSED double dg_attr_float(const dg_attr *attrs, uint32_t n, const char *name)
{
    const dg_attr *a = dg_attr_find(attrs, n, name);
    return a && a->type == DG_ATTR_FLOAT ? a->v.f : 0;
}

#endif
