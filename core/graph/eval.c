/* eval.c - one primitive in double precision: the table of ops, and the element-wise ones. */
#include "eval.h"

#include <math.h>

/* ---- cursors */

void dg_strides(const dg_type *t, int64_t *stride)
{
    int64_t n = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= t->dims[i];
    }
}

dg_cursor dg_cursor_make(const dg_type *shape)
{
    dg_cursor c = {.rank = shape->rank};
    memcpy(c.dims, shape->dims, sizeof c.dims);
    return c;
}

void dg_cursor_add(dg_cursor *c, const dg_type *t)
{
    int64_t stride[DG_MAX_RANK], *to = c->stride[c->n++];
    int lead = c->rank - t->rank;
    dg_strides(t, stride);
    for (int i = 0; i < c->rank; i++) to[i] = i < lead || t->dims[i - lead] == 1 ? 0 : stride[i - lead];
}

void dg_cursor_next(dg_cursor *c)
{
    for (int a = c->rank - 1; a >= 0; a--) {
        for (int k = 0; k < c->n; k++) c->offset[k] += c->stride[k][a];
        if (++c->at[a] < c->dims[a]) return;
        for (int k = 0; k < c->n; k++) c->offset[k] -= c->stride[k][a] * c->dims[a];
        c->at[a] = 0;
    }
}

/* ---- constants */

static void eval_constant(const dg_work *w, const double *const *in, double *const *out)
{
    (void)in;
    dg_to_doubles((dg_dtype)w->out->dtype, w->attrs[2].v.bytes, dg_type_count(w->out), out[0]);
}

static void eval_fill(const dg_work *w, const double *const *in, double *const *out)
{
    (void)in;
    double value = w->attrs[2].v.f;
    int64_t n = dg_type_count(w->out);
    if (!dg_dtype_is_float((dg_dtype)w->out->dtype)) value = dg_to_integer((dg_dtype)w->out->dtype, value);
    for (int64_t i = 0; i < n; i++) out[0][i] = value;
}

static void eval_iota(const dg_work *w, const double *const *in, double *const *out)
{
    (void)in;
    int64_t n = dg_type_count(w->out), axis = w->attrs[2].v.i;
    bool floats = dg_dtype_is_float((dg_dtype)w->out->dtype);
    dg_cursor c = dg_cursor_make(w->out);
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) {
        double x = (double)c.at[axis];
        out[0][i] = floats ? x : dg_to_integer((dg_dtype)w->out->dtype, x);
    }
}

static void eval_convert(const dg_work *w, const double *const *in, double *const *out)
{
    dg_dtype dtype = (dg_dtype)w->out->dtype;
    int64_t n = dg_type_count(w->out);
    bool floats = dg_dtype_is_float(dtype); /* rounding is the interpreter's, and only when asked for */
    for (int64_t i = 0; i < n; i++) out[0][i] = floats ? in[0][i] : dg_to_integer(dtype, in[0][i]);
}

static void eval_copy(const dg_work *w, const double *const *in, double *const *out)
{
    memcpy(out[0], in[0], (size_t)dg_type_count(w->out) * sizeof(double));
}

/* ---- element-wise. Integer arithmetic wraps around, as it does on every machine that the backends run on.
 */

static double wrapped(dg_dtype dtype, int64_t x)
{
    return dtype == DG_I32  ? (double)(int32_t)(uint32_t)(uint64_t)x
           : dtype == DG_U8 ? (double)(uint8_t)x
                            : x != 0;
}

static double f_neg(double x)
{
    return -x;
}
static double f_sign(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}
static double f_rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double f_not(double x)
{
    return x == 0;
}
static double f_finite(double x)
{
    return isfinite(x) != 0;
}

static const struct {
    const char *op;
    double (*f)(double);
} unary_ops[] = {
    {"neg", f_neg}, {"abs", fabs},  {"sign", f_sign},   {"floor", floor},        {"exp", exp},
    {"log", log},   {"sqrt", sqrt}, {"rsqrt", f_rsqrt}, {"tanh", tanh},          {"erf", erf},
    {"sin", sin},   {"cos", cos},   {"not", f_not},     {"is_finite", f_finite},
};

static double f_add(double a, double b)
{
    return a + b;
}
static double f_sub(double a, double b)
{
    return a - b;
}
static double f_mul(double a, double b)
{
    return a * b;
}
static double f_div(double a, double b)
{
    return a / b;
}
static double f_max(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}
static double f_min(double a, double b)
{
    return isnan(a) || a < b ? a : b;
}
static double f_and(double a, double b)
{
    return a != 0 && b != 0;
}
static double f_or(double a, double b)
{
    return a != 0 || b != 0;
}
static double f_eq(double a, double b)
{
    return a == b;
}
static double f_ne(double a, double b)
{
    return a != b;
}
static double f_lt(double a, double b)
{
    return a < b;
}
static double f_le(double a, double b)
{
    return a <= b;
}
static double f_gt(double a, double b)
{
    return a > b;
}
static double f_ge(double a, double b)
{
    return a >= b;
}

