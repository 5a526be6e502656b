/* source_parts.h - what the kinds of sources share: the table of a kind, sorted class names, sample buffers.
 */
#ifndef DG_DATA_SOURCE_PARTS_H
#define DG_DATA_SOURCE_PARTS_H

#include "source.h"

#include "base/mem.h"

/* A file of more bytes than this is no photograph. */
#define DG_MAX_FILE_BYTES ((uint64_t)1 << 30)
#define DG_MAX_CAPTION_BYTES ((size_t)65536)
#define DG_MAX_LABEL 9999999

typedef struct dg_source_kind {
    /* Fills bytes or image, label, name, and caption and mask where there are any; the rest is cleared
     * before. */
    dg_status (*read)(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err);
    void (*close)(dg_source *source); /* frees what is not in the arena; not the source */
} dg_source_kind;

/* Every source begins with this. */
struct dg_source {
    const dg_source_kind *kind;
    int64_t count;
    int32_t classes;
    const char *const *class_names; /* [classes], or NULL: labels are plain integers */
    bool has_captions, has_masks;
    uint64_t fingerprint;
    char description[256];
    dg_arena arena;
};

/* Allocates a source of `size` bytes; freed by dg_source_close. */
dg_status dg_source_new(size_t size, const dg_source_kind *kind, void *source_pp, dg_error *err);

/* A set of names, numbered in sorted order once it is complete. Names are copied into the arena. Starts as
 * {0}. */
typedef struct dg_names {
    const char **names;
    size_t count, capacity;
} dg_names;
dg_status dg_names_add(dg_names *set, dg_arena *arena, const char *name, dg_error *err);
/* Sorts and removes doubles. */
void dg_names_finish(dg_names *set);
/* The number of a name in a finished set, or -1. */
int32_t dg_names_find(const dg_names *set, const char *name);
/* Makes a finished set the classes of a source. */
dg_status dg_names_to_classes(const dg_names *set, dg_source *source, dg_error *err);

/* Sources of files on disk (folder and list) are a table of these. */
typedef struct dg_file_entry {
    const char *path;
    const char *caption; /* "" for none */
    int32_t label;
} dg_file_entry;
/* Takes the entries (made by dg_grow), also when it fails. The source's arena is `arena`'s from then on. */
dg_status dg_source_of_files(dg_file_entry *entries, size_t count, dg_arena *arena, const dg_names *classes,
                             const char *description, dg_source **source, dg_error *err);

/* Reads size bytes at `at` of an open file; a short file is DG_ERR_FORMAT. */
dg_status dg_read_at(int fd, uint64_t at, void *bytes, size_t size, dg_error *err);
dg_status dg_sample_reserve(dg_sample *sample, size_t size, dg_error *err);
/* Room for a caption of `length` bytes and its NUL, which is written. */
dg_status dg_sample_caption(dg_sample *sample, size_t length, dg_error *err);
dg_status dg_sample_mask(dg_sample *sample, size_t size, dg_error *err);

/* .jpg, .jpeg, .png in any case, and no hidden file. `name` may hold folders. */
bool dg_is_image_name(const char *name);
/* A label in decimal, 0..DG_MAX_LABEL, and nothing else; -1 if it is none. */
int32_t dg_parse_label(const char *text, size_t length);

#endif
