/* product.c - matmul and linear: cuBLASLt, or our own kernel where it has none.
 *
 * cuBLASLt is column-major: a row-major [m, n] is to it a column-major [n, m]. So y = a b is asked for as y'
 * = b' a'. Its plan is made when the program is compiled: the first algorithm that its heuristic offers for
 * the shape, in a fixed workspace, without reductions in place, whose order would not be fixed. */
#include "cuda.h"

typedef struct dg_cuda_matmul {
    struct dg_cuda_matmul *next;
    const dg_cuda *cuda;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t left, right, out; /* b, a, y of the row-major product */
    cublasLtMatmulAlgo_t algo;
    dg_cuda_product p;
} dg_cuda_matmul;

static cudaDataType_t type_of(int32_t dtype)
{
    return dtype == DG_F32 ? CUDA_R_32F : CUDA_R_16BF;
}

static cudaError_t launch(const void *args, cudaStream_t stream)
{
    const dg_cuda_matmul *m = *(const dg_cuda_matmul *const *)args;
    const float one = 1, zero = 0;
    cublasStatus_t s =
        m->cuda->lt.matmul(m->cuda->handle, m->desc, &one, m->p.b, m->left, m->p.a, m->right, &zero, m->p.y,
                           m->out, m->p.y, m->out, &m->algo, m->cuda->workspace, DG_CUDA_WORKSPACE, stream);
    return s == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorNotSupported;
}

