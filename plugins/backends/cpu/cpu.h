/* cpu.h - the inside of the cpu backend.
 *
 * Way of a program: plan.c reads it once and decides for each value where its elements are: in memory of its
 * own, in another value's memory (a view), or nowhere, because it is computed inside the pass of whoever
 * reads it (a chain of element-wise ops). Then the nodes are emitted twice (emit.c, chain.c, product.c). The
 * dry round touches no memory: it finds what every node reads and writes, hence the lives of values, and what
 * scratch it needs; from that compile.c plans one arena. The real round makes the steps that run.c carries
 * out, with all pointers in place. */
#ifndef DG_CPU_CPU_H
#define DG_CPU_CPU_H

#include <dnnl.h>

#include "digpt/backend.h"
#include "digpt/plan.h"
#include "kernels/kernels.h"

typedef struct dg_cpu {
    const dg_host *host;
    const dg_cpu_kernels *kernels;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads;
    bool threads_given;         /* by the recipe; otherwise all that the process may use */
    bool bf16;                  /* oneDNN has products of bf16 */
    const dg_collective *ranks; /* the processes that train together; NULL: only this one */
} dg_cpu;

/* ---- store.c */

/* The elements are in the order of the type, or, for the programs that read it, in oneDNN's `layout`. */
typedef struct dg_cpu_tensor {
    dg_type type;
    char *data;
    bool packed;
    dnnl_memory_desc_t plain, layout; /* if packed: the same matrix, of the same size, in both orders */
    char name[];
} dg_cpu_tensor;

struct dg_backend_store {
    dg_cpu *cpu;
    dg_cpu_tensor **tensors; /* sorted by name */
    size_t n, room;
    uint64_t changes; /* grows when a tensor is written from outside or laid out anew */
};

/* NULL when there is none of that name and type. */
dg_cpu_tensor *dg_cpu_store_find(const dg_backend_store *s, const char *name, const dg_type *type);
/* Brings the tensor into the order `layout`, or of its type (both NULL); in place, through a copy. */
dg_status dg_cpu_store_order(dg_backend_store *s, dg_cpu_tensor *t, const dnnl_memory_desc_t *plain,
                             const dnnl_memory_desc_t *layout, dg_error *err);
dg_status dg_cpu_store_create(void *self, dg_backend_store **out, dg_error *err);
void dg_cpu_store_destroy(dg_backend_store *s);
dg_status dg_cpu_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err);
dg_status dg_cpu_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err);
dg_status dg_cpu_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                            uint64_t bytes, dg_error *err);

/* Zeroed memory, 64-byte aligned; NULL when out of memory. */
void *dg_cpu_allocate(const dg_cpu *cpu, uint64_t bytes);
void dg_cpu_free(const dg_cpu *cpu, void *p);

/* ---- support.c */

/* NULL, or why the node cannot be run. */
const char *dg_cpu_refusal(const dg_work *work);
/* Is there an emitter for the op? */
bool dg_cpu_knows(const char *op);
bool dg_cpu_supports(void *self, const dg_work *work);
dg_status dg_cpu_check(void *self, const dg_program *p, dg_complain_function complain, void *user,
                       dg_error *err);

/* ---- view.c: where the elements of a value are */

typedef struct dg_cpu_view {
    int32_t root;   /* the value in whose memory they are */
    int64_t offset; /* of the first, in elements */
    int64_t stride[DG_MAX_RANK];
} dg_cpu_view;

dg_cpu_view dg_cpu_dense_view(int32_t root, const dg_type *t);
/* Do elements follow each other in row-major order? */
bool dg_cpu_is_dense(const dg_cpu_view *v, const dg_type *t);
/* Strides over `to` for elements that have `stride` over `from`, both of the same number of elements and in
 * the same order; false when no strides do it. */
bool dg_cpu_restride(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out);
/* Strides of `stride` over `from`, stretched as in numpy to `to`. */
void dg_cpu_stretch(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out);

/* ---- the plan */

/* Element-wise work that is not done yet: an expression whose leaves are values. Steps are in the order of
 * evaluation; their operands are earlier steps (DG_CPU_LOAD: a leaf), slots come at the end. */
typedef struct dg_cpu_chain {
    dg_cpu_expr e;                      /* dims: the value's, not collapsed; leaves without base */
    int32_t values[DG_CPU_MOST_LEAVES]; /* the roots; -1: the constant in `pad` */
    bool rounded;                       /* lanes are what the value's dtype can hold */
} dg_cpu_chain;

typedef enum dg_cpu_home { DG_CPU_ARENA, DG_CPU_LEAF, DG_CPU_INPUT, DG_CPU_CONSTANT } dg_cpu_home;

