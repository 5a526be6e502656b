/* sampler.h - which samples make up a batch: an epoch is one exact, seeded permutation of the whole set, of
 * which any position is computed by itself, in constant memory; so a run resumes anywhere and shards need no
 * buffer.
 *
 * The permutation is a Feistel network of Philox rounds over the next even power of two, walked until it
 * falls inside the set (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002), keyed by
 * (seed, epoch).
 *
 * Rank r of w takes places [r*batch, (r+1)*batch) of the global batch, so w ranks with batch b see together
 * what one rank with batch w*b sees. */
#ifndef DG_DATA_SAMPLER_H
#define DG_DATA_SAMPLER_H

#include "digpt/base.h"

typedef struct dg_sampler {
    uint64_t seed;
    int64_t count; /* samples in the set */
    int32_t batch; /* samples a step on one rank */
    int32_t rank, world;
    bool shuffle;   /* false: every epoch is 0, 1, 2, ... */
    bool drop_last; /* true: a last partial global batch is left out; false: it is padded */
} dg_sampler;

/* DG_ERR_INVALID for a bad field, or when drop_last leaves no step at all. */
dg_status dg_sampler_check(const dg_sampler *s, dg_error *err);

/* Steps an epoch, the same on every rank. */
int64_t dg_sampler_steps(const dg_sampler *s);
/* The sample at position 0..count-1 of an epoch's permutation. */
int64_t dg_sampler_id(const dg_sampler *s, int64_t epoch, int64_t position);
/* The sample in place 0..batch-1 of this rank's batch at global step `step` (which counts on over the
 * epochs), or -1 for padding. *ordinal is the place's number over the whole run and all ranks:
 * step*batch*world + rank*batch + i. */
int64_t dg_sampler_at(const dg_sampler *s, int64_t step, int32_t place, int64_t *ordinal);

#endif
