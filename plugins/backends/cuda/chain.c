/* chain.c - chains of element-wise ops: how the ops become lanes, how one chain takes in another, and the
 * step that carries out the whole. */
#include "cuda.h"

/* ---- ops as lanes */

enum { NOT = DG_CUDA_NO_OP }; /* there is no such lane op */

static const struct {
    const char *op;
    uint8_t on_floats, on_ints;
} lane_ops[] = {
    {"neg", DG_CUDA_F_NEG, DG_CUDA_I_NEG},
    {"abs", DG_CUDA_F_ABS, DG_CUDA_I_ABS},
    {"sign", DG_CUDA_F_SIGN, DG_CUDA_I_SIGN},
    {"floor", DG_CUDA_F_FLOOR, NOT},
    {"exp", DG_CUDA_F_EXP, NOT},
    {"log", DG_CUDA_F_LOG, NOT},
    {"sqrt", DG_CUDA_F_SQRT, NOT},
    {"rsqrt", DG_CUDA_F_RSQRT, NOT},
    {"tanh", DG_CUDA_F_TANH, NOT},
    {"erf", DG_CUDA_F_ERF, NOT},
    {"sin", DG_CUDA_F_SIN, NOT},
    {"cos", DG_CUDA_F_COS, NOT},
    {"not", NOT, DG_CUDA_I_NOT},
    {"is_finite", DG_CUDA_F_IS_FINITE, NOT},
    {"add", DG_CUDA_F_ADD, DG_CUDA_I_ADD},
    {"sub", DG_CUDA_F_SUB, DG_CUDA_I_SUB},
    {"mul", DG_CUDA_F_MUL, DG_CUDA_I_MUL},
    {"div", DG_CUDA_F_DIV, DG_CUDA_I_DIV},
    {"max", DG_CUDA_F_MAX, DG_CUDA_I_MAX},
    {"min", DG_CUDA_F_MIN, DG_CUDA_I_MIN},
    {"and", NOT, DG_CUDA_I_AND},
    {"or", NOT, DG_CUDA_I_OR},
    {"eq", DG_CUDA_F_EQ, DG_CUDA_I_EQ},
    {"ne", DG_CUDA_F_NE, DG_CUDA_I_NE},
    {"lt", DG_CUDA_F_LT, DG_CUDA_I_LT},
    {"le", DG_CUDA_F_LE, DG_CUDA_I_LE},
    {"gt", DG_CUDA_F_GT, DG_CUDA_I_GT},
    {"ge", DG_CUDA_F_GE, DG_CUDA_I_GE},
    {"select", DG_CUDA_SELECT, DG_CUDA_SELECT},
    {"gelu", DG_CUDA_F_GELU, NOT},
    {"gelu_grad", DG_CUDA_F_GELU_GRAD, NOT},
    {"convert", NOT, NOT}, /* depends on both dtypes */
};

enum { N_LANE_OPS = sizeof lane_ops / sizeof lane_ops[0] };

static int lane_op(const char *op)
{
    for (int i = 0; i < N_LANE_OPS; i++)
        if (strcmp(lane_ops[i].op, op) == 0) return i;
    return -1;
}

bool dg_cuda_is_lane_op(const char *op)
{
    return lane_op(op) >= 0;
}

static bool is_float(int32_t dtype)
{
    return dg_dtype_is_float((dg_dtype)dtype);
}

/* Rounds an f32 lane to what a narrower float can hold; NOT for f32. */
static uint8_t rounding(int32_t dtype)
{
    return dtype == DG_BF16     ? DG_CUDA_F_ROUND_BF16
           : dtype == DG_F16    ? DG_CUDA_F_ROUND_F16
           : dtype == DG_F8E4M3 ? DG_CUDA_F_ROUND_F8
                                : NOT;
}

/* ---- building. A register is named by its index among the leaves, or by LEAVES plus its index among the
 * steps, until the chain is emitted. */

enum { LEAVES = DG_CUDA_LEAVES };

static void set_shape(dg_cuda_chain *chain, const dg_type *t)
{
    chain->e.rank = t->rank;
    memcpy(chain->e.dims, t->dims, sizeof chain->e.dims);
    chain->e.count = dg_type_count(t);
}

static uint8_t add_step(dg_cuda_chain *chain, uint8_t op, uint8_t a, uint8_t b, uint8_t c)
{
    chain->e.steps[chain->e.n_steps] = (dg_cuda_step_op){op, {a, b, c}};
    return (uint8_t)(LEAVES + chain->e.n_steps++);
}

static uint8_t add_unary(dg_cuda_chain *chain, uint8_t op, uint8_t x)
{
    return add_step(chain, op, x, x, x);
}

