/* shard_paths.h - "train-{000..146}.tar" and "*.tar" to the paths that they stand for. */
#ifndef DG_DATA_SHARD_PATHS_H
#define DG_DATA_SHARD_PATHS_H

#include "digpt/base.h"

typedef struct dg_paths {
    char **items; /* each by dg_strdup */
    size_t count, capacity;
} dg_paths;

/* Appends what `pattern` stands for: braces first ("{a,b}" and "{08..12}", which keeps leading zeros), then
 * glob characters, sorted. DG_ERR_NOT_FOUND if a glob matches nothing. */
dg_status dg_paths_expand(dg_paths *paths, const char *pattern, dg_error *err);
void dg_paths_free(dg_paths *paths);

#endif