/* |a b| of two i32 fits an int64. */
static int64_t i_mul(int64_t a, int64_t b)
{
    return a * b;
}
/* By zero: -1, as XLA does. */
static int64_t i_div(int64_t a, int64_t b)
{
    return b ? a / b : -1;
}

static const struct {
    const char *op;
    double (*f)(double, double);
    int64_t (*integer)(int64_t, int64_t); /* where doubles are not exact */
} binary_ops[] = {
    {"add", f_add, NULL}, {"sub", f_sub, NULL}, {"mul", f_mul, i_mul}, {"div", f_div, i_div},
    {"max", f_max, NULL}, {"min", f_min, NULL}, {"and", f_and, NULL},  {"or", f_or, NULL},
    {"eq", f_eq, NULL},   {"ne", f_ne, NULL},   {"lt", f_lt, NULL},    {"le", f_le, NULL},
    {"gt", f_gt, NULL},   {"ge", f_ge, NULL},
};

static void eval_unary(const dg_work *w, const double *const *in, double *const *out)
{
    size_t k = 0;
    while (strcmp(unary_ops[k].op, w->op) != 0) k++;
    dg_dtype dtype = (dg_dtype)w->out->dtype;
    int64_t n = dg_type_count(w->out);
    for (int64_t i = 0; i < n; i++) {
        double y = unary_ops[k].f(in[0][i]);
        out[0][i] = dg_dtype_is_float(dtype) ? y : wrapped(dtype, (int64_t)y);
    }
}

static void eval_binary(const dg_work *w, const double *const *in, double *const *out)
{
    size_t k = 0;
    while (strcmp(binary_ops[k].op, w->op) != 0) k++;
    dg_dtype dtype = (dg_dtype)w->out->dtype;
    bool floats = dg_dtype_is_float((dg_dtype)w->in[0].dtype);
    int64_t n = dg_type_count(w->out);
    dg_cursor c = dg_cursor_make(w->out);
    dg_cursor_add(&c, &w->in[0]);
    dg_cursor_add(&c, &w->in[1]);
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c)) {
        double a = in[0][c.offset[0]], b = in[1][c.offset[1]];
        if (floats)
            out[0][i] = binary_ops[k].f(a, b);
        else
            out[0][i] = wrapped(dtype, binary_ops[k].integer ? binary_ops[k].integer((int64_t)a, (int64_t)b)
                                                             : (int64_t)binary_ops[k].f(a, b));
    }
}

static void eval_select(const dg_work *w, const double *const *in, double *const *out)
{
    int64_t n = dg_type_count(w->out);
    dg_cursor c = dg_cursor_make(w->out);
    for (int k = 0; k < 3; k++) dg_cursor_add(&c, &w->in[k]);
    for (int64_t i = 0; i < n; i++, dg_cursor_next(&c))
        out[0][i] = in[0][c.offset[0]] != 0 ? in[1][c.offset[1]] : in[2][c.offset[2]];
}

/* ---- the table */

static const struct {
    const char *op;
    dg_eval_function f;
} other_ops[] = {
    {"constant", eval_constant},
    {"fill", eval_fill},
    {"iota", eval_iota},
    {"convert", eval_convert},
    {"select", eval_select},
    {"all_reduce", eval_copy}, /* one rank; so the next three */
    {"reduce_scatter", eval_copy},
    {"all_gather", eval_copy},
    {"shard", eval_copy},
    {"reshape", eval_copy},
    {"transpose", dg_eval_transpose},
    {"broadcast", dg_eval_broadcast},
    {"slice", dg_eval_slice},
    {"pad", dg_eval_pad},
    {"concat", dg_eval_concat},
    {"gather", dg_eval_gather},
    {"scatter_add", dg_eval_scatter_add},
    {"reduce_sum", dg_eval_reduce_sum},
    {"reduce_max", dg_eval_reduce_max},
    {"argmax", dg_eval_argmax},
    {"top_k", dg_eval_top_k},
    {"matmul", dg_eval_matmul},
};

#define COUNT(TABLE) (sizeof(TABLE) / sizeof(TABLE)[0])

static dg_eval_function find(const char *op)
{
    for (size_t i = 0; i < COUNT(binary_ops); i++)
        if (strcmp(binary_ops[i].op, op) == 0) return eval_binary;
    for (size_t i = 0; i < COUNT(unary_ops); i++)
        if (strcmp(unary_ops[i].op, op) == 0) return eval_unary;
    for (size_t i = 0; i < COUNT(other_ops); i++)
        if (strcmp(other_ops[i].op, op) == 0) return other_ops[i].f;
    return NULL;
}

dg_status dg_eval(const dg_work *work, const double *const *in, double *const *out, dg_error *err)
{
    dg_eval_function f = find(work->op);
    if (!f)
        return dg_fail(err, DG_ERR_UNSUPPORTED, "'%s' is no primitive; lower the program first", work->op);
    if (dg_attr_int(work->attrs, work->n_attrs, "ranks") > 1)
        return dg_fail(err, DG_ERR_UNSUPPORTED, "'%s' is over several ranks, and the interpreter is one",
                       work->op);
    f(work, in, out);
    return DG_OK;
}
