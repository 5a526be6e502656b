/* tokenize.h - the tokenizer alone, as a graph. */
#ifndef DG_TRAIN_TOKENIZE_H
#define DG_TRAIN_TOKENIZE_H

#include "train/step.h"

/* Output "tokens": f32 [batch, tokens, width] or i32 [batch, tokens], of the input "image", or
 * "image_tokenizer" where the tokenizer wants another size than the model's; after the precision policy.
 * DG_ERR_INVALID: the recipe has no tokenizer. */
dg_status dg_tokenize_graph(const dg_parts *parts, int64_t batch, dg_dtype compute, dg_graph **graph,
                            dg_error *err);

#endif
