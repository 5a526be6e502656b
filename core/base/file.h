/* file.h - whole files, paths, and writes that survive a crash. All failures name the path and errno's text.
 */
#ifndef DG_BASE_FILE_H
#define DG_BASE_FILE_H

#include "digpt/base.h"

/* Reads a whole file; *bytes is NUL-terminated past its end and freed with dg_free. Refuses more than
 * `limit`. */
dg_status dg_file_read(const char *path, size_t limit, char **bytes, size_t *size, dg_error *err);
/* Writes path.tmp, syncs it, renames it over path, syncs the folder: readers see the old file or the new one.
 */
dg_status dg_file_write_atomic(const char *path, const void *bytes, size_t size, dg_error *err);
/* write(2) until all is written. */
dg_status dg_fd_write_all(int fd, const void *bytes, size_t size, const char *path, dg_error *err);
/* fsync of a folder, so that a rename in it lasts. */
dg_status dg_dir_sync(const char *path, dg_error *err);
/* mkdir -p. */
dg_status dg_dir_make(const char *path, dg_error *err);
/* rm -r of one folder; a folder that is not there is no error. Does not follow links. */
dg_status dg_dir_remove(const char *path, dg_error *err);
bool dg_path_is_file(const char *path);
bool dg_path_is_dir(const char *path);
/* "dir/name", or name when it is absolute or dir is empty; dg_free it. NULL when out of memory. */
char *dg_path_join(const char *dir, const char *name);
/* The folder of a path ("." when it has none); dg_free it. */
char *dg_path_dir(const char *path);

/* A whole file mapped read-only. */
typedef struct dg_map {
    const unsigned char *bytes;
    size_t size;
} dg_map;
dg_status dg_map_open(const char *path, dg_map *map, dg_error *err);
void dg_map_close(dg_map *map);

#endif
