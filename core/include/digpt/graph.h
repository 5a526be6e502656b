/* digpt/graph.h - building a computation: values, attributes, leaves.
 *
 * A graph is a list of nodes in execution order. A node has an op from the one op table (digpt/ops.h has a builder
 * for each), inputs, attributes and static shapes; a value is one output of one node. Values never change.
 *
 * Errors are sticky: a builder that fails records the first message with the scope it happened in and returns
 * DG_NO_VALUE; builders given DG_NO_VALUE for a needed input return DG_NO_VALUE and record nothing more. So a model
 * is written straight down and asked once at its end (dg_graph_error). */
#ifndef DIGPT_GRAPH_H
#define DIGPT_GRAPH_H

#include "digpt/base.h"

typedef struct dg_graph dg_graph;

typedef struct dg_value {
    int32_t node; /* -1: no value */
    int32_t out;
} dg_value;

#define DG_NO_VALUE ((dg_value){-1, 0})
static inline DG_UNUSED bool dg_is_value(dg_value v) { return v.node >= 0; }
static inline DG_UNUSED bool dg_same_value(dg_value a, dg_value b) { return a.node == b.node && a.out == b.out; }
/* The k-th output of the node that v belongs to: dg_output(dg_layer_norm(...), 1) is the mean. */
static inline DG_UNUSED dg_value dg_output(dg_value v, int32_t k) { return v.node < 0 ? v : (dg_value){v.node, k}; }

/* ---- attributes */

typedef enum dg_attr_type {
    DG_ATTR_INT = 1,    /* v.i; also booleans and dtypes */
    DG_ATTR_FLOAT = 2,  /* v.f */
    DG_ATTR_INTS = 3,   /* v.is[n] */
    DG_ATTR_FLOATS = 4, /* v.fs[n] */
    DG_ATTR_BYTES = 5   /* v.bytes[n]: constant data, little-endian */
} dg_attr_type;

typedef struct dg_attr {
    const char *name;
    uint32_t type; /* dg_attr_type */
    uint32_t reserved;
    uint64_t n;
    union {
        int64_t i;
        double f;
        const int64_t *is;
        const double *fs;
        const void *bytes;
    } v;
} dg_attr;

/* A list as two arguments: dg_reshape(g, x, DG_LIST(batch, tokens, width)). */
#define DG_LIST(...)                                                                                                   \
    (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)

/* ---- leaves: what a program reads that no node computes */

typedef enum dg_leaf_kind {
    DG_LEAF_PARAM = 1,  /* trained; has a gradient and is updated by the optimizer */
    DG_LEAF_FROZEN = 2, /* weights that never change: a teacher */
    DG_LEAF_STATE = 3,  /* kept between steps and updated explicitly: moments, statistics */
    DG_LEAF_INPUT = 4   /* given by the host at every run */
} dg_leaf_kind;

typedef enum dg_per {
    DG_PER_BATCH = 0, /* one for the whole batch */
    DG_PER_SAMPLE = 1, /* dims[0] is the batch; each sample's share is filled by itself */
    DG_PER_RANK = 2    /* STATE: each rank has its own part; a store holds all of them along axis 0, rank by rank */
} dg_per;

typedef enum dg_init_kind {
    DG_INIT_CONSTANT = 0,       /* value; zeros by default */
    DG_INIT_NORMAL = 1,         /* N(0, value^2) */
    DG_INIT_TRUNC_NORMAL = 2,   /* N(0, value^2) redrawn outside [-2, 2], as timm's trunc_normal_ */
    DG_INIT_XAVIER_UNIFORM = 3, /* U(-a, a), a = sqrt(6 / (fan_in + fan_out)) of the view [dims[0], rest] */
    DG_INIT_DATA = 4,           /* f32 values given here; copied */
    DG_INIT_WEIGHTS = 5         /* read from a weights file when the run starts */
} dg_init_kind;

typedef struct dg_weights dg_weights; /* digpt/plugin.h */

#define DG_INIT_TRANSPOSE 1u /* the file's (concatenated) matrix is [cols, rows] */

typedef struct dg_init {
    uint32_t struct_size;
    uint32_t kind; /* dg_init_kind */
    double value;
    const float *data;    /* DATA: as many as the leaf has elements */
    dg_weights *weights;  /* WEIGHTS: open file, alive until the component is destroyed */
    const char *names[4]; /* WEIGHTS: tensors of the file, concatenated along axis 0; NULL-terminated if fewer; copied */
    uint32_t flags;       /* DG_INIT_TRANSPOSE */
} dg_init;

typedef struct dg_leaf {
    uint32_t struct_size;
    uint32_t kind;    /* dg_leaf_kind */
    const char *name; /* the open scopes are put before it: "blocks.0" + "attn.qkv.weight" */
    dg_type type;
    dg_init init;     /* PARAM, FROZEN, STATE */
    int32_t decay;    /* PARAM: weight decay: -1 the usual rule (rank > 1 and not named *.bias), 0 never, 1 always */
    int32_t layer;    /* PARAM: depth for layer-wise learning rates, 0 = the input's side; -1: not said */
    uint32_t per;     /* dg_per: of an INPUT the first two, of STATE 0 (the same on every rank) or DG_PER_RANK */
    int64_t grid[2];  /* a table of positions [.., rows, width]: its last h*w rows belong to a grid [h, w], row by row,
                         and weights of another grid are interpolated to it when they are loaded; 0, 0: no such table */
} dg_leaf;