/* A matrix of the column-major view: `columns` of `rows` elements, `batch` of them. */
static cublasStatus_t make_layout(const dg_cuda_lt *lt, cublasLtMatrixLayout_t *out, int32_t dtype,
                                  int64_t rows, int64_t columns, int64_t batch)
{
    int32_t count = (int32_t)batch;
    int64_t stride = rows * columns;
    cublasStatus_t s = lt->layout_create(out, type_of(dtype), (uint64_t)rows, (uint64_t)columns, rows);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->layout_set(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->layout_set(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    return s;
}

static cublasStatus_t make_desc(const dg_cuda_lt *lt, dg_cuda_matmul *m)
{
    const dg_cuda_product *p = &m->p;
    int32_t left = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N, right = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t bias = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t s = lt->desc_create(&m->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->desc_set(m->desc, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->desc_set(m->desc, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right);
    if (s != CUBLAS_STATUS_SUCCESS || !p->bias) return s;
    s = lt->desc_set(m->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->desc_set(m->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    return s;
}

static cublasStatus_t make_layouts(const dg_cuda_lt *lt, dg_cuda_matmul *m)
{
    const dg_cuda_product *p = &m->p;
    cublasStatus_t s =
        make_layout(lt, &m->left, p->b_dtype, p->tb ? p->k : p->n, p->tb ? p->n : p->k, p->batch);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = make_layout(lt, &m->right, p->a_dtype, p->ta ? p->m : p->k, p->ta ? p->k : p->m, p->batch);
    return s == CUBLAS_STATUS_SUCCESS ? make_layout(lt, &m->out, p->y_dtype, p->n, p->m, p->batch) : s;
}

/* Largest power of two up to 256 that the operands' addresses are multiples of. */
static uint32_t alignment_of(const void *p)
{
    uint32_t n = 256;
    while (n > 1 && !dg_cuda_aligned(p, n)) n /= 2;
    return n;
}

static cublasStatus_t choose(dg_cuda_matmul *m, const dg_cuda_lt *lt)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    const uint64_t workspace = DG_CUDA_WORKSPACE;
    const uint32_t schemes =
        (uint32_t)CUBLASLT_REDUCTION_SCHEME_MASK & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_INPLACE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        uint32_t value;
    } aligned[] = {
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(m->p.b)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(m->p.a)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(m->p.y)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(m->p.y)},
    };
    int n = 0;
    cublasStatus_t s = lt->preference_create(&preference);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                               sizeof workspace);
    for (size_t i = 0; i < sizeof aligned / sizeof aligned[0] && s == CUBLAS_STATUS_SUCCESS; i++)
        s = lt->preference_set(preference, aligned[i].what, &aligned[i].value, sizeof aligned[i].value);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->heuristic(m->cuda->handle, m->desc, m->left, m->right, m->out, m->out, preference, 1, &found,
                          &n);
    if (preference) lt->preference_destroy(preference);
    if (s == CUBLAS_STATUS_SUCCESS && (n < 1 || found.state != CUBLAS_STATUS_SUCCESS))
        s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (s == CUBLAS_STATUS_SUCCESS) m->algo = found.algo;
    return s;
}

void dg_cuda_products_free(dg_cuda_plan *c)
{
    for (dg_cuda_matmul *m = c->products; m; m = m->next) {
        if (m->desc) c->cuda->lt.desc_destroy(m->desc);
        if (m->left) c->cuda->lt.layout_destroy(m->left);
        if (m->right) c->cuda->lt.layout_destroy(m->right);
        if (m->out) c->cuda->lt.layout_destroy(m->out);
    }
    c->products = NULL;
}

static void add_product(dg_cuda_plan *c, dg_cuda_product p)
{
    if (c->dry || c->status != DG_OK) return;
    dg_cuda_matmul *m = dg_cuda_take(&c->pool, sizeof *m);
    if (!m) {
        dg_cuda_nomem(c, sizeof *m, "the steps");
        return;
    }
    const dg_cuda_lt *lt = &c->cuda->lt;
    m->cuda = c->cuda;
    m->p = p;
    m->next = c->products;
    c->products = m;
    bool fits = p.batch <= INT32_MAX;
    if (fits && make_desc(lt, m) == CUBLAS_STATUS_SUCCESS && make_layouts(lt, m) == CUBLAS_STATUS_SUCCESS &&
        choose(m, lt) == CUBLAS_STATUS_SUCCESS)
        DG_CUDA_STEP(c, launch, m);
    else
        DG_CUDA_STEP(c, dg_cuda_launch_product, p);
}

void dg_cuda_emit_matmul(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *a = dg_cuda_type(c, n->in[0]), *b = dg_cuda_type(c, n->in[1]),
                  *y = dg_cuda_type(c, n->out);
    int r = y->rank;
    dg_cuda_product p = {.a = dg_cuda_in(c, n->in[0]),
                         .b = dg_cuda_in(c, n->in[1]),
                         .y = dg_cuda_out(c, n->out),
                         .m = y->dims[r - 2],
                         .n = y->dims[r - 1],
                         .ta = dg_cuda_int(n, "ta") != 0,
                         .tb = dg_cuda_int(n, "tb") != 0,
                         .a_dtype = a->dtype,
                         .b_dtype = b->dtype,
                         .y_dtype = y->dtype};
    p.k = a->dims[p.ta ? r - 2 : r - 1];
    p.batch = dg_type_count(y) / (p.m * p.n);
    add_product(c, p);
}

/* The library's epilogue adds a bias of the result's dtype; another one is converted first, as the official
 * bf16 recipe (torch's autocast) does. */
static const void *bias_of(dg_cuda_plan *c, int32_t v, int32_t dtype)
{
    dg_cuda_chain convert;
    if (v < 0 || dg_cuda_type(c, v)->dtype == dtype) return dg_cuda_in(c, v);
    void *to =
        dg_cuda_scratch(c, (uint64_t)dg_type_count(dg_cuda_type(c, v)) * dg_dtype_size((dg_dtype)dtype));
    const void *from = dg_cuda_in(c, v);
    convert = (dg_cuda_chain){.e = {.rank = 1, .n_leaves = 1, .count = dg_type_count(dg_cuda_type(c, v))}};
    convert.e.dims[0] = convert.e.count;
    convert.e.out_stride[0] = 1;
    convert.e.leaves[0] = (dg_cuda_leaf){.at = from, .stride = {1}, .dtype = dg_cuda_type(c, v)->dtype};
    convert.e.out = to;
    convert.e.out_dtype = dtype;
    DG_CUDA_STEP(c, dg_cuda_launch_expr, convert.e);
    return to;
}

void dg_cuda_emit_linear(dg_cuda_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    const dg_type *x = dg_cuda_type(c, n->in[0]), *w = dg_cuda_type(c, n->in[1]),
                  *y = dg_cuda_type(c, n->out);
    dg_cuda_product p = {.a = dg_cuda_in(c, n->in[0]),
                         .b = dg_cuda_in(c, n->in[1]),
                         .bias = bias_of(c, n->in[2], y->dtype),
                         .y = dg_cuda_out(c, n->out),
                         .batch = 1,
                         .m = dg_type_count(x) / w->dims[1],
                         .n = w->dims[0],
                         .k = w->dims[1],
                         .tb = 1,
                         .a_dtype = x->dtype,
                         .b_dtype = w->dtype,
                         .bias_dtype = y->dtype,
                         .y_dtype = y->dtype};
    add_product(c, p);
}