static uint8_t result_of(const dg_cuda_chain *chain)
{
    return (uint8_t)(chain->e.n_steps ? LEAVES + chain->e.n_steps - 1 : chain->e.n_leaves - 1);
}

/* Appends the leaves and steps of `part`; gives the register of its result. */
static uint8_t take_in(dg_cuda_chain *to, const dg_cuda_chain *part)
{
    int32_t first = to->e.n_steps, leaf = to->e.n_leaves;
    for (int32_t i = 0; i < part->e.n_leaves; i++) {
        to->e.leaves[leaf + i] = part->e.leaves[i];
        to->roots[leaf + i] = part->roots[i];
        to->offsets[leaf + i] = part->offsets[i];
    }
    to->e.n_leaves += part->e.n_leaves;
    for (int32_t i = 0; i < part->e.n_steps; i++) {
        dg_cuda_step_op s = part->e.steps[i];
        for (int k = 0; k < 3; k++) s.in[k] = (uint8_t)(s.in[k] + (s.in[k] < LEAVES ? leaf : first));
        to->e.steps[to->e.n_steps++] = s;
    }
    uint8_t result = result_of(part);
    return (uint8_t)(result + (result < LEAVES ? leaf : first));
}

/* A leaf of shape `t` that reads v, stretched. */
static uint8_t add_leaf(dg_cuda_plan *c, dg_cuda_chain *chain, int32_t v, const dg_type *t)
{
    const dg_cuda_value *value = &c->values[v];
    const dg_type *from = dg_cuda_type(c, v);
    int32_t n = chain->e.n_leaves++;
    dg_cuda_leaf *leaf = &chain->e.leaves[n];
    *leaf = (dg_cuda_leaf){.dtype = from->dtype};
    dg_cuda_stretch(from, value->view.stride, t, leaf->stride);
    chain->roots[n] = value->view.root;
    chain->offsets[n] = value->view.offset;
    dg_cuda_demand(c, v, true);
    return (uint8_t)n;
}

bool dg_cuda_chain_is_constant(const dg_cuda_chain *chain)
{
    return chain && chain->e.n_steps == 0 && chain->e.n_leaves == 1 && chain->roots[0] < 0;
}

/* May the chain of operand v be taken into a chain of shape t, to which `more` operands are still to come?
 * What a node needs for itself is at most five steps. */
static bool fits(const dg_cuda_plan *c, const dg_cuda_chain *chain, int32_t v, const dg_type *t, int more)
{
    const dg_cuda_chain *part = c->values[v].chain;
    if (!part || chain->e.n_leaves + part->e.n_leaves + more > DG_CUDA_LEAVES ||
        chain->e.n_steps + part->e.n_steps + more + 5 > DG_CUDA_STEPS)
        return false;
    return dg_cuda_chain_is_constant(part) || (c->values[v].uses == 1 && dg_same_dims(dg_cuda_type(c, v), t));
}

/* Operand v of a node of shape t: its chain, rounded as its memory would have been, or a leaf. */
static uint8_t operand(dg_cuda_plan *c, dg_cuda_chain *chain, int32_t v, const dg_type *t, int more)
{
    if (!fits(c, chain, v, t, more)) return add_leaf(c, chain, v, t);
    uint8_t result = take_in(chain, c->values[v].chain), round = rounding(dg_cuda_type(c, v)->dtype);
    return round == NOT || dg_cuda_chain_is_constant(c->values[v].chain) ? result
                                                                         : add_unary(chain, round, result);
}

/* Lanes of dtype `from` as lanes of `to`; rounding to a narrow float is left to who stores or reads them. */
static void convert(dg_cuda_chain *chain, uint8_t x, int32_t from, int32_t to)
{
    if (is_float(from) && is_float(to)) return;
    if (is_float(from))
        add_unary(chain,
                  to == DG_BOOL ? DG_CUDA_F_TO_BOOL
                  : to == DG_U8 ? DG_CUDA_F_TO_U8
                                : DG_CUDA_F_TO_I32,
                  x);
    else if (is_float(to))
        add_unary(chain, DG_CUDA_I_TO_F, x);
    else if (to == DG_BOOL)
        add_unary(chain, DG_CUDA_I_TO_BOOL, x);
    else if (to == DG_U8)
        add_unary(chain, DG_CUDA_I_CLAMP_U8, x);
}

