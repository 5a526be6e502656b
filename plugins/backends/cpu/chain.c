/* chain.c - chains of element-wise ops: how the ops become lanes, how one chain takes in another, and the
 * step that carries out the whole. */
#include "cpu.h"

/* ---- ops as lanes */

enum { NOT = DG_CPU_LANE_OP_COUNT }; /* there is no such lane op */

static const struct {
    const char *op;
    uint8_t on_floats, on_ints;
} lane_ops[] = {
    {"neg", DG_CPU_F_NEG, DG_CPU_I_NEG},
    {"abs", DG_CPU_F_ABS, DG_CPU_I_ABS},
    {"sign", DG_CPU_F_SIGN, DG_CPU_I_SIGN},
    {"floor", DG_CPU_F_FLOOR, NOT},
    {"exp", DG_CPU_F_EXP, NOT},
    {"log", DG_CPU_F_LOG, NOT},
    {"sqrt", DG_CPU_F_SQRT, NOT},
    {"rsqrt", DG_CPU_F_RSQRT, NOT},
    {"tanh", DG_CPU_F_TANH, NOT},
    {"erf", DG_CPU_F_ERF, NOT},
    {"sin", DG_CPU_F_SIN, NOT},
    {"cos", DG_CPU_F_COS, NOT},
    {"not", NOT, DG_CPU_I_NOT},
    {"is_finite", DG_CPU_F_FINITE, NOT},
    {"add", DG_CPU_F_ADD, DG_CPU_I_ADD},
    {"sub", DG_CPU_F_SUB, DG_CPU_I_SUB},
    {"mul", DG_CPU_F_MUL, DG_CPU_I_MUL},
    {"div", DG_CPU_F_DIV, DG_CPU_I_DIV},
    {"max", DG_CPU_F_MAX, DG_CPU_I_MAX},
    {"min", DG_CPU_F_MIN, DG_CPU_I_MIN},
    {"and", NOT, DG_CPU_I_AND},
    {"or", NOT, DG_CPU_I_OR},
    {"eq", DG_CPU_F_EQ, DG_CPU_I_EQ},
    {"ne", DG_CPU_F_NE, DG_CPU_I_NE},
    {"lt", DG_CPU_F_LT, DG_CPU_I_LT},
    {"le", DG_CPU_F_LE, DG_CPU_I_LE},
    {"gt", DG_CPU_F_GT, DG_CPU_I_GT},
    {"ge", DG_CPU_F_GE, DG_CPU_I_GE},
    {"select", DG_CPU_SELECT, DG_CPU_SELECT},
    {"gelu", DG_CPU_F_GELU, NOT},
    {"gelu_grad", DG_CPU_F_GELU_GRAD, NOT},
    {"convert", NOT, NOT}, /* depends on both dtypes */
};

enum { N_LANE_OPS = sizeof lane_ops / sizeof lane_ops[0] };

static int lane_op(const char *op)
{
    for (int i = 0; i < N_LANE_OPS; i++)
        if (strcmp(lane_ops[i].op, op) == 0) return i;
    return -1;
}

bool dg_cpu_is_lane_op(const char *op)
{
    return lane_op(op) >= 0;
}

static bool is_float(int32_t dtype)
{
    return dg_dtype_is_float((dg_dtype)dtype);
}

/* ---- building */

static uint8_t add_step(dg_cpu_chain *chain, uint8_t op, uint8_t a, uint8_t b, uint8_t c)
{
    dg_cpu_expr_step *s = &chain->e.steps[chain->e.n_steps];
    *s = (dg_cpu_expr_step){op, 0, {a, b, c}};
    return (uint8_t)chain->e.n_steps++;
}

static uint8_t add_unary(dg_cpu_chain *chain, uint8_t op, uint8_t x)
{
    return add_step(chain, op, x, x, x);
}

/* Appends the steps and leaves of `part`, of which `to` has at least as many elements; gives the step of its
 * result. */
static uint8_t take_in(dg_cpu_chain *to, const dg_cpu_chain *part)
{
    int32_t first = to->e.n_steps, leaf = to->e.n_leaves;
    for (int32_t i = 0; i < part->e.n_leaves; i++) {
        to->values[leaf + i] = part->values[i];
        to->e.leaves[leaf + i] = part->e.leaves[i];
    }
    to->e.n_leaves += part->e.n_leaves;
    for (int32_t i = 0; i < part->e.n_steps; i++) {
        dg_cpu_expr_step s = part->e.steps[i];
        for (int k = 0; k < 3; k++) s.in[k] = (uint8_t)(s.in[k] + (s.op == DG_CPU_LOAD ? leaf : first));
        to->e.steps[to->e.n_steps++] = s;
    }
    return (uint8_t)(to->e.n_steps - 1);
}

