/* attention.c - attention and its adjoint, a head of a sample at a time: scores never leave the cache.
 *
 * The adjoint recomputes the probabilities from the saved logsumexp (Dao et al., "FlashAttention", NeurIPS
 * 2022): p = exp(s - lse), dv = p' dy, dp = dy v', ds = p (dp - rowsum(dy y)), dq = scale ds k, dk = scale
 * ds' q. Queries go in blocks; of the keys, a block reads as many as any of its queries sees. */
#include "gemm.h"

enum { MOST_QUERIES = 48, LEAST_QUERIES = 6 };

static int64_t round16(int64_t n)
{
    return (n + 15) / 16 * 16;
}

/* Queries in a block: as many as keep the block's scores within some 128 KiB. */
static int64_t block_of(const dg_cpu_attention *a)
{
    int64_t fit = 32768 / round16(a->nk) / LEAST_QUERIES * LEAST_QUERIES;
    return fit < LEAST_QUERIES ? LEAST_QUERIES : fit > MOST_QUERIES ? MOST_QUERIES : fit;
}

/* ---- scratch; units as in gemm.h. u: units in a head's width or in the keys; p: a width rounded up to 16 */

typedef struct room {
    int64_t qb, du, dp, ku, kp, kw; /* kw: a row of pa: kp / 2 */
    uint32_t *kt, *vt;              // [du, kp] keys, values as columns
    uint32_t *kr, *vr;              // [ku, dp] keys, values as rows
    uint32_t *qa, *da;              // [qb, du] queries, dy as left operands
    uint32_t *qr, *dr;              // [qb/2 or qb, dp] queries, dy as right operands
    uint32_t *pa;                   // [qb, kw] probabilities (dscores) as a left operand
    uint32_t *pt, *st;              // [qb/2 or qb, kp] probabilities, dscores as transposed left operands
    float *s, *ds;                  // [qb, kp]
    float *y, *delta;               // [qb, dp], [qb]
    float *dk, *dv;                 // [nk, dp]
    uint32_t *rows;                 // [16, du]
    float *line;                    // [2, dp]
    int64_t bytes;
} room;

static void *take(room *r, char *base, int64_t count)
{
    void *at = base ? base + r->bytes : NULL;
    r->bytes += (count * 4 + 63) / 64 * 64;
    return at;
}

static room lay_out(const dg_cpu_attention *a, char *base, bool pairs, bool gradient)
{
    room r = {.qb = block_of(a), .dp = round16(a->d), .kp = round16(a->nk), .kw = round16(a->nk) / 2};
    r.du = pairs ? (a->d + 1) / 2 : a->d;
    r.ku = pairs ? (a->nk + 1) / 2 : a->nk;
    r.kt = take(&r, base, r.du * r.kp);
    r.qa = take(&r, base, r.qb * r.du);
    r.pa = take(&r, base, r.qb * r.kw);
    r.s = take(&r, base, r.qb * r.kp);
    r.y = take(&r, base, r.qb * r.dp);
    r.rows = take(&r, base, 16 * r.du);
    if (!gradient) {
        r.vr = take(&r, base, r.ku * r.dp);
        return r;
    }
    r.vt = take(&r, base, r.du * r.kp);
    r.kr = take(&r, base, r.ku * r.dp);
    r.da = take(&r, base, r.qb * r.du);
    r.qr = take(&r, base, r.qb * r.dp);
    r.dr = take(&r, base, r.qb * r.dp);
    r.ds = take(&r, base, r.qb * r.kp);
    r.pt = take(&r, base, r.qb * r.kp);
    r.st = take(&r, base, r.qb * r.kp);
    r.delta = take(&r, base, r.qb);
    r.line = take(&r, base, 2 * r.dp);
    r.dk = take(&r, base, a->nk * r.dp);
    r.dv = take(&r, base, a->nk * r.dp);
    return r;
}

int64_t DG_CPU(attention_scratch)(const dg_cpu_attention *a, bool gradient);
int64_t DG_CPU(attention_scratch)(const dg_cpu_attention *a, bool gradient)
{
    return lay_out(a, NULL, DG_CPU_PAIRS && a->dtype == DG_BF16, gradient).bytes;
}

/* ---- operands: rows [n, d] of one head, f32 or bf16, into units */

typedef struct rows {
    const char *at;
    int64_t stride, n, d; /* stride in elements */
    int32_t dtype;
} rows;

