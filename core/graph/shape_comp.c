/* shape_comp.c - shape rules of the composites. */
#include "shape.h"

static dg_status needs_float(const dg_infer *c, int k)
{
    if (!dg_dtype_is_float((dg_dtype)IN(k)->dtype))
        return FAIL("%s must be floats, not %s", c->op->in_name[k], text(IN(k)));
    return DG_OK;
}

/* Input k must have exactly this type; dtype DG_NONE: any float. */
static dg_status needs(const dg_infer *c, int k, dg_type want)
{
    bool dtype_ok =
        want.dtype == DG_NONE ? dg_dtype_is_float((dg_dtype)IN(k)->dtype) : IN(k)->dtype == want.dtype;
    if (dtype_ok && dg_same_dims(IN(k), &want)) return DG_OK;
    return FAIL("%s must be %s, not %s", c->op->in_name[k], text(&want), text(IN(k)));
}

static int64_t last(const dg_type *t)
{
    return t->rank ? t->dims[t->rank - 1] : 1;
}

static dg_type without_last(const dg_type *t, dg_dtype dtype)
{
    dg_type out = *t;
    out.dtype = (int32_t)dtype;
    if (out.rank) out.dims[--out.rank] = 0;
    return out;
}

static dg_type row(dg_dtype dtype, int64_t n)
{
    return dg_make_type(dtype, &n, 1);
}

static dg_status out_dtype(const dg_infer *c, int64_t dtype)
{
    if (dtype == DG_NONE) return DG_OK;
    if (!dg_dtype_is_float((dg_dtype)dtype)) return FAIL("the result must be floats");
    c->out[0].dtype = (int32_t)dtype;
    return DG_OK;
}

static dg_status linear(const dg_infer *c, int out)
{
    const dg_type *x = IN(0), *w = IN(1);
    DG_TRY(needs_float(c, 0));
    if (x->rank < 1 || w->rank != 2 || w->dtype != x->dtype || w->dims[1] != last(x))
        return FAIL("x %s does not go with w %s ([out, in])", text(x), text(w));
    if (HAS(2)) DG_TRY(needs(c, 2, row(IN(2)->dtype == x->dtype ? (dg_dtype)x->dtype : DG_F32, w->dims[0])));
    c->out[0] = *x;
    c->out[0].dims[x->rank - 1] = w->dims[0];
    return out_dtype(c, dg_ai(c->attrs, out));
}

dg_status dg_shape_linear(const dg_infer *c)
{
    return linear(c, 0);
}

dg_status dg_shape_linear_int8(const dg_infer *c)
{
    if (!(dg_af(c->attrs, 0) == 0 || dg_af(c->attrs, 0) >= 1)) return FAIL("outlier is 0 or at least 1");
    return linear(c, 1);
}

dg_status dg_shape_layer_norm(const dg_infer *c)
{
    DG_TRY(needs_float(c, 0));
    if (IN(0)->rank < 1) return FAIL("x is a scalar");
    for (int k = 1; k <= 2; k++)
        if (HAS(k)) DG_TRY(needs(c, k, row(DG_F32, last(IN(0)))));
    c->out[0] = *IN(0);
    c->out[1] = c->out[2] = without_last(IN(0), DG_F32);
    return out_dtype(c, dg_ai(c->attrs, 1));
}

dg_status dg_shape_layer_norm_grad(const dg_infer *c)
{
    const dg_type *x = IN(1);
    DG_TRY(needs_float(c, 1));
    if (x->rank < 1) return FAIL("x is a scalar");
    dg_type any = *x;
    any.dtype = DG_NONE;
    DG_TRY(needs(c, 0, any));
    DG_TRY(needs(c, 2, without_last(x, DG_F32)));
    DG_TRY(needs(c, 3, without_last(x, DG_F32)));
    if (HAS(4)) DG_TRY(needs(c, 4, row(DG_F32, last(x))));
    c->out[0] = *x;
    c->out[1] = c->out[2] = row(DG_F32, last(x));
    return DG_OK;
}

