/* load.c - takes the place of the backend's load.c: the emulator's cuBLASLt is linked, not opened. */
#include "cuda.h"

dg_status dg_cuda_load_lt(dg_cuda_lt *lt, dg_error *err)
{
    (void)err;
    *lt = (dg_cuda_lt){.create = cublasLtCreate,
                       .destroy = cublasLtDestroy,
                       .version = cublasLtGetVersion,
                       .desc_create = cublasLtMatmulDescCreate,
                       .desc_destroy = cublasLtMatmulDescDestroy,
                       .desc_set = cublasLtMatmulDescSetAttribute,
                       .layout_create = cublasLtMatrixLayoutCreate,
                       .layout_destroy = cublasLtMatrixLayoutDestroy,
                       .layout_set = cublasLtMatrixLayoutSetAttribute,
                       .preference_create = cublasLtMatmulPreferenceCreate,
                       .preference_destroy = cublasLtMatmulPreferenceDestroy,
                       .preference_set = cublasLtMatmulPreferenceSetAttribute,
                       .heuristic = cublasLtMatmulAlgoGetHeuristic,
                       .matmul = cublasLtMatmul};
    return DG_OK;
}
