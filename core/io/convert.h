/* convert.h - weights from one naming into another: every tensor's bits stay as they are, only names, the
 * order of axes, and the splitting of query, key and value change. The rules are those of names.h.
 *
 * Converting there and back gives the same bytes, as far as both namings have a place for a tensor. */
#ifndef DG_IO_CONVERT_H
#define DG_IO_CONVERT_H

#include "names.h"

/* The words for namings that users know; "huggingface" is its CLIP for a file with a CLIP tower, else its
 * ViT.
 */
enum { DG_CONVERT_WORDS = 5 };
extern const char *const dg_convert_words[DG_CONVERT_WORDS];

/* Writes what `w` holds of a vision transformer to the safetensors file `path` in the naming of word
 * dg_convert_words[to]. Texts that go with a safetensors file are kept, "format" is "pt".
 *
 * The report, for people, gets the rules that were used, what is left over in the source, what has no place
 * in the target, and what a model of the target also has. DG_ERR_FORMAT: no vision transformer, or one with
 * holes; DG_ERR_MISMATCH: it cannot be a model of that kind. Nothing is written then. */
dg_status dg_convert(const dg_weights *w, int32_t to, const char *path, dg_str *report, dg_error *err);

#endif
