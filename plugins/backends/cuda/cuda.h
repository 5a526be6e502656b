/* cuda.h - the inside of the cuda backend.
 *
 * Way of a program: plan.c reads it once and decides for each value where its elements are: in memory of its
 * own, in another value's memory (a view), or nowhere, because it is computed inside the kernel of whoever
 * reads it (a chain of element-wise ops). Then the nodes are emitted twice. The dry round needs no device: it
 * finds what every node reads and writes, hence the lives of values, and what scratch it needs; from that
 * compile.c plans one arena. The real round makes the steps, with all pointers in place, that run.c captures
 * into one CUDA graph.
 *
 * The plugin links the static CUDA runtime, which looks for the driver when it is first called, and opens
 * cuBLASLt after a device was found (load.c). So it loads anywhere, plans anywhere, and runs where there is a
 * device. */
#ifndef DG_CUDA_CUDA_H
#define DG_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "digpt/backend.h"
#include "digpt/plan.h"
#include "kernels/kernels.h"

/* ---- load.c: cuBLASLt, whose hundreds of megabytes are needed only where there is a device */

typedef struct dg_cuda_lt {
    __typeof__(cublasLtCreate) *create;
    __typeof__(cublasLtDestroy) *destroy;
    __typeof__(cublasLtGetVersion) *version;
    __typeof__(cublasLtMatmulDescCreate) *desc_create;
    __typeof__(cublasLtMatmulDescDestroy) *desc_destroy;
    __typeof__(cublasLtMatmulDescSetAttribute) *desc_set;
    __typeof__(cublasLtMatrixLayoutCreate) *layout_create;
    __typeof__(cublasLtMatrixLayoutDestroy) *layout_destroy;
    __typeof__(cublasLtMatrixLayoutSetAttribute) *layout_set;
    __typeof__(cublasLtMatmulPreferenceCreate) *preference_create;
    __typeof__(cublasLtMatmulPreferenceDestroy) *preference_destroy;
    __typeof__(cublasLtMatmulPreferenceSetAttribute) *preference_set;
    __typeof__(cublasLtMatmulAlgoGetHeuristic) *heuristic;
    __typeof__(cublasLtMatmul) *matmul;
} dg_cuda_lt;

/* Stays loaded for good. */
dg_status dg_cuda_load_lt(dg_cuda_lt *lt, dg_error *err);

/* ---- device.c */

enum { DG_CUDA_PINNED = 4 << 20, DG_CUDA_WORKSPACE = 32 << 20 };

typedef struct dg_cuda {
    const dg_host *host;
    int device;
    bool eager; /* launch step by step, without a graph */
    bool open;  /* what follows is there */
    dg_cuda_lt lt;
    cublasLtHandle_t handle;
    cudaStream_t compute, copy;
    cudaEvent_t copied;    /* all inputs are on the device */
    cudaEvent_t staged[2]; /* the pinned buffer is free again */
    char *pinned[2];       // [DG_CUDA_PINNED] in host memory
    int turn;              /* of the buffer that the last upload used */
    void *workspace;       // [DG_CUDA_WORKSPACE] of products
} dg_cuda;

/* DG_OK, or the CUDA error as ours. */
dg_status dg_cuda_check(cudaError_t e, const char *what, dg_error *err);
/* Opens the device on the first call; says why there is none. */
dg_status dg_cuda_open(dg_cuda *cuda, dg_error *err);
void dg_cuda_close(dg_cuda *cuda);
dg_status dg_cuda_devices(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err);
void dg_cuda_fingerprint(void *self, char *out, size_t size);

/* Through the pinned buffers in turn. The copies of dg_cuda_upload are on the copy stream when it returns;
 * those of dg_cuda_download are done. */
dg_status dg_cuda_upload(dg_cuda *cuda, void *to, const void *from, uint64_t bytes, dg_error *err);
dg_status dg_cuda_download(dg_cuda *cuda, void *to, const void *from, uint64_t bytes, dg_error *err);
/* Device memory of its own; bytes 0 is allowed. */
dg_status dg_cuda_allocate(void **out, uint64_t bytes, const char *what, dg_error *err);

/* ---- store.c */

typedef struct dg_cuda_tensor {
    struct dg_cuda_tensor *next;
    uint32_t hash;
    dg_type type;
    void *data; /* device memory */
    char name[];
} dg_cuda_tensor;

enum { DG_CUDA_BUCKETS = 1024 };

struct dg_backend_store {
    dg_cuda *cuda;
    dg_cuda_tensor *buckets[DG_CUDA_BUCKETS];
};

void *dg_cuda_store_find(const dg_backend_store *s, const char *name);
dg_status dg_cuda_store_create(void *self, dg_backend_store **out, dg_error *err);
void dg_cuda_store_destroy(dg_backend_store *s);
dg_status dg_cuda_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err);
dg_status dg_cuda_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                              uint64_t bytes, dg_error *err);
dg_status dg_cuda_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err);

