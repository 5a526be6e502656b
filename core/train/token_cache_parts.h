/* token_cache_parts.h - what making and reading a token cache share. */
#ifndef DG_TRAIN_TOKEN_CACHE_PARTS_H
#define DG_TRAIN_TOKEN_CACHE_PARTS_H

#include "train/token_cache.h"

/* What the tokens of a recipe depend on, as text, a line each; dg_free it. NULL when out of memory. */
char *dg_token_cache_key(const dg_recipe *recipe);
/* The first line in which two keys differ, for a message. */
void dg_token_cache_difference(const char *then, const char *now, char *out, size_t size);

#endif
