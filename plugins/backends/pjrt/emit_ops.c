/* emit_ops.c - every primitive of the op table as StableHLO. */
#include "emit.h"

#include <math.h>

/* ---- reading the node */

static dg_ref in(const dg_emit *e, int k)
{
    return e->refs[e->node->in[k]];
}

static dg_type type_of(const dg_emit *e, int k)
{
    return e->p->values[e->node->out + k].type;
}

static void set(dg_emit *e, int k, dg_ref r)
{
    e->refs[e->node->out + k] = r;
}

static const dg_attr *attr(const dg_emit *e, const char *name)
{
    return dg_attr_find(e->node->attrs, e->node->n_attrs, name);
}

static int64_t attr_int(const dg_emit *e, const char *name)
{
    return dg_attr_int(e->node->attrs, e->node->n_attrs, name);
}

/* Result 0 from x, in which narrow floats were widened. */
static void set_rounded(dg_emit *e, dg_ref x)
{
    set(e, 0, dg_emit_convert(e, x, (dg_dtype)type_of(e, 0).dtype));
}

static dg_ref stretched(dg_emit *e, int k)
{
    dg_type type = type_of(e, 0);
    return dg_emit_stretch(e, dg_emit_widen(e, in(e, k)), &type);
}

/* ---- constants */

static void constant(dg_emit *e, const char *text)
{
    (void)text;
    const dg_attr *data = attr(e, "data");
    dg_type type = type_of(e, 0), written = type;
    if (type.dtype == DG_BOOL) written.dtype = DG_U8; /* the bytes of an i1 constant are packed bits */
    dg_text hex = {.host = e->out->host};
    dg_text_puts(&hex, "\"0x");
    dg_text_hex(&hex, data->v.bytes, data->n);
    dg_text_puts(&hex, "\"");
    if (hex.failed) e->out->failed = true;
    dg_ref y = dg_emit_put(e, written, "stablehlo.constant dense<&0> : @y", NULL,
                           (const char *[]){hex.failed ? "" : hex.bytes});
    dg_text_free(&hex);
    set(e, 0, dg_emit_convert(e, y, (dg_dtype)type.dtype));
}

static void fill(dg_emit *e, const char *text)
{
    (void)text;
    set(e, 0, dg_emit_fill(e, type_of(e, 0), dg_attr_float(e->node->attrs, e->node->n_attrs, "value")));
}

static void iota(dg_emit *e, const char *text)
{
    (void)text;
    set(e, 0, dg_emit_iota(e, type_of(e, 0), (int)attr_int(e, "axis")));
}

/* ---- element-wise */

static void unary(dg_emit *e, const char *text)
{
    dg_ref x = dg_emit_widen(e, in(e, 0));
    set_rounded(e, dg_emit_put(e, x.type, "&0 $0 : @y", &x, &text));
}

static void error_function(dg_emit *e, const char *text)
{
    dg_ref x = dg_emit_widen(e, in(e, 0));
    set_rounded(e, dg_emit_put(e, x.type, "&0 $0 : @0 -> @y", &x, &text));
}

static void is_finite(dg_emit *e, const char *text)
{
    dg_ref x = dg_emit_widen(e, in(e, 0));
    set(e, 0, dg_emit_put(e, type_of(e, 0), "&0 $0 : (@0) -> @y", &x, &text));
}

static void binary(dg_emit *e, const char *text)
{
    dg_ref a = stretched(e, 0), b = stretched(e, 1);
    set_rounded(e, dg_emit_binary(e, text, a, b));
}

static void compare(dg_emit *e, const char *text)
{
    dg_ref a = stretched(e, 0), b = stretched(e, 1);
    set(e, 0, dg_emit_compare(e, text, a, b));
}

static void select_op(dg_emit *e, const char *text)
{
    (void)text;
    dg_type type = type_of(e, 0);
    dg_ref c = dg_emit_stretch(e, in(e, 0), &type), a = dg_emit_stretch(e, in(e, 1), &type),
           b = dg_emit_stretch(e, in(e, 2), &type);
    set(e, 0, dg_emit_select(e, c, a, b));
}

/* ---- types and shapes */

static void convert(dg_emit *e, const char *text)
{
    (void)text;
    set(e, 0, dg_emit_convert(e, in(e, 0), (dg_dtype)type_of(e, 0).dtype));
}

static void reshape(dg_emit *e, const char *text)
{
    (void)text;
    set(e, 0, dg_emit_reshape(e, in(e, 0), type_of(e, 0)));
}

