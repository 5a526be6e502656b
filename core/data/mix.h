/* mix.h - random erasing, mixup (Zhang et al., 2018), cutmix (Yun et al., 2019) and soft targets, as timm has
 * them: what is drawn on the host as small inputs of the training program, and the pixel mixing in plain C,
 * against which the program is checked. */
#ifndef DG_DATA_MIX_H
#define DG_DATA_MIX_H

#include "data/resample.h"

/* ---- random erasing (Zhong et al., 2020), mode "pixel": a box of the normalised picture becomes noise */

typedef struct dg_erasing {
    double probability;
    double area[2];   /* share of the picture's area, uniform */
    double aspect[2]; /* height / width, log-uniform */
} dg_erasing;

#define DG_ERASING_INIT                                                                                      \
    {                                                                                                        \
        .probability = 0.25, .area = {0.02, 1.0 / 3.0}, .aspect = { 0.3, 1.0 / 0.3 }                         \
    }

/* The box of sample `ordinal` in a picture of height x width, drawn from (seed, DG_RNG_ERASE, ordinal, 0);
 * all 0: nothing is erased, also when no box in ten tries is smaller than the picture both ways. A box of
 * dg_box is, in memory, the i32 [4] of a host input: top, left, height, width. */
dg_box dg_draw_erase(const dg_erasing *erasing, uint64_t seed, uint64_t ordinal, int32_t height,
                     int32_t width);

/* ---- mixup and cutmix: each picture with its partner, the one in the mirrored place of the batch */

typedef struct dg_mixing {
    double mixup, cutmix;      /* alpha of Beta(alpha, alpha); 0: that one is off */
    double probability;        /* that a batch is mixed at all */
    double switch_probability; /* cutmix rather than mixup, when both are on */
} dg_mixing;

#define DG_MIXING_INIT                                                                                       \
    {                                                                                                        \
        .mixup = 0.8, .cutmix = 1.0, .probability = 1.0, .switch_probability = 0.5                           \
    }

/* What a batch is mixed by: inside the box the partner's pixels, elsewhere pixels * x + (1 - pixels) *
 * partner. */
typedef struct dg_mix {
    double pixels;  /* mixup: lambda; cutmix and unmixed: 1 */
    double targets; /* share of the picture's own target: lambda, for cutmix corrected to the box's area */
    dg_box box;     /* cutmix; all 0 otherwise */
} dg_mix;

/* Of one batch of pictures of height x width: drawn from (seed, DG_RNG_MIX, step, rank), as mixing is within
 * a rank. One lambda a batch (timm's mode "batch"). */
dg_mix dg_draw_mix(const dg_mixing *mixing, uint64_t seed, uint64_t step, uint64_t rank, int32_t height,
                   int32_t width);
/* Cutmix's box around a uniform point, 1 - lambda of the area before it is cut at the border. */
dg_box dg_draw_cut(dg_rng *rng, double lambda, int32_t height, int32_t width);
/* The mix of a given lambda and, for cutmix, box (NULL: mixup). */
dg_mix dg_mix_of(double lambda, const dg_box *box, int32_t height, int32_t width);

/* Beta(alpha, beta), both > 0: the share of one of two gamma variates (Marsaglia and Tsang, "A Simple Method
 * for Generating Gamma Variables", 2000), in logarithms, so that small shapes do not end in 0/0. */
double dg_rng_beta(dg_rng *rng, double alpha, double beta);

/* The reference of the program's mixing: x, out f32 [batch, channels, height, width], not the same buffer. */
void dg_mix_pixels(const dg_mix *mix, const float *x, int32_t batch, int32_t channels, int32_t height,
                   int32_t width, float *out);
/* Smoothed and mixed targets: labels [batch] of 0..classes-1 -> out f32 [batch, classes]. A label gets
 * 1 - smoothing + smoothing/classes, every other class smoothing/classes. DG_ERR_INVALID names the first
 * label that is out of range. */
dg_status dg_soft_targets(const dg_mix *mix, const int32_t *labels, int32_t batch, int32_t classes,
                          double smoothing, float *out, dg_error *err);

#endif
