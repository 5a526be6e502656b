/* tar_write.h - writes tar shards of at most so many members or bytes, the same bytes for the same members.
 *
 * USTAR, with PAX headers for names that do not fit (POSIX.1-2017, "pax Interchange Format"); owner 0, mode
 * 644 and time 0. All shards appear under their names at the end, together; before that they are NAME.tmp. */
#ifndef DG_DATA_TAR_WRITE_H
#define DG_DATA_TAR_WRITE_H

#include "digpt/base.h"

typedef struct dg_tar_writer dg_tar_writer;

/* `pattern` has one %d or %0Nd, which becomes the shard's number from 0. A shard ends after most_members
 * members, or before it would hold more than most_bytes bytes of them (0: no such limit). A shard that is
 * there already is never replaced: DG_ERR_INVALID. */
dg_status dg_tar_create(const char *pattern, int64_t most_members, int64_t most_bytes, dg_tar_writer **out,
                        dg_error *err);
/* `name` has no leading slash. */
dg_status dg_tar_add(dg_tar_writer *w, const char *name, const void *bytes, size_t size, dg_error *err);
/* Syncs and names the shards; *n is how many. Ends the writer either way; on failure nothing is left. */
dg_status dg_tar_finish(dg_tar_writer *w, size_t *n, dg_error *err);
/* Ends the writer and removes what it has written. NULL is no writer. */
void dg_tar_abandon(dg_tar_writer *w);

#endif