dg_status dg_shape_softmax(const dg_infer *c)
{
    DG_TRY(needs_float(c, 0));
    if (IN(0)->rank < 1) return FAIL("x is a scalar");
    c->out[0] = *IN(0);
    return DG_OK;
}

dg_status dg_shape_gelu(const dg_infer *c)
{
    DG_TRY(needs_float(c, 0));
    c->out[0] = *IN(0);
    return DG_OK;
}

dg_status dg_shape_gelu_grad(const dg_infer *c)
{
    DG_TRY(needs_float(c, 1));
    DG_TRY(needs(c, 0, *IN(1)));
    c->out[0] = *IN(1);
    return DG_OK;
}

/* The operands q, k, v at inputs at, at+1, at+2, groups and bias at `extra`. */
static dg_status attention_inputs(const dg_infer *c, int at, int extra)
{
    const dg_type *q = IN(at), *k = IN(at + 1), *v = IN(at + 2);
    int64_t heads = dg_ai(c->attrs, 0);
    DG_TRY(needs_float(c, at));
    if (q->rank != 3 || k->rank != 3 || v->rank != 3)
        return FAIL("q, k and v must be [batch, tokens, width], not %s, %s, %s", text(q), text(k), text(v));
    if (k->dtype != q->dtype || v->dtype != q->dtype || k->dims[0] != q->dims[0] ||
        k->dims[2] != q->dims[2] || !dg_same_dims(k, v))
        return FAIL("q %s, k %s and v %s do not go together", text(q), text(k), text(v));
    if (heads < 1 || q->dims[2] % heads)
        return FAIL("width %lld cannot be cut into %lld heads", (long long)q->dims[2], (long long)heads);
    if (HAS(extra) != HAS(extra + 1)) return FAIL("group_q and group_k come together");
    for (int g = 0; g < 2 && HAS(extra); g++) {
        const dg_type *group = IN(extra + g);
        int64_t tokens = g ? k->dims[1] : q->dims[1];
        if (group->dtype != DG_I32 || group->rank != 2 || group->dims[1] != tokens ||
            (group->dims[0] != 1 && group->dims[0] != q->dims[0]))
            return FAIL("%s must be i32[1 or %lld,%lld], not %s", c->op->in_name[extra + g],
                        (long long)q->dims[0], (long long)tokens, text(group));
    }
    if (HAS(extra + 2)) {
        const dg_type *b = IN(extra + 2);
        if (b->dtype != DG_F32 || b->rank != 4 || (b->dims[0] != 1 && b->dims[0] != q->dims[0]) ||
            b->dims[1] != heads || b->dims[2] != q->dims[1] || b->dims[3] != k->dims[1])
            return FAIL("bias must be f32[1 or %lld,%lld,%lld,%lld], not %s", (long long)q->dims[0],
                        (long long)heads, (long long)q->dims[1], (long long)k->dims[1], text(b));
    }
    return DG_OK;
}

static dg_type lse_type(const dg_type *q, int64_t heads)
{
    return dg_make_type(DG_F32, DG_LIST(q->dims[0], heads, q->dims[1]));
}

dg_status dg_shape_attention(const dg_infer *c)
{
    DG_TRY(attention_inputs(c, 0, 3));
    c->out[0] = *IN(0);
    c->out[1] = lse_type(IN(0), dg_ai(c->attrs, 0));
    return DG_OK;
}

dg_status dg_shape_attention_grad(const dg_infer *c)
{
    DG_TRY(attention_inputs(c, 1, 6));
    DG_TRY(needs(c, 0, *IN(1)));
    DG_TRY(needs(c, 4, *IN(1)));
    DG_TRY(needs(c, 5, lse_type(IN(1), dg_ai(c->attrs, 0))));
    for (int k = 0; k < 3; k++) c->out[k] = *IN(1 + k);
    c->out[3] = HAS(8) ? *IN(8) : dg_make_type(DG_F32, NULL, 0);
    return DG_OK;
}