static void transpose(dg_emit *e, const char *text)
{
    (void)text;
    char list[DG_EMIT_LIST_SIZE];
    const dg_attr *perm = attr(e, "perm");
    dg_ref x = in(e, 0);
    dg_emit_list(list, perm->v.is, (int)perm->n);
    set(e, 0,
        dg_emit_put(e, type_of(e, 0), "stablehlo.transpose $0, dims = [&0] : (@0) -> @y", &x,
                    (const char *[]){list}));
}

static void broadcast(dg_emit *e, const char *text)
{
    (void)text;
    dg_type type = type_of(e, 0);
    set(e, 0, dg_emit_stretch(e, in(e, 0), &type));
}

static void slice(dg_emit *e, const char *text)
{
    (void)text;
    char list[DG_MAX_RANK * 48] = "";
    const dg_attr *starts = attr(e, "starts"), *limits = attr(e, "limits");
    dg_ref x = in(e, 0);
    for (int i = 0, at = 0; i < x.type.rank; i++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%lld:%lld", i ? ", " : "",
                       (long long)starts->v.is[i], (long long)limits->v.is[i]);
    set(e, 0,
        dg_emit_put(e, type_of(e, 0), "stablehlo.slice $0 [&0] : (@0) -> @y", &x, (const char *[]){list}));
}

static void pad(dg_emit *e, const char *text)
{
    (void)text;
    static const int64_t zeros[DG_MAX_RANK];
    char low[DG_EMIT_LIST_SIZE], high[DG_EMIT_LIST_SIZE], interior[DG_EMIT_LIST_SIZE];
    dg_ref x = in(e, 0);
    dg_ref value =
        dg_emit_scalar(e, (dg_dtype)x.type.dtype, dg_attr_float(e->node->attrs, e->node->n_attrs, "value"));
    dg_emit_list(low, attr(e, "low")->v.is, x.type.rank);
    dg_emit_list(high, attr(e, "high")->v.is, x.type.rank);
    dg_emit_list(interior, zeros, x.type.rank);
    set(e, 0,
        dg_emit_put(e, type_of(e, 0),
                    "stablehlo.pad $0, $1, low = [&0], high = [&1], interior = [&2] : (@0, @1) -> @y",
                    (dg_ref[]){x, value}, (const char *[]){low, high, interior}));
}

/* Joins two at a time: XLA merges nested concatenations, and the pattern stays of fixed length. */
static void concat(dg_emit *e, const char *text)
{
    (void)text;
    char axis[16];
    int64_t a = attr_int(e, "axis");
    dg_ref y = in(e, 0);
    snprintf(axis, sizeof axis, "%d", (int)a);
    for (uint32_t k = 1; k < e->node->n_in; k++) {
        dg_ref x = in(e, (int)k);
        dg_type type = y.type;
        type.dims[a] += x.type.dims[a];
        y = dg_emit_put(e, type, "stablehlo.concatenate $0, $1, dim = &0 : (@0, @1) -> @y", (dg_ref[]){y, x},
                        (const char *[]){axis});
    }
    set(e, 0, y);
}

/* ---- rows by index */

/* Axes from..to-1 as a list. */
static void range(char out[DG_EMIT_LIST_SIZE], int from, int to)
{
    int64_t axes[DG_MAX_RANK];
    for (int i = from; i < to; i++) axes[i - from] = i;
    dg_emit_list(out, axes, to - from);
}

static void gather(dg_emit *e, const char *text)
{
    (void)text;
    int batch = (int)attr_int(e, "batch");
    dg_ref x = in(e, 0), ids = in(e, 1);
    char offset[DG_EMIT_LIST_SIZE], sizes[DG_EMIT_LIST_SIZE], vector[16], row[16];
    int64_t size[DG_MAX_RANK];
    for (int i = 0; i < x.type.rank; i++) size[i] = i <= batch ? 1 : x.type.dims[i];
    range(offset, ids.type.rank, type_of(e, 0).rank);
    dg_emit_list(sizes, size, x.type.rank);
    snprintf(vector, sizeof vector, "%d", ids.type.rank);
    snprintf(row, sizeof row, "%d", batch);
    const char *both = batch ? "operand_batching_dims = [0], start_indices_batching_dims = [0], " : "";
    set(e, 0,
        dg_emit_put(
            e, type_of(e, 0),
            "\"stablehlo.gather\"($0, $1) <{dimension_numbers = #stablehlo.gather<offset_dims = [&0], "
            "collapsed_slice_dims = [&1], &2start_index_map = [&1], index_vector_dim = &3>, "
            "indices_are_sorted = false, slice_sizes = array<i64: &4>}> : (@0, @1) -> @y",
            (dg_ref[]){x, ids}, (const char *[]){offset, row, both, vector, sizes}));
}

