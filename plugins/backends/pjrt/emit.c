/* emit.c - the frame of the text, and the statements that ops are made of. */
#include "emit.h"

#include <math.h>

/* ---- names and types */

static void put_name(dg_text *out, dg_ref r)
{
    if (r.part < 0)
        dg_text_printf(out, "%%v%d", r.id);
    else
        dg_text_printf(out, "%%v%d#%d", r.id, r.part);
}

static void put_type(dg_text *out, const dg_type *t)
{
    static const char *const name[DG_DTYPE_COUNT] = {"none",     "f32", "bf16", "f16",
                                                     "f8E4M3FN", "i32", "ui8",  "i1"};
    dg_text_puts(out, "tensor<");
    for (int i = 0; i < t->rank; i++) dg_text_printf(out, "%lldx", (long long)t->dims[i]);
    dg_text_puts(out, name[t->dtype]);
    dg_text_puts(out, ">");
}

/* Text inside double quotes: what would end it or is not printable becomes '_'. */
static void put_quoted(dg_text *out, const char *s)
{
    for (; *s; s++) dg_text_bytes(out, *s == '"' || *s == '\\' || *s < ' ' || *s > '~' ? "_" : s, 1);
}

/* ---- statements */

dg_ref dg_emit_put_n(dg_emit *e, const dg_type *types, int n, const char *pattern, const dg_ref *in,
                     const char *const *texts)
{
    dg_text *out = e->out;
    dg_ref y = {e->next++, n > 1 ? 0 : -1, types[0]};
    if (n > 1)
        dg_text_printf(out, "    %%v%d:%d = ", y.id, n);
    else
        dg_text_printf(out, "    %%v%d = ", y.id);
    while (*pattern) {
        size_t plain = strcspn(pattern, "$@&");
        dg_text_bytes(out, pattern, plain);
        pattern += plain;
        if (!*pattern) break;
        char what = pattern[0];
        int k = pattern[1] - '0';
        if (what == '$')
            put_name(out, in[k]);
        else if (what == '&')
            dg_text_puts(out, texts[k]);
        else
            put_type(out, pattern[1] == 'y' ? &types[0] : &in[k].type);
        pattern += 2;
    }
    /* The location is what XLA's own messages, such as "out of memory", show. */
    dg_text_puts(out, " loc(\"");
    put_quoted(out, e->node->scope ? e->node->scope : "");
    dg_text_puts(out, "/");
    put_quoted(out, e->node->op);
    dg_text_puts(out, "\")\n");
    return y;
}

dg_ref dg_emit_put(dg_emit *e, dg_type type, const char *pattern, const dg_ref *in, const char *const *texts)
{
    return dg_emit_put_n(e, &type, 1, pattern, in, texts);
}

const char *dg_emit_list(char out[DG_EMIT_LIST_SIZE], const int64_t *items, int n)
{
    int at = 0;
    out[0] = 0;
    for (int i = 0; i < n && at < DG_EMIT_LIST_SIZE; i++)
        at += snprintf(out + at, (size_t)(DG_EMIT_LIST_SIZE - at), "%s%lld", i ? ", " : "",
                       (long long)items[i]);
    return out;
}

static dg_type scalar_type(dg_dtype dtype)
{
    return (dg_type){(int32_t)dtype, 0, {0}};
}

static dg_type with_dtype(dg_type t, dg_dtype dtype)
{
    t.dtype = (int32_t)dtype;
    return t;
}

dg_ref dg_emit_scalar(dg_emit *e, dg_dtype dtype, double value)
{
    char text[32];
    dg_dtype written = dg_dtype_is_float(dtype) ? DG_F32 : dtype;
    if (written == DG_F32) {
        float f = (float)value;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        snprintf(text, sizeof text, "0x%08X", (unsigned)bits);
    } else if (written == DG_BOOL)
        snprintf(text, sizeof text, "%s", value != 0 ? "true" : "false");
    else {
        double low = written == DG_U8 ? 0 : INT32_MIN, high = written == DG_U8 ? UINT8_MAX : INT32_MAX;
        value = isnan(value) ? 0 : fmin(fmax(value, low), high);
        snprintf(text, sizeof text, "%lld", (long long)value);
    }
    dg_ref y = dg_emit_put(e, scalar_type(written), "stablehlo.constant dense<&0> : @y", NULL,
                           (const char *[]){text});
    return dg_emit_convert(e, y, dtype);
}

dg_ref dg_emit_fill(dg_emit *e, dg_type type, double value)
{
    return dg_emit_stretch(e, dg_emit_scalar(e, (dg_dtype)type.dtype, value), &type);
}