static rows rows_of(const dg_cpu_attention *a, const dg_cpu_heads *x, int64_t b, int64_t h, int64_t first,
                    int64_t n)
{
    int64_t size = a->dtype == DG_F32 ? 4 : 2;
    const char *at = (const char *)x->base + (b * x->batch_stride + first * x->row_stride + h * a->d) * size;
    return (rows){at, x->row_stride, n, a->d, a->dtype};
}

static const void *row(const rows *x, int64_t i)
{
    return x->at + i * x->stride * (x->dtype == DG_F32 ? 4 : 2);
}

/* [n, units] */
static void pack_units(uint32_t *to, const rows *x, int64_t units, bool pairs)
{
    for (int64_t i = 0; i < x->n; i++, to += units) {
        if (pairs) {
            if (x->d % 2) to[units - 1] = 0;
            memcpy(to, row(x, i), (size_t)x->d * 2);
        } else {
            const float *f = dg_cpu_floats(row(x, i), x->dtype, 0, x->d, (float *)to);
            if ((const void *)f != (const void *)to) memcpy(to, f, (size_t)x->d * 4);
        }
    }
}

/* A left operand: the rows where they are, when units can be read from them, or packed into `room`. */
typedef struct left {
    const dg_cpu_unit *at;
    int64_t row;
} left;

static left left_of(const rows *x, uint32_t *room, int64_t units, bool pairs)
{
    if (x->dtype == DG_F32) return (left){(const dg_cpu_unit *)(const void *)x->at, x->stride};
    if (pairs && x->d % 2 == 0 && x->stride % 2 == 0)
        return (left){(const dg_cpu_unit *)(const void *)x->at, x->stride / 2};
    pack_units(room, x, units, pairs);
    return (left){room, units};
}

static void pair_rows(uint32_t *restrict to, const uint16_t *a, const uint16_t *b, int64_t n)
{
    if (b)
        for (int64_t i = 0; i < n; i++) to[i] = a[i] | (uint32_t)b[i] << 16;
    else
        for (int64_t i = 0; i < n; i++) to[i] = a[i];
}

/* [n (pairs: n/2 rounded up), width]: right operands whose rows are those of x. The padding columns are zero.
 */
static void pack_right(uint32_t *to, const rows *x, int64_t width, bool pairs)
{
    for (int64_t i = 0; i < x->n; i += pairs ? 2 : 1, to += width) {
        for (int64_t k = x->d; k < width; k++) to[k] = 0;
        if (pairs) {
            pair_rows(to, row(x, i), i + 1 < x->n ? row(x, i + 1) : NULL, x->d);
        } else {
            const float *f = dg_cpu_floats(row(x, i), x->dtype, 0, x->d, (float *)to);
            if ((const void *)f != (const void *)to) memcpy(to, f, (size_t)x->d * 4);
        }
    }
}

/* ---- transposes */

#if defined(__AVX512F__)
typedef uint32_t u16x __attribute__((vector_size(64), aligned(4), may_alias));
#define LOW(A, B) __builtin_shufflevector(A, B, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH(A, B) __builtin_shufflevector(A, B, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW2(A, B) __builtin_shufflevector(A, B, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH2(A, B) __builtin_shufflevector(A, B, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define EVEN4(A, B) __builtin_shufflevector(A, B, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ODD4(A, B) __builtin_shufflevector(A, B, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)

/* to[j * ld_to + i] = from[i * ld_from + j] for i, j < 16. */
static void transpose16(uint32_t *to, int64_t ld_to, const dg_cpu_unit *from, int64_t ld_from)
{
    u16x a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = *(const u16x *)(from + i * ld_from);
    for (int i = 0; i < 16; i += 2) {
        b[i] = LOW(a[i], a[i + 1]);
        b[i + 1] = HIGH(a[i], a[i + 1]);
    }
    /* a[4 g + c], 128-bit part l: column 4 l + c of the rows 4 g .. 4 g + 3 */
    for (int g = 0; g < 16; g += 4) {
        a[g] = LOW2(b[g], b[g + 2]);
        a[g + 1] = HIGH2(b[g], b[g + 2]);
        a[g + 2] = LOW2(b[g + 1], b[g + 3]);
        a[g + 3] = HIGH2(b[g + 1], b[g + 3]);
    }
    for (int c = 0; c < 4; c++) {
        u16x even0 = EVEN4(a[c], a[4 + c]), even1 = EVEN4(a[8 + c], a[12 + c]);
        u16x odd0 = ODD4(a[c], a[4 + c]), odd1 = ODD4(a[8 + c], a[12 + c]);
        *(u16x *)(to + c * ld_to) = EVEN4(even0, even1);
        *(u16x *)(to + (4 + c) * ld_to) = EVEN4(odd0, odd1);
        *(u16x *)(to + (8 + c) * ld_to) = ODD4(even0, even1);
        *(u16x *)(to + (12 + c) * ld_to) = ODD4(odd0, odd1);
    }
}
#endif