static void scatter_add(dg_emit *e, const char *text)
{
    (void)text;
    int batch = (int)attr_int(e, "batch");
    dg_ref ids = in(e, 0), updates = dg_emit_widen(e, in(e, 1));
    dg_type type = type_of(e, 0);
    char window[DG_EMIT_LIST_SIZE], vector[16], row[16];
    type.dtype = updates.type.dtype;
    range(window, ids.type.rank, updates.type.rank);
    snprintf(vector, sizeof vector, "%d", ids.type.rank);
    snprintf(row, sizeof row, "%d", batch);
    const char *both = batch ? "input_batching_dims = [0], scatter_indices_batching_dims = [0], " : "";
    dg_ref zeros = dg_emit_fill(e, type, 0);
    set_rounded(e, dg_emit_put(e, type,
                               "\"stablehlo.scatter\"($0, $1, $2) <{scatter_dimension_numbers = "
                               "#stablehlo.scatter<update_window_dims = [&0], inserted_window_dims = [&1], "
                               "&2scatter_dims_to_operand_dims = [&1], index_vector_dim = &3>, "
                               "indices_are_sorted = false, unique_indices = false}> ({\n"
                               "    ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n"
                               "      %s = stablehlo.add %a, %b : tensor<f32>\n"
                               "      stablehlo.return %s : tensor<f32>\n"
                               "    }) : (@0, @1, @2) -> @y",
                               (dg_ref[]){zeros, ids, updates}, (const char *[]){window, row, both, vector}));
}

/* ---- reductions */

static double lowest(dg_dtype dtype)
{
    return dg_dtype_is_float(dtype) ? -INFINITY : dtype == DG_I32 ? INT32_MIN : 0;
}

static void reduce_sum(dg_emit *e, const char *text)
{
    const dg_attr *axes = attr(e, "axes");
    dg_ref y = dg_emit_reduce(e, text, dg_emit_widen(e, in(e, 0)), 0, axes->v.is, (int)axes->n);
    set_rounded(e, dg_emit_reshape(e, y, type_of(e, 0)));
}

static void reduce_max(dg_emit *e, const char *text)
{
    const dg_attr *axes = attr(e, "axes");
    dg_ref x = dg_emit_widen(e, in(e, 0));
    dg_ref y = dg_emit_reduce(e, text, x, lowest((dg_dtype)x.type.dtype), axes->v.is, (int)axes->n);
    set_rounded(e, dg_emit_reshape(e, y, type_of(e, 0)));
}

/* The smallest index at which x equals its maximum; the last one if x has NaN, to which nothing is equal. */
static void argmax(dg_emit *e, const char *text)
{
    (void)text;
    int64_t axis = attr_int(e, "axis");
    dg_ref x = dg_emit_widen(e, in(e, 0));
    dg_type kept = x.type, index = x.type;
    double last = (double)(x.type.dims[axis] - 1);
    kept.dims[axis] = 1;
    index.dtype = DG_I32;
    dg_ref top = dg_emit_reduce(e, "stablehlo.maximum", x, lowest((dg_dtype)x.type.dtype), &axis, 1);
    top = dg_emit_stretch(e, dg_emit_reshape(e, top, kept), &x.type);
    dg_ref at = dg_emit_select(e, dg_emit_compare(e, "EQ", x, top), dg_emit_iota(e, index, (int)axis),
                               dg_emit_fill(e, index, last));
    set(e, 0, dg_emit_reduce(e, "stablehlo.minimum", at, last, &axis, 1));
}