dg_status dg_shape_normalize(const dg_infer *c)
{
    DG_TRY(needs_float(c, 0));
    if (IN(0)->rank < 1) return FAIL("x is a scalar");
    c->out[0] = *IN(0);
    c->out[1] = without_last(IN(0), DG_F32);
    return DG_OK;
}

dg_status dg_shape_normalize_grad(const dg_infer *c)
{
    DG_TRY(needs_float(c, 1));
    if (IN(1)->rank < 1) return FAIL("y is a scalar");
    DG_TRY(needs(c, 0, *IN(1)));
    DG_TRY(needs(c, 2, without_last(IN(1), DG_F32)));
    c->out[0] = *IN(1);
    return DG_OK;
}

static dg_status entropy_target(const dg_infer *c, int x, int target)
{
    DG_TRY(needs_float(c, x));
    if (IN(x)->rank < 1) return FAIL("x is a scalar");
    if (IN(target)->dtype == DG_I32) return needs(c, target, without_last(IN(x), DG_I32));
    dg_type soft = *IN(x);
    soft.dtype = DG_F32;
    return needs(c, target, soft);
}

dg_status dg_shape_cross_entropy(const dg_infer *c)
{
    DG_TRY(entropy_target(c, 0, 1));
    c->out[0] = c->out[1] = without_last(IN(0), DG_F32);
    return DG_OK;
}

dg_status dg_shape_cross_entropy_grad(const dg_infer *c)
{
    DG_TRY(entropy_target(c, 1, 2));
    DG_TRY(needs(c, 0, without_last(IN(1), DG_F32)));
    DG_TRY(needs(c, 3, without_last(IN(1), DG_F32)));
    c->out[0] = *IN(1);
    return DG_OK;
}

dg_status dg_shape_patchify(const dg_infer *c)
{
    const dg_type *x = IN(0);
    int64_t ph = dg_ai(c->attrs, 0), pw = dg_ai(c->attrs, 1);
    if ((x->dtype != DG_U8 && x->dtype != DG_F32) || x->rank != 4)
        return FAIL("image must be u8 or f32 [batch, height, width, channels], not %s", text(x));
    if (ph < 1 || pw < 1 || x->dims[1] % ph || x->dims[2] % pw)
        return FAIL("%s cannot be cut into patches of %lld x %lld", text(x), (long long)ph, (long long)pw);
    if ((int64_t)c->attrs[2].n != x->dims[3] || (int64_t)c->attrs[3].n != x->dims[3])
        return FAIL("scale and shift need one number for each of the %lld channels", (long long)x->dims[3]);
    c->out[0] =
        dg_make_type(DG_F32, DG_LIST(x->dims[0], x->dims[1] / ph * (x->dims[2] / pw), x->dims[3] * ph * pw));
    return out_dtype(c, dg_ai(c->attrs, 5));
}

dg_status dg_shape_resize(const dg_infer *c)
{
    int64_t h = dg_ai(c->attrs, 0), w = dg_ai(c->attrs, 1);
    DG_TRY(needs_float(c, 0));
    if (IN(0)->rank != 4) return FAIL("x must be [batch, height, width, channels], not %s", text(IN(0)));
    if (h < 1 || w < 1) return FAIL("cannot resize to %lld x %lld", (long long)h, (long long)w);
    c->out[0] = *IN(0);
    c->out[0].dims[1] = h;
    c->out[0].dims[2] = w;
    return DG_OK;
}

dg_status dg_shape_adamw(const dg_infer *c)
{
    dg_type f32 = *IN(0);
    f32.dtype = DG_F32;
    for (int k = 0; k < 4; k++) DG_TRY(needs(c, k, f32));
    DG_TRY(needs(c, 4, row(DG_F32, 3)));
    if (HAS(5)) DG_TRY(needs(c, 5, dg_make_type(DG_BOOL, NULL, 0)));
    c->out[0] = c->out[1] = c->out[2] = f32;
    return DG_OK;
}
