/* token_cache.h - teacher tokens of K fixed views of each image, written once and read instead of running the
 * teacher.
 *
 * A cache is a folder: cache.json says what it was made with, tokens-NNNNN.safetensors hold it in shards of
 * SHARD images: tensors "view.V" bf16 [images, tokens, width], or "view.V" i8 with "view.V.scale" f32
 * [images, tokens] (a token is its bytes times its scale). Views are those of `data.views`: crops drawn from
 * (seed, sample, view), live or cached. A shard is there whole or not; making a cache again goes on with the
 * first missing one. */
#ifndef DG_TRAIN_TOKEN_CACHE_H
#define DG_TRAIN_TOKEN_CACHE_H

#include "data/loader.h"
#include "train/parts.h"

#define DG_CACHE_SHARD 1024

typedef struct dg_token_cache dg_token_cache;

/* What a cache takes on disk, but for its headers. */
uint64_t dg_token_cache_bytes(const dg_tokenizer_info *tokens, int64_t images, int64_t views, bool int8);
/* Images of the recipe's data that it holds, of `count` that the source has. */
int64_t dg_token_cache_images(const dg_recipe *recipe, int64_t count);

/* Runs the tokenizer of `parts` over data.views views of the recipe's data. progress is told views of images
 * done, of all there are, first of all 0; may be NULL. */
dg_status dg_token_cache_make(const dg_parts *parts, const char *dir, bool int8,
                              void (*progress)(void *user, int64_t done, int64_t total), void *user,
                              dg_error *err);

/* Opens a cache for a recipe: refuses one that was made with another tokenizer, data, image size, crop, seed
 * or number of views, and says what differs. `info` gets what its tokens are. */
dg_status dg_token_cache_open(const char *dir, const dg_recipe *recipe, dg_token_cache **out,
                              dg_tokenizer_info *info, dg_error *err);
void dg_token_cache_close(dg_token_cache *c);

/* The tokens of every sample of a batch: dst f32 [batch, tokens, width]. */
dg_status dg_token_cache_fill(const dg_token_cache *c, const dg_batch *batch, float *dst, dg_error *err);

#endif
