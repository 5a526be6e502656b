/* lower_image.c - patchify and resize as primitives. */
#include "lower.h"

#include <math.h>

#include "base/mem.h"

/* An f32 constant from doubles. */
static dg_value constant_of(dg_graph *g, const double *x, const int64_t *dims, size_t rank)
{
    dg_type t = dg_make_type(DG_F32, dims, rank);
    void *data = dg_calloc((size_t)dg_type_count(&t), sizeof(float));
    if (!data) return dg_graph_fail(g, DG_ERR_NOMEM, "out of memory while building the graph");
    dg_from_doubles(DG_F32, x, dg_type_count(&t), data);
    dg_value v = dg_constant(g, DG_F32, dims, rank, data, (size_t)dg_type_bytes(&t));
    dg_free(data);
    return v;
}

void dg_lower_patchify(const dg_lower *c)
{
    dg_graph *g = c->g;
    int64_t ph = dg_ai(c->attrs, 0), pw = dg_ai(c->attrs, 1), out = dg_ai(c->attrs, 5);
    dg_type t = dg_type_of(g, c->in[0]); // [b, h, w, c]
    int64_t b = t.dims[0], gh = t.dims[1] / ph, gw = t.dims[2] / pw, ch = t.dims[3];
    dg_value x = dg_as_f32(g, c->in[0]);
    x = dg_mul(g, x, constant_of(g, c->attrs[2].v.fs, &ch, 1));
    x = dg_add(g, x, constant_of(g, c->attrs[3].v.fs, &ch, 1));
    x = dg_reshape(g, x, DG_LIST(b, gh, ph, gw, pw, ch));
    static const int64_t channel_first[] = {0, 1, 3, 5, 2, 4}, channel_last[] = {0, 1, 3, 2, 4, 5};
    x = dg_transpose(g, x, dg_ai(c->attrs, 4) ? channel_last : channel_first, 6);
    c->y[0] = dg_as(g, dg_reshape(g, x, DG_LIST(b, gh * gw, ch * ph * pw)), (int32_t)(out ? out : DG_F32));
}

/* ---- resize */

/* Keys' cubic kernel (Keys, 1981) with a = -0.75. */
static double cubic_kernel(double x)
{
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

void dg_interpolation(double *matrix, int64_t from, int64_t to, bool cubic)
{
    for (int64_t i = 0; i < to; i++) {
        double at = ((double)i + 0.5) * (double)from / (double)to - 0.5;
        int64_t low = (int64_t)floor(at), reach = cubic ? 2 : 1;
        for (int64_t k = low + 1 - reach; k <= low + reach; k++) {
            double distance = at - (double)k, weight = cubic ? cubic_kernel(distance) : 1 - fabs(distance);
            int64_t inside = k < 0 ? 0 : k >= from ? from - 1 : k;
            matrix[i * from + inside] += weight;
        }
    }
}

/* Resizes the first axis: [from, rest] -> [to, rest]. */
static dg_value resample(dg_graph *g, dg_value x, int64_t to, bool cubic)
{
    int64_t from = dg_dim(g, x, 0);
    if (from == to) return x;
    double *matrix = dg_calloc((size_t)(from * to), sizeof *matrix);
    if (!matrix) return dg_graph_fail(g, DG_ERR_NOMEM, "out of memory while building the graph");
    dg_interpolation(matrix, from, to, cubic);
    dg_value y =
        dg_matmul(g, constant_of(g, matrix, (const int64_t[]){to, from}, 2), x, false, false, DG_NONE);
    dg_free(matrix);
    return y;
}

void dg_lower_resize(const dg_lower *c)
{
    dg_graph *g = c->g;
    int64_t height = dg_ai(c->attrs, 0), width = dg_ai(c->attrs, 1);
    bool cubic = dg_ai(c->attrs, 2) != 0;
    dg_type t = dg_type_of(g, c->in[0]);
    int64_t b = t.dims[0], ch = t.dims[3];
    dg_value x = dg_transpose(g, dg_as_f32(g, c->in[0]), DG_LIST(1, 0, 2, 3)); // [h, b, w, c]
    x = resample(g, dg_reshape(g, x, DG_LIST(t.dims[1], -1)), height, cubic);  // [height, b w c]
    x = dg_transpose(g, dg_reshape(g, x, DG_LIST(height, b, t.dims[2], ch)),
                     DG_LIST(2, 1, 0, 3));                                   // [w, b, height, c]
    x = resample(g, dg_reshape(g, x, DG_LIST(t.dims[2], -1)), width, cubic); // [width, b height c]
    x = dg_transpose(g, dg_reshape(g, x, DG_LIST(width, b, height, ch)), DG_LIST(1, 2, 0, 3));
    c->y[0] = dg_as(g, x, t.dtype);
}