static void lane_node(dg_cuda_plan *c, dg_cuda_chain *chain, const dg_program_node *n, const dg_type *t)
{
    uint8_t x[3] = {0, 0, 0};
    int row = lane_op(n->op);
    for (uint32_t k = 0; k < n->n_in; k++) x[k] = operand(c, chain, n->in[k], t, (int)(n->n_in - k - 1));
    int32_t from = dg_cuda_type(c, n->in[0])->dtype;
    if (strcmp(n->op, "convert") == 0) {
        convert(chain, x[0], from, t->dtype);
        return;
    }
    uint8_t op = is_float(from) ? lane_ops[row].on_floats : lane_ops[row].on_ints;
    if (op == DG_CUDA_F_GELU && dg_cuda_int(n, "quick")) op = DG_CUDA_F_GELU_QUICK;
    if (op == DG_CUDA_F_GELU_GRAD && dg_cuda_int(n, "quick")) op = DG_CUDA_F_GELU_QUICK_GRAD;
    for (uint32_t k = n->n_in; k < 3; k++) x[k] = x[0];
    uint8_t y = add_step(chain, op, x[0], x[1], x[2]);
    if (op == DG_CUDA_SELECT) return;
    if (t->dtype == DG_U8) add_unary(chain, DG_CUDA_I_WRAP_U8, y);
    if (t->dtype == DG_BOOL && from == DG_BOOL) add_unary(chain, DG_CUDA_I_TO_BOOL, y);
}

/* ---- chains of one leaf */

static uint32_t lane_bits(int32_t dtype, double value)
{
    float f = (float)value;
    if (dtype == DG_BF16) f = dg_bf16_to_f32(dg_f32_to_bf16(f));
    int32_t low = dtype == DG_I32 ? INT32_MIN : 0, high = dtype == DG_I32  ? INT32_MAX
                                                          : dtype == DG_U8 ? 255
                                                                           : 1;
    int32_t k = value != value ? 0 : value <= low ? low : value >= high ? high : (int32_t)value;
    if (dtype == DG_BOOL) k = value != 0;
    uint32_t bits;
    memcpy(&bits, is_float(dtype) ? (void *)&f : (void *)&k, sizeof bits);
    return bits;
}

void dg_cuda_chain_fill(dg_cuda_chain *chain, const dg_type *t, double value)
{
    *chain = (dg_cuda_chain){0};
    set_shape(chain, t);
    chain->e.leaves[0] =
        (dg_cuda_leaf){.dtype = is_float(t->dtype) ? DG_F32 : DG_I32, .bits = lane_bits(t->dtype, value)};
    chain->roots[0] = -1;
    chain->e.n_leaves = 1;
}

void dg_cuda_chain_load(dg_cuda_plan *c, dg_cuda_chain *chain, int32_t v)
{
    const dg_type *t = dg_cuda_type(c, v);
    *chain = (dg_cuda_chain){0};
    set_shape(chain, t);
    add_leaf(c, chain, v, t);
}

/* A leaf that is the input in the middle of `value`. */
static void pad_node(dg_cuda_plan *c, dg_cuda_chain *chain, const dg_program_node *n, const dg_type *t)
{
    const dg_attr *low = dg_cuda_attr(n, "low");
    const dg_type *from = dg_cuda_type(c, n->in[0]);
    dg_cuda_leaf *leaf = &chain->e.leaves[0];
    add_leaf(c, chain, n->in[0], from);
    leaf->padded = 1;
    leaf->bits = lane_bits(t->dtype, dg_cuda_real(n, "value"));
    for (int a = 0; a < t->rank; a++) {
        leaf->low[a] = low->v.is[a];
        leaf->high[a] = low->v.is[a] + from->dims[a];
    }
}

/* ---- chains of nodes */

static dg_cuda_chain *new_chain(dg_cuda_plan *c, const dg_type *t)
{
    dg_cuda_chain *chain = dg_cuda_take(&c->plan_pool, sizeof *chain);
    if (chain)
        set_shape(chain, t);
    else
        dg_cuda_nomem(c, sizeof *chain, "the plan");
    return chain;
}

void dg_cuda_chain_node(dg_cuda_plan *c, uint32_t n)
{
    const dg_program_node *node = &c->p->nodes[n];
    const dg_type *t = dg_cuda_type(c, node->out);
    dg_cuda_chain *chain = new_chain(c, t);
    if (!chain) return;
    if (strcmp(node->op, "fill") == 0)
        dg_cuda_chain_fill(chain, t, dg_cuda_real(node, "value"));
    else if (strcmp(node->op, "pad") == 0)
        pad_node(c, chain, node, t);
    else
        lane_node(c, chain, node, t);
    c->values[node->out].chain = chain;
}

