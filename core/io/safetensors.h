/* safetensors.h - the safetensors format: 8 bytes little-endian header length, a JSON header, then the data
 * (https://github.com/huggingface/safetensors, "Format").
 *
 * Reading goes through weights.h. What is refused: a header over 100 MB, or not strict JSON; a duplicate
 * name; an offset out of range, spans that overlap or leave a gap, a span that is not shape times size; rank
 * over DG_MAX_RANK and types of less than a byte (DG_ERR_UNSUPPORTED). */
#ifndef DG_IO_SAFETENSORS_H
#define DG_IO_SAFETENSORS_H

#include "stored.h"

struct dg_weights_builder; /* weights_build.h */

/* Adds every tensor and text of bytes[0..size) to b; `where` names the file in messages. */
dg_status dg_safetensors_parse(const void *bytes, size_t size, const char *where,
                               struct dg_weights_builder *b, dg_error *err);

/* ---- writing */

typedef struct dg_st_tensor {
    const char *name;
    dg_stored dtype;
    int32_t rank;
    int64_t dims[DG_MAX_RANK];
} dg_st_tensor;

typedef struct dg_st_meta {
    const char *key, *value;
} dg_st_meta;

typedef struct dg_st_writer dg_st_writer;

/* Begins path.tmp: header and room for all tensors. The bytes depend on names, types, shapes, values and
 * metadata only, not on the order given: data lie by element size (largest first, so that each is aligned),
 * then by name; metadata by key. Nothing is at `path` before finish. The arguments are copied. */
dg_status dg_st_create(const char *path, const dg_st_tensor *tensors, size_t n, const dg_st_meta *meta,
                       size_t n_meta, dg_st_writer **out, dg_error *err);
/* Appends bytes to tensor i (as numbered in `tensors`); tensors may come in any order and in pieces. */
dg_status dg_st_put(dg_st_writer *w, size_t i, const void *bytes, size_t size, dg_error *err);
/* Checks that every tensor is complete, syncs, renames to path and syncs the folder. Ends the writer either
 * way; on failure path.tmp is removed and an older file at path is as it was. */
dg_status dg_st_finish(dg_st_writer *w, dg_error *err);
/* Ends the writer and removes path.tmp. NULL is no writer. */
void dg_st_abandon(dg_st_writer *w);

/* All at once: data[i] holds tensor i, dense. */
dg_status dg_st_write(const char *path, const dg_st_tensor *tensors, const void *const *data, size_t n,
                      const dg_st_meta *meta, size_t n_meta, dg_error *err);

#endif
