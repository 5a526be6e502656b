/* weights_build.h - how the readers of single formats fill a dg_weights. Inside the io room only. */
#ifndef DG_IO_WEIGHTS_BUILD_H
#define DG_IO_WEIGHTS_BUILD_H

#include "weights.h"
#include "base/mem.h"

/* Grows while files are parsed; everything it points to lies in `arena` or in the files' bytes. */
typedef struct dg_weights_builder {
    dg_arena arena; /* names, metadata, inflated members; handed to the dg_weights */
    dg_weight *tensors;
    size_t n, capacity;
    struct dg_meta_pair {
        const char *key, *value;
    } * meta;
    size_t n_meta, meta_capacity;
} dg_weights_builder;

/* Copies *t and its name. The caller has checked that the data lie within its bytes; count, bytes and dense
 * are set here from dtype, rank, dims and strides, overflow checked. Duplicates are found at the end, over
 * all files. */
dg_status dg_build_tensor(dg_weights_builder *b, const dg_weight *t, const char *where, dg_error *err);
/* Copies both. Of equal keys, as shards have, one is kept. */
dg_status dg_build_meta(dg_weights_builder *b, const char *key, const char *value, dg_error *err);

/* count = product of dims, bytes = count * size; an error that names the tensor when either overflows. */
dg_status dg_weight_extent(dg_weight *t, const char *where, dg_error *err);
/* Row-major strides from dims. */
void dg_weight_set_dense(dg_weight *t);

#endif
