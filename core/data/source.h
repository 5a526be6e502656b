/* source.h - where images come from: a source is a list of samples, numbered 0..count-1, that any thread may
 * read.
 *
 *   folder     <root>/<class>/.../<file>, classes and files sorted by name (as torchvision's ImageFolder)
 *   tar        shards; WebDataset groups (stem.jpg with stem.cls, stem.txt) or <class>/<file> members; never
 * unpacked list       lines of "path<TAB>label<TAB>caption"; label and caption may be left out synthetic
 * rendered shapes with label, caption and mask; needs nothing
 *
 * Images are .jpg, .jpeg and .png in any case; other files are passed over. All errors of opening name the
 * file, and the line or the byte offset. */
#ifndef DG_DATA_SOURCE_H
#define DG_DATA_SOURCE_H

#include "data/image.h"

typedef struct dg_source dg_source;

/* One sample, read into buffers that are kept between reads. Starts as {0}; one thread's own. */
typedef struct dg_sample {
    int64_t id;
    int32_t label;         /* 0..classes-1, or -1: none */
    bool is_decoded;       /* true: `image` holds the picture; false: `bytes` hold the encoded file */
    bool has_mask;         /* true: `mask` goes with `image` */
    const char *name;      /* path, or member of a tar; valid as long as the source */
    uint8_t *bytes;        /* [size] */
    size_t size, capacity; /* bytes used and allocated */
    dg_image image;
    uint8_t *mask; /* [image.height, image.width]: 0 background, 1 + class */
    size_t mask_capacity;
    char *caption; /* NUL-terminated; "" when there is none */
    size_t caption_capacity;
    char name_buffer[64]; /* for sources whose names are made up */
} dg_sample;

void dg_sample_free(dg_sample *sample);

/* Class folders. DG_ERR_NOT_FOUND: no such folder; DG_ERR_FORMAT: no class, no image. */
dg_status dg_source_open_folder(const char *path, dg_source **source, dg_error *err);

/* Tar shards in the order given. Each of paths[0..n) may hold braces ("{000..146}", "{a,b}") and glob
 * characters. Names, labels and offsets of a shard are scanned once into an index file in cache_dir (made if
 * need be), which is mapped afterwards and made again when the shard's size or time of change differ;
 * cache_dir NULL keeps it in memory. Labels are those of .cls members (integers), else numbers of the sorted
 * names of the members' folders over all shards, else -1. */
dg_status dg_source_open_tar(const char *const *paths, size_t n, const char *cache_dir, dg_source **source,
                             dg_error *err);

/* A list file; relative paths start at its folder. If every label is an integer it is taken as it is, else
 * labels are class names, numbered in sorted order. */
dg_status dg_source_open_list(const char *path, dg_source **source, dg_error *err);

/* Images by path, without labels: paths[0..n) are image files, taken in this order, and folders, of which all images
 * below are taken in the order of their paths. */
dg_status dg_source_open_images(const char *const *paths, size_t n, dg_source **source, dg_error *err);
/* Whether the name ends as an image's. */
bool dg_source_is_image(const char *path);

typedef struct dg_synthetic_config {
    uint64_t seed;
    int64_t count;         /* samples */
    int32_t height, width; /* 8..4096 */
    int32_t classes;  /* 1..80: up to 10, the shape of the main object; above, its shape and its colour */
    double radius[2]; /* 0.05..0.5: of the main object, in shares of the shorter side; drawn between these */
    double turn;      /* 0..180 degrees: objects are turned by so much at most, either way */
    double clutter;   /* 0..1: 0 is a bright object, alone and whole, before a dark grey pattern; 1 has
                         backgrounds of two strong colours, up to three smaller objects, noise of a deviation
                         of up to 30 of 255, and objects that may lie partly outside */
} dg_synthetic_config;

/* Scenes as the recipe's defaults make them: {DG_SYNTHETIC_SCENE, .seed = 1, ...}. */
#define DG_SYNTHETIC_SCENE .radius = {.14, .42}, .turn = 180, .clutter = 1

/* Every sample is a pure function of (seed, id). */
dg_status dg_source_open_synthetic(const dg_synthetic_config *config, dg_source **source, dg_error *err);

void dg_source_close(dg_source *source); /* NULL is fine */

int64_t dg_source_count(const dg_source *source);
/* Number of classes, 0 when nothing has a label; and the name of one ("7" where labels are plain integers,
 * which is written to buffer[size]). */
int32_t dg_source_classes(const dg_source *source);
const char *dg_source_class_name(const dg_source *source, int32_t label, char *buffer, size_t size);
bool dg_source_has_captions(const dg_source *source);
bool dg_source_has_masks(const dg_source *source);
/* A number that differs when the names, the labels or the order of the samples do; for checking a resume. */
uint64_t dg_source_fingerprint(const dg_source *source);
/* One line for people: "tar: 10 shards, 50000 images, 10 classes". */
const char *dg_source_describe(const dg_source *source);

/* Reads sample `id`, a second time if the system fails to (DG_ERR_IO). Thread-safe. The message on failure names
 * the sample. */
dg_status dg_source_read(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err);
/* As above, and decodes it: sample->image is set. max_pixels as in dg_image_decode. */
dg_status dg_source_read_image(const dg_source *source, int64_t id, int64_t max_pixels, dg_sample *sample,
                               dg_error *err);
/* As above, for a part as dg_image_decode_part makes it; of pictures that are not encoded it is the whole. */
dg_status dg_source_read_part(const dg_source *source, int64_t id, int64_t max_pixels, dg_image_choose choose,
                              void *user, dg_sample *sample, dg_image_part *part, dg_error *err);

#endif
