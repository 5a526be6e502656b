/* tar_index.h - what is where in one tar file: scanned once, kept in an index file, mapped from then on.
 *
 * USTAR, PAX (long paths, sizes) and GNU (long names, base-256 sizes) members are understood. Members are
 * only ever read in place: their names are labels and text for messages, never paths on disk. A group is a
 * run of members of one stem with one image in it; stem.cls (an integer) gives its label, stem.txt its
 * caption.
 *
 * The index file: a dg_tar_header, then entries, then classes, then strings, all of this machine's byte
 * order. */
#ifndef DG_DATA_TAR_INDEX_H
#define DG_DATA_TAR_INDEX_H

#include "base/file.h"

typedef struct dg_tar_entry {
    uint64_t at, size;   /* of the image's bytes in the tar */
    uint64_t name;       /* offset into strings */
    uint64_t caption_at; /* of stem.txt's bytes in the tar */
    uint32_t caption_size;
    int32_t label;       /* stem.cls, or -1 */
    int32_t class_index; /* the folder's number in this index's classes, or -1 */
    uint32_t zero;
} dg_tar_entry;

typedef struct dg_tar_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t tar_bytes; /* of the tar as it was scanned, and when it was last changed */
    int64_t changed_s, changed_ns;
    uint64_t entries, classes, string_bytes;
    uint64_t hash; /* XXH3 of all that follows the header */
} dg_tar_header;

typedef struct dg_tar_index {
    const dg_tar_header *header;
    const dg_tar_entry *entries; /* [header->entries] */
    const uint64_t *classes;     /* [header->classes]: offsets into strings, in order of first use */
    const char *strings;         /* [header->string_bytes], each NUL-terminated */
    dg_map map;                  /* the index file, or empty */
    void *block;                 /* the index in memory, or NULL */
} dg_tar_index;

/* Finds or makes the index of the open tar `fd`. cache_dir NULL: in memory only. An index file that cannot be
 * written is a warning. */
dg_status dg_tar_index_open(const char *path, int fd, const char *cache_dir, dg_tar_index *index,
                            dg_error *err);
void dg_tar_index_close(dg_tar_index *index);

/* Scans a tar into a new index in memory (a header and what follows): dg_free it. */
dg_status dg_tar_scan(int fd, uint64_t tar_bytes, void **index, size_t *size, dg_error *err);

#endif
