/* weights.h - one reader for every kind of weight file: safetensors, PyTorch zip and legacy files, and
 * folders as Hugging Face lays them out (one file, or shards with an index).
 *
 * Files are mapped, not read: opening costs the header only, and tensors of stored files are never copied
 * before they are asked for. Everything that a name, a shape or an offset claims has been checked when open
 * returns; the file must not be truncated by others while it is open. A reader may be used by several threads
 * at once. */
#ifndef DG_IO_WEIGHTS_H
#define DG_IO_WEIGHTS_H

#include "stored.h"

/* One tensor of a file. The pointers live as long as the dg_weights that it is from. */
typedef struct dg_weight {
    const char *name; /* nested names joined by '.' */
    dg_stored dtype;
    int32_t rank;                 /* 0: a scalar */
    int64_t dims[DG_MAX_RANK];    /* each >= 0 */
    int64_t strides[DG_MAX_RANK]; /* in elements, >= 0; PyTorch files may hold views */
    int64_t count;                /* elements */
    size_t bytes;                 /* count * size of an element: what dg_weight_read_raw writes */
    const unsigned char *data;    /* element [0, .., 0], any alignment */
    bool dense;                   /* row-major without gaps: data[0..bytes) is the value */
} dg_weight;

typedef struct dg_weights dg_weights;

/* Opens a file or folder; the kind is told from its bytes, not its name. A folder is searched for
 * model.safetensors[.index.json], pytorch_model.bin[.index.json] and their open_clip_ cousins; an index may
 * also be named itself. Errors name the file, the tensor or member, and the byte. */
dg_status dg_weights_open(const char *path, dg_weights **out, dg_error *err);
/* The same from memory, which must outlive the reader; `where` stands for the path in messages. */
dg_status dg_weights_parse(const void *bytes, size_t size, const char *where, dg_weights **out,
                           dg_error *err);
void dg_weights_close(dg_weights *w);

size_t dg_weights_count(const dg_weights *w);
/* i in [0, count), in the order of names (strcmp). NULL outside. */
const dg_weight *dg_weights_at(const dg_weights *w, size_t i);
const dg_weight *dg_weights_find(const dg_weights *w, const char *name);
/* As find, and an error that names the nearest name there is. */
dg_status dg_weights_need(const dg_weights *w, const char *name, const dg_weight **out, dg_error *err);

/* Text that goes with the tensors: __metadata__ of safetensors; of PyTorch files every scalar beside the
 * state dict
 * ("epoch" -> "3", "args.batch_size" -> "64"), "pytorch.state_dict" (the key under which the state dict was
 * found, "" for the top) and "pytorch.not_executed" (callables that were named, and never called). NULL when
 * not there. */
const char *dg_weights_meta(const dg_weights *w, const char *key);
size_t dg_weights_meta_count(const dg_weights *w);
/* i in [0, meta_count), sorted by key. */
void dg_weights_meta_at(const dg_weights *w, size_t i, const char **key, const char **value);

/* The values in row-major order: as f32 (`room` floats must be enough for count) or as stored (`room` bytes).
 */
dg_status dg_weight_read_f32(const dg_weight *t, float *out, size_t room, dg_error *err);
dg_status dg_weight_read_raw(const dg_weight *t, void *out, size_t room, dg_error *err);
/* Rows [first, first + rows) of axis 0 as f32. */
dg_status dg_weight_read_rows_f32(const dg_weight *t, int64_t first, int64_t rows, float *out, size_t room,
                                  dg_error *err);

/* XXH3-128 over every tensor's name, type, shape and values in the order of names, as 32 hexadecimal digits.
 * Says whether two files hold the same weights, whatever their kind. Reads everything. */
dg_status dg_weights_fingerprint(const dg_weights *w, char out[33], dg_error *err);

/* "F32[768,3,16,16]" into out, which it returns. */
const char *dg_weight_text(const dg_weight *t, char *out, size_t size);

#endif