/* [units, width]: right operands whose columns are the rows of x; `room` holds 16 rows of units. The columns
 * from n to the next 16 are zero. */
static void pack_columns(uint32_t *to, const rows *x, int64_t units, int64_t width, bool pairs,
                         uint32_t *room)
{
    for (int64_t first = 0; first < x->n; first += 16) {
        int64_t n = x->n - first < 16 ? x->n - first : 16, u = 0;
        rows part = *x;
        part.at = row(x, first);
        part.n = n;
        left from = left_of(&part, room, units, pairs);
        if (n < 16) {
            if (from.at != room) pack_units(room, &part, units, pairs);
            memset(room + n * units, 0, (size_t)((16 - n) * units) * sizeof *room);
            from = (left){room, units};
        }
#if defined(__AVX512F__)
        for (; u + 16 <= units; u += 16) transpose16(to + u * width + first, width, from.at + u, from.row);
#endif
        for (; u < units; u++)
            for (int64_t i = 0; i < 16; i++) to[u * width + first + i] = from.at[i * from.row + u];
    }
}

/* ---- scores as operands. With AVX512_BF16 the processor rounds (and makes subnormals zero, as its products
 * do). */

/* n floats, n a multiple of 16, to n bf16. */
static void narrow_line(uint32_t *to, const float *x, int64_t n)
{
#if DG_CPU_PAIRS
    for (int64_t j = 0; j < n; j += 16) {
        __m256bh h = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + j));
        memcpy(to + j / 2, &h, sizeof h);
    }
#else
    dg_cpu_put(to, DG_BF16, 0, x, n);
#endif
}

/* f32 rows [n, width] as a left operand: units [n, out]; `used` floats of a row, a multiple of 16. */
static void narrow_left(uint32_t *to, const float *x, int64_t n, int64_t width, int64_t used, int64_t out)
{
    for (int64_t i = 0; i < n; i++) narrow_line(to + i * out, x + i * width, used);
}

/* f32 rows [n, width], two at a time, as a transposed left operand: [n/2 rounded up, width]. */
static void narrow_pairs(uint32_t *restrict to, const float *x, int64_t n, int64_t width, int64_t used)
{
    for (int64_t i = 0; i < n; i += 2) {
        const float *f = x + i * width, *f2 = f + width;
        uint32_t *restrict u = to + i / 2 * width;
        bool both = i + 1 < n;
#if DG_CPU_PAIRS
        for (int64_t j = 0; j < used; j += 16) {
            __m256bh low = _mm512_cvtneps_pbh(_mm512_loadu_ps(f + j));
            __m256bh high = both ? _mm512_cvtneps_pbh(_mm512_loadu_ps(f2 + j)) : (__m256bh){0};
            __m512i wide_low = _mm512_cvtepu16_epi32((__m256i)low),
                    wide_high = _mm512_cvtepu16_epi32((__m256i)high);
            _mm512_storeu_si512(u + j, _mm512_or_si512(wide_low, _mm512_slli_epi32(wide_high, 16)));
        }
#else
        for (int64_t j = 0; j < used; j++)
            u[j] = dg_cpu_narrow(f[j]) | (both ? (uint32_t)dg_cpu_narrow(f2[j]) << 16 : 0);
#endif
    }
}

/* ---- who sees whom */

typedef struct block {
    int64_t b, h, first, n; /* sample, head, queries */
    int64_t seen;           /* keys that any query of the block may see: the first so many */
} block;

static bool sees(const dg_cpu_attention *a, int32_t q, int32_t k)
{
    return a->strict ? q > k : q >= k;
}

