/* shape.c - shape rules of the primitives: check the input types, say what comes out. */
#include "shape.h"

/* ---- constants */

static dg_status from_dims(const dg_infer *c)
{
    dg_dtype dtype = (dg_dtype)dg_ai(c->attrs, 0);
    const dg_attr *dims = &c->attrs[1];
    if (dtype <= DG_NONE || dtype >= DG_DTYPE_COUNT) return FAIL("no such dtype");
    if (dims->n > DG_MAX_RANK) return FAIL("rank %d is above %d", (int)dims->n, DG_MAX_RANK);
    for (uint64_t i = 0; i < dims->n; i++)
        if (dims->v.is[i] < 1) return FAIL("dim %d is %lld", (int)i, (long long)dims->v.is[i]);
    c->out[0] = dg_make_type(dtype, dims->v.is, dims->n);
    return DG_OK;
}

dg_status dg_shape_constant(const dg_infer *c)
{
    DG_TRY(from_dims(c));
    if ((int64_t)c->attrs[2].n != dg_type_bytes(c->out))
        return FAIL("%s needs %lld bytes of data, not %llu", text(c->out), (long long)dg_type_bytes(c->out),
                    (unsigned long long)c->attrs[2].n);
    return DG_OK;
}

dg_status dg_shape_fill(const dg_infer *c)
{
    return from_dims(c);
}

dg_status dg_shape_iota(const dg_infer *c)
{
    DG_TRY(from_dims(c));
    int64_t axis = dg_ai(c->attrs, 2);
    if (axis < 0 || axis >= c->out->rank) return FAIL("axis %lld of %s", (long long)axis, text(c->out));
    return DG_OK;
}

/* ---- element-wise */

static dg_status same(const dg_infer *c)
{
    *c->out = *IN(0);
    return DG_OK;
}

static dg_status float_unary(const dg_infer *c)
{
    if (!dg_dtype_is_float((dg_dtype)IN(0)->dtype)) return FAIL("needs floats, not %s", text(IN(0)));
    return same(c);
}

static dg_status number_unary(const dg_infer *c)
{
    if (IN(0)->dtype == DG_BOOL || IN(0)->dtype == DG_U8)
        return FAIL("needs signed numbers, not %s", text(IN(0)));
    return same(c);
}

#define UNARY(NAME, RULE)                                                                                    \
    dg_status dg_shape_##NAME(const dg_infer *c)                                                             \
    {                                                                                                        \
        return RULE(c);                                                                                      \
    }
UNARY(neg, number_unary)
UNARY(abs, number_unary)
UNARY(sign, number_unary)
UNARY(floor, float_unary)
UNARY(exp, float_unary)
UNARY(log, float_unary)
UNARY(sqrt, float_unary)
UNARY(rsqrt, float_unary)
UNARY(tanh, float_unary)
UNARY(erf, float_unary)
UNARY(sin, float_unary)
UNARY(cos, float_unary)

dg_status dg_shape_not(const dg_infer *c)
{
    if (IN(0)->dtype != DG_BOOL) return FAIL("needs bool, not %s", text(IN(0)));
    return same(c);
}

dg_status dg_shape_is_finite(const dg_infer *c)
{
    DG_TRY(float_unary(c));
    c->out->dtype = DG_BOOL;
    return DG_OK;
}

/* numpy broadcasting of b into *a. */
static dg_status stretch(const dg_infer *c, dg_type *a, const dg_type *b)
{
    dg_type out = {a->dtype, a->rank > b->rank ? a->rank : b->rank, {0}};
    for (int i = 1; i <= out.rank; i++) {
        int64_t x = i <= a->rank ? a->dims[a->rank - i] : 1, y = i <= b->rank ? b->dims[b->rank - i] : 1;
        if (x != y && x != 1 && y != 1) return FAIL("shapes %s and %s do not broadcast", text(a), text(b));
        out.dims[out.rank - i] = x > y ? x : y;
    }
    *a = out;
    return DG_OK;
}

static dg_status binary(const dg_infer *c)
{
    if (IN(0)->dtype != IN(1)->dtype) return FAIL("dtypes differ: %s and %s", text(IN(0)), text(IN(1)));
    *c->out = *IN(0);
    return stretch(c, c->out, IN(1));
}

static dg_status number_binary(const dg_infer *c)
{
    if (IN(0)->dtype == DG_BOOL) return FAIL("needs numbers, not %s", text(IN(0)));
    return binary(c);
}

static dg_status bool_binary(const dg_infer *c)
{
    if (IN(0)->dtype != DG_BOOL) return FAIL("needs bool, not %s", text(IN(0)));
    return binary(c);
}

static dg_status comparison(const dg_infer *c)
{
    DG_TRY(binary(c));
    c->out->dtype = DG_BOOL;
    return DG_OK;
}

