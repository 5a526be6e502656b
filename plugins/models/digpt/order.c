/* order.c - the orders of segments: drawn for each sample, or the same for all. */
#include "digpt.h"

void digpt_spiral(int64_t rows, int64_t columns, int32_t *out)
{
    int64_t top = 0, left = 0, bottom = rows - 1, right = columns - 1, n = 0;
    while (top <= bottom && left <= right) {
        for (int64_t x = left; x <= right; x++) out[n++] = (int32_t)(top * columns + x);
        for (int64_t y = top + 1; y <= bottom; y++) out[n++] = (int32_t)(y * columns + right);
        for (int64_t x = right - 1; top < bottom && x >= left; x--)
            out[n++] = (int32_t)(bottom * columns + x);
        for (int64_t y = bottom - 1; left < right && y > top; y--) out[n++] = (int32_t)(y * columns + left);
        top++, left++, bottom--, right--;
    }
}

dg_status digpt_fill(void *self, const char *name, uint64_t seed, uint64_t ordinal, void *dst, size_t bytes,
                     dg_error *err)
{
    const digpt *s = self;
    size_t want = (size_t)s->n_segments * sizeof(int32_t);
    int32_t order[MAX_SEGMENTS];
    if (strcmp(name, "order") != 0 || bytes != want)
        return dg_fail(err, DG_ERR_INTERNAL, "model digpt fills 'order' of %zu bytes, not '%s' of %zu", want,
                       name, bytes);
    memcpy(order, s->fixed, want);
    if (s->order == ORDER_RANDOM) {
        dg_rng rng = dg_rng_make(seed, DG_RNG_MODEL, ordinal, 0);
        dg_rng_permutation(&rng, order, (int32_t)s->n_segments);
    }
    memcpy(dst, order, want);
    return DG_OK;
}

void digpt_segment_table(const digpt *s, int64_t rows, int64_t columns, int32_t offset, int32_t *out)
{
    int64_t h = rows / s->segments[0], w = columns / s->segments[1];
    for (int64_t i = 0; i < s->n_segments; i++) {
        int64_t top = i / s->segments[1] * h, left = i % s->segments[1] * w;
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) *out++ = (int32_t)((top + y) * columns + left + x) + offset;
    }
}