static block block_at(const dg_cpu_attention *a, int64_t b, int64_t h, int64_t first, int64_t n)
{
    block k = {b, h, first, n, a->nk};
    if (!a->group_q) return k;
    const int32_t *gq = a->group_q + b * a->group_q_stride + first, *gk = a->group_k + b * a->group_k_stride;
    int32_t widest = gq[0];
    for (int64_t i = 1; i < n; i++) widest = sees(a, gq[i], widest) ? gq[i] : widest;
    while (k.seen > 0 && !sees(a, widest, gk[k.seen - 1])) k.seen--;
    return k;
}

/* s [seen] of query i becomes scale s + bias, -inf where the query may not look and in the padding. */
static void finish_scores(const dg_cpu_attention *a, const block *k, int64_t i, float *s)
{
    int64_t query = k->first + i;
    for (int64_t j = 0; j < k->seen; j++) s[j] *= a->scale;
    if (a->bias) {
        const float *bias = a->bias + k->b * a->bias_stride + (k->h * a->nq + query) * a->nk;
        for (int64_t j = 0; j < k->seen; j++) s[j] += bias[j];
    }
    if (a->group_q) {
        const int32_t *gk = a->group_k + k->b * a->group_k_stride;
        int32_t gq = a->group_q[k->b * a->group_q_stride + query];
        if (a->strict)
            for (int64_t j = 0; j < k->seen; j++) s[j] = gq > gk[j] ? s[j] : -INFINITY;
        else
            for (int64_t j = 0; j < k->seen; j++) s[j] = gq >= gk[j] ? s[j] : -INFINITY;
    }
    for (int64_t j = k->seen; j < round16(k->seen); j++) s[j] = -INFINITY;
}

/* ---- forward */

/* Scores of one query into exp(s - max); gives the sum's inverse (0 when nothing is seen) and the logsumexp.
 */
static float exponents(float *s, int64_t n, float *lse)
{
    float most = dg_cpu_most(s, n);
    if (most == -INFINITY) {
        for (int64_t j = 0; j < n; j++) s[j] = s[j] == -INFINITY ? 0 : s[j]; /* a NaN stays */
        *lse = -INFINITY;
        return dg_cpu_sum(s, n) == 0 ? 0 : NAN;
    }
    for (int64_t j = 0; j < n; j++) s[j] = dg_cpu_exp(s[j] - most);
    float sum = dg_cpu_sum(s, n);
    *lse = most + logf(sum);
    return 1.0f / sum;
}

DG_CPU_INLINE void forward_block(const dg_cpu_attention *a, const room *r, const block *k, bool pairs)
{
    float *lse = a->lse + (k->b * a->heads + k->h) * a->nq + k->first, share[MOST_QUERIES];
    int64_t width = round16(k->seen), units = pairs ? (k->seen + 1) / 2 : k->seen;
    rows q = rows_of(a, &a->q, k->b, k->h, k->first, k->n);
    left ql = left_of(&q, r->qa, r->du, pairs);
    dg_cpu_gemm scores = {ql.at, r->kt, r->s, k->n, width, r->du, ql.row, 1, r->kp, r->kp, false};
    dg_cpu_multiply(&scores, pairs);
    for (int64_t i = 0; i < k->n; i++) {
        float *s = r->s + i * r->kp;
        finish_scores(a, k, i, s);
        share[i] = exponents(s, width, &lse[i]);
    }
    if (pairs) narrow_left(r->pa, r->s, k->n, r->kp, width, r->kw);
    const dg_cpu_unit *p = pairs ? r->pa : (const dg_cpu_unit *)r->s;
    dg_cpu_gemm mix = {p, r->vr, r->y, k->n, r->dp, units, pairs ? r->kw : r->kp, 1, r->dp, r->dp, false};
    dg_cpu_multiply(&mix, pairs);
    for (int64_t i = 0; i < k->n; i++) {
        float *y = r->y + i * r->dp;
        for (int64_t j = 0; j < a->d; j++) y[j] *= share[i];
        dg_cpu_put(a->y.base, a->dtype,
                   k->b * a->y.batch_stride + (k->first + i) * a->y.row_stride + k->h * a->d, y, a->d);
    }
}

