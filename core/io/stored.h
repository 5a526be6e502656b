/* stored.h - element types as weight files store them, more than programs compute in, and their values as
 * f32.
 *
 * Names are those of the safetensors format. Bytes are little-endian, as in every file that is read here. */
#ifndef DG_IO_STORED_H
#define DG_IO_STORED_H

#include "digpt/base.h"

typedef enum dg_stored {
    DG_STORED_NONE = 0,
    DG_STORED_F64,
    DG_STORED_F32,
    DG_STORED_F16,
    DG_STORED_BF16,
    DG_STORED_F8_E4M3, /* "fn": no infinities, S.1111.111 is NaN (Micikevicius et al. 2022, table 1) */
    DG_STORED_F8_E5M2, /* as IEEE 754 would have it */
    DG_STORED_I64,
    DG_STORED_I32,
    DG_STORED_I16,
    DG_STORED_I8,
    DG_STORED_U64,
    DG_STORED_U32,
    DG_STORED_U16,
    DG_STORED_U8,
    DG_STORED_BOOL,
    DG_STORED_COUNT
} dg_stored;

/* Bytes of one element; 0 for DG_STORED_NONE. */
size_t dg_stored_size(dg_stored t);
/* "F32"; "?" for DG_STORED_NONE. */
const char *dg_stored_name(dg_stored t);
/* DG_STORED_NONE when there is no such type. */
dg_stored dg_stored_from_name(const char *name);
/* The stored form of a program's type (every one has one), and back (DG_NONE for those that programs lack).
 */
dg_stored dg_stored_from_dtype(dg_dtype t);
dg_dtype dg_stored_to_dtype(dg_stored t);

/* out[i] = element i of `in` (n elements, any alignment) rounded to f32, to nearest, ties to even. */
void dg_stored_to_f32(dg_stored t, const void *in, size_t n, float *out);

#endif