dg_ref dg_emit_iota(dg_emit *e, dg_type type, int axis)
{
    char text[16];
    snprintf(text, sizeof text, "%d", axis);
    dg_ref i = dg_emit_put(e, with_dtype(type, DG_I32), "stablehlo.iota dim = &0 : @y", NULL,
                           (const char *[]){text});
    return dg_emit_convert(e, i, (dg_dtype)type.dtype);
}

dg_ref dg_emit_compare(dg_emit *e, const char *direction, dg_ref a, dg_ref b)
{
    const char *kind = dg_dtype_is_float((dg_dtype)a.type.dtype) ? "FLOAT"
                       : a.type.dtype == DG_I32                  ? "SIGNED"
                                                                 : "UNSIGNED";
    return dg_emit_put(e, with_dtype(a.type, DG_BOOL), "stablehlo.compare &0, $0, $1, &1 : (@0, @1) -> @y",
                       (dg_ref[]){a, b}, (const char *[]){direction, kind});
}

dg_ref dg_emit_binary(dg_emit *e, const char *op, dg_ref a, dg_ref b)
{
    return dg_emit_put(e, a.type, "&0 $0, $1 : @y", (dg_ref[]){a, b}, &op);
}

dg_ref dg_emit_select(dg_emit *e, dg_ref c, dg_ref a, dg_ref b)
{
    return dg_emit_put(e, a.type, "stablehlo.select $0, $1, $2 : @0, @1", (dg_ref[]){c, a, b}, NULL);
}

dg_ref dg_emit_reshape(dg_emit *e, dg_ref x, dg_type type)
{
    if (dg_same_dims(&x.type, &type)) return x;
    return dg_emit_put(e, with_dtype(type, (dg_dtype)x.type.dtype), "stablehlo.reshape $0 : (@0) -> @y", &x,
                       NULL);
}

dg_ref dg_emit_stretch(dg_emit *e, dg_ref x, const dg_type *type)
{
    if (dg_same_dims(&x.type, type)) return x;
    int64_t axes[DG_MAX_RANK];
    char list[DG_EMIT_LIST_SIZE];
    for (int i = 0; i < x.type.rank; i++) axes[i] = type->rank - x.type.rank + i;
    dg_emit_list(list, axes, x.type.rank);
    return dg_emit_put(e, with_dtype(*type, (dg_dtype)x.type.dtype),
                       "stablehlo.broadcast_in_dim $0, dims = [&0] : (@0) -> @y", &x, (const char *[]){list});
}

/* StableHLO leaves out-of-range conversions to the implementation; here they saturate, and NaN becomes 0. */
static dg_ref clamp(dg_emit *e, dg_ref x, double low, double high)
{
    dg_dtype dtype = (dg_dtype)x.type.dtype;
    if (dg_dtype_is_float(dtype)) {
        dg_ref is_number = dg_emit_compare(e, "EQ", x, x);
        x = dg_emit_select(e, is_number, x, dg_emit_fill(e, x.type, 0));
    }
    x = dg_emit_binary(e, "stablehlo.maximum", x, dg_emit_fill(e, x.type, low));
    return dg_emit_binary(e, "stablehlo.minimum", x, dg_emit_fill(e, x.type, high));
}

dg_ref dg_emit_convert(dg_emit *e, dg_ref x, dg_dtype dtype)
{
    dg_dtype from = (dg_dtype)x.type.dtype;
    if (from == dtype) return x;
    if (dtype == DG_BOOL) return dg_emit_compare(e, "NE", x, dg_emit_fill(e, x.type, 0));
    if (dtype == DG_U8 && from != DG_BOOL) {
        x = clamp(e, dg_emit_widen(e, x), 0, UINT8_MAX);
        x = dg_emit_put(e, with_dtype(x.type, DG_I32), "stablehlo.convert $0 : (@0) -> @y", &x, NULL);
    }
    return dg_emit_put(e, with_dtype(x.type, dtype), "stablehlo.convert $0 : (@0) -> @y", &x, NULL);
}

dg_ref dg_emit_widen(dg_emit *e, dg_ref x)
{
    return dg_dtype_is_float((dg_dtype)x.type.dtype) ? dg_emit_convert(e, x, DG_F32) : x;
}

