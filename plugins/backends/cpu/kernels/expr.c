/* expr.c - element-wise expressions, a block of lanes at a time: load, compute in cache, store. */
#include "kernels.h"
#include "scalar.h"

/* ---- lanes. Results may stand where an operand stood. */

typedef void (*lane_function)(void *to, const void *a, const void *b, const void *c, int64_t n);

#define SIMD _Pragma("omp simd")
#define LANES(NAME, TO, FROM, EXPR)                                                                          \
    static void NAME(void *to, const void *a_, const void *b_, const void *c_, int64_t n)                    \
    {                                                                                                        \
        TO *y = to;                                                                                          \
        const FROM *pa = a_, *pb = b_;                                                                       \
        (void)c_, (void)pb;                                                                                  \
        SIMD for (int64_t i = 0; i < n; i++)                                                                 \
        {                                                                                                    \
            EXPR;                                                                                            \
        }                                                                                                    \
    }
#define F1(NAME, EXPR) LANES(lane_F_##NAME, float, float, const float x = pa[i]; y[i] = EXPR)
#define F2(NAME, EXPR)                                                                                       \
    LANES(lane_F_##NAME, float, float, const float a = pa[i]; const float b = pb[i]; y[i] = EXPR)
#define FC(NAME, EXPR)                                                                                       \
    LANES(lane_F_##NAME, int32_t, float, const float a = pa[i]; const float b = pb[i]; y[i] = EXPR)
#define I1(NAME, EXPR) LANES(lane_I_##NAME, int32_t, int32_t, const int32_t x = pa[i]; y[i] = EXPR)
#define I2(NAME, EXPR)                                                                                       \
    LANES(lane_I_##NAME, int32_t, int32_t, const int32_t a = pa[i]; const int32_t b = pb[i]; y[i] = EXPR)

static inline int32_t to_int(float x)
{
    float low = x < -2147483648.0f ? -2147483648.0f : x;
    int32_t y = (int32_t)(low >= 2147483648.0f || x != x ? 0.0f : low);
    return x >= 2147483648.0f ? INT32_MAX : y;
}

static inline int32_t wrap(uint32_t x)
{
    return (int32_t)x;
}

F1(NEG, -x)
F1(ABS, fabsf(x))
F1(SIGN, x > 0 ? 1.0f : x < 0 ? -1.0f : x)
F1(FLOOR, floorf(x))
F1(EXP, dg_cpu_exp(x))
F1(LOG, logf(x))
F1(SQRT, sqrtf(x))
F1(RSQRT, 1.0f / sqrtf(x))
F1(TANH, dg_cpu_tanh(x))
F1(ERF, dg_cpu_erf(x))
F1(SIN, sinf(x))
F1(COS, cosf(x))
F1(GELU, dg_cpu_gelu(x))
F1(QUICK_GELU, dg_cpu_quick_gelu(x))
F1(ROUND, dg_cpu_round_bf16(x))
LANES(lane_F_FINITE, int32_t, float, y[i] = (dg_cpu_bits(pa[i]) & 0x7f800000u) != 0x7f800000u)
LANES(lane_F_TO_I, int32_t, float, y[i] = to_int(pa[i]))
LANES(lane_F_TO_BOOL, int32_t, float, y[i] = pa[i] != 0)
F2(ADD, a + b)
F2(SUB, a - b)
F2(MUL, a *b)
F2(DIV, a / b)
F2(MAX, a > b || a != a ? a : b)
F2(MIN, a < b || a != a ? a : b)
FC(EQ, a == b)
FC(NE, a != b)
FC(LT, a < b)
FC(LE, a <= b)
FC(GT, a > b)
FC(GE, a >= b)
F2(GELU_GRAD, a *dg_cpu_gelu_slope(b))
F2(QUICK_GELU_GRAD, a *dg_cpu_quick_gelu_slope(b))
I1(NEG, wrap(0u - (uint32_t)x))
I1(ABS, x < 0 ? wrap(0u - (uint32_t)x) : x)
I1(SIGN, (x > 0) - (x < 0))
I1(NOT, x == 0)
LANES(lane_I_TO_F, float, int32_t, y[i] = (float)pa[i])
I1(TO_BOOL, x != 0)
I1(TO_U8, x<0 ? 0 : x> 255 ? 255 : x)
I1(WRAP_U8, x & 255)
I2(ADD, wrap((uint32_t)a + (uint32_t)b))
I2(SUB, wrap((uint32_t)a - (uint32_t)b))
I2(MUL, wrap((uint32_t)a *(uint32_t)b))
I2(MAX, a > b ? a : b)
I2(MIN, a < b ? a : b)
I2(AND, a &&b)
I2(OR, a || b)
I2(EQ, a == b)
I2(NE, a != b)
I2(LT, a < b)
I2(LE, a <= b)
I2(GT, a > b)
I2(GE, a >= b)

/* By zero: -1, as everywhere in this project. Not SIMD: there are no vector divisions of integers. */
static void lane_I_DIV(void *to, const void *a_, const void *b_, const void *c, int64_t n)
{
    int32_t *y = to;
    const int32_t *a = a_, *b = b_;
    (void)c;
    for (int64_t i = 0; i < n; i++)
        y[i] = b[i] == 0 ? -1 : b[i] == -1 ? wrap(0u - (uint32_t)a[i]) : a[i] / b[i];
}

/* Bits are moved, so one function serves floats and integers. */
static void lane_SELECT(void *to, const void *condition, const void *a, const void *b, int64_t n)
{
    int32_t *y = to;
    const int32_t *c = condition, *p = a, *q = b;
    SIMD for (int64_t i = 0; i < n; i++) y[i] = c[i] ? p[i] : q[i];
}

#define LANE_ENTRY(NAME, N) lane_##NAME,
static const lane_function lanes[] = {DG_CPU_LANE_OPS(LANE_ENTRY)};

/* ---- elements from memory to lanes and back */

static void load_f32(void *to, const char *from, int64_t stride, int64_t n)
{
    const uint32_t *x = (const uint32_t *)from;
    uint32_t *y = to;
    if (stride == 1)
        memcpy(y, x, (size_t)n * sizeof *y);
    else
        for (int64_t i = 0; i < n; i++) y[i] = x[i * stride];
}

static void load_bf16(void *to, const char *from, int64_t stride, int64_t n)
{
    const uint16_t *x = (const uint16_t *)from;
    uint32_t *y = to;
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) y[i] = (uint32_t)x[i] << 16;
    else
        for (int64_t i = 0; i < n; i++) y[i] = (uint32_t)x[i * stride] << 16;
}

static void load_byte(void *to, const char *from, int64_t stride, int64_t n)
{
    const uint8_t *x = (const uint8_t *)from;
    int32_t *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = x[i * stride];
}

/* n elements, `stride` apart; 0: the one element n times. */
static void load_run(void *to, const dg_cpu_expr_leaf *leaf, int64_t at, int64_t stride, int64_t n)
{
    const char *from =
        (const char *)leaf->base + (leaf->offset + at) * (int64_t)dg_dtype_size((dg_dtype)leaf->dtype);
    uint32_t *y = to, first;
    int64_t some = stride ? n : 1;
    void *out = stride ? to : &first;
    if (leaf->dtype == DG_F32 || leaf->dtype == DG_I32)
        load_f32(out, from, stride, some);
    else if (leaf->dtype == DG_BF16)
        load_bf16(out, from, stride, some);
    else
        load_byte(out, from, stride, some);
    for (int64_t i = 0; i < n && !stride; i++) y[i] = first;
}

static void fill_pad(void *to, const dg_cpu_expr_leaf *leaf, int64_t n)
{
    uint32_t *y = to;
    for (int64_t i = 0; i < n; i++) y[i] = leaf->pad;
}

/* Coordinates of a flat index, walked run by run along the last axis. */
typedef struct walk {
    int64_t at[DG_MAX_RANK];
} walk;

static walk walk_from(const dg_cpu_expr *e, int64_t index)
{
    walk w;
    for (int a = e->rank - 1; a >= 0; a--) {
        w.at[a] = index % e->dims[a];
        index /= e->dims[a];
    }
    return w;
}

static void walk_row(const dg_cpu_expr *e, walk *w)
{
    w->at[e->rank - 1] = 0;
    for (int a = e->rank - 2; a >= 0; a--) {
        if (++w->at[a] < e->dims[a]) return;
        w->at[a] = 0;
    }
}

/* The run [from, from + n) of the row that w is in. */
static void load_row(char *to, const dg_cpu_expr_leaf *leaf, int last, const walk *w, int64_t n)
{
    int64_t at = 0, from = w->at[last], low = from, high = from + n;
    bool inside = true;
    for (int a = 0; a < last; a++) at += w->at[a] * leaf->stride[a];
    if (leaf->padded) {
        for (int a = 0; a < last; a++) inside &= w->at[a] >= leaf->low[a] && w->at[a] < leaf->high[a];
        low = leaf->low[last] > low ? leaf->low[last] : low;
        high = leaf->high[last] < high ? leaf->high[last] : high;
        if (!inside || low >= high) {
            fill_pad(to, leaf, n);
            return;
        }
        fill_pad(to, leaf, low - from);
        fill_pad(to + (high - from) * 4, leaf, from + n - high);
    }
    load_run(to + (low - from) * 4, leaf, at + low * leaf->stride[last], leaf->stride[last], high - low);
}

/* Lanes of elements [index, index + n): in `room`, or in the leaf's own memory where that has their form. */
static void *load(const dg_cpu_expr *e, const dg_cpu_expr_leaf *leaf, int64_t index, int64_t n, char *room)
{
    if (leaf->dense) {
        if (leaf->dtype == DG_F32 || leaf->dtype == DG_I32)
            return (void *)((uintptr_t)leaf->base + (uintptr_t)((leaf->offset + index) * 4));
        load_run(room, leaf, index, 1, n);
        return room;
    }
    if (e->rank == 0) {
        load_run(room, leaf, 0, 0, n);
        return room;
    }
    walk w = walk_from(e, index);
    int last = e->rank - 1;
    for (int64_t done = 0; done < n; walk_row(e, &w)) {
        int64_t run = e->dims[last] - w.at[last];
        if (run > n - done) run = n - done;
        load_row(room + done * 4, leaf, last, &w, run);
        done += run;
    }
    return room;
}

static void store_run(char *to, int32_t dtype, const void *from, int64_t n)
{
    const float *x = from;
    const int32_t *k = from;
    uint16_t *half = (uint16_t *)to;
    if (dtype == DG_F32 || dtype == DG_I32)
        memcpy(to, from, (size_t)n * 4);
    else if (dtype == DG_BF16)
        for (int64_t i = 0; i < n; i++) half[i] = dg_cpu_narrow(x[i]);
    else
        for (int64_t i = 0; i < n; i++) to[i] = (char)k[i];
}

static void store(const dg_cpu_expr *e, const char *from, int64_t index, int64_t n)
{
    int64_t size = (int64_t)dg_dtype_size((dg_dtype)e->out_dtype);
    if (e->out_dense) {
        store_run((char *)e->out + index * size, e->out_dtype, from, n);
        return;
    }
    walk w = walk_from(e, index);
    int last = e->rank - 1;
    for (int64_t done = 0; done < n; walk_row(e, &w)) {
        int64_t run = e->dims[last] - w.at[last], at = 0;
        if (run > n - done) run = n - done;
        for (int a = 0; a <= last; a++) at += w.at[a] * e->out_stride[a];
        store_run((char *)e->out + at * size, e->out_dtype, from + done * 4, run);
        done += run;
    }
}

/* ---- the kernel */

static void block(const dg_cpu_expr *e, char *scratch, int64_t index, int64_t n)
{
    void *slot[DG_CPU_MOST_SLOTS] = {0};
    bool direct = e->out_dense && (e->out_dtype == DG_F32 || e->out_dtype == DG_I32);
    int result = 0;
    for (int k = 0; k < e->n_steps; k++) {
        const dg_cpu_expr_step *s = &e->steps[k];
        char *room = scratch + s->to * (int64_t)(DG_CPU_BLOCK * 4);
        result = s->to;
        if (s->op == DG_CPU_LOAD) {
            slot[s->to] = load(e, &e->leaves[s->in[0]], index, n, room);
            continue;
        }
        void *to = direct && k == e->n_steps - 1 ? (char *)e->out + index * 4 : room;
        lanes[s->op](to, slot[s->in[0]], slot[s->in[1]], slot[s->in[2]], n);
        slot[s->to] = to;
    }
    if (!direct || e->steps[e->n_steps - 1].op == DG_CPU_LOAD) store(e, slot[result], index, n);
}

DG_CPU_DECLARE(expr)
void DG_CPU(expr)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_expr *e = args;
    for (int64_t b = begin; b < end; b++) {
        int64_t index = b * DG_CPU_BLOCK, left = e->count - index;
        block(e, scratch, index, left < DG_CPU_BLOCK ? left : DG_CPU_BLOCK);
    }
}
