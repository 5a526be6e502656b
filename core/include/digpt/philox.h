/* digpt/philox.h - random numbers from a counter: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy
 * as 1, 2, 3", SC 2011).
 *
 * A stream is named by (seed, purpose, a, b): the same numbers on every backend, at any number of threads, workers
 * or ranks, after any resume. `a` is by custom the sample's id or ordinal, `b` the epoch, view or step. */
#ifndef DIGPT_PHILOX_H
#define DIGPT_PHILOX_H

#include <math.h>
#include "digpt/base.h"

/* One block: counter c[4] and key k[2] give four 32-bit words. */
static inline DG_UNUSED void dg_philox(const uint32_t c[4], const uint32_t k[2], uint32_t out[4])
{
    uint32_t x0 = c[0], x1 = c[1], x2 = c[2], x3 = c[3], k0 = k[0], k1 = k[1];
    for (int i = 0; i < 10; i++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* What a draw is for. Numbers are part of the format of a run: append only. */
enum dg_purpose {
    DG_RNG_INIT = 1,     /* initial parameters; a = hash of the name */
    DG_RNG_SHUFFLE = 2,  /* order of an epoch; b = epoch */
    DG_RNG_CROP = 3,     /* a = sample id, b = view */
    DG_RNG_FLIP = 4,     /* a = sample id, b = view */
    DG_RNG_AUGMENT = 5,  /* a = sample id, b = view */
    DG_RNG_MODEL = 6,    /* orders and masks; a = sample ordinal, b = 0 */
    DG_RNG_MIX = 7,      /* mixup and cutmix; a = step */
    DG_RNG_SYNTHETIC = 8, /* a = sample id */
    DG_RNG_DROP = 9,     /* drop path; a = sample ordinal */
    DG_RNG_ERASE = 10,   /* random erasing; a = sample ordinal */
    DG_RNG_PLUGIN = 1024 /* from here on: a plugin's own */
};

typedef struct dg_rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    uint32_t used; /* words of block already given out */
} dg_rng;

/* The stream of (seed, purpose, a, b). Key = seed; counter = (block, purpose folded with b's high half, a, b). */
static inline DG_UNUSED dg_rng dg_rng_make(uint64_t seed, uint32_t purpose, uint64_t a, uint64_t b)
{
    dg_rng r = {{(uint32_t)seed, (uint32_t)(seed >> 32)}, {0}, {0}, 4};
    /* A first block mixes all 224 bits of the name, so that close names give unrelated streams. */
    const uint32_t name[4] = {purpose, (uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b};
    uint32_t mixed[4];
    const uint32_t key[2] = {r.key[0], r.key[1] ^ (uint32_t)(b >> 32) ^ 0x64696770u};
    dg_philox(name, key, mixed);
    r.counter[1] = mixed[0];
    r.counter[2] = mixed[1];
    r.counter[3] = mixed[2];
    r.key[0] ^= mixed[3];
    return r;
}

static inline DG_UNUSED uint32_t dg_rng_u32(dg_rng *r)
{
    if (r->used == 4) {
        dg_philox(r->counter, r->key, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

/* Uniform in [0, 1) with 53 bits. */
static inline DG_UNUSED double dg_rng_uniform(dg_rng *r)
{
    uint32_t hi = dg_rng_u32(r) >> 5, lo = dg_rng_u32(r) >> 6;
    return ((double)hi * 67108864.0 + (double)lo) * (1.0 / 9007199254740992.0);
}

/* Uniform in 0..n-1 without bias (Lemire's method); n > 0. */
static inline DG_UNUSED uint32_t dg_rng_below(dg_rng *r, uint32_t n)
{
    uint64_t m = (uint64_t)dg_rng_u32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t floor = (uint32_t)(0u - n) % n;
        while ((uint32_t)m < floor) m = (uint64_t)dg_rng_u32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

/* Standard normal (Box-Muller, the cosine half). */
static inline DG_UNUSED double dg_rng_normal(dg_rng *r)
{
    double u = 1.0 - dg_rng_uniform(r), v = dg_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

/* Fisher-Yates permutation of 0..n-1. */
static inline DG_UNUSED void dg_rng_permutation(dg_rng *r, int32_t *out, int32_t n)
{
    for (int32_t i = 0; i < n; i++) out[i] = i;
    for (int32_t i = n - 1; i > 0; i--) {
        int32_t j = (int32_t)dg_rng_below(r, (uint32_t)i + 1), t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}

#endif