UNARY(add, number_binary)
UNARY(sub, number_binary)
UNARY(mul, number_binary)
UNARY(div, number_binary)
UNARY(max, number_binary)
UNARY(min, number_binary)
UNARY(and, bool_binary)
UNARY(or, bool_binary)
UNARY(eq, comparison)
UNARY(ne, comparison)
UNARY(lt, comparison)
UNARY(le, comparison)
UNARY(gt, comparison)
UNARY(ge, comparison)
UNARY(all_reduce, float_unary)

dg_status dg_shape_select(const dg_infer *c)
{
    if (IN(0)->dtype != DG_BOOL) return FAIL("the condition must be bool, not %s", text(IN(0)));
    if (IN(1)->dtype != IN(2)->dtype) return FAIL("dtypes differ: %s and %s", text(IN(1)), text(IN(2)));
    *c->out = *IN(1);
    DG_TRY(stretch(c, c->out, IN(2)));
    return stretch(c, c->out, IN(0));
}

/* ---- types and shapes */

dg_status dg_shape_convert(const dg_infer *c)
{
    int64_t dtype = dg_ai(c->attrs, 0);
    if (dtype <= DG_NONE || dtype >= DG_DTYPE_COUNT) return FAIL("no such dtype");
    *c->out = *IN(0);
    c->out->dtype = (int32_t)dtype;
    return DG_OK;
}

dg_status dg_shape_reshape(const dg_infer *c)
{
    const dg_attr *dims = &c->attrs[0];
    if (dims->n > DG_MAX_RANK) return FAIL("rank %d is above %d", (int)dims->n, DG_MAX_RANK);
    int64_t known = 1, total = dg_type_count(IN(0));
    int open = -1;
    *c->out = dg_make_type((dg_dtype)IN(0)->dtype, dims->v.is, dims->n);
    for (int i = 0; i < c->out->rank; i++) {
        int64_t d = c->out->dims[i];
        if (d == -1 && open < 0)
            open = i;
        else if (d < 1)
            return FAIL("dim %d is %lld", i, (long long)d);
        else if (d > total)
            return FAIL("%s cannot become %s", text(IN(0)), text(c->out));
        else
            known *= d;
    }
    if (open >= 0 && known > 0 && total % known == 0) c->out->dims[open] = total / known;
    if (open < 0 ? known != total : total % known != 0)
        return FAIL("%s cannot become %s", text(IN(0)), text(c->out));
    return DG_OK;
}

dg_status dg_shape_transpose(const dg_infer *c)
{
    const dg_attr *perm = &c->attrs[0];
    unsigned seen = 0;
    *c->out = *IN(0);
    if ((int64_t)perm->n != IN(0)->rank) return FAIL("perm has %d entries for %s", (int)perm->n, text(IN(0)));
    for (int i = 0; i < IN(0)->rank; i++) {
        int64_t p = perm->v.is[i];
        if (p < 0 || p >= IN(0)->rank || (seen >> p & 1))
            return FAIL("perm is not a permutation of the axes of %s", text(IN(0)));
        seen |= 1u << p;
        c->out->dims[i] = IN(0)->dims[p];
    }
    return DG_OK;
}

dg_status dg_shape_broadcast(const dg_infer *c)
{
    const dg_attr *dims = &c->attrs[0];
    if (dims->n > DG_MAX_RANK || (int64_t)dims->n < IN(0)->rank)
        return FAIL("%s cannot stretch to rank %d", text(IN(0)), (int)dims->n);
    *c->out = dg_make_type((dg_dtype)IN(0)->dtype, dims->v.is, dims->n);
    for (int i = 0; i < c->out->rank; i++)
        if (c->out->dims[i] < 1) return FAIL("dim %d is %lld", i, (long long)c->out->dims[i]);
    for (int i = 1; i <= IN(0)->rank; i++) {
        int64_t from = IN(0)->dims[IN(0)->rank - i];
        if (from != 1 && from != c->out->dims[c->out->rank - i])
            return FAIL("%s does not stretch to %s", text(IN(0)), text(c->out));
    }
    return DG_OK;
}

dg_status dg_shape_slice(const dg_infer *c)
{
    const dg_attr *a = &c->attrs[0], *b = &c->attrs[1];
    *c->out = *IN(0);
    if ((int64_t)a->n != IN(0)->rank || (int64_t)b->n != IN(0)->rank)
        return FAIL("needs a start and a limit for each axis of %s", text(IN(0)));
    for (int i = 0; i < IN(0)->rank; i++) {
        int64_t lo = a->v.is[i], hi = b->v.is[i];
        if (lo < 0 || hi <= lo || hi > IN(0)->dims[i])
            return FAIL("[%lld, %lld) on axis %d of %s", (long long)lo, (long long)hi, i, text(IN(0)));
        c->out->dims[i] = hi - lo;
    }
    return DG_OK;
}

