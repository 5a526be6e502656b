/* eval_shape.c - evaluation of what moves elements: transposes, slices, joins, rows by index. */
#include "eval.h"

static void copy_run(double *to, const double *from, int64_t n)
{
    memcpy(to, from, (size_t)n * sizeof(double));
}

void dg_eval_transpose(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(w->out), stride[DG_MAX_RANK];
    dg_cursor c = dg_cursor_make(w->out);
    dg_strides(&w->in[0], stride);
    c.n = 1;
    for (int i = 0; i < c.rank; i++) c.stride[0][i] = stride[w->attrs[0].v.is[i]];
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) out[0][i] = in[0][c.offset[0]];
}

void dg_eval_broadcast(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(w->out);
    dg_cursor c = dg_cursor_make(w->out);
    dg_cursor_add(&c, &w->in[0]);
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) out[0][i] = in[0][c.offset[0]];
}

/* A box of shape `box` that begins at `start` inside a tensor of type `whole`: operand 0 of the cursor. */
static dg_cursor box_in(const dg_type *box, const dg_type *whole, const int64_t *start)
{
    dg_cursor c = dg_cursor_make(box);
    c.n = 1;
    dg_strides(whole, c.stride[0]);
    for (int i = 0; i < c.rank; i++) c.offset[0] += start[i] * c.stride[0][i];
    return c;
}

void dg_eval_slice(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(w->out);
    dg_cursor c = box_in(w->out, &w->in[0], w->attrs[0].v.is);
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) out[0][i] = in[0][c.offset[0]];
}

void dg_eval_pad(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(w->out), n_in = dg_type_count(&w->in[0]);
    dg_dtype dtype = (dg_dtype)w->out->dtype;
    double value = w->attrs[2].v.f;
    if (!dg_dtype_is_float(dtype)) value = dg_to_integer(dtype, value);
    for (int64_t i = 0; i < n; i++) out[0][i] = value;
    dg_cursor c = box_in(&w->in[0], w->out, w->attrs[0].v.is);
    for (int64_t i = 0; i < n_in; i++, dg_cursor_next(&c)) out[0][c.offset[0]] = in[0][i];
}

void dg_eval_concat(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t axis = w->attrs[0].v.i, start[DG_MAX_RANK] = {0};
    for (uint32_t k = 0; k < w->n_in; k++) {
        int64_t n = dg_type_count(&w->in[k]);
        dg_cursor c = box_in(&w->in[k], w->out, start);
        for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) out[0][c.offset[0]] = in[k][i];
        start[axis] += w->in[k].dims[axis];
    }
}

/* Both row ops: `rows` rows of `width` elements in each of `groups`, and `n` ids in each. */
typedef struct rows {
    int64_t groups, rows, width, n;
} rows;

static rows rows_of(const dg_type *table, const dg_type *ids, bool batch)
{
    rows r = {batch ? table->dims[0] : 1, table->dims[batch], 1, dg_type_count(ids)};
    for (int i = 1 + batch; i < table->rank; i++) r.width *= table->dims[i];
    r.n /= r.groups;
    return r;
}

void dg_eval_gather(const dg_work *w, const double *const *in, double *const *out)
{
    rows r = rows_of(&w->in[0], &w->in[1], w->attrs[0].v.i != 0);
    for (int64_t i = 0; i < r.groups * r.n; i++) {
        double id = in[1][i], last = (double)(r.rows - 1);
        int64_t row = (int64_t)(id < 0 ? 0 : id > last ? last : id);
        copy_run(out[0] + i * r.width, in[0] + (i / r.n * r.rows + row) * r.width, r.width);
    }
}

void dg_eval_scatter_add(const dg_work *w, const double *const *in, double *const *out)
{
    rows r = rows_of(w->out, &w->in[0], w->attrs[1].v.i != 0);
    memset(out[0], 0, (size_t)dg_type_count(w->out) * sizeof(double));
    for (int64_t i = 0; i < r.groups * r.n; i++) {
        double id = in[0][i];
        if (id < 0 || id >= (double)r.rows) continue;
        double *to = out[0] + (i / r.n * r.rows + (int64_t)id) * r.width;
        for (int64_t k = 0; k < r.width; k++) to[k] += in[1][i * r.width + k];
    }
}