static dg_cpu_chain *new_chain(dg_cpu_plan *c, const dg_type *t)
{
    dg_cpu_chain *chain = dg_cpu_pool_take(&c->plan_pool, sizeof *chain);
    if (!chain) {
        dg_cpu_nomem(c, sizeof *chain, "the plan");
        return NULL;
    }
    chain->e.rank = t->rank;
    memcpy(chain->e.dims, t->dims, sizeof chain->e.dims);
    chain->e.count = dg_type_count(t);
    return chain;
}

/* A leaf of shape `t` that reads v, stretched. */
static uint8_t add_leaf(dg_cpu_plan *c, dg_cpu_chain *chain, int32_t v, const dg_type *t)
{
    const dg_cpu_value *value = &c->values[v];
    const dg_type *from = &c->p->values[v].type;
    dg_cpu_expr_leaf *leaf = &chain->e.leaves[chain->e.n_leaves];
    *leaf = (dg_cpu_expr_leaf){.dtype = from->dtype, .offset = value->view.offset};
    dg_cpu_stretch(from, value->view.stride, t, leaf->stride);
    chain->values[chain->e.n_leaves] = value->view.root;
    dg_cpu_demand(c, v, true);
    uint8_t n = (uint8_t)chain->e.n_leaves++;
    return add_step(chain, DG_CPU_LOAD, n, n, n);
}

static bool is_constant(const dg_cpu_chain *chain)
{
    return chain && chain->e.n_steps == 1 && chain->values[0] < 0;
}

/* May the chain of operand v be taken into a chain of shape t, to which `more` operands are still to come? */
static bool fits(const dg_cpu_plan *c, const dg_cpu_chain *chain, int32_t v, const dg_type *t, int more)
{
    const dg_cpu_chain *part = c->values[v].chain;
    if (!part) return false;
    if (chain->e.n_leaves + part->e.n_leaves + more > DG_CPU_MOST_LEAVES ||
        chain->e.n_steps + part->e.n_steps + 2 * more + 6 > DG_CPU_MOST_STEPS)
        return false;
    if (is_constant(part)) return true;
    return c->values[v].uses == 1 && dg_same_dims(&c->p->values[v].type, t);
}

/* Operand v of a node of shape t: its chain, or a leaf. */
static uint8_t operand(dg_cpu_plan *c, dg_cpu_chain *chain, int32_t v, const dg_type *t, int more)
{
    if (!fits(c, chain, v, t, more)) return add_leaf(c, chain, v, t);
    const dg_cpu_chain *part = c->values[v].chain;
    uint8_t result = take_in(chain, part);
    if (c->p->values[v].type.dtype == DG_BF16 && !part->rounded)
        result = add_unary(chain, DG_CPU_F_ROUND, result);
    return result;
}

/* Lanes of dtype `from` as lanes of `to`, which may still have to be rounded to bf16. */
static uint8_t convert(dg_cpu_chain *chain, uint8_t x, int32_t from, int32_t to)
{
    if (is_float(from)) {
        if (is_float(to)) return x;
        if (to == DG_BOOL) return add_unary(chain, DG_CPU_F_TO_BOOL, x);
        x = add_unary(chain, DG_CPU_F_TO_I, x);
    } else {
        if (is_float(to)) return add_unary(chain, DG_CPU_I_TO_F, x);
        if (to == DG_BOOL) return add_unary(chain, DG_CPU_I_TO_BOOL, x);
    }
    return to == DG_U8 ? add_unary(chain, DG_CPU_I_TO_U8, x) : x;
}