DG_CPU_INLINE void forward(const dg_cpu_attention *a, char *scratch, int64_t begin, int64_t end, bool pairs)
{
    room r = lay_out(a, scratch, pairs, false);
    for (int64_t u = begin; u < end; u++) {
        int64_t b = u / a->heads, h = u % a->heads;
        rows k = rows_of(a, &a->k, b, h, 0, a->nk), v = rows_of(a, &a->v, b, h, 0, a->nk);
        pack_columns(r.kt, &k, r.du, r.kp, pairs, r.rows);
        pack_right(r.vr, &v, r.dp, pairs);
        for (int64_t first = 0; first < a->nq; first += r.qb) {
            block part = block_at(a, b, h, first, a->nq - first < r.qb ? a->nq - first : r.qb);
            forward_block(a, &r, &part, pairs);
        }
    }
}

DG_CPU_DECLARE(attention)
void DG_CPU(attention)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_attention *a = args;
    if (DG_CPU_PAIRS && a->dtype == DG_BF16)
        forward(a, scratch, begin, end, true);
    else
        forward(a, scratch, begin, end, false);
}

/* ---- adjoint */

/* Scores s and dp of one query become p and ds (before scale); ds is added to the bias's gradient. */
static void probabilities(const dg_cpu_attention *a, const block *k, int64_t i, float *s, float *ds,
                          float delta, bool first)
{
    int64_t query = k->first + i, row = k->h * a->nq + query, n = round16(k->seen);
    float lse = a->lse[k->b * a->heads * a->nq + row];
    finish_scores(a, k, i, s);
    lse = lse == -INFINITY ? 0 : lse; /* nothing is seen: all s are -inf and p is 0 */
    for (int64_t j = 0; j < n; j++) s[j] = dg_cpu_exp(s[j] - lse);
    for (int64_t j = 0; j < k->seen; j++) ds[j] = s[j] * (ds[j] - delta);
    for (int64_t j = k->seen; j < n; j++) ds[j] = 0;
    if (a->dbias) {
        float *to = a->dbias + k->b * a->bias_stride + row * a->nk;
        for (int64_t j = 0; j < k->seen; j++) to[j] = first ? ds[j] : to[j] + ds[j];
        for (int64_t j = k->seen; j < a->nk && first; j++) to[j] = 0;
    }
    for (int64_t j = 0; j < n; j++) ds[j] *= a->scale;
}

/* rowsum(dy y) of each query. */
static void deltas(const dg_cpu_attention *a, const room *r, const block *k, const rows *dy, bool pairs)
{
    rows y = rows_of(a, &a->y, k->b, k->h, k->first, k->n);
    int64_t d = a->d;
    for (int64_t i = 0; i < k->n; i++) {
        int64_t j = 0;
        float sum = 0;
#if DG_CPU_PAIRS
        __m512 wide = _mm512_setzero_ps();
        for (; pairs && j + 32 <= d; j += 32) {
            __m512i u = _mm512_loadu_si512((const uint16_t *)row(dy, i) + j),
                    v = _mm512_loadu_si512((const uint16_t *)row(&y, i) + j);
            wide = _mm512_dpbf16_ps(wide, (__m512bh)u, (__m512bh)v);
        }
        sum = _mm512_reduce_add_ps(wide);
#endif
        (void)pairs;
        r->delta[i] = sum;
        if (j == d) continue;
        const float *u = dg_cpu_floats(row(dy, i), a->dtype, j, d - j, r->line);
        r->delta[i] += dg_cpu_dot(u, dg_cpu_floats(row(&y, i), a->dtype, j, d - j, r->line + r->dp), d - j);
    }
}

static void put_rows(const dg_cpu_attention *a, const dg_cpu_heads *to, const block *k, int64_t first,
                     int64_t n, const float *x, int64_t width)
{
    for (int64_t i = 0; i < n; i++)
        dg_cpu_put(to->base, a->dtype, k->b * to->batch_stride + (first + i) * to->row_stride + k->h * a->d,
                   x + i * width, a->d);
}

