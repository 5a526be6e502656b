/* gemm.h - small products in cache, for attention: C[m, n] = A[m, k] B[k, n] (+ C), one thread, f32
 * accumulators.
 *
 * A and B hold 4-byte units: one f32, or (pairs) two bf16 that follow each other along k, of which the
 * products are added; an odd k has a zero there. Element (i, p) of A is at a[i * a_row + p * a_unit], so a
 * transposed A needs no copy; B is [k, ldb] and C [m, ldc] with rows of whole 16s, which may be read and
 * written past n. */
#ifndef DG_CPU_GEMM_H
#define DG_CPU_GEMM_H

#include "lanes.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#define DG_CPU_PAIRS 1
#else
#define DG_CPU_PAIRS 0
#endif

/* Lanes of a register, and the vectors of a tile's row: tiles of 6 rows fill the 32 or 16 registers there
 * are. */
#if defined(__AVX512F__)
enum { DG_CPU_VL = 16, DG_CPU_TILE_N = 4 };
#elif defined(__AVX__)
enum { DG_CPU_VL = 8, DG_CPU_TILE_N = 2 };
#else
enum { DG_CPU_VL = 4, DG_CPU_TILE_N = 2 };
#endif
enum { DG_CPU_TILE_M = 6 };

typedef float dg_cpu_vector __attribute__((vector_size(DG_CPU_VL * 4)));
typedef float dg_cpu_vf __attribute__((vector_size(DG_CPU_VL * 4), aligned(4), may_alias)); /* in memory */

#define DG_CPU_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define DG_CPU_UNROLL _Pragma("unroll")
#else
#define DG_CPU_UNROLL _Pragma("GCC unroll 8")
#endif

/* Memory that was or will be f32 or bf16, read as units; a left operand may be a bf16 matrix as it is. */
typedef uint32_t dg_cpu_unit __attribute__((aligned(2), may_alias));

typedef struct dg_cpu_gemm {
    const dg_cpu_unit *a, *b;
    float *c;
    int64_t m, n, k; /* k in units */
    int64_t a_row, a_unit, ldb, ldc;
    bool add;
} dg_cpu_gemm;

/* acc + a * b, a for all lanes. */
DG_CPU_INLINE dg_cpu_vector dg_cpu_madd(dg_cpu_vector acc, uint32_t a, dg_cpu_vector b, bool pairs)
{
#if defined(__AVX512BF16__)
    if (pairs)
        return (dg_cpu_vector)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
#endif
    (void)pairs;
    return acc + dg_cpu_float(a) * b;
}

/* One tile of m rows and n vectors, both constant where this is inlined. */
DG_CPU_INLINE void dg_cpu_tile(const dg_cpu_gemm *g, int64_t i, int64_t j, int m, int n, bool pairs)
{
    dg_cpu_vector acc[DG_CPU_TILE_M][DG_CPU_TILE_N];
    const dg_cpu_unit *a = g->a + i * g->a_row, *b = g->b + j;
    float *c = g->c + i * g->ldc + j;
    int64_t a_row = g->a_row, a_unit = g->a_unit, ldb = g->ldb, ldc = g->ldc;
    DG_CPU_UNROLL for (int r = 0; r < m; r++)
    {
        DG_CPU_UNROLL for (int v = 0; v < n; v++) acc[r][v] = (dg_cpu_vector){0};
    }
    for (int64_t p = 0; p < g->k; p++, a += a_unit, b += ldb) {
        dg_cpu_vector row[DG_CPU_TILE_N];
        DG_CPU_UNROLL for (int v = 0; v < n; v++) row[v] = *(const dg_cpu_vf *)(b + v * DG_CPU_VL);
        DG_CPU_UNROLL for (int r = 0; r < m; r++)
        {
            DG_CPU_UNROLL for (int v = 0; v < n; v++) acc[r][v] =
                dg_cpu_madd(acc[r][v], a[r * a_row], row[v], pairs);
        }
    }
    DG_CPU_UNROLL for (int r = 0; r < m; r++)
    {
        DG_CPU_UNROLL for (int v = 0; v < n; v++)
        {
            dg_cpu_vf *to = (dg_cpu_vf *)(c + r * ldc + v * DG_CPU_VL);
            if (g->add) acc[r][v] += *to;
            *to = acc[r][v];
        }
    }
}

#define DG_CPU_TILE_COLUMN(N)                                                                                \
    static __attribute__((noinline)) void dg_cpu_column_##N(const dg_cpu_gemm *g, int64_t j, bool pairs)     \
    {                                                                                                        \
        int64_t i = 0;                                                                                       \
        if (pairs) {                                                                                         \
            for (; i + DG_CPU_TILE_M <= g->m; i += DG_CPU_TILE_M)                                            \
                dg_cpu_tile(g, i, j, DG_CPU_TILE_M, N, true);                                                \
            for (; i + 2 <= g->m; i += 2) dg_cpu_tile(g, i, j, 2, N, true);                                  \
            for (; i < g->m; i++) dg_cpu_tile(g, i, j, 1, N, true);                                          \
        } else {                                                                                             \
            for (; i + DG_CPU_TILE_M <= g->m; i += DG_CPU_TILE_M)                                            \
                dg_cpu_tile(g, i, j, DG_CPU_TILE_M, N, false);                                               \
            for (; i + 2 <= g->m; i += 2) dg_cpu_tile(g, i, j, 2, N, false);                                 \
            for (; i < g->m; i++) dg_cpu_tile(g, i, j, 1, N, false);                                         \
        }                                                                                                    \
    }
DG_CPU_TILE_COLUMN(2)
#if defined(__AVX512F__)
DG_CPU_TILE_COLUMN(1)
DG_CPU_TILE_COLUMN(3)
DG_CPU_TILE_COLUMN(4)
#endif

static inline void dg_cpu_multiply(const dg_cpu_gemm *g, bool pairs)
{
    int64_t n = (g->n + 15) / 16 * 16, j = 0;
#if defined(__AVX512F__)
    for (; j + 64 <= n; j += 64) dg_cpu_column_4(g, j, pairs);
    if (n - j == 48) dg_cpu_column_3(g, j, pairs);
    if (n - j == 32) dg_cpu_column_2(g, j, pairs);
    if (n - j == 16) dg_cpu_column_1(g, j, pairs);
#else
    for (; j < n; j += 2 * DG_CPU_VL) dg_cpu_column_2(g, j, pairs);
#endif
}

#endif