static void lane_node(dg_cpu_plan *c, dg_cpu_chain *chain, const dg_program_node *n, const dg_type *t)
{
    uint8_t x[3] = {0, 0, 0};
    int row = lane_op(n->op);
    for (uint32_t k = 0; k < n->n_in; k++) x[k] = operand(c, chain, n->in[k], t, (int)(n->n_in - k - 1));
    int32_t from = c->p->values[n->in[0]].type.dtype;
    if (strcmp(n->op, "convert") == 0) {
        convert(chain, x[0], from, t->dtype);
        const dg_cpu_expr_step *last = &chain->e.steps[chain->e.n_steps - 1];
        chain->rounded = t->dtype != DG_BF16 || (from == DG_BF16 && last->op == DG_CPU_LOAD);
        return;
    }
    uint8_t op = is_float(from) ? lane_ops[row].on_floats : lane_ops[row].on_ints;
    if (op == DG_CPU_F_GELU && dg_cpu_int(n, "quick")) op = DG_CPU_F_QUICK_GELU;
    if (op == DG_CPU_F_GELU_GRAD && dg_cpu_int(n, "quick")) op = DG_CPU_F_QUICK_GELU_GRAD;
    for (uint32_t k = n->n_in; k < 3; k++) x[k] = x[0];
    uint8_t y = add_step(chain, op, x[0], x[1], x[2]);
    if (t->dtype == DG_U8 && op != DG_CPU_SELECT) add_unary(chain, DG_CPU_I_WRAP_U8, y);
    chain->rounded = t->dtype != DG_BF16 || op == DG_CPU_SELECT;
}

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

static void fill_node(dg_cpu_chain *chain, const dg_program_node *n, const dg_type *t)
{
    chain->e.leaves[0] = (dg_cpu_expr_leaf){.dtype = is_float(t->dtype) ? DG_F32 : DG_I32,
                                            .pad = lane_bits(t->dtype, dg_cpu_real(n, "value"))};
    chain->values[0] = -1;
    chain->e.n_leaves = 1;
    add_step(chain, DG_CPU_LOAD, 0, 0, 0);
    chain->rounded = true;
}

static void pad_node(dg_cpu_plan *c, dg_cpu_chain *chain, const dg_program_node *n, const dg_type *t)
{
    const dg_attr *low = dg_cpu_attr(n, "low");
    const dg_type *from = &c->p->values[n->in[0]].type;
    dg_cpu_expr_leaf *leaf = &chain->e.leaves[0];
    add_leaf(c, chain, n->in[0], from);
    leaf->padded = true;
    leaf->pad = lane_bits(t->dtype, dg_cpu_real(n, "value"));
    for (int a = 0; a < t->rank; a++) {
        leaf->low[a] = low->v.is[a];
        leaf->high[a] = low->v.is[a] + from->dims[a];
        leaf->offset -= low->v.is[a] * leaf->stride[a];
    }
    chain->rounded = true;
}

void dg_cpu_chain_node(dg_cpu_plan *c, uint32_t n)
{
    const dg_program_node *node = &c->p->nodes[n];
    const dg_type *t = &c->p->values[node->out].type;
    dg_cpu_chain *chain = new_chain(c, t);
    if (!chain) return;
    if (strcmp(node->op, "fill") == 0)
        fill_node(chain, node, t);
    else if (strcmp(node->op, "pad") == 0)
        pad_node(c, chain, node, t);
    else
        lane_node(c, chain, node, t);
    c->values[node->out].chain = chain;
}

dg_cpu_chain *dg_cpu_chain_reshaped(dg_cpu_plan *c, const dg_cpu_chain *from, const dg_type *from_type,
                                    const dg_type *to)
{
    dg_cpu_chain *chain = new_chain(c, to);
    if (!chain) return NULL;
    dg_cpu_expr e = chain->e;
    *chain = *from;
    chain->e.rank = e.rank;
    memcpy(chain->e.dims, e.dims, sizeof e.dims);
    chain->e.count = e.count;
    if (is_constant(from)) return chain;
    for (int32_t k = 0; k < from->e.n_leaves; k++) {
        dg_cpu_expr_leaf *leaf = &chain->e.leaves[k];
        memset(leaf->stride, 0, sizeof leaf->stride);
        if (leaf->padded || !dg_cpu_restride(from_type, from->e.leaves[k].stride, to, leaf->stride))
            return NULL;
    }
    return chain;
}

void dg_cpu_chain_load(dg_cpu_plan *c, dg_cpu_chain *chain, int32_t v)
{
    const dg_type *t = &c->p->values[v].type;
    *chain = (dg_cpu_chain){.rounded = true};
    chain->e.rank = t->rank;
    memcpy(chain->e.dims, t->dims, sizeof chain->e.dims);
    chain->e.count = dg_type_count(t);
    add_leaf(c, chain, v, t);
}

/* ---- emission */