/* A stable sort of values with their indices, largest first, of which the first k stay. */
static void top_k(dg_emit *e, const char *text)
{
    (void)text;
    dg_ref x = dg_emit_widen(e, in(e, 0));
    int last = x.type.rank - 1;
    dg_type index = x.type;
    index.dtype = DG_I32;
    char axis[16];
    snprintf(axis, sizeof axis, "%d", last);
    dg_ref sorted =
        dg_emit_put_n(e, (dg_type[]){x.type, index}, 2,
                      "\"stablehlo.sort\"($0, $1) <{dimension = &0 : i64, is_stable = true}> ({\n"
                      "    ^bb0(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<i32>, %d: tensor<i32>):\n"
                      "      %p = stablehlo.compare GT, %a, %b, FLOAT : (tensor<f32>, tensor<f32>) -> "
                      "tensor<i1>\n"
                      "      stablehlo.return %p : tensor<i1>\n"
                      "    }) : (@0, @1) -> (@0, @1)",
                      (dg_ref[]){x, dg_emit_iota(e, index, last)}, (const char *[]){axis});
    for (int k = 0; k < 2; k++) {
        dg_ref all = {sorted.id, k, k ? index : x.type};
        dg_type type = all.type;
        char list[DG_MAX_RANK * 48] = "";
        type.dims[last] = type_of(e, 0).dims[last];
        for (int i = 0, at = 0; i <= last; i++)
            at += snprintf(list + at, sizeof list - (size_t)at, "%s0:%lld", i ? ", " : "",
                           (long long)type.dims[i]);
        dg_ref y = dg_emit_put(e, type, "stablehlo.slice $0 [&0] : (@0) -> @y", &all, (const char *[]){list});
        set(e, k, dg_emit_convert(e, y, (dg_dtype)type_of(e, k).dtype));
    }
}

/* ---- products */

static void matmul(dg_emit *e, const char *text)
{
    (void)text;
    dg_ref a = in(e, 0), b = in(e, 1);
    int batch = a.type.rank - 2;
    dg_type type = type_of(e, 0);
    char axes[DG_EMIT_LIST_SIZE], batching[2 * DG_EMIT_LIST_SIZE + 32] = "", contracting[32];
    if (a.type.dtype == DG_F8E4M3) { /* each of them is a bf16 number */
        a = dg_emit_convert(e, a, DG_BF16);
        b = dg_emit_convert(e, b, DG_BF16);
    }
    if (batch > 0) {
        range(axes, 0, batch);
        snprintf(batching, sizeof batching, "batching_dims = [%s] x [%s], ", axes, axes);
    }
    snprintf(contracting, sizeof contracting, "[%d] x [%d]", attr_int(e, "ta") ? batch : batch + 1,
             attr_int(e, "tb") ? batch + 1 : batch);
    const char *precision = a.type.dtype == DG_F32 ? "HIGHEST" : "DEFAULT";
    type.dtype = DG_F32;
    set_rounded(e,
                dg_emit_put(e, type,
                            "stablehlo.dot_general $0, $1, &0contracting_dims = &1, precision = [&2, &2] : "
                            "(@0, @1) -> @y",
                            (dg_ref[]){a, b}, (const char *[]){batching, contracting, precision}));
}

/* ---- over ranks */

/* Does the node have one rank only? It is the identity then, and its result is set. */
static bool is_alone(dg_emit *e)
{
    bool counts = attr(e, "ranks") != NULL;
    if (counts ? attr_int(e, "ranks") > 1 : e->n_replicas > 1) return false;
    set(e, 0, in(e, 0));
    return true;
}

/* One group of all replicas, as an attribute. */
static const char *groups(const dg_emit *e, char out[DG_EMIT_MOST_REPLICAS * 4 + 80])
{
    int at = sprintf(out, "replica_groups = dense<[[0");
    for (uint32_t r = 1; r < e->n_replicas; r++) at += sprintf(out + at, ", %u", r);
    sprintf(out + at, "]]> : tensor<1x%uxi64>", e->n_replicas);
    return out;
}

/* The sum over replicas, in f32. */
static void all_reduce(dg_emit *e, const char *text)
{
    char all[DG_EMIT_MOST_REPLICAS * 4 + 80];
    if (is_alone(e)) return;
    dg_ref x = dg_emit_widen(e, in(e, 0));
    set_rounded(e, dg_emit_put(e, x.type,
                               "\"stablehlo.all_reduce\"($0) <{&0}> ({\n"
                               "    ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n"
                               "      %s = &1 %a, %b : tensor<f32>\n"
                               "      stablehlo.return %s : tensor<f32>\n"
                               "    }) : (@0) -> @y",
                               &x, (const char *[]){groups(e, all), text}));
}

static void reduce_scatter(dg_emit *e, const char *text)
{
    char all[DG_EMIT_MOST_REPLICAS * 4 + 80];
    if (is_alone(e)) return;
    dg_ref x = dg_emit_widen(e, in(e, 0));
    dg_type type = type_of(e, 0);
    type.dtype = x.type.dtype;
    set_rounded(e, dg_emit_put(e, type,
                               "\"stablehlo.reduce_scatter\"($0) <{&0, scatter_dimension = 0 : i64}> ({\n"
                               "    ^bb0(%a: tensor<f32>, %b: tensor<f32>):\n"
                               "      %s = &1 %a, %b : tensor<f32>\n"
                               "      stablehlo.return %s : tensor<f32>\n"
                               "    }) : (@0) -> @y",
                               &x, (const char *[]){groups(e, all), text}));
}

