/* graph.h - the graph inside the core: nodes, the op table, passes, programs.
 *
 * Way of a step:  plugins build a graph -> dg_gradient appends the backward pass -> optimizer nodes ->
 * passes rewrite graph into graph -> dg_program_make flattens it for a backend. */
#ifndef DG_GRAPH_GRAPH_H
#define DG_GRAPH_GRAPH_H

#include "digpt/backend.h"
#include "digpt/ops.h"
#include "digpt/program.h"
#include "base/str.h"

/* ---- the op table */

#define DG_OP_MAX_IN 12
#define DG_OP_MAX_OUT 4
#define DG_OP_MAX_ATTRS 8

typedef enum dg_op_class { DG_PRIM, DG_COMP } dg_op_class;
typedef enum dg_op_precision { DG_COMPUTE, DG_FOLLOW, DG_KEEP } dg_op_precision;

typedef struct dg_op_attr {
    char name[24];
    char type; /* i f b d I F B as in ops.def */
    bool has_default;
    double def;
} dg_op_attr;

/* Input of a shape rule, and where it puts the output types. Attributes are complete and in the table's
 * order. */
typedef struct dg_infer {
    const struct dg_op *op;
    const dg_type *in; /* [n_in]; dtype DG_NONE: absent */
    size_t n_in;
    const dg_attr *attrs;
    dg_type *out; /* [n_out] */
    dg_error *err;
} dg_infer;

/* A gradient rule reads the node's inputs and outputs and the gradients dy[n_out] (DG_NO_VALUE: none flows),
 * and sets dx[n_in]; what it leaves is DG_NO_VALUE. A gradient has its value's shape, and its dtype or f32.
 */
typedef struct dg_grad {
    dg_graph *g;
    const struct dg_node *node;
    const dg_value *in, *y, *dy; /* y[n_out] */
    const bool *needed;          /* [n_in]: is this input's gradient of any use? */
    dg_value *dx;
} dg_grad;

/* A lowering builds the same outputs from other ops, in the end from primitives. */
typedef struct dg_lower {
    dg_graph *g;
    const struct dg_op *op;
    const dg_value *in; /* [n_in] */
    size_t n_in;
    const dg_attr *attrs;
    dg_value *y; /* [n_out], to be set; types must be those of the shape rule */
} dg_lower;

typedef struct dg_op {
    const char *name, *inputs, *attrs_text, *outputs, *doc;
    dg_op_class cls;
    dg_op_precision precision;
    dg_status (*shape)(const dg_infer *c);
    void (*grad)(const dg_grad *c); /* NULL: no gradient flows (comparisons, ids), or lowered first if COMP */
    void (*lower)(const dg_lower *c); /* COMP only */
    /* from the texts */
    int n_in_least, n_in_most; /* -1: any number */
    int n_out, n_attrs;
    bool optional[DG_OP_MAX_IN];
    char in_name[DG_OP_MAX_IN][16];
    dg_op_attr attrs[DG_OP_MAX_ATTRS];
} dg_op;

/* NULL when there is none of that name. */
const dg_op *dg_op_find(const char *name);
size_t dg_op_count(void);
/* Does its result depend on other ranks or on which one this is? */
bool dg_op_over_ranks(const dg_op *op);
const dg_op *dg_op_at(size_t i);

/* Rules, one function an op, found by name when the table is set up: DG_SHAPE_RULE(matmul) etc. in rules.h.
 */

/* ---- nodes */

typedef struct dg_node {
    const dg_op *op; /* NULL: a leaf */
    dg_value *in;    /* [n_in] */
    dg_attr *attrs;  /* [op->n_attrs] complete, in the table's order */
    dg_type *out;    /* [n_out] */
    int32_t n_in, n_out;
    const char *scope;
    const dg_leaf *leaf; /* of leaves: full name, copied */
} dg_node;

typedef struct dg_named_value {
    const char *name;
    dg_value value;
} dg_named_value;

