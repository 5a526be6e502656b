/* adamw.cu - decoupled weight decay Adam (Loshchilov and Hutter, 2019) in torch's order of operations. */
#include "cu.h"

enum { THREADS = 256, EACH = 4 };

__device__ static void update(const dg_cuda_adamw *a, float lr, float correction1, float root2, float *p,
                              float grad, float *m, float *v)
{
    *p *= 1.f - lr * a->decay;
    *m = a->beta1 * *m + a->one_less_beta1 * grad;
    *v = a->beta2 * *v + a->one_less_beta2 * (grad * grad);
    *p -= lr / correction1 * (*m / (sqrtf(*v) / root2 + a->eps));
}

DG_KERNEL(adamw, dg_cuda_adamw, THREADS)
{
    int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (first >= a.count) return;
    int n = (int)dg_min64(EACH, a.count - first);
    bool four = a.vector && n == EACH, ok = !a.ok || *a.ok;
    float lr = a.scalars[0] * a.lr_scale, correction1 = a.scalars[1], root2 = sqrtf(a.scalars[2]);
    float p[EACH], grad[EACH], m[EACH], v[EACH];
    if (four) {
        dg_load4(a.p, first, DG_F32, p);
        dg_load4(a.grad, first, DG_F32, grad);
        dg_load4(a.m, first, DG_F32, m);
        dg_load4(a.v, first, DG_F32, v);
    } else {
        for (int e = 0; e < n; e++) p[e] = a.p[first + e], grad[e] = a.grad[first + e];
        for (int e = 0; e < n; e++) m[e] = a.m[first + e], v[e] = a.v[first + e];
    }
    for (int e = 0; e < n && ok; e++) update(&a, lr, correction1, root2, &p[e], grad[e], &m[e], &v[e]);
    if (four) {
        dg_store4(a.p_new, first, DG_F32, p);
        dg_store4(a.m_new, first, DG_F32, m);
        dg_store4(a.v_new, first, DG_F32, v);
    } else {
        for (int e = 0; e < n; e++) a.p_new[first + e] = p[e];
        for (int e = 0; e < n; e++) a.m_new[first + e] = m[e], a.v_new[first + e] = v[e];
    }
}

extern "C" cudaError_t dg_cuda_launch_adamw(const void *args, cudaStream_t stream)
{
    const dg_cuda_adamw *a = (const dg_cuda_adamw *)args;
    return DG_LAUNCH(adamw, dim3(dg_blocks(a->count, THREADS * EACH)), dim3(THREADS), 0, stream, *a);
}