dg_status dg_shape_pad(const dg_infer *c)
{
    const dg_attr *a = &c->attrs[0], *b = &c->attrs[1];
    *c->out = *IN(0);
    if ((int64_t)a->n != IN(0)->rank || (int64_t)b->n != IN(0)->rank)
        return FAIL("needs low and high for each axis of %s", text(IN(0)));
    for (int i = 0; i < IN(0)->rank; i++) {
        if (a->v.is[i] < 0 || b->v.is[i] < 0) return FAIL("negative padding on axis %d", i);
        c->out->dims[i] += a->v.is[i] + b->v.is[i];
    }
    return DG_OK;
}

dg_status dg_shape_concat(const dg_infer *c)
{
    int64_t axis = dg_ai(c->attrs, 0);
    *c->out = *IN(0);
    if (axis < 0 || axis >= IN(0)->rank) return FAIL("axis %lld of %s", (long long)axis, text(IN(0)));
    for (size_t k = 1; k < c->n_in; k++) {
        dg_type other = *IN(k);
        if (other.dtype == IN(0)->dtype && other.rank == IN(0)->rank) other.dims[axis] = IN(0)->dims[axis];
        if (other.dtype != IN(0)->dtype || !dg_same_dims(&other, IN(0)))
            return FAIL("%s does not join %s along axis %lld", text(IN(k)), text(IN(0)), (long long)axis);
        c->out->dims[axis] += IN(k)->dims[axis];
    }
    return DG_OK;
}

/* ---- rows by index */

dg_status dg_shape_gather(const dg_infer *c)
{
    const dg_type *x = IN(0), *ids = IN(1);
    int batch = dg_ai(c->attrs, 0) != 0;
    if (ids->dtype != DG_I32) return FAIL("ids must be i32, not %s", text(ids));
    if (x->rank < 1 + batch) return FAIL("%s has no rows to gather", text(x));
    if (batch && (ids->rank != 2 || ids->dims[0] != x->dims[0]))
        return FAIL("ids %s do not go with the batch of %s", text(ids), text(x));
    int rank = ids->rank + x->rank - 1 - batch;
    if (rank > DG_MAX_RANK) return FAIL("%s by %s has rank %d", text(x), text(ids), rank);
    *c->out = *ids;
    c->out->dtype = x->dtype;
    c->out->rank = rank;
    for (int i = 1 + batch; i < x->rank; i++) c->out->dims[ids->rank + i - 1 - batch] = x->dims[i];
    return DG_OK;
}

dg_status dg_shape_scatter_add(const dg_infer *c)
{
    const dg_type *ids = IN(0), *u = IN(1);
    int64_t rows = dg_ai(c->attrs, 0);
    int batch = dg_ai(c->attrs, 1) != 0;
    if (ids->dtype != DG_I32) return FAIL("ids must be i32, not %s", text(ids));
    if (!dg_dtype_is_float((dg_dtype)u->dtype)) return FAIL("updates must be floats, not %s", text(u));
    if (rows < 1) return FAIL("rows is %lld", (long long)rows);
    if (batch && ids->rank != 2) return FAIL("batched ids must be [b, m], not %s", text(ids));
    if (u->rank < ids->rank || u->rank - ids->rank + 1 + batch > DG_MAX_RANK)
        return FAIL("updates %s do not go with ids %s", text(u), text(ids));
    for (int i = 0; i < ids->rank; i++)
        if (u->dims[i] != ids->dims[i]) return FAIL("updates %s do not go with ids %s", text(u), text(ids));
    dg_type out = {u->dtype, 0, {0}};
    if (batch) out.dims[out.rank++] = ids->dims[0];
    out.dims[out.rank++] = rows;
    for (int i = ids->rank; i < u->rank; i++) out.dims[out.rank++] = u->dims[i];
    *c->out = out;
    return DG_OK;
}

/* ---- reductions */

static dg_status reduce(const dg_infer *c)
{
    const dg_attr *axes = &c->attrs[0];
    bool keep = dg_ai(c->attrs, 1) != 0;
    unsigned mask = 0;
    if (axes->n < 1) return FAIL("no axes to reduce %s over", text(IN(0)));
    for (uint64_t i = 0; i < axes->n; i++) {
        int64_t a = axes->v.is[i];
        if (a < 0 || a >= IN(0)->rank || (mask >> a & 1))
            return FAIL("axis %lld of %s", (long long)a, text(IN(0)));
        mask |= 1u << a;
    }
    dg_type out = {IN(0)->dtype, 0, {0}};
    for (int i = 0; i < IN(0)->rank; i++)
        if (!(mask >> i & 1))
            out.dims[out.rank++] = IN(0)->dims[i];
        else if (keep)
            out.dims[out.rank++] = 1;
    *c->out = out;
    return DG_OK;
}

