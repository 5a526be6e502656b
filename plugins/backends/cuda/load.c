/* load.c - opens cuBLASLt of the major version that this was built for. */
#include "cuda.h"

#include <dlfcn.h>

#define TEXT_OF(X) #X
#define TEXT(X) TEXT_OF(X)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
    {"cublasLtCreate", offsetof(dg_cuda_lt, create)},
    {"cublasLtDestroy", offsetof(dg_cuda_lt, destroy)},
    {"cublasLtGetVersion", offsetof(dg_cuda_lt, version)},
    {"cublasLtMatmulDescCreate", offsetof(dg_cuda_lt, desc_create)},
    {"cublasLtMatmulDescDestroy", offsetof(dg_cuda_lt, desc_destroy)},
    {"cublasLtMatmulDescSetAttribute", offsetof(dg_cuda_lt, desc_set)},
    {"cublasLtMatrixLayoutCreate", offsetof(dg_cuda_lt, layout_create)},
    {"cublasLtMatrixLayoutDestroy", offsetof(dg_cuda_lt, layout_destroy)},
    {"cublasLtMatrixLayoutSetAttribute", offsetof(dg_cuda_lt, layout_set)},
    {"cublasLtMatmulPreferenceCreate", offsetof(dg_cuda_lt, preference_create)},
    {"cublasLtMatmulPreferenceDestroy", offsetof(dg_cuda_lt, preference_destroy)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(dg_cuda_lt, preference_set)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(dg_cuda_lt, heuristic)},
    {"cublasLtMatmul", offsetof(dg_cuda_lt, matmul)},
};

dg_status dg_cuda_load_lt(dg_cuda_lt *lt, dg_error *err)
{
    static const char *const paths[] = {LIBRARY, DG_CUDA_HOME "/lib64/" LIBRARY,
                                        DG_CUDA_HOME "/lib/" LIBRARY};
    void *object = NULL;
    char why[256] = "";
    for (size_t i = 0; i < sizeof paths / sizeof paths[0] && !object; i++) {
        object = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
        if (!object && i == 0) snprintf(why, sizeof why, "%s", dlerror());
    }
    if (!object)
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "there is a CUDA device, but not the library for matrix products: %s; install CUDA "
                       "%d's cuBLAS, or "
                       "add its folder to LD_LIBRARY_PATH",
                       why, CUDART_VERSION / 1000);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *f = dlsym(object, functions[i].name);
        if (!f) return dg_fail(err, DG_ERR_VERSION, "%s has no function %s", LIBRARY, functions[i].name);
        memcpy((char *)lt + functions[i].offset, &f, sizeof f);
    }
    return DG_OK;
}
