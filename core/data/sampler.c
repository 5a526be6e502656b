/* sampler.c - see sampler.h. */
#include "sampler.h"

#include "digpt/philox.h"

/* Eight rounds of a strong function; four already give what a block cipher needs (Luby and Rackoff, 1988),
 * the rest is for small sets, whose halves have few bits. */
#define ROUNDS 8
#define LEAST_BITS 4 /* of a half */

dg_status dg_sampler_check(const dg_sampler *s, dg_error *err)
{
    if (s->count < 1) return dg_fail(err, DG_ERR_INVALID, "the data set has no samples");
    if (s->batch < 1) return dg_fail(err, DG_ERR_INVALID, "the batch is %d; it must be at least 1", s->batch);
    if (s->world < 1 || s->rank < 0 || s->rank >= s->world)
        return dg_fail(err, DG_ERR_INVALID, "rank %d of %d ranks does not exist", s->rank, s->world);
    int64_t global = (int64_t)s->batch * s->world;
    if (s->drop_last && s->count < global)
        return dg_fail(
            err, DG_ERR_INVALID,
            "the data set has %lld samples, fewer than one batch of %lld (%d on each of %d ranks): "
            "an epoch would have no step",
            (long long)s->count, (long long)global, s->batch, s->world);
    return DG_OK;
}

int64_t dg_sampler_steps(const dg_sampler *s)
{
    int64_t global = (int64_t)s->batch * s->world;
    return s->drop_last ? s->count / global : s->count / global + (s->count % global != 0);
}

int64_t dg_sampler_id(const dg_sampler *s, int64_t epoch, int64_t position)
{
    if (!s->shuffle) return position;
    dg_rng named = dg_rng_make(s->seed, DG_RNG_SHUFFLE, 0, (uint64_t)epoch);
    uint32_t key[2];
    key[0] = dg_rng_u32(&named);
    key[1] = dg_rng_u32(&named);
    int bits = LEAST_BITS;
    while (bits < 31 && (int64_t)1 << (2 * bits) < s->count) bits++;
    const uint32_t mask = (uint32_t)(((uint64_t)1 << bits) - 1);
    uint64_t x = (uint64_t)position;
    do {
        uint32_t left = (uint32_t)(x >> bits), right = (uint32_t)x & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            const uint32_t counter[4] = {right, round, 0, 0};
            uint32_t word[4];
            dg_philox(counter, key, word);
            uint32_t next = left ^ (word[0] & mask);
            left = right;
            right = next;
        }
        x = (uint64_t)left << bits | right;
    } while (x >= (uint64_t)s->count);
    return (int64_t)x;
}

int64_t dg_sampler_at(const dg_sampler *s, int64_t step, int32_t place, int64_t *ordinal)
{
    const int64_t global = (int64_t)s->batch * s->world, steps = dg_sampler_steps(s);
    const int64_t in_batch = (int64_t)s->rank * s->batch + place, epoch = step / steps;
    const int64_t position = (step % steps) * global + in_batch;
    if (ordinal) *ordinal = step * global + in_batch;
    return position < s->count ? dg_sampler_id(s, epoch, position) : -1;
}
