/* randaugment.h - RandAugment (Cubuk et al., 2020) as timm has it: a policy such as "rand-m9-mstd0.5-inc1",
 * what is drawn of it for one picture, and the fifteen operations, byte for byte those of Pillow 9.5.
 *
 * For each of n operations: one of the fifteen, uniform, with replacement; applied with probability p; its
 * level normal around m with deviation mstd, clipped to 0..10; its sign, for those that have one, negated
 * half the time. Levels become arguments by timm's functions. */
#ifndef DG_DATA_RANDAUGMENT_H
#define DG_DATA_RANDAUGMENT_H

#include "augment_pixels.h"
#include "digpt/philox.h"

/* timm's order, of which a draw picks by number. */
typedef enum dg_ra_op {
    DG_RA_AUTO_CONTRAST,
    DG_RA_EQUALIZE,
    DG_RA_INVERT,
    DG_RA_ROTATE,
    DG_RA_POSTERIZE,
    DG_RA_SOLARIZE,
    DG_RA_SOLARIZE_ADD,
    DG_RA_COLOR,
    DG_RA_CONTRAST,
    DG_RA_BRIGHTNESS,
    DG_RA_SHARPNESS,
    DG_RA_SHEAR_X,
    DG_RA_SHEAR_Y,
    DG_RA_TRANSLATE_X,
    DG_RA_TRANSLATE_Y,
    DG_RA_OPS
} dg_ra_op;

#define DG_RA_MAX_STEPS 16
#define DG_RA_TOP 10.0 /* the highest level */

typedef struct dg_randaugment {
    double magnitude;   /* m, 0..10 */
    double deviation;   /* mstd, 0..100; 0: every level is m */
    double probability; /* p */
    int32_t steps;      /* n, 0..DG_RA_MAX_STEPS; 0: nothing is done */
    bool increasing;    /* inc: a higher level always changes more */
    uint8_t fill[3];    /* where a geometric operation shows nothing */
} dg_randaugment;

/* Parses "rand" and any of -mM, -mstdS, -incI, -nN, -pP; left out: 10, 0, 0, 2, 0.5. The fill is the ImageNet
 * mean in bytes. DG_ERR_INVALID names the part of the text that is wrong. */
dg_status dg_randaugment_parse(const char *text, dg_randaugment *policy, dg_error *err);

/* One drawn operation. */
typedef struct dg_ra_step {
    dg_ra_op op;
    bool applied;
    double level;    /* 0..10 */
    bool negated;    /* drawn for every operation, of use to those with a sign */
    double argument; /* degrees, bits, threshold, factor, share of the side; 0 where there is none */
} dg_ra_step;

/* timm's name: "Rotate", "PosterizeIncreasing". */
const char *dg_ra_name(const dg_randaugment *policy, dg_ra_op op);
double dg_ra_argument(const dg_randaugment *policy, dg_ra_op op, double level, bool negated);
/* Draws policy->steps operations into steps, applied or not. */
void dg_randaugment_draw(const dg_randaugment *policy, dg_rng *rng, dg_ra_step steps[DG_RA_MAX_STEPS]);

/* Applies one operation to the picture. DG_ERR_NOMEM is the only failure. */
dg_status dg_ra_apply(dg_pixels p, dg_ra_op op, double argument, const uint8_t fill[3], dg_scratch *scratch,
                      dg_error *err);
/* Draws, and applies what is to be. */
dg_status dg_randaugment_run(const dg_randaugment *policy, dg_rng *rng, dg_pixels p, dg_scratch *scratch,
                             dg_error *err);

#endif
