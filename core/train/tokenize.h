/* tokenize.h - the tokenizer alone, as a graph. */
#ifndef DG_TRAIN_TOKENIZE_H
#define DG_TRAIN_TOKENIZE_H

#include "train/step.h"

/* Adds the tokenizer, in the scope "tokenizer", and its input: "image", or "image_tokenizer" where the
 * tokenizer wants another size than the model's. *tokens: [batch, tokens, width], or i32 [batch, tokens]. */
dg_status dg_tokenize_build(const dg_parts *parts, dg_graph *g, int64_t batch, dg_value *tokens,
                            dg_error *err);

/* A graph of that alone. Output "tokens": f32 [batch, tokens, width] or i32 [batch, tokens], after the
 * precision policy. DG_ERR_INVALID: the recipe has no tokenizer. */
dg_status dg_tokenize_graph(const dg_parts *parts, int64_t batch, dg_dtype compute, dg_graph **graph,
                            dg_error *err);

#endif
