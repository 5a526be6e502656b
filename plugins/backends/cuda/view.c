/* view.c - strides: elements of one value seen through the shape of another. */
#include "cuda.h"

dg_cuda_view dg_cuda_dense_view(int32_t root, const dg_type *t)
{
    dg_cuda_view v = {root, 0, {0}};
    int64_t n = 1;
    for (int a = t->rank - 1; a >= 0; a--) {
        v.stride[a] = n;
        n *= t->dims[a];
    }
    return v;
}

bool dg_cuda_is_dense(const int64_t *stride, const dg_type *t)
{
    int64_t n = 1;
    for (int a = t->rank - 1; a >= 0; a--) {
        if (t->dims[a] != 1 && stride[a] != n) return false;
        n *= t->dims[a];
    }
    return true;
}

/* Walks both shapes from the right, an axis of `to` at a time: it must lie inside one run of axes of `from`
 * whose elements are equally spaced. */
bool dg_cuda_restride(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out)
{
    int i = from->rank - 1;
    int64_t run = 1, unit = 0,
            left = 1; /* of the run at hand: elements, their distance, and those not given out */
    for (int j = to->rank - 1; j >= 0; j--) {
        int64_t need = to->dims[j];
        out[j] = 0;
        if (need == 1) continue;
        if (left == 1) { /* the next run */
            while (i >= 0 && from->dims[i] == 1) i--;
            if (i < 0) return false;
            run = left = from->dims[i];
            unit = stride[i--];
        }
        out[j] = unit * (run / left);
        while (left % need != 0 ||
               left < need) { /* lengthen the run by the next axis, if its spacing goes on */
            while (i >= 0 && from->dims[i] == 1) i--;
            if (i < 0 || stride[i] != unit * run) return false;
            run *= from->dims[i];
            left *= from->dims[i--];
        }
        left /= need;
    }
    return true;
}

void dg_cuda_stretch(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out)
{
    int lead = to->rank - from->rank;
    for (int a = 0; a < to->rank; a++) out[a] = a < lead || from->dims[a - lead] == 1 ? 0 : stride[a - lead];
}
