/* eval_reduce.c - evaluation of reductions, choices and products. */
#include "eval.h"

#include <math.h>

/* Walks the input; operand 0 is the place in the output: the reduced axes have stride 0 there. */
static dg_cursor reduction(const dg_work *w, const int64_t *axes, uint64_t n_axes)
{
    dg_type kept = w->in[0];
    dg_cursor c = dg_cursor_make(&w->in[0]);
    for (uint64_t i = 0; i < n_axes; i++) kept.dims[axes[i]] = 1;
    dg_cursor_add(&c, &kept);
    return c;
}

void dg_eval_reduce_sum(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(&w->in[0]), n_out = dg_type_count(w->out);
    dg_cursor c = reduction(w, w->attrs[0].v.is, w->attrs[0].n);
    memset(out[0], 0, (size_t)n_out * sizeof(double));
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) out[0][c.offset[0]] += in[0][i];
    if (!dg_dtype_is_float((dg_dtype)w->out->dtype)) /* integers wrap around; the sum itself is exact */
        for (int64_t i = 0; i < n_out; i++) out[0][i] = (double)(int32_t)(uint32_t)(int64_t)out[0][i];
}

void dg_eval_reduce_max(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(&w->in[0]), n_out = dg_type_count(w->out);
    dg_cursor c = reduction(w, w->attrs[0].v.is, w->attrs[0].n);
    for (int64_t i = 0; i < n_out; i++) out[0][i] = -INFINITY;
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) {
        double *y = &out[0][c.offset[0]];
        if (in[0][i] > *y || isnan(in[0][i])) *y = in[0][i];
    }
}

void dg_eval_argmax(const dg_work *w, const double *const *in, double *const *out)
{
    const dg_type *t = &w->in[0];
    int64_t axis = w->attrs[0].v.i, n = t->dims[axis], stride[DG_MAX_RANK], n_out = dg_type_count(w->out);
    dg_strides(t, stride);
    for (int64_t i = 0; i < n_out; i++) {
        int64_t inner = stride[axis], best = 0;
        const double *x = in[0] + i / inner * inner * n + i % inner;
        for (int64_t k = 1; k < n; k++)
            if (x[k * inner] > x[best * inner]) best = k;
        out[0][i] = (double)best;
    }
}

/* Insertion into the best so far: small k is what it is for. */
void dg_eval_top_k(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t k = w->attrs[0].v.i, n = w->in[0].dims[w->in[0].rank - 1], rows = dg_type_count(&w->in[0]) / n;
    for (int64_t r = 0; r < rows; r++) {
        double *y = out[0] + r * k, *ids = out[1] + r * k;
        for (int64_t i = 0; i < n; i++) {
            double x = in[0][r * n + i];
            int64_t have = i < k ? i : k, at = have;
            while (at > 0 && x > y[at - 1]) at--;
            if (at == k) continue;
            for (int64_t j = have < k ? have : k - 1; j > at; j--) {
                y[j] = y[j - 1];
                ids[j] = ids[j - 1];
            }
            y[at] = x;
            ids[at] = (double)i;
        }
    }
}

void dg_eval_matmul(const dg_work *w, const double *const *in, double *const *out)
{
    int r = w->out->rank;
    bool ta = w->attrs[0].v.i != 0, tb = w->attrs[1].v.i != 0;
    int64_t m = w->out->dims[r - 2], n = w->out->dims[r - 1], k = w->in[0].dims[ta ? r - 2 : r - 1];
    int64_t batch = dg_type_count(w->out) / (m * n);
    int64_t a_row = ta ? 1 : k, a_col = ta ? m : 1;
    for (int64_t i = 0; i < batch * m; i++) {
        const double *a = in[0] + i / m * m * k + i % m * a_row, *b = in[1] + i / m * k * n;
        double *y = out[0] + i * n;
        memset(y, 0, (size_t)n * sizeof(double));
        for (int64_t p = 0; p < k && !tb; p++)
            for (int64_t j = 0; j < n; j++) y[j] += a[p * a_col] * b[p * n + j];
        for (int64_t j = 0; j < n && tb; j++)
            for (int64_t p = 0; p < k; p++) y[j] += a[p * a_col] * b[j * k + p];
    }
}
