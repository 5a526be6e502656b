/* knn.h - weighted nearest neighbours, as DINO evaluates features (Caron et al., "Emerging Properties in
 * Self-Supervised Vision Transformers", ICCV 2021, after Wu et al., CVPR 2018): every image of a bank has a
 * vote of exp(cosine / temperature) for its class; of them the k nearest vote. */
#ifndef DG_TRAIN_KNN_H
#define DG_TRAIN_KNN_H

#include "train/features.h"

/* The nearest images of a bank, nearest first; of equally near ones the smaller number first. */
typedef struct dg_neighbours {
    int64_t n, k;
    float *cosine;  // [n, k]
    int64_t *index; // [n, k] into the bank
} dg_neighbours;

/* Similarities are f32 products of a program of the backend, which holds the bank in pieces of at most 65536
 * images. k must not be more than the bank has. Free *out with dg_neighbours_free, also after a failure. */
dg_status dg_knn_search(const dg_parts *parts, const dg_feature_set *bank, const dg_feature_set *queries,
                        int64_t k, dg_neighbours *out, dg_error *err);
void dg_neighbours_free(dg_neighbours *n);

typedef struct dg_knn_score {
    double top1, top5; /* shares of 1; a class without a vote is not among the five */
} dg_knn_score;

/* The vote of the first k <= found->k neighbours of each query. Labels are in [0, classes). */
dg_status dg_knn_vote(const dg_neighbours *found, const dg_feature_set *bank, const dg_feature_set *queries,
                      int32_t classes, int64_t k, double temperature, dg_knn_score *out, dg_error *err);

#endif