DG_CPU_INLINE void backward_block(const dg_cpu_attention *a, const room *r, const block *k, bool pairs,
                                  bool first)
{
    int64_t width = round16(k->seen), units = pairs ? (k->seen + 1) / 2 : k->seen,
            qu = pairs ? (k->n + 1) / 2 : k->n;
    rows q = rows_of(a, &a->q, k->b, k->h, k->first, k->n),
         dy = rows_of(a, &a->dy, k->b, k->h, k->first, k->n);
    left ql = left_of(&q, r->qa, r->du, pairs), dl = left_of(&dy, r->da, r->du, pairs);
    pack_right(r->qr, &q, r->dp, pairs);
    pack_right(r->dr, &dy, r->dp, pairs);
    deltas(a, r, k, &dy, pairs);
    dg_cpu_gemm scores = {ql.at, r->kt, r->s, k->n, width, r->du, ql.row, 1, r->kp, r->kp, false};
    dg_cpu_gemm dp = {dl.at, r->vt, r->ds, k->n, width, r->du, dl.row, 1, r->kp, r->kp, false};
    dg_cpu_multiply(&scores, pairs);
    dg_cpu_multiply(&dp, pairs);
    for (int64_t i = 0; i < k->n; i++)
        probabilities(a, k, i, r->s + i * r->kp, r->ds + i * r->kp, r->delta[i], first);
    const dg_cpu_unit *p = (const dg_cpu_unit *)r->s, *ds = (const dg_cpu_unit *)r->ds, *ds_left = ds;
    if (pairs) {
        narrow_pairs(r->pt, r->s, k->n, r->kp, width);
        narrow_pairs(r->st, r->ds, k->n, r->kp, width);
        narrow_left(r->pa, r->ds, k->n, r->kp, width, r->kw);
        p = r->pt;
        ds = r->st;
        ds_left = r->pa;
    }
    dg_cpu_gemm dv = {p, r->dr, r->dv, k->seen, r->dp, qu, 1, r->kp, r->dp, r->dp, true};
    dg_cpu_gemm dk = {ds, r->qr, r->dk, k->seen, r->dp, qu, 1, r->kp, r->dp, r->dp, true};
    dg_cpu_gemm dq = {ds_left, r->kr, r->y,  k->n, r->dp, units, pairs ? r->kw : r->kp,
                      1,       r->dp, r->dp, false};
    dg_cpu_multiply(&dv, pairs);
    dg_cpu_multiply(&dk, pairs);
    dg_cpu_multiply(&dq, pairs);
    put_rows(a, &a->dq, k, k->first, k->n, r->y, r->dp);
}

/* `first`: is this the first sample that adds to the bias's gradient? */
DG_CPU_INLINE void backward_head(const dg_cpu_attention *a, const room *r, int64_t b, int64_t h, bool pairs,
                                 bool first)
{
    rows k = rows_of(a, &a->k, b, h, 0, a->nk), v = rows_of(a, &a->v, b, h, 0, a->nk);
    pack_columns(r->kt, &k, r->du, r->kp, pairs, r->rows);
    pack_columns(r->vt, &v, r->du, r->kp, pairs, r->rows);
    pack_right(r->kr, &k, r->dp, pairs);
    memset(r->dk, 0, (size_t)(a->nk * r->dp) * sizeof *r->dk);
    memset(r->dv, 0, (size_t)(a->nk * r->dp) * sizeof *r->dv);
    block part = {0};
    for (int64_t q = 0; q < a->nq; q += r->qb) {
        part = block_at(a, b, h, q, a->nq - q < r->qb ? a->nq - q : r->qb);
        backward_block(a, r, &part, pairs, first);
    }
    put_rows(a, &a->dk, &part, 0, a->nk, r->dk, r->dp);
    put_rows(a, &a->dv, &part, 0, a->nk, r->dv, r->dp);
}

DG_CPU_INLINE void backward(const dg_cpu_attention *a, char *scratch, int64_t begin, int64_t end, bool pairs)
{
    room r = lay_out(a, scratch, pairs, true);
    bool shared = a->dbias && a->bias_stride == 0; /* units are heads: a head's samples add up in order */
    for (int64_t u = begin; u < end; u++) {
        if (!shared) {
            backward_head(a, &r, u / a->heads, u % a->heads, pairs, true);
            continue;
        }
        for (int64_t b = 0; b < a->batch; b++) backward_head(a, &r, b, u, pairs, b == 0);
    }
}

DG_CPU_DECLARE(attention_grad)
void DG_CPU(attention_grad)(const void *args, void *scratch, int64_t begin, int64_t end)
{
    const dg_cpu_attention *a = args;
    if (DG_CPU_PAIRS && a->dtype == DG_BF16)
        backward(a, scratch, begin, end, true);
    else
        backward(a, scratch, begin, end, false);
}
