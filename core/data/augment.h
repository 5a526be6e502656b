/* augment.h - random changes of the bytes of a training picture, after its crop and flip: RandAugment, then
 * colour jitter; each is off unless asked for. */
#ifndef DG_DATA_AUGMENT_H
#define DG_DATA_AUGMENT_H

#include "randaugment.h"

/* torchvision's ColorJitter. Factors of the first three are uniform in [max(0, 1 - v), 1 + v], the hue's
 * shift in
 * [-v, v] turns; the four come in a random order. 0 leaves one out. */
typedef struct dg_colour_jitter {
    double brightness, contrast, saturation; /* 0..100 */
    double hue;                              /* 0..0.5 */
} dg_colour_jitter;

/* DG_ERR_INVALID names the value that is out of range. */
dg_status dg_colour_jitter_check(const dg_colour_jitter *jitter, dg_error *err);
void dg_colour_jitter_run(const dg_colour_jitter *jitter, dg_rng *rng, dg_pixels p);

/* Starts as {0}: no change. */
typedef struct dg_augmenter {
    dg_randaugment randaugment;
    dg_colour_jitter jitter;
} dg_augmenter;

/* Changes picture `id` as its view `view` has it: what is drawn depends on (view_seed, DG_RNG_AUGMENT, id,
 * view) alone. DG_ERR_NOMEM is the only failure. */
dg_status dg_augment_view(const dg_augmenter *augmenter, uint64_t view_seed, int64_t id, uint64_t view,
                          dg_pixels p, dg_scratch *scratch, dg_error *err);

#endif