/* ---- support.c */

bool dg_cuda_supports(void *self, const dg_work *work);
dg_status dg_cuda_check_program(void *self, const dg_program *p, dg_complain_function complain, void *user,
                                dg_error *err);

/* ---- view.c: where the elements of a value are */

typedef struct dg_cuda_view {
    int32_t root;   /* the value in whose memory they are */
    int64_t offset; /* of the first, in elements */
    int64_t stride[DG_MAX_RANK];
} dg_cuda_view;

dg_cuda_view dg_cuda_dense_view(int32_t root, const dg_type *t);
/* Do elements follow each other in row-major order? */
bool dg_cuda_is_dense(const int64_t *stride, const dg_type *t);
/* Strides over `to` for elements that have `stride` over `from`, both of the same number of elements and in
 * the same order; false when no strides do it. */
bool dg_cuda_restride(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out);
/* Strides of `stride` over `from`, stretched as in numpy to `to`. */
void dg_cuda_stretch(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out);

/* ---- the plan */

/* Element-wise work that is not done yet: an expression whose leaves are values, of the value's dims. */
typedef struct dg_cuda_chain {
    dg_cuda_expr e;                  /* leaves without `at`; their strides are over e.dims, not collapsed */
    int32_t roots[DG_CUDA_LEAVES];   /* the values whose memory the leaves read; -1: a constant */
    int64_t offsets[DG_CUDA_LEAVES]; /* elements */
} dg_cuda_chain;

typedef enum dg_cuda_home { DG_CUDA_ARENA, DG_CUDA_LEAF, DG_CUDA_INPUT, DG_CUDA_CONSTANT } dg_cuda_home;

typedef struct dg_cuda_value {
    dg_cuda_view view;    /* root: itself when it is no view */
    dg_cuda_chain *chain; /* NULL: none */
    int32_t uses;         /* operands, outputs and updates that name it */
    bool own;             /* its elements are dense in memory of its own */
    dg_cuda_home home;    /* of that memory */
    int32_t first, last;  /* its life in the arena, in nodes; first -2: none */
    int32_t last_read;    /* the last node that reads its memory; -1: none */
    uint64_t at;          /* offset in the arena */
    void *memory;         /* LEAF: the store's; CONSTANT */
    int32_t leaf;         /* that it is written into, as its update; -1: none */
} dg_cuda_value;

typedef cudaError_t (*dg_cuda_launch)(const void *args, cudaStream_t stream);

typedef struct dg_cuda_step {
    dg_cuda_launch launch;
    const void *args;
    uint32_t node;
} dg_cuda_step;

/* Host memory that lives as long as its pool. */
typedef struct dg_cuda_pool {
    const dg_host *host;
    struct dg_cuda_block *head;
} dg_cuda_pool;
void *dg_cuda_take(dg_cuda_pool *pool, uint64_t bytes); /* zeroed, or NULL */
void dg_cuda_pool_free(dg_cuda_pool *pool);

typedef struct dg_cuda_plan {
    dg_cuda *cuda;
    const dg_program *p;
    dg_cuda_value *values;  /* [n_values] */
    dg_cuda_pool plan_pool; /* what planning needs; given back after it */
    dg_cuda_pool pool;      /* arguments of the steps */
    bool dry;               /* which round of emission this is */
    int32_t time;           /* the node being emitted */
    dg_plan_block *scratch; /* [n_scratch] in the order of demand */
    uint32_t n_scratch, scratch_room, next_scratch;
    dg_cuda_step *steps;
    uint32_t n_steps, steps_room;
    uint64_t arena_bytes, constant_bytes;
    char *arena, *constants;         /* device memory */
    char *constant_data;             /* [constant_bytes] on the host, until it is uploaded */
    struct dg_cuda_matmul *products; /* list, for release */
    const void **outputs;            /* [n_outputs] */
    void **inputs;                   /* [n_inputs] in the order of the INPUT leaves; NULL: nobody reads it */
    uint64_t *input_bytes;
    uint32_t n_inputs;
    dg_status status; /* sticky */
    dg_error *err;
} dg_cuda_plan;

/* plan.c: views, chains, and which values need memory of their own. Then the nodes are emitted. */
dg_status dg_cuda_plan_values(dg_cuda_plan *c);
dg_status dg_cuda_plan_emit(dg_cuda_plan *c);
/* Is there a way to run the op? */
bool dg_cuda_knows(const char *op);
/* Somebody reads v as dense elements (or, strided, through its view). */
void dg_cuda_demand(dg_cuda_plan *c, int32_t v, bool strided);

