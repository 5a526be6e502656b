/* loader.h - batches of uint8 pictures, decoded, cropped and flipped by worker threads ahead of the step that
 * needs them.
 *
 * What a batch holds depends only on (source, configuration, step), never on the number of threads, on timing
 * or on where the run started. Geometry of sample `id` is drawn from (view_seed, DG_RNG_CROP and DG_RNG_FLIP,
 * id, view), where view = epoch, or epoch mod `views`; RandAugment and colour jitter from (view_seed,
 * DG_RNG_AUGMENT, id, view).
 *
 * RandAugment and colour jitter change the student's image only, after its crop and flip. The second image
 * stays as it was cropped: it is what a tokenizer makes targets of, which should say what the picture shows
 * and not how it was spoilt, and targets cached for a view stay right whatever the policy. Where the
 * tokenizer takes the student's size, ask for a second image all the same, or it sees the changed one.
 *
 * One thread consumes: open, then next / release, then close, which is allowed at any moment. */
#ifndef DG_DATA_LOADER_H
#define DG_DATA_LOADER_H

#include "data/augment.h"
#include "data/resample.h"
#include "data/source.h"

typedef enum dg_augment {
    DG_AUGMENT_CROP_FLIP = 0, /* RandomResizedCrop, then a horizontal flip: training */
    DG_AUGMENT_CENTRE = 1     /* resize and central crop: evaluation */
} dg_augment;

typedef enum dg_decode {
    DG_DECODE_EXACT = 0, /* the whole picture: the bytes that Pillow and torchvision give */
    DG_DECODE_FAST = 1   /* for DG_AUGMENT_CROP_FLIP without masks: only the crop, and a JPEG scaled by a power of
                            two while it is decoded, as long as it stays larger than what is made of it */
} dg_decode;

typedef enum dg_on_bad_image {
    DG_BAD_SKIP = 0, /* count it, name it in the log, take sample id + 1 in its place; a batch's worth
                      of bad ones in a row (at least 16) is an error */
    DG_BAD_FAIL = 1  /* dg_loader_next fails when it comes to that batch */
} dg_on_bad_image;

typedef struct dg_loader_config {
    uint64_t seed;      /* of the order of the samples */
    uint64_t view_seed; /* of crops, flips, and changes of bytes */
    int32_t batch;      /* samples a step on this rank */
    int32_t rank, world;
    int64_t limit;      /* only the samples below this id; 0: all */
    bool shuffle;       /* training: true */
    bool drop_last;     /* training: true; evaluation: false, padded with valid = 0 */
    int64_t first_step; /* global step of the first batch: a resume starts anywhere */
    int64_t last_step;  /* the first step that is not made; -1: no end */
    int32_t views;      /* 0: view = epoch; K: view = epoch mod K */

    int32_t height, width;               /* of the student's image */
    int32_t second_height, second_width; /* of the second image, from the same box; 0: none */
    dg_augment augment;
    double scale[2], ratio[2]; /* RandomResizedCrop: share of the area; width / height */
    double flip;               /* probability */
    const char *randaugment;   /* "rand-m9-mstd0.5-inc1", read by open alone; NULL: none. This and the jitter
                                  are for DG_AUGMENT_CROP_FLIP; not with masks, which it does not move */
    dg_colour_jitter jitter;   /* all 0: none */
    double fraction;           /* DG_AUGMENT_CENTRE: crop / resized side */
    dg_fit fit;

    bool masks;    /* fill dg_batch.masks; the source must have them */
    bool captions; /* fill dg_batch.captions; a sample without one is a bad image */
    dg_on_bad_image on_bad;
    dg_decode decode;
    int64_t max_pixels; /* 0: DG_IMAGE_MAX_PIXELS */
    int32_t threads;    /* workers, 1..256 */
    int32_t depth;      /* batches in the ring, 2..64: one is used while the others are filled */
} dg_loader_config;

/* Training at 224 x 224 with the official values; set what differs. */
#define DG_LOADER_CONFIG_INIT                                                                                \
    {                                                                                                        \
        .world = 1, .shuffle = true, .drop_last = true, .last_step = -1, .height = 224, .width = 224,        \
        .scale = {0.2, 1.0}, .ratio = {3.0 / 4.0, 4.0 / 3.0}, .flip = 0.5, .fraction = 0.875, .threads = 2,  \
        .depth = 3                                                                                           \
    }

/* Owned by the loader, valid until it is released. Places without a sample (padding) have valid 0, id -1,
 * label 0, zero pixels, an empty caption. */
typedef struct dg_batch {
    int64_t step, epoch;
    int32_t size;          /* B */
    int32_t valid_count;   /* places with a sample */
    uint8_t *images;       /* [B, height, width, 3] */
    uint8_t *second;       /* [B, second_height, second_width, 3], or NULL */
    uint8_t *masks;        /* [B, height, width], or NULL */
    int32_t *labels;       /* [B]; -1: the sample has none */
    int64_t *ids;          /* [B]: of the sample that is there, after replacement of a bad one */
    int64_t *ordinals;     /* [B]: place in the whole run, see dg_sampler_at */
    float *valid;          /* [B]: 1 or 0 */
    const char **captions; /* [B], or NULL */
} dg_batch;

typedef struct dg_loader dg_loader;

typedef struct dg_loader_stats {
    int64_t batches, images; /* handed out */
    int64_t bad_images;      /* found bad so far, each time one is met; runs ahead of what was handed out */
    double wait_seconds;     /* spent inside dg_loader_next */
    double elapsed_seconds;  /* since the first dg_loader_next, up to the end of the latest */
} dg_loader_stats;

/* Samples an epoch goes over. */
int64_t dg_loader_count(const dg_loader_config *config, const dg_source *source);
/* Starts the workers. The source must outlive the loader. */
dg_status dg_loader_open(const dg_loader_config *config, const dg_source *source, dg_loader **loader,
                         dg_error *err);
/* What dg_sampler_steps says for this configuration. */
int64_t dg_loader_steps_per_epoch(const dg_loader *loader);
/* Waits for the next batch in step order. *batch is NULL when last_step is reached. A failed batch fails
 * every call from then on. DG_ERR_INVALID when all `depth` batches are held by the caller. */
dg_status dg_loader_next(dg_loader *loader, const dg_batch **batch, dg_error *err);
/* Gives the batch's buffers back, in the order in which they were handed out. NULL is fine. */
void dg_loader_release(dg_loader *loader, const dg_batch *batch);
dg_loader_stats dg_loader_get_stats(dg_loader *loader);
/* Stops the workers and frees everything, batches that are still held included. NULL is fine. */
void dg_loader_close(dg_loader *loader);

#endif
