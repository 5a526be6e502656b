/* dataset.h - the source and the loader that a recipe's `data` section asks for. */
#ifndef DG_TRAIN_DATASET_H
#define DG_TRAIN_DATASET_H

#include "data/loader.h"
#include "train/parts.h"

/* cache_dir: where indexes of tar shards are kept; NULL: in memory only. err->key names the recipe key. */
dg_status dg_dataset_open(const dg_recipe *recipe, const char *cache_dir, dg_source **source, dg_error *err);

/* The data to evaluate on: data.val_path, or other rendered shapes; *source NULL when the recipe has none.
 * Its classes must be the training source's; training NULL: they are not compared. */
dg_status dg_dataset_open_validation(const dg_recipe *recipe, const char *cache_dir,
                                     const dg_source *training, dg_source **source, dg_error *err);

/* The training loader's configuration: pictures for the student, and a second one where the tokenizer wants
 * another size. `first` and `last` count runs of the program, of which an optimizer step has `accumulate`. */
dg_loader_config dg_dataset_config(const dg_parts *parts, int64_t first, int64_t last);

#endif