static void all_gather(dg_emit *e, const char *text)
{
    char all[DG_EMIT_MOST_REPLICAS * 4 + 80];
    (void)text;
    if (is_alone(e)) return;
    dg_ref x = in(e, 0);
    set(e, 0,
        dg_emit_put(e, type_of(e, 0),
                    "\"stablehlo.all_gather\"($0) <{all_gather_dim = 0 : i64, &0}> : (@0) -> @y", &x,
                    (const char *[]){groups(e, all)}));
}

/* Row r of x as [ranks, elements], r being the replica's number. */
static void shard(dg_emit *e, const char *text)
{
    (void)text;
    if (is_alone(e)) return;
    const dg_type y = type_of(e, 0), index = {DG_I32, 0, {0}};
    const int64_t sizes[2] = {1, dg_type_count(&y)};
    char list[DG_EMIT_LIST_SIZE];
    dg_type row = {y.dtype, 2, {sizes[0], sizes[1]}}, rows = {y.dtype, 2, {attr_int(e, "ranks"), sizes[1]}};
    dg_ref id = dg_emit_put(e, index, "stablehlo.replica_id : tensor<ui32>", NULL, NULL);
    dg_ref r = dg_emit_put(e, index, "stablehlo.convert $0 : (tensor<ui32>) -> @y", &id, NULL);
    dg_ref zero = dg_emit_scalar(e, DG_I32, 0), x = dg_emit_reshape(e, in(e, 0), rows);
    x = dg_emit_put(e, row, "stablehlo.dynamic_slice $0, $1, $2, sizes = [&0] : (@0, @1, @2) -> @y",
                    (dg_ref[]){x, r, zero}, (const char *[]){dg_emit_list(list, sizes, 2)});
    set(e, 0, dg_emit_reshape(e, x, y));
}

/* ---- the table, sorted by name */

static const dg_emit_op table[] = {
    {"abs", unary, "stablehlo.abs"},
    {"add", binary, "stablehlo.add"},
    {"all_gather", all_gather, NULL},
    {"all_reduce", all_reduce, "stablehlo.add"},
    {"and", binary, "stablehlo.and"},
    {"argmax", argmax, NULL},
    {"broadcast", broadcast, NULL},
    {"concat", concat, NULL},
    {"constant", constant, NULL},
    {"convert", convert, NULL},
    {"cos", unary, "stablehlo.cosine"},
    {"div", binary, "stablehlo.divide"},
    {"eq", compare, "EQ"},
    {"erf", error_function, "chlo.erf"},
    {"exp", unary, "stablehlo.exponential"},
    {"fill", fill, NULL},
    {"floor", unary, "stablehlo.floor"},
    {"gather", gather, NULL},
    {"ge", compare, "GE"},
    {"gt", compare, "GT"},
    {"iota", iota, NULL},
    {"is_finite", is_finite, "stablehlo.is_finite"},
    {"le", compare, "LE"},
    {"log", unary, "stablehlo.log"},
    {"lt", compare, "LT"},
    {"matmul", matmul, NULL},
    {"max", binary, "stablehlo.maximum"},
    {"min", binary, "stablehlo.minimum"},
    {"mul", binary, "stablehlo.multiply"},
    {"ne", compare, "NE"},
    {"neg", unary, "stablehlo.negate"},
    {"not", unary, "stablehlo.not"},
    {"or", binary, "stablehlo.or"},
    {"pad", pad, NULL},
    {"reduce_max", reduce_max, "stablehlo.maximum"},
    {"reduce_scatter", reduce_scatter, "stablehlo.add"},
    {"reduce_sum", reduce_sum, "stablehlo.add"},
    {"reshape", reshape, NULL},
    {"rsqrt", unary, "stablehlo.rsqrt"},
    {"scatter_add", scatter_add, NULL},
    {"select", select_op, NULL},
    {"shard", shard, NULL},
    {"sign", unary, "stablehlo.sign"},
    {"sin", unary, "stablehlo.sine"},
    {"slice", slice, NULL},
    {"sqrt", unary, "stablehlo.sqrt"},
    {"sub", binary, "stablehlo.subtract"},
    {"tanh", unary, "stablehlo.tanh"},
    {"top_k", top_k, NULL},
    {"transpose", transpose, NULL},
};

const dg_emit_op *dg_emit_find(const char *op)
{
    size_t low = 0, high = sizeof table / sizeof table[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(op, table[middle].op);
        if (order == 0) return &table[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
