/* collapse.h - have features collapsed? Two numbers that say so without labels. */
#ifndef DG_TRAIN_COLLAPSE_H
#define DG_TRAIN_COLLAPSE_H

#include "digpt/base.h"

typedef struct dg_collapse {
    /* exp of the entropy of the normalised singular values of the centred features: 1 when they lie on a
     * line, `width` when they fill the space evenly (Roy and Vetterli, "The effective rank", EUSIPCO 2007).
     * 0: all features are the same. */
    double effective_rank;
    /* Mean over the dimensions of the standard deviation of L2-normalised features: 0 when all are the same,
     * about 1 / sqrt(width) when they spread evenly (Chen and He, "Exploring Simple Siamese Representation
     * Learning", CVPR 2021). */
    double spread;
} dg_collapse;

/* x f32 [n, width]. Takes 2 n width^2 + 4/3 width^3 operations in double precision, on one thread and in a
 * fixed order: about 2 s for 5000 x 768; and width^2 doubles of memory. */
dg_status dg_collapse_measure(const float *x, int64_t n, int64_t width, dg_collapse *out, dg_error *err);

/* The eigenvalues of the symmetric matrix a [n, n], in no order; a is spoilt. Householder's reduction to
 * three diagonals, then QL with implicit shifts (Martin, Reinsch, Wilkinson, 1968). */
dg_status dg_symmetric_eigenvalues(double *a, int64_t n, double *values, dg_error *err);

#endif