typedef struct dg_cpu_value {
    dg_cpu_view view;    /* root: itself when it is no view */
    dg_cpu_chain *chain; /* NULL: none */
    int32_t uses;        /* operands, outputs and updates that name it */
    bool own;            /* its elements are dense in memory of its own */
    dg_cpu_home home;    /* of that memory */
    int32_t first, last; /* its life in the arena, in nodes; -1 before the first */
    int32_t last_read;
    uint64_t at;  /* in the arena */
    void *memory; /* LEAF: the store's; CONSTANT */
    int32_t leaf; /* that it is written into, as its update; -1: none */
} dg_cpu_value;

typedef struct dg_cpu_copy {
    void *to;
    const void *from;
    void *stage; /* NULL, or where `from` is put first, because another copy overwrites it */
    uint64_t bytes;
} dg_cpu_copy;

/* A frozen weight, and the order in which the program reads it. */
typedef struct dg_cpu_frozen {
    dg_cpu_tensor *tensor;
    bool packed;
    dnnl_memory_desc_t plain, layout; /* if packed */
} dg_cpu_frozen;

typedef struct dg_cpu_step {
    dg_cpu_kernel kernel; /* NULL: product, or else a sum over ranks */
    const void *args;     /* of the kernel */
    struct dg_cpu_product *product;
    int64_t units, grain; /* units of a piece of work; pieces do not depend on the number of threads */
    uint32_t node;
} dg_cpu_step;

/* Small memory that lives as long as the executable; dg_cpu_pool_free frees it all. */
typedef struct dg_cpu_pool {
    const dg_cpu *cpu;
    struct dg_cpu_pool_block *head;
} dg_cpu_pool;
void *dg_cpu_pool_take(dg_cpu_pool *pool, uint64_t bytes); /* zeroed, 64-byte aligned, or NULL */
void dg_cpu_pool_free(dg_cpu_pool *pool);

typedef struct dg_cpu_plan {
    dg_cpu *cpu;
    const dg_program *p;
    dg_cpu_value *values;   /* [n_values] */
    dg_cpu_pool plan_pool;  /* what planning needs; given back after it */
    dg_cpu_pool pool;       /* args and constants */
    bool dry;               /* which round of emission this is */
    int32_t time;           /* the node being emitted */
    dg_plan_block *scratch; /* [n_scratch] in the order of demand */
    uint32_t n_scratch, scratch_room, next_scratch;
    dg_cpu_step *steps;
    uint32_t n_steps, steps_room;
    uint64_t worker_bytes; /* scratch of each worker */
    char *arena;
    uint64_t arena_bytes;
    uint64_t constant_bytes;
    struct dg_cpu_product *products; /* list, for release */
    struct dg_cpu_int8 *int8s;       /* the same */
    uint64_t packed_bytes;
    const void **outputs; /* [n_outputs] */
    dg_cpu_copy *inputs;  /* [n_inputs] in the order of the INPUT leaves */
    dg_cpu_copy *copies;  /* [n_copies] updates that are not made in place */
    uint32_t n_inputs, n_copies;
    dg_cpu_frozen *frozen; /* [n_leaves] tensor NULL: another kind of leaf */
    dg_status status;      /* sticky */
    dg_error *err;
} dg_cpu_plan;

/* plan.c: views, chains, and which values need memory of their own. Then the nodes are emitted. */
dg_status dg_cpu_plan_values(dg_cpu_plan *c);
dg_status dg_cpu_plan_emit(dg_cpu_plan *c);
/* Somebody reads v as dense elements (or, strided, through its view). */
void dg_cpu_demand(dg_cpu_plan *c, int32_t v, bool strided);

/* chain.c */
bool dg_cpu_is_lane_op(const char *op);
/* Builds the chain of node n, of a lane op, fill or pad; sets plan status. */
void dg_cpu_chain_node(dg_cpu_plan *c, uint32_t n);
/* The chain of v seen through a reshape, or NULL when that cannot be. */
dg_cpu_chain *dg_cpu_chain_reshaped(dg_cpu_plan *c, const dg_cpu_chain *from, const dg_type *from_type,
                                    const dg_type *to);
/* Makes a chain that reads v. */
void dg_cpu_chain_load(dg_cpu_plan *c, dg_cpu_chain *chain, int32_t v);
/* Emits the chain into `out`: dense, or with strides [rank] when these are not NULL. */
void dg_cpu_chain_emit(dg_cpu_plan *c, const dg_cpu_chain *chain, dg_dtype dtype, void *out,
                       const int64_t *stride);

/* emit.c: memory of values, scratch, steps */

/* Pointers to a value's dense elements; NULL in the dry round, where reads and writes are noted. */
const void *dg_cpu_in(dg_cpu_plan *c, int32_t v); /* NULL for v < 0 */
void *dg_cpu_out(dg_cpu_plan *c, int32_t v);
/* The memory of a view's root, to be read through strides. */
const void *dg_cpu_in_root(dg_cpu_plan *c, int32_t root);
/* Room for the node being emitted, shared by its steps. */
void *dg_cpu_scratch(dg_cpu_plan *c, uint64_t bytes);
/* A copy of a kernel's args that lives as long as the steps; NULL when out of memory. */
void *dg_cpu_args(dg_cpu_plan *c, const void *args, uint64_t bytes);
void dg_cpu_add_step(dg_cpu_plan *c, dg_cpu_kernel kernel, const void *args, int64_t units, int64_t grain,
                     int64_t worker_bytes);
