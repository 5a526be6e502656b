/* token_error.h - what a tokenizer loses by the precision that a recipe runs it in. */
#ifndef DG_TRAIN_TOKEN_ERROR_H
#define DG_TRAIN_TOKEN_ERROR_H

#include "base/str.h"
#include "plugin/registry.h"
#include "recipe/recipe.h"

/* Runs one batch of the recipe's images through its tokenizer twice: in f32, and as the recipe says
 * (train.precision, tokenizer.precision). *table gets a line for each tap of the tokenizer and one for its
 * tokens: the mean, the least and the first percentile over tokens of the cosine between both, and the norm of
 * the difference over the norm. DG_ERR_UNSUPPORTED: the tokens are ids. */
dg_status dg_token_error(const dg_recipe *recipe, const dg_registry *registry, dg_str *table, dg_error *err);

#endif