dg_status dg_shape_reduce_sum(const dg_infer *c)
{
    int64_t out = dg_ai(c->attrs, 2);
    if (IN(0)->dtype == DG_BOOL || IN(0)->dtype == DG_U8)
        return FAIL("needs numbers that can hold a sum, not %s", text(IN(0)));
    DG_TRY(reduce(c));
    if (out != DG_NONE) c->out->dtype = (int32_t)out;
    if (dg_dtype_is_float((dg_dtype)c->out->dtype) != dg_dtype_is_float((dg_dtype)IN(0)->dtype))
        return FAIL("a sum of %s cannot be %s", text(IN(0)), text(c->out));
    return DG_OK;
}

dg_status dg_shape_reduce_max(const dg_infer *c)
{
    if (IN(0)->dtype == DG_BOOL) return FAIL("needs numbers, not %s", text(IN(0)));
    return reduce(c);
}

dg_status dg_shape_argmax(const dg_infer *c)
{
    int64_t axis = dg_ai(c->attrs, 0);
    if (axis < 0 || axis >= IN(0)->rank) return FAIL("axis %lld of %s", (long long)axis, text(IN(0)));
    dg_type out = {DG_I32, 0, {0}};
    for (int i = 0; i < IN(0)->rank; i++)
        if (i != axis) out.dims[out.rank++] = IN(0)->dims[i];
    *c->out = out;
    return DG_OK;
}

dg_status dg_shape_top_k(const dg_infer *c)
{
    int64_t k = dg_ai(c->attrs, 0);
    DG_TRY(float_unary(c));
    if (IN(0)->rank < 1 || k < 1 || k > IN(0)->dims[IN(0)->rank - 1])
        return FAIL("k = %lld of %s", (long long)k, text(IN(0)));
    c->out[0].dims[IN(0)->rank - 1] = k;
    c->out[1] = c->out[0];
    c->out[1].dtype = DG_I32;
    return DG_OK;
}

/* ---- over ranks */

/* Axis 0 grows by the number of ranks, or is cut into as many parts. */
static dg_status over_ranks(const dg_infer *c, bool grows)
{
    int64_t ranks = dg_ai(c->attrs, 0);
    if (ranks < 1) return FAIL("ranks is %lld", (long long)ranks);
    if (IN(0)->rank < 1) return FAIL("a scalar has no parts; reshape it to [1]");
    int64_t rows = IN(0)->dims[0];
    if (!grows && rows % ranks)
        return FAIL("%s cannot be cut into %lld equal parts", text(IN(0)), (long long)ranks);
    *c->out = *IN(0);
    if (grows && rows > INT64_MAX / ranks) return FAIL("%s from each rank is too large", text(IN(0)));
    c->out->dims[0] = grows ? rows * ranks : rows / ranks;
    return DG_OK;
}

dg_status dg_shape_reduce_scatter(const dg_infer *c)
{
    DG_TRY(float_unary(c));
    return over_ranks(c, false);
}

dg_status dg_shape_all_gather(const dg_infer *c)
{
    return over_ranks(c, true);
}

dg_status dg_shape_shard(const dg_infer *c)
{
    return over_ranks(c, false);
}

/* ---- products */

dg_status dg_shape_matmul(const dg_infer *c)
{
    const dg_type *a = IN(0), *b = IN(1);
    int ta = dg_ai(c->attrs, 0) != 0, tb = dg_ai(c->attrs, 1) != 0;
    int64_t out = dg_ai(c->attrs, 2);
    if (!dg_dtype_is_float((dg_dtype)a->dtype) || a->dtype != b->dtype)
        return FAIL("needs floats of one dtype, not %s and %s", text(a), text(b));
    if (a->rank < 2 || a->rank != b->rank)
        return FAIL("needs equal ranks of at least 2, not %s and %s", text(a), text(b));
    int r = a->rank;
    for (int i = 0; i < r - 2; i++)
        if (a->dims[i] != b->dims[i]) return FAIL("leading dims of %s and %s differ", text(a), text(b));
    int64_t m = a->dims[r - 2 + ta], k = a->dims[r - 1 - ta], k2 = b->dims[r - 2 + tb],
            n = b->dims[r - 1 - tb];
    if (k != k2)
        return FAIL("%s%s times %s%s: %lld is not %lld", text(a), ta ? "'" : "", text(b), tb ? "'" : "",
                    (long long)k, (long long)k2);
    *c->out = *a;
    c->out->dims[r - 2] = m;
    c->out->dims[r - 1] = n;
    if (out != DG_NONE) c->out->dtype = (int32_t)out;
    if (!dg_dtype_is_float((dg_dtype)c->out->dtype)) return FAIL("the result must be floats");
    return DG_OK;
}
