/* table.c - the list of one instruction set's kernels. */
#include "gemm.h"

#define DG_CPU_TEXT_(X) #X
#define DG_CPU_TEXT(X) DG_CPU_TEXT_(X)

DG_CPU_DECLARE(expr)
DG_CPU_DECLARE(layer_norm)
DG_CPU_DECLARE(layer_norm_grad)
DG_CPU_DECLARE(softmax)
DG_CPU_DECLARE(normalize)
DG_CPU_DECLARE(normalize_grad)
DG_CPU_DECLARE(cross_entropy)
DG_CPU_DECLARE(cross_entropy_grad)
DG_CPU_DECLARE(reduce_inner)
DG_CPU_DECLARE(reduce_outer)
DG_CPU_DECLARE(argmax)
DG_CPU_DECLARE(top_k)
DG_CPU_DECLARE(gather)
DG_CPU_DECLARE(scatter_sort)
DG_CPU_DECLARE(scatter_add)
DG_CPU_DECLARE(patchify)
DG_CPU_DECLARE(adamw)
DG_CPU_DECLARE(quantize)
DG_CPU_DECLARE(dequantize)
DG_CPU_DECLARE(widen)
DG_CPU_DECLARE(narrow)
DG_CPU_DECLARE(copy)
DG_CPU_DECLARE(zero)
DG_CPU_DECLARE(attention)
DG_CPU_DECLARE(attention_grad)
int64_t DG_CPU(attention_scratch)(const dg_cpu_attention *a, bool gradient);
extern const dg_cpu_kernels DG_CPU(kernels);

const dg_cpu_kernels DG_CPU(kernels) = {
    .name = DG_CPU_TEXT(DG_CPU_ISA),
    .bf16_products = DG_CPU_PAIRS,
    .expr = DG_CPU(expr),
    .layer_norm = DG_CPU(layer_norm),
    .layer_norm_grad = DG_CPU(layer_norm_grad),
    .softmax = DG_CPU(softmax),
    .normalize = DG_CPU(normalize),
    .normalize_grad = DG_CPU(normalize_grad),
    .cross_entropy = DG_CPU(cross_entropy),
    .cross_entropy_grad = DG_CPU(cross_entropy_grad),
    .reduce_inner = DG_CPU(reduce_inner),
    .reduce_outer = DG_CPU(reduce_outer),
    .argmax = DG_CPU(argmax),
    .top_k = DG_CPU(top_k),
    .gather = DG_CPU(gather),
    .scatter_sort = DG_CPU(scatter_sort),
    .scatter_add = DG_CPU(scatter_add),
    .patchify = DG_CPU(patchify),
    .adamw = DG_CPU(adamw),
    .quantize = DG_CPU(quantize),
    .dequantize = DG_CPU(dequantize),
    .widen = DG_CPU(widen),
    .narrow = DG_CPU(narrow),
    .copy = DG_CPU(copy),
    .zero = DG_CPU(zero),
    .attention = DG_CPU(attention),
    .attention_grad = DG_CPU(attention_grad),
    .attention_scratch = DG_CPU(attention_scratch),
};
