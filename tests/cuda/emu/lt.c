/* lt.c - the part of cuBLASLt that the backend uses, on its real header: plain products, queued on the
 * emulator's streams so that order and capture are tested too. Column-major, as cuBLASLt is. It refuses what
 * the library is documented to refuse, and products of three odd sizes, so that the backend's own kernel is
 * used as well. */
#include "internal.h"

#include <cublasLt.h>
#include <stdlib.h>

typedef struct desc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t ta, tb;
    uint32_t epilogue;
    const void *bias;
} desc;

typedef struct layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld, stride;
    int32_t batch;
} layout;

typedef struct job {
    desc d;
    layout a, b, out;
    const void *pa, *pb;
    void *py;
} job;

static float get(const void *p, int64_t i, cudaDataType_t t)
{
    return t == CUDA_R_32F ? ((const float *)p)[i] : dg_bf16_to_f32(((const uint16_t *)p)[i]);
}

static void put(void *p, int64_t i, cudaDataType_t t, float x)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = dg_f32_to_bf16(x);
}

/* op(x) [rows, columns] of batch z as dense f32, row after row or (by_column) column after column. */
static float *dense(const layout *l, const void *p, int64_t z, bool transposed, bool by_column)
{
    int64_t rows = (int64_t)(transposed ? l->columns : l->rows),
            columns = (int64_t)(transposed ? l->rows : l->columns);
    float *x = malloc((size_t)(rows * columns) * sizeof *x);
    if (!x) abort();
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            float v = get(p, z * l->stride + (transposed ? j + i * l->ld : i + j * l->ld), l->type);
            x[by_column ? j * rows + i : i * columns + j] = v;
        }
    return x;
}

static void multiply(const void *args)
{
    const job *j = args;
    int64_t m = (int64_t)j->out.rows, n = (int64_t)j->out.columns;
    int64_t k = (int64_t)(j->d.ta ? j->a.rows : j->a.columns);
    float *sums = malloc((size_t)m * sizeof *sums);
    if (!sums) abort();
    for (int64_t z = 0; z < j->out.batch; z++) {
        float *a = dense(&j->a, j->pa, z, j->d.ta != 0, true); // [k, m]
        float *b = dense(&j->b, j->pb, z, j->d.tb != 0, true); // [n, k]
        for (int64_t c = 0; c < n; c++) {
            memset(sums, 0, (size_t)m * sizeof *sums);
            for (int64_t i = 0; i < k; i++) {
                float x = b[c * k + i];
                const float *column = a + i * m;
                for (int64_t r = 0; r < m; r++) sums[r] += column[r] * x;
            }
            for (int64_t r = 0; r < m; r++) {
                float x = sums[r];
                if (j->d.epilogue == CUBLASLT_EPILOGUE_BIAS) x += get(j->d.bias, r, j->out.type);
                put(j->py, z * j->out.stride + r + c * j->out.ld, j->out.type, x);
            }
        }
        free(a);
        free(b);
    }
    free(sums);
}

/* ---- the interface */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    static int handle;
    *out = (cublasLtHandle_t)&handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    (void)h;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    desc *d = calloc(1, sizeof *d);
    if (!d) return CUBLAS_STATUS_ALLOC_FAILED;
    *d = (desc){compute, scale, 0, 0, CUBLASLT_EPILOGUE_DEFAULT, NULL};
    *out = (cublasLtMatmulDesc_t)d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

typedef struct place {
    void *to;
    size_t size;
} place;

static cublasStatus_t set(place p, const void *from, size_t size)
{
    if (!p.to) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.size != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(p.to, from, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc_, cublasLtMatmulDescAttributes_t what,
                                              const void *from, size_t size)
{
    desc *d = (desc *)desc_;
    place p = what == CUBLASLT_MATMUL_DESC_TRANSA         ? (place){&d->ta, sizeof d->ta}
              : what == CUBLASLT_MATMUL_DESC_TRANSB       ? (place){&d->tb, sizeof d->tb}
              : what == CUBLASLT_MATMUL_DESC_EPILOGUE     ? (place){&d->epilogue, sizeof d->epilogue}
              : what == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? (place){&d->bias, sizeof d->bias}
                                                          : (place){NULL, 0};
    return set(p, from, size);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    layout *l = calloc(1, sizeof *l);
    if (!l) return CUBLAS_STATUS_ALLOC_FAILED;
    *l = (layout){type, rows, columns, ld, 0, 1};
    *out = (cublasLtMatrixLayout_t)l;
    return ld < (int64_t)rows ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout_,
                                                cublasLtMatrixLayoutAttribute_t what, const void *from,
                                                size_t size)
{
    layout *l = (layout *)layout_;
    place p = what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT            ? (place){&l->batch, sizeof l->batch}
              : what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET ? (place){&l->stride, sizeof l->stride}
                                                                    : (place){NULL, 0};
    return set(p, from, size);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = calloc(1, 8);
    return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *from, size_t size)
{
    (void)p, (void)what, (void)from;
    return size == 4 || size == 8 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t refusal(const desc *d, const layout *a, const layout *b, const layout *out)
{
    uint64_t m = d->ta ? a->columns : a->rows, k = d->ta ? a->rows : a->columns;
    uint64_t kb = d->tb ? b->columns : b->rows, n = d->tb ? b->rows : b->columns;
    if (m != out->rows || n != out->columns || k != kb || a->batch != out->batch || b->batch != out->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d->compute != CUBLAS_COMPUTE_32F || d->scale != CUDA_R_32F || a->type != b->type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (a->type == CUDA_R_32F && out->type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    return m % 2 && n % 2 && k % 2 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t preference, int room,
                                              cublasLtMatmulHeuristicResult_t results[], int *n)
{
    (void)h, (void)c, (void)preference;
    *n = 0;
    cublasStatus_t s = refusal((desc *)d, (layout *)a, (layout *)b, (layout *)out);
    if (s != CUBLAS_STATUS_SUCCESS || room < 1) return s;
    memset(results, 0, sizeof *results);
    results->state = CUBLAS_STATUS_SUCCESS;
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *pa,
                              cublasLtMatrixLayout_t a, const void *pb, cublasLtMatrixLayout_t b,
                              const void *beta, const void *pc, cublasLtMatrixLayout_t c, void *py,
                              cublasLtMatrixLayout_t out, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_size, cudaStream_t stream)
{
    (void)h, (void)pc, (void)c, (void)workspace, (void)workspace_size;
    cublasStatus_t s = refusal((desc *)d, (layout *)a, (layout *)b, (layout *)out);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    if (!algo || *(const float *)alpha != 1.f || *(const float *)beta != 0.f || !emu_is_device(pa) ||
        !emu_is_device(pb) || !emu_is_device(py))
        return CUBLAS_STATUS_INVALID_VALUE;
    job j = {*(desc *)d, *(layout *)a, *(layout *)b, *(layout *)out, pa, pb, py};
    return emu_enqueue(stream, multiply, &j, sizeof j) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                      : CUBLAS_STATUS_EXECUTION_FAILED;
}
