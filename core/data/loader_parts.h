/* loader_parts.h - one place of one batch: what a worker does without a lock. */
#ifndef DG_DATA_LOADER_PARTS_H
#define DG_DATA_LOADER_PARTS_H

#include <stdatomic.h>

#include "loader.h"
#include "sampler.h"

/* One worker's buffers. Starts as {0}. */
typedef struct dg_filler {
    dg_sample sample;
    dg_resampler resampler;
    dg_scratch scratch;
} dg_filler;

void dg_filler_free(dg_filler *filler);

typedef struct dg_caption {
    char *text;
    size_t capacity;
} dg_caption;

/* What all workers share and none changes, but for the counter. */
typedef struct dg_fill_plan {
    dg_loader_config config;
    dg_augmenter augmenter;
    dg_sampler sampler;
    const dg_source *source;
    atomic_llong bad_images;
} dg_fill_plan;

/* Fills place `place` of the batch, whose step is set. captions: [B] buffers behind batch->captions, or NULL.
 */
dg_status dg_fill_place(dg_fill_plan *plan, dg_filler *filler, dg_batch *batch, dg_caption *captions,
                        int32_t place, dg_error *err);

#endif