/* chain.c */
bool dg_cuda_is_lane_op(const char *op);
/* Builds the chain of node n, of a lane op, fill or pad; sets plan status. */
void dg_cuda_chain_node(dg_cuda_plan *c, uint32_t n);
/* The chain seen through a reshape, or NULL when that cannot be. */
dg_cuda_chain *dg_cuda_chain_reshaped(dg_cuda_plan *c, const dg_cuda_chain *from, const dg_type *from_type,
                                      const dg_type *to);
bool dg_cuda_chain_is_constant(const dg_cuda_chain *chain);
/* A chain that reads v. */
void dg_cuda_chain_load(dg_cuda_plan *c, dg_cuda_chain *chain, int32_t v);
/* A chain of one constant in the form of dtype. */
void dg_cuda_chain_fill(dg_cuda_chain *chain, const dg_type *t, double value);
/* Emits the chain into `out`: dense, or with strides [rank] when these are not NULL. */
void dg_cuda_chain_emit(dg_cuda_plan *c, const dg_cuda_chain *chain, int32_t dtype, void *out,
                        const int64_t *stride);

/* emit.c: memory of values, scratch, steps. Pointers are NULL in the dry round, where reads and writes are
 * noted. */
const void *dg_cuda_in(dg_cuda_plan *c, int32_t v); /* dense elements; NULL for v < 0 */
void *dg_cuda_out(dg_cuda_plan *c, int32_t v);
const void *dg_cuda_in_root(dg_cuda_plan *c, int32_t root); /* to be read through strides */
/* Room for the node being emitted, shared by its steps. */
void *dg_cuda_scratch(dg_cuda_plan *c, uint64_t bytes);
void dg_cuda_add_step(dg_cuda_plan *c, dg_cuda_launch launch, const void *args,
                      uint64_t bytes); /* copies args */
#define DG_CUDA_STEP(C, LAUNCH, ARGS) dg_cuda_add_step(C, LAUNCH, &(ARGS), sizeof(ARGS))
void dg_cuda_nomem(dg_cuda_plan *c, uint64_t bytes, const char *what);
/* A step that copies bytes on the device. */
void dg_cuda_add_copy(dg_cuda_plan *c, void *to, const void *from, uint64_t bytes);

static inline const dg_type *dg_cuda_type(const dg_cuda_plan *c, int32_t v)
{
    return &c->p->values[v].type;
}
static inline bool dg_cuda_aligned(const void *p, uintptr_t to)
{
    return (uintptr_t)p % to == 0;
}
static inline int64_t dg_cuda_last_dim(const dg_type *t)
{
    return t->rank ? t->dims[t->rank - 1] : 1;
}

/* One emitter an op: emit_rows.c, emit_reduce.c, emit_attention.c, product.c. */
void dg_cuda_emit_gather(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_scatter_add(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_reduce_sum(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_reduce_max(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_argmax(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_top_k(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_matmul(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_linear(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_layer_norm(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_layer_norm_grad(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_softmax(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_attention(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_attention_grad(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_normalize(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_normalize_grad(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_cross_entropy(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_cross_entropy_grad(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_patchify(dg_cuda_plan *c, uint32_t n);
void dg_cuda_emit_adamw(dg_cuda_plan *c, uint32_t n);

/* Sum or maximum over the middle of x [outer, n, inner], into y [outer, inner] of y_dtype. */
void dg_cuda_emit_reduction(dg_cuda_plan *c, const void *x, int32_t x_dtype, int64_t outer, int64_t n,
                            int64_t inner, void *y, int32_t y_dtype, bool max);

void dg_cuda_products_free(dg_cuda_plan *c);

/* ---- compile.c, run.c */

struct dg_backend_exe {
    dg_cuda_plan plan;
    cudaGraphExec_t graph; /* NULL: not captured yet */
    uint32_t runs;
    cudaEvent_t *marks;  // [n_steps + 1] while profiling, else NULL
    dg_node_time *times; // [n_nodes]
};

dg_status dg_cuda_memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err);
dg_status dg_cuda_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                          dg_error *err);
void dg_cuda_release(dg_backend_exe *exe);
dg_status dg_cuda_run(dg_backend_exe *exe, const dg_run *run, dg_error *err);
void dg_cuda_profile(dg_backend_exe *exe, bool on);
dg_status dg_cuda_times(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err);

/* Attributes of a node. */
static inline int64_t dg_cuda_int(const dg_program_node *n, const char *name)
{
    return dg_attr_int(n->attrs, n->n_attrs, name);
}
static inline double dg_cuda_real(const dg_program_node *n, const char *name)
{
    return dg_attr_float(n->attrs, n->n_attrs, name);
}
static inline const dg_attr *dg_cuda_attr(const dg_program_node *n, const char *name)
{
    return dg_attr_find(n->attrs, n->n_attrs, name);
}

#endif