/* ---- the calls; plugins reach the core through this table only */

typedef struct dg_graph_api {
    uint32_t struct_size;
    dg_value (*node)(dg_graph *g, const char *op, const dg_value *in, size_t n_in, const dg_attr *attrs, size_t n_attrs);
    /* A leaf of the same full name and type is returned again; another type under that name is an error. */
    dg_value (*leaf)(dg_graph *g, const dg_leaf *leaf);
    /* DG_ERR_INVALID for DG_NO_VALUE. */
    dg_status (*type)(const dg_graph *g, dg_value v, dg_type *out);
    void (*push)(dg_graph *g, const char *scope);
    void (*pop)(dg_graph *g);
    /* Records an error of the caller's own, with the scope; the first one stays. */
    void (*fail)(dg_graph *g, dg_status code, const char *message);
    dg_status (*error)(const dg_graph *g, dg_error *err);
    /* Gives a value a name under which tests, reports and `digpt graph` can ask for it: "enc_block.3". */
    void (*tap)(dg_graph *g, dg_value v, const char *name);
} dg_graph_api;

struct dg_graph {
    const dg_graph_api *api; /* the rest is the core's */
};

/* ---- as ordinary calls */

static inline DG_UNUSED dg_type dg_type_of(const dg_graph *g, dg_value v)
{
    dg_type t = {DG_NONE, 0, {0}};
    g->api->type(g, v, &t);
    return t;
}

/* Size of axis `axis` (negative: from the end); 0 for no value. */
static inline DG_UNUSED int64_t dg_dim(const dg_graph *g, dg_value v, int axis)
{
    dg_type t = dg_type_of(g, v);
    int a = axis < 0 ? axis + t.rank : axis;
    return a >= 0 && a < t.rank ? t.dims[a] : 0;
}

DG_PRINTF(2, 3) static inline DG_UNUSED void dg_push(dg_graph *g, const char *fmt, ...)
{
    char scope[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(scope, sizeof scope, fmt, ap);
    va_end(ap);
    g->api->push(g, scope);
}

static inline DG_UNUSED void dg_pop(dg_graph *g) { g->api->pop(g); }

DG_PRINTF(3, 4) static inline DG_UNUSED dg_value dg_graph_fail(dg_graph *g, dg_status code, const char *fmt, ...)
{
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    g->api->fail(g, code, message);
    return DG_NO_VALUE;
}

static inline DG_UNUSED dg_status dg_graph_error(const dg_graph *g, dg_error *err) { return g->api->error(g, err); }

DG_PRINTF(3, 4) static inline DG_UNUSED dg_value dg_tap(dg_graph *g, dg_value v, const char *fmt, ...)
{
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    g->api->tap(g, v, name);
    return v;
}

static inline DG_UNUSED dg_type dg_make_type(dg_dtype dtype, const int64_t *dims, size_t rank)
{
    dg_type t = {(int32_t)dtype, (int32_t)rank, {0}};
    for (size_t i = 0; i < rank && i < DG_MAX_RANK; i++) t.dims[i] = dims[i];
    return t;
}

static inline DG_UNUSED dg_init dg_init_value(dg_init_kind kind, double value)
{
    dg_init init = {0};
    init.struct_size = (uint32_t)sizeof init;
    init.kind = (uint32_t)kind;
    init.value = value;
    return init;
}

/* A trained f32 parameter with the usual decay rule. */
static inline DG_UNUSED dg_value dg_param(dg_graph *g, const char *name, const int64_t *dims, size_t rank, dg_init init,
                                          int layer)
{
    dg_leaf leaf = {(uint32_t)sizeof leaf, DG_LEAF_PARAM, name, dg_make_type(DG_F32, dims, rank), init, -1, layer, 0, {0, 0}};
    return g->api->leaf(g, &leaf);
}

/* Frozen f32 weights. */
static inline DG_UNUSED dg_value dg_frozen(dg_graph *g, const char *name, const int64_t *dims, size_t rank, dg_init init)
{
    dg_leaf leaf = {(uint32_t)sizeof leaf, DG_LEAF_FROZEN, name, dg_make_type(DG_F32, dims, rank), init, 0, -1, 0, {0, 0}};
    return g->api->leaf(g, &leaf);
}

/* A host input. */
static inline DG_UNUSED dg_value dg_input(dg_graph *g, const char *name, dg_dtype dtype, const int64_t *dims, size_t rank,
                                          dg_per per)
{
    dg_init none = {0};
    dg_leaf leaf = {(uint32_t)sizeof leaf, DG_LEAF_INPUT, name, dg_make_type(dtype, dims, rank), none, 0, -1, (uint32_t)per, {0, 0}};
    return g->api->leaf(g, &leaf);
}

#endif
