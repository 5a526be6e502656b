/* positions.c - see positions.h. */
#include "positions.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"

/* Resizes the middle axis: in [outer, from, inner] -> out [outer, to, inner]; matrix [to, from]. */
static void resize_axis(const double *in, int64_t outer, int64_t from, int64_t inner, const double *matrix,
                        int64_t to, double *out)
{
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < to; i++)
            for (int64_t k = 0; k < from; k++) {
                double weight = matrix[i * from + k];
                const double *x = in + (o * from + k) * inner;
                double *y = out + (o * to + i) * inner;
                if (weight == 0) continue;
                for (int64_t c = 0; c < inner; c++) y[c] += weight * x[c];
            }
}

dg_status dg_positions_resize(const float *in, const int64_t from[2], const int64_t to[2], int64_t n_before,
                              int64_t width, float *out, dg_error *err)
{
    int64_t n_in = from[0] * from[1] * width, n_out = to[0] * to[1] * width;
    double *rows = dg_calloc((size_t)(to[0] * from[0]), sizeof *rows),
           *columns = dg_calloc((size_t)(to[1] * from[1]), sizeof *columns),
           *x = dg_calloc((size_t)n_in, sizeof *x),
           *tall = dg_calloc((size_t)(to[0] * from[1] * width), sizeof *tall), // [to h, from w, width]
               *y = dg_calloc((size_t)n_out, sizeof *y);
    bool ok = rows && columns && x && tall && y;
    if (ok) {
        dg_interpolation(rows, from[0], to[0], true);
        dg_interpolation(columns, from[1], to[1], true);
        for (int64_t i = 0; i < n_in; i++) x[i] = in[n_before * width + i];
        resize_axis(x, 1, from[0], from[1] * width, rows, to[0], tall);
        resize_axis(tall, to[0], from[1], width, columns, to[1], y);
        for (int64_t i = 0; i < n_before * width; i++) out[i] = in[i];
        for (int64_t i = 0; i < n_out; i++) out[n_before * width + i] = (float)y[i];
    }
    dg_free(rows);
    dg_free(columns);
    dg_free(x);
    dg_free(tall);
    dg_free(y);
    return ok ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory to interpolate positions");
}

bool dg_positions_grid(int64_t rows, int64_t n_before, const char *text, int64_t grid[2])
{
    long long h = 0, w = 0;
    int end = 0;
    rows -= n_before;
    if (rows < 1) return false;
    if (text && (sscanf(text, "%9lldx%9lld%n", &h, &w, &end) != 2 || text[end])) return false;
    if (!text) h = w = llround(sqrt((double)rows));
    grid[0] = h;
    grid[1] = w;
    return h > 0 && w > 0 && h * w == rows;
}