void dg_cpu_add_product(dg_cpu_plan *c, struct dg_cpu_product *product, int64_t worker_bytes);
/* args copied, then a step over them. */
#define DG_CPU_STEP(C, KERNEL, ARGS, UNITS, GRAIN, BYTES)                                                    \
    dg_cpu_add_step(C, KERNEL, dg_cpu_args(C, &(ARGS), sizeof(ARGS)), UNITS, GRAIN, BYTES)
void dg_cpu_nomem(dg_cpu_plan *c, uint64_t bytes, const char *what);
static inline const dg_type *dg_cpu_type(const dg_cpu_plan *c, int32_t v)
{
    return &c->p->values[v].type;
}

/* ranks.c */
dg_status dg_cpu_join(void *self, const dg_collective *ranks, dg_error *err);
/* NULL, or why the node cannot be run in several processes. */
const char *dg_cpu_rank_refusal(const dg_cpu *cpu, const dg_work *work);
void dg_cpu_emit_all_reduce(dg_cpu_plan *c, uint32_t n);
dg_status dg_cpu_sum_over_ranks(const dg_cpu *cpu, const void *args, dg_error *err);

/* One emitter an op: emit_rows.c, emit_reduce.c, emit_attention.c, product.c. */
void dg_cpu_emit_gather(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_scatter_add(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_reduce_sum(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_reduce_max(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_argmax(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_top_k(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_matmul(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_linear(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_linear_int8(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_layer_norm(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_layer_norm_grad(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_softmax(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_attention(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_attention_grad(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_normalize(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_normalize_grad(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_cross_entropy(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_cross_entropy_grad(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_patchify(dg_cpu_plan *c, uint32_t n);
void dg_cpu_emit_adamw(dg_cpu_plan *c, uint32_t n);

/* Sum or maximum over the middle of x [outer, n, inner], into y [outer, inner] of y_dtype. */
void dg_cpu_emit_reduction(dg_cpu_plan *c, const void *x, int32_t x_dtype, int64_t outer, int64_t n,
                           int64_t inner, void *y, int32_t y_dtype, bool max);

/* compile.c: is v a frozen weight, as it is in the store, that no other node reads? */
bool dg_cpu_is_frozen(const dg_cpu_plan *c, int32_t v);
/* It is to be in the order `layout` when the program runs. */
void dg_cpu_frozen_layout(dg_cpu_plan *c, int32_t v, const dnnl_memory_desc_t *plain,
                          const dnnl_memory_desc_t *layout);

/* product.c */
dg_status dg_cpu_product_run(struct dg_cpu_product *p, char *workers, uint64_t stride, dg_error *err);
void dg_cpu_products_free(dg_cpu_plan *c);
/* Has oneDNN products of these dtypes that are not its plain reference? */
bool dg_cpu_is_native(const dg_cpu *cpu, int32_t in, int32_t out);

/* int8.c */
/* Makes the integers of all frozen weights of the plan. */
dg_status dg_cpu_int8_pack(dg_cpu_plan *c, dg_error *err);
void dg_cpu_int8_free(dg_cpu_plan *c);

/* compile.c */
dg_status dg_cpu_memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err);
dg_status dg_cpu_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                         dg_error *err);
void dg_cpu_release(dg_backend_exe *exe);

struct dg_backend_exe {
    dg_cpu_plan plan;
    dg_backend_store *store;
    uint64_t seen;       // the store's changes when frozen weights were last put in order
    char *workers;       // [threads, worker_bytes]
    dg_node_time *times; // [n_nodes]
    bool profiling;
};

/* run.c */
dg_status dg_cpu_run(dg_backend_exe *exe, const dg_run *run, dg_error *err);
void dg_cpu_profile(dg_backend_exe *exe, bool on);
dg_status dg_cpu_times(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err);
/* Runs a kernel over all units, in pieces of `grain`; scratch of worker w is at workers + w * stride. */
void dg_cpu_parallel(int threads, dg_cpu_kernel kernel, const void *args, int64_t units, int64_t grain,
                     char *workers, uint64_t stride);
/* Threads that this process may use. */
int dg_cpu_usable_threads(void);
/* Number of threads of oneDNN and of the loops, for the time of one call. */
int dg_cpu_threads_begin(int threads);
void dg_cpu_threads_end(int before);

/* Attributes of a node. */
static inline int64_t dg_cpu_int(const dg_program_node *n, const char *name)
{
    return dg_attr_int(n->attrs, n->n_attrs, name);
}
static inline double dg_cpu_real(const dg_program_node *n, const char *name)
{
    return dg_attr_float(n->attrs, n->n_attrs, name);
}
static inline const dg_attr *dg_cpu_attr(const dg_program_node *n, const char *name)
{
    return dg_attr_find(n->attrs, n->n_attrs, name);
}

#endif
