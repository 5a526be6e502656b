/* view.c - strides: elements of one value seen through the shape of another. */
#include "cpu.h"

dg_cpu_view dg_cpu_dense_view(int32_t root, const dg_type *t)
{
    dg_cpu_view v = {root, 0, {0}};
    int64_t n = 1;
    for (int a = t->rank - 1; a >= 0; a--) {
        v.stride[a] = n;
        n *= t->dims[a];
    }
    return v;
}

bool dg_cpu_is_dense(const dg_cpu_view *v, const dg_type *t)
{
    int64_t n = 1;
    for (int a = t->rank - 1; a >= 0; a--) {
        if (t->dims[a] != 1 && v->stride[a] != n) return false;
        n *= t->dims[a];
    }
    return true;
}

/* Walks both shapes from the left in groups of axes with the same number of elements: in a group, the axes of
 * `from` must be one run of equally spaced elements. */
bool dg_cpu_restride(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out)
{
    int i = 0, j = 0;
    while (i < from->rank || j < to->rank) {
        int i0 = i, j0 = j;
        int64_t a = i < from->rank ? from->dims[i++] : 1, b = j < to->rank ? to->dims[j++] : 1;
        while (a != b) {
            if (a < b)
                a *= from->dims[i++];
            else
                b *= to->dims[j++];
        }
        int64_t unit = 0, expected = 0;
        bool any = false;
        for (int k = i - 1; k >= i0; k--) {
            if (from->dims[k] == 1) continue;
            if (any && stride[k] != expected) return false;
            if (!any) unit = stride[k];
            any = true;
            expected = stride[k] * from->dims[k];
        }
        for (int k = j - 1; k >= j0; k--) {
            out[k] = unit;
            unit *= to->dims[k];
        }
    }
    return true;
}

void dg_cpu_stretch(const dg_type *from, const int64_t *stride, const dg_type *to, int64_t *out)
{
    int lead = to->rank - from->rank;
    for (int a = 0; a < to->rank; a++) out[a] = a < lead || from->dims[a - lead] == 1 ? 0 : stride[a - lead];
}