dg_cuda_chain *dg_cuda_chain_reshaped(dg_cuda_plan *c, const dg_cuda_chain *from, const dg_type *from_type,
                                      const dg_type *to)
{
    dg_cuda_chain *chain = new_chain(c, to);
    if (!chain) return NULL;
    *chain = *from;
    set_shape(chain, to);
    for (int32_t k = 0; k < from->e.n_leaves; k++) {
        dg_cuda_leaf *leaf = &chain->e.leaves[k];
        memset(leaf->stride, 0, sizeof leaf->stride);
        if (leaf->padded) return NULL;
        if (from->roots[k] >= 0 && !dg_cuda_restride(from_type, from->e.leaves[k].stride, to, leaf->stride))
            return NULL;
    }
    return chain;
}

/* ---- emission */

/* Does the leaf have all of axis a? */
static bool is_whole(const dg_cuda_leaf *leaf, int a, int64_t dim)
{
    return !leaf->padded || (leaf->low[a] == 0 && leaf->high[a] == dim);
}

/* Joins axes that all leaves and the result walk as one, and drops axes of one element. */
static void collapse(dg_cuda_expr *e)
{
    int n = 0;
    for (int a = 0; a < e->rank; a++) {
        if (e->dims[a] == 1) continue;
        bool join = n > 0 && e->out_stride[n - 1] == e->out_stride[a] * e->dims[a];
        for (int k = 0; k < e->n_leaves && join; k++)
            join = e->leaves[k].stride[n - 1] == e->leaves[k].stride[a] * e->dims[a] &&
                   is_whole(&e->leaves[k], a, e->dims[a]);
        int to = join ? n - 1 : n++;
        e->out_stride[to] = e->out_stride[a];
        for (int k = 0; k < e->n_leaves; k++) {
            dg_cuda_leaf *leaf = &e->leaves[k];
            leaf->stride[to] = leaf->stride[a];
            leaf->low[to] = join ? leaf->low[to] * e->dims[a] : leaf->low[a];
            leaf->high[to] = join ? leaf->high[to] * e->dims[a] : leaf->high[a];
        }
        e->dims[to] = (join ? e->dims[to] : 1) * e->dims[a];
    }
    e->rank = n;
}

/* Four elements at a time: one axis, on which the result is dense and every leaf dense or constant. */
static bool is_flat(const dg_cuda_expr *e)
{
    if (e->rank > 1 || (e->rank == 1 && e->out_stride[0] != 1)) return false;
    if (!dg_cuda_aligned(e->out, 4 * dg_dtype_size((dg_dtype)e->out_dtype))) return false;
    for (int k = 0; k < e->n_leaves; k++) {
        const dg_cuda_leaf *leaf = &e->leaves[k];
        bool scalar = !leaf->at || e->rank == 0 || leaf->stride[0] == 0;
        if (leaf->padded) return false;
        if (!scalar && leaf->stride[0] != 1) return false;
        if (!scalar && !dg_cuda_aligned(leaf->at, 4 * dg_dtype_size((dg_dtype)leaf->dtype))) return false;
    }
    return e->rank == 1;
}

void dg_cuda_chain_emit(dg_cuda_plan *c, const dg_cuda_chain *chain, int32_t dtype, void *out,
                        const int64_t *stride)
{
    dg_cuda_expr e = chain->e;
    for (int32_t k = 0; k < e.n_leaves; k++) {
        const char *root = chain->roots[k] >= 0 ? dg_cuda_in_root(c, chain->roots[k]) : NULL;
        int64_t offset = chain->offsets[k];
        for (int a = 0; a < e.rank && e.leaves[k].padded; a++)
            offset -= e.leaves[k].low[a] * e.leaves[k].stride[a];
        if (root) e.leaves[k].at = root + offset * (int64_t)dg_dtype_size((dg_dtype)e.leaves[k].dtype);
    }
    if (c->dry) return;
    dg_type t = {dtype, e.rank, {0}};
    memcpy(t.dims, e.dims, sizeof t.dims);
    dg_cuda_view dense = dg_cuda_dense_view(0, &t);
    memcpy(e.out_stride, stride ? stride : dense.stride, sizeof e.out_stride);
    e.out = out;
    e.out_dtype = dtype;
    for (int32_t i = 0; i < e.n_steps; i++)
        for (int k = 0; k < 3; k++)
            if (e.steps[i].in[k] >= LEAVES)
                e.steps[i].in[k] = (uint8_t)(e.steps[i].in[k] - LEAVES + e.n_leaves);
    collapse(&e);
    e.flat = is_flat(&e);
    DG_CUDA_STEP(c, dg_cuda_launch_expr, e);
}
