/* features.h - what a frozen encoder says of pictures, one vector each: for neighbours, linear probes and
 * export.
 *
 * A vector is the mean over the patch tokens, or the class token, after some of the encoder's blocks and, if
 * asked for, its final norm: LayerNorm with the tensors "norm.*" where the weights have them (MAE's encoder
 * has), without weights where they have not (D-iGPT's has not). Pictures are central crops, as in every
 * evaluation. */
#ifndef DG_TRAIN_FEATURES_H
#define DG_TRAIN_FEATURES_H

#include "data/loader.h"
#include "train/classify.h"
#include "train/inputs.h"
#include "train/state.h"

typedef struct dg_feature_spec {
    int64_t layer; /* blocks; 0: all */
    dg_pool pool;
    bool norm; /* of every token, before the pooling */
} dg_feature_spec;

/* SECTION.layer, .pool and .norm of a recipe ("knn", "probe"). */
dg_feature_spec dg_feature_spec_read(const dg_recipe *recipe, const char *section);

/* Features of n images. Starts as {0}; ends with dg_feature_set_free. */
typedef struct dg_feature_set {
    int64_t n, width;
    float *x;        // [n, width]
    int32_t *labels; // [n]; -1: none
    int64_t *ids;    // [n] of the samples in their source
} dg_feature_set;
void dg_feature_set_free(dg_feature_set *f);

/* Every label is in [0, classes), or the error names the first sample of the `what` data that has another
 * one, or none. */
dg_status dg_features_check_labels(const dg_feature_set *f, int32_t classes, const char *what, dg_error *err);

/* The encoder as a program. Starts as {0}; ends with dg_extractor_close. */
typedef struct dg_extractor {
    const dg_parts *parts;
    dg_feature_spec spec;
    dg_dtype compute;
    const dg_state *state; /* after dg_extractor_bind */
    dg_graph *graph;
    dg_program *program;
    dg_inputs inputs;
    dg_backend_exe *exe;
    int64_t batch, width;
    float *out; // [batch, width]
} dg_extractor;

/* Builds the program. Nothing is bound yet: `graph` is for dg_state_init and dg_state_load. */
dg_status dg_extractor_open(const dg_parts *parts, const dg_feature_spec *spec, int64_t batch,
                            dg_dtype compute, dg_extractor *e, dg_error *err);
/* Binds it to a state, which must outlive it. `trained`: the graph whose leaves the state has already; what
 * it lacks of the extractor's gets its first values. NULL: the state has them all. */
dg_status dg_extractor_bind(dg_extractor *e, dg_state *state, const dg_graph *trained, dg_error *err);
void dg_extractor_close(dg_extractor *e);

/* Which samples of a source. */
typedef struct dg_feature_range {
    int64_t first; /* only the samples below this id; 0: all */
    int64_t most;  /* of them at most so many, drawn by the run's seed; 0: all, in the source's order */
} dg_feature_range;

/* Runs over the source. A feature that is not finite is an error that names the sample. */
dg_status dg_features_extract(dg_extractor *e, const dg_source *source, dg_feature_range range,
                              dg_feature_set *out, dg_error *err);

/* The same through a file DIR/KEY.safetensors, where KEY stands for all that features depend on: the weights
 * in the state, the source's fingerprint and range, image size, layer, pooling, norm, precision and backend.
 * A file of another key, or a broken one, is not used but made anew. dir NULL: no file. *hit (may be NULL):
 * it was there. */
dg_status dg_features_cached(dg_extractor *e, const dg_source *source, dg_feature_range range,
                             const char *dir, dg_feature_set *out, bool *hit, dg_error *err);

/* Writes features, labels and ids as safetensors, with `key` among its metadata. */
dg_status dg_features_write(const char *path, const char *key, const dg_feature_set *f, dg_error *err);
/* Writes the features alone as numpy's .npy, version 1.0: little-endian f32 [n, width], in C order. */
dg_status dg_features_write_npy(const char *path, const dg_feature_set *f, dg_error *err);

#endif