dg_ref dg_emit_reduce(dg_emit *e, const char *op, dg_ref x, double init, const int64_t *axes, int n)
{
    unsigned gone = 0;
    dg_type type = scalar_type((dg_dtype)x.type.dtype);
    char list[DG_EMIT_LIST_SIZE];
    for (int i = 0; i < n; i++) gone |= 1u << axes[i];
    for (int i = 0; i < x.type.rank; i++)
        if (!(gone >> i & 1)) type.dims[type.rank++] = x.type.dims[i];
    dg_ref start = dg_emit_scalar(e, (dg_dtype)x.type.dtype, init);
    return dg_emit_put(e, type,
                       "stablehlo.reduce($0 init: $1) applies &0 across dimensions = [&1] : (@0, @1) -> @y",
                       (dg_ref[]){x, start}, (const char *[]){op, dg_emit_list(list, axes, n)});
}

/* ---- the frame */

const char *dg_emit_refuses(const dg_program_node *node, uint32_t n_replicas)
{
    int64_t ranks = dg_attr_int(node->attrs, node->n_attrs, "ranks");
    if (!dg_emit_find(node->op))
        return "this backend has no StableHLO for the op; a composite has to be lowered first";
    return ranks > 1 && ranks != n_replicas ? "it is over another number of ranks than there are replicas"
                                            : NULL;
}

static void put_arguments(dg_emit *e)
{
    const dg_program *p = e->p;
    uint32_t result = p->n_outputs;
    for (uint32_t i = 0; i < p->n_leaves; i++) {
        dg_ref r = {e->next++, -1, p->values[p->leaves[i].value].type};
        e->refs[p->leaves[i].value] = r;
        dg_text_puts(e->out, i ? ", " : "");
        put_name(e->out, r);
        dg_text_puts(e->out, ": ");
        put_type(e->out, &r.type);
        if (p->leaves[i].update >= 0) dg_text_printf(e->out, " {tf.aliasing_output = %u : i32}", result++);
    }
}

/* The k-th value that main returns; false past the last. *leaf runs over the leaves with updates. */
static bool next_result(const dg_program *p, uint32_t k, uint32_t *leaf, int32_t *value)
{
    if (k < p->n_outputs) {
        *value = p->outputs[k].value;
        return true;
    }
    while (*leaf < p->n_leaves && p->leaves[*leaf].update < 0) ++*leaf;
    if (*leaf == p->n_leaves) return false;
    *value = p->leaves[(*leaf)++].update;
    return true;
}

static void put_result_types(dg_emit *e)
{
    uint32_t leaf = 0;
    int32_t value;
    for (uint32_t k = 0; next_result(e->p, k, &leaf, &value); k++) {
        dg_text_puts(e->out, k ? ", " : "");
        put_type(e->out, &e->p->values[value].type);
    }
}

static void put_return(dg_emit *e)
{
    uint32_t leaf = 0, n = 0;
    int32_t value;
    dg_text_puts(e->out, "    return");
    for (; next_result(e->p, n, &leaf, &value); n++) {
        dg_text_puts(e->out, n ? ", " : " ");
        put_name(e->out, e->refs[value]);
    }
    if (n > 0) dg_text_puts(e->out, " : ");
    put_result_types(e);
    dg_text_puts(e->out, "\n");
}

dg_status dg_emit_program(const dg_program *p, uint32_t n_replicas, dg_text *out, dg_error *err)
{
    dg_status status = DG_OK;
    dg_emit e = {.p = p,
                 .out = out,
                 .refs = out->host->allocate((p->n_values + 1) * sizeof(dg_ref)),
                 .n_replicas = n_replicas};
    if (!e.refs) return dg_fail(err, DG_ERR_NOMEM, "out of memory writing program %s", p->name);
    dg_text_printf(
        out,
        "module @digpt attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = %u : i32} {\n"
        "  func.func public @main(",
        n_replicas);
    put_arguments(&e);
    dg_text_puts(out, ") -> (");
    put_result_types(&e);
    dg_text_puts(out, ") {\n");
    for (uint32_t n = 0; n < p->n_nodes && status == DG_OK; n++) {
        const dg_emit_op *op = dg_emit_find(p->nodes[n].op);
        e.node = &p->nodes[n];
        const char *why = dg_emit_refuses(e.node, n_replicas);
        if (!why)
            op->emit(&e, op->text);
        else
            status = dg_fail(err, DG_ERR_UNSUPPORTED, "program %s, node %u (%s in %s): %s", p->name, n,
                             e.node->op, e.node->scope ? e.node->scope : "", why);
    }
    put_return(&e);
    dg_text_puts(out, "  }\n}\n");
    if (status == DG_OK && out->failed)
        status = dg_fail(err, DG_ERR_NOMEM, "out of memory writing program %s as StableHLO", p->name);
    out->host->release(e.refs);
    return status;
}