/* Joins axes that all leaves and the result walk as one, and drops axes of one element. */
static void collapse(dg_cpu_expr *e)
{
    int n = 0;
    for (int a = 0; a < e->rank; a++) {
        bool join = n > 0;
        for (int k = 0; k < e->n_leaves && join; k++) {
            const dg_cpu_expr_leaf *leaf = &e->leaves[k];
            join = !leaf->padded && leaf->stride[n - 1] == leaf->stride[a] * e->dims[a];
        }
        join &= n > 0 && e->out_stride[n - 1] == e->out_stride[a] * e->dims[a];
        bool padded = false;
        for (int k = 0; k < e->n_leaves; k++) padded |= e->leaves[k].padded;
        if (e->dims[a] == 1 && !padded) continue;
        int to = join ? n - 1 : n++;
        e->dims[to] = (join ? e->dims[to] : 1) * e->dims[a];
        e->out_stride[to] = e->out_stride[a];
        for (int k = 0; k < e->n_leaves; k++) {
            dg_cpu_expr_leaf *leaf = &e->leaves[k];
            leaf->stride[to] = leaf->stride[a];
            leaf->low[to] = leaf->padded ? leaf->low[a] : 0;
            leaf->high[to] = leaf->padded ? leaf->high[a] : e->dims[to];
        }
    }
    if (n > 0 &&
        e->out_stride[n - 1] != 1) { /* an axis of one element was dropped: stores need it, to go by runs */
        e->dims[n] = e->out_stride[n] = 1;
        for (int k = 0; k < e->n_leaves; k++) {
            e->leaves[k].stride[n] = e->leaves[k].low[n] = 0;
            e->leaves[k].high[n] = 1;
        }
        n++;
    }
    e->rank = n;
    dg_type t = {DG_F32, n, {0}};
    memcpy(t.dims, e->dims, sizeof t.dims);
    for (int k = 0; k < e->n_leaves; k++) {
        dg_cpu_view v = {0};
        memcpy(v.stride, e->leaves[k].stride, sizeof v.stride);
        e->leaves[k].dense = !e->leaves[k].padded && dg_cpu_is_dense(&v, &t);
    }
}

/* Gives each step a slot that nobody still reads. There are enough: no more than the leaves and one are
 * alive. */
static void assign_slots(dg_cpu_expr *e)
{
    int last[DG_CPU_MOST_STEPS], owner[DG_CPU_MOST_SLOTS];
    for (int s = 0; s < DG_CPU_MOST_SLOTS; s++) owner[s] = -1;
    for (int i = 0; i < e->n_steps; i++) {
        last[i] = e->n_steps;
        for (int k = 0; k < 3 && e->steps[i].op != DG_CPU_LOAD; k++) last[e->steps[i].in[k]] = i;
    }
    for (int i = 0; i < e->n_steps; i++) {
        dg_cpu_expr_step *s = &e->steps[i];
        for (int k = 0; k < 3 && s->op != DG_CPU_LOAD; k++) s->in[k] = e->steps[s->in[k]].to;
        int free = 0;
        while (owner[free] >= 0 && last[owner[free]] > i) free++;
        s->to = (uint8_t)free;
        owner[free] = i;
    }
}

void dg_cpu_chain_emit(dg_cpu_plan *c, const dg_cpu_chain *chain, dg_dtype dtype, void *out,
                       const int64_t *stride)
{
    const void *base[DG_CPU_MOST_LEAVES] = {0};
    for (int32_t k = 0; k < chain->e.n_leaves; k++)
        if (chain->values[k] >= 0) base[k] = dg_cpu_in_root(c, chain->values[k]);
    dg_cpu_expr *e = dg_cpu_args(c, &chain->e, sizeof chain->e);
    if (!e) return;
    dg_type t = {(int32_t)dtype, e->rank, {0}};
    memcpy(t.dims, e->dims, sizeof t.dims);
    dg_cpu_view dense = dg_cpu_dense_view(0, &t);
    for (int32_t k = 0; k < e->n_leaves; k++)
        e->leaves[k].base = chain->values[k] >= 0 ? base[k] : &e->leaves[k].pad;
    memcpy(e->out_stride, stride ? stride : dense.stride, sizeof e->out_stride);
    e->out = out;
    e->out_dtype = (int32_t)dtype;
    collapse(e);
    t.rank = e->rank;
    memcpy(t.dims, e->dims, sizeof t.dims);
    memcpy(dense.stride, e->out_stride, sizeof dense.stride);
    e->out_dense = dg_cpu_is_dense(&dense, &t);
    assign_slots(e);
    dg_cpu_add_step(c, c->cpu->kernels->expr, e, (e->count + DG_CPU_BLOCK - 1) / DG_CPU_BLOCK, 32,
                    DG_CPU_MOST_SLOTS * DG_CPU_BLOCK * 4);
}