typedef struct dg_update {
    dg_value leaf, value;
} dg_update;

/* NULL when out of memory. */
dg_graph *dg_graph_create(void);
void dg_graph_destroy(dg_graph *g);
int32_t dg_graph_count(const dg_graph *g);
const dg_node *dg_graph_node(const dg_graph *g, int32_t i);
/* Results that the host reads; a second one of the same name is an error. */
void dg_graph_output(dg_graph *g, dg_value v, const char *name);
/* After the run the leaf holds v (same type). */
void dg_graph_update(dg_graph *g, dg_value leaf, dg_value v);
size_t dg_graph_outputs(const dg_graph *g, const dg_named_value **out);
size_t dg_graph_updates(const dg_graph *g, const dg_update **out);
size_t dg_graph_taps(const dg_graph *g, const dg_named_value **out);
/* The value of a leaf by its full name, or of a tap; DG_NO_VALUE if there is none. */
dg_value dg_graph_leaf(const dg_graph *g, const char *name);
dg_value dg_graph_tap(const dg_graph *g, const char *name);
/* The scope in force is put before the names of new nodes' scopes, as dg_push does; for passes: sets it
 * whole. */
void dg_graph_set_scope(dg_graph *g, const char *scope);

/* Appends the gradients of the scalar f32 `loss` with respect to wrt[0..n) and sets grads[i] (f32, shape of
 * wrt[i]; a fill of 0 if the loss does not depend on it). Composites without a gradient rule must have been
 * lowered. */
dg_status dg_gradient(dg_graph *g, dg_value loss, const dg_value *wrt, size_t n, dg_value *grads,
                      dg_error *err);
/* The same, and calls ready(user, g, i, grads[i]) in the backward pass as soon as the gradient of the leaf
 * wrt[i] is complete, so that its optimizer step can stand right there and its memory be given back. */
typedef void (*dg_gradient_ready)(void *user, dg_graph *g, size_t i, dg_value grad);
dg_status dg_gradient_each(dg_graph *g, dg_value loss, const dg_value *wrt, size_t n, dg_value *grads,
                           dg_gradient_ready ready, void *user, dg_error *err);

/* ---- passes: each makes a new graph; leaves, outputs, updates and taps go along */

/* What a rule may do with one node: build its replacement in `to` and set y[n_out], or return false to have
 * it copied with its mapped inputs. */
typedef bool (*dg_rewrite_rule)(void *user, dg_graph *to, const dg_graph *from, int32_t index,
                                const dg_value *in, dg_value *y);
dg_status dg_rewrite(const dg_graph *from, dg_rewrite_rule rule, void *user, dg_graph **to, dg_error *err);

/* Matmul and attention operands in `compute` (design: bf16 follows the official autocast). Before the
 * gradient. */
dg_status dg_pass_precision(const dg_graph *from, dg_dtype compute, dg_graph **to, dg_error *err);
/* Frozen f32 leaves that are only ever converted to one dtype are stored in that dtype. After precision. */
dg_status dg_pass_frozen(const dg_graph *from, dg_graph **to, dg_error *err);
/* Products with frozen weights whose names begin with `prefix` become linear_int8, but for the first and the last
 * `spared` of them in the order of the graph. After precision; such nodes have no gradient. */
dg_status dg_pass_quantize(const dg_graph *from, const char *prefix, int32_t spared, dg_graph **to,
                           dg_error *err);
/* Replaces composites for which take(user, work) is false (NULL: all of them) by their lowering, until none
 * is left. */
typedef bool (*dg_take_function)(void *user, const dg_work *work);
dg_status dg_pass_lower(const dg_graph *from, dg_take_function take, void *user, dg_graph **to,
                        dg_error *err);
