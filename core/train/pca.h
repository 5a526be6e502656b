/* pca.h - vectors as colours: three principal components of many vectors, for pictures of tokens. */
#ifndef DG_TRAIN_PCA_H
#define DG_TRAIN_PCA_H

#include "train/draw.h"

/* Starts as {0}; ends with dg_pca_free. Vectors are taken as directions: they are scaled to length 1 first,
 * since a loss such as cosine leaves the length of a prediction open. */
typedef struct dg_pca {
    int64_t width;
    double *mean; // [width]
    double *axes; // [3, width] orthonormal, by falling variance; the largest entry of each is positive
    double low[3], high[3]; /* the 2nd and 98th percentile of the vectors along each */
} dg_pca;

/* Of x [n, width]; where there are fewer than three directions the other axes are of no variance. Always the
 * same for the same x. DG_ERR_NOMEM. */
dg_status dg_pca_fit(const float *x, int64_t n, int64_t width, dg_pca *pca, dg_error *err);
void dg_pca_free(dg_pca *pca);
/* Red, green and blue are the three components of v [width], from low to high. */
dg_colour dg_pca_colour(const dg_pca *pca, const float *v);

#endif