/* Evaluates nodes whose inputs are all constants, up to a size, with the interpreter. */
dg_status dg_pass_fold(const dg_graph *from, dg_graph **to, dg_error *err);
/* One node for equal nodes; also cancels convert, reshape and transpose pairs. */
dg_status dg_pass_cse(const dg_graph *from, dg_graph **to, dg_error *err);

/* The resize op along one axis as a matrix [to, from], which starts as zeros: row i holds the weights of the
 * samples around place i's centre; what falls outside is given to the border sample. */
void dg_interpolation(double *matrix, int64_t from, int64_t to, bool cubic);

/* ---- programs */

/* Only what outputs and updates need, in order. taps != 0: every tap becomes an output of its name too. */
dg_status dg_program_make(const dg_graph *g, const char *name, bool taps, dg_program **out, dg_error *err);
void dg_program_destroy(dg_program *p);
void dg_program_print(const dg_program *p, dg_str *out); /* text, a line a node */
void dg_program_dot(const dg_program *p, dg_str *out);   /* for graphviz */

typedef struct dg_cost {
    double flops;       /* 2mnk of matmuls, also those inside linear, attention and their gradients */
    double bytes;       /* read and written if every node went through memory */
    int64_t parameters; /* elements of PARAM leaves */
    int64_t frozen;     /* elements of FROZEN leaves */
} dg_cost;
dg_cost dg_program_cost(const dg_program *p);
/* FLOPs of one node, as above. */
double dg_work_flops(const dg_work *w);

/* ---- the interpreter: primitives in double precision, each result rounded to its dtype when `round` is set.
 * It judges backends and gradients; it is plain rather than fast. */

typedef struct dg_interp dg_interp;
/* The program must have primitives only. */
dg_status dg_interp_create(const dg_program *p, bool round, dg_interp **out, dg_error *err);
void dg_interp_destroy(dg_interp *it);
/* Elements of a leaf as doubles, [count]; owned by the interpreter, zero at first, kept between runs. */
double *dg_interp_leaf(dg_interp *it, int32_t leaf);
dg_status dg_interp_run(dg_interp *it, dg_error *err);
/* One node of the program; dg_interp_run does all of them in order. */
dg_status dg_interp_step(dg_interp *it, uint32_t node, dg_error *err);
/* Any value after a run. */
const double *dg_interp_value(const dg_interp *it, int32_t value);
/* Applies updates to leaves; call after run when wanted. */
void dg_interp_update(dg_interp *it);
/* Evaluates one primitive: in[i] and out[i] dense row-major doubles. Used by folding too. */
dg_status dg_eval(const dg_work *work, const double *const *in, double *const *out, dg_error *err);

/* Elements from and to their stored form, rounding as `convert` does. */
void dg_to_doubles(dg_dtype dtype, const void *stored, int64_t n, double *out);
void dg_from_doubles(dg_dtype dtype, const double *in, int64_t n, void *stored);
/* As there and back. */
void dg_round_doubles(dg_dtype dtype, double *x, int64_t n);

/* The interpreter as a backend named "reference": what every other one is compared with. */
extern const dg_factory dg_reference_backend;

/* ---- cases: shapes and attributes to test each op with, from cases.def */

typedef struct dg_case {
    const char *op;
    const char *types; /* "f32[2,3] f32[3] -": inputs in order, "-" absent */
    const char *attrs; /* "axes=[1] keep=1" */
    const char
        *data; /* how inputs are made: "" normal; "positive"; "ids:N" for i32 inputs; ... see cases.def */
} dg_case;
size_t dg_case_count(void);
const dg_case *dg_case_at(size_t i);
/* Builds the case: its inputs as INPUT leaves "in0", "in1", ...; y is output 0. */
dg_status dg_case_build(const dg_case *c, dg_graph *g, dg_value *in, size_t *n_in, dg_value *y,
                        dg_error *err);
/* Values for input k, seeded; [count] doubles that its dtype holds exactly. */
void dg_case_fill(const dg_case *c, size_t k, const dg_type *type, uint64_t seed, double *out);

#endif
