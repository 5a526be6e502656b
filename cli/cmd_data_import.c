/* cmd_data_import.c - `digpt data import`: public sets in their official form into tar shards.
 *
 * cifar10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the binary version, a
 * tar inside gzip with data_batch_1..5.bin and test_batch.bin, each a row of records: one byte of label, then
 * 32 x 32 bytes of red, of green, of blue. */
#include "data.h"

#include <zlib.h>

#include "base/file.h"
#include "base/log.h"
#include "data/tar_write.h"

enum { BLOCK = 512, SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE };

static const char *const class_names[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                          "dog",      "frog",       "horse", "ship", "truck"};
enum { N_CLASSES = sizeof class_names / sizeof class_names[0] };

enum { TRAIN, TEST };
static const struct {
    const char *name, *pattern;
    int64_t official; /* images */
} parts[] = {[TRAIN] = {"training", "train-%05d.tar", 50000}, [TEST] = {"test", "test-%05d.tar", 10000}};

typedef struct import {
    const char *path;
    gzFile file;
    int quality; /* 0: PNG */
    dg_tar_writer *writers[2];
    int64_t count[2];
    cli_progress progress;
    dg_error *err;
} import;

/* ---- the archive */

static dg_status read_exactly(import *im, void *bytes, unsigned n)
{
    const int got = gzread(im->file, bytes, n);
    if (got >= 0 && (unsigned)got == n) return DG_OK;
    int code;
    const char *why = gzerror(im->file, &code);
    return dg_fail(im->err, DG_ERR_FORMAT, "'%s': %s at byte %lld of what is inside: fetch it again",
                   im->path, got < 0 ? why : "it ends", (long long)gztell(im->file));
}

/* To the very end, where gzip has its checksum. */
static dg_status drain(import *im)
{
    char part[4096];
    int got, code;
    while ((got = gzread(im->file, part, sizeof part)) > 0) continue;
    const char *why = gzerror(im->file, &code);
    if (got == 0 && code != Z_BUF_ERROR) return DG_OK;
    return dg_fail(im->err, DG_ERR_FORMAT, "'%s': %s: fetch it again", im->path,
                   got < 0 ? why : "it ends before its checksum");
}

static dg_status skip(import *im, uint64_t n)
{
    char part[4096];
    for (; n > 0; n -= n < sizeof part ? n : sizeof part)
        DG_TRY(read_exactly(im, part, (unsigned)(n < sizeof part ? n : sizeof part)));
    return DG_OK;
}

static bool octal(const unsigned char *field, int n, uint64_t *value)
{
    int i = 0;
    *value = 0;
    while (i < n && field[i] == ' ') i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    return i == n || field[i] == 0 || field[i] == ' ';
}

/* The next member's name and size; *name is "" at the end mark. */
static dg_status next_member(import *im, char name[101], uint64_t *size)
{
    unsigned char h[BLOCK];
    uint64_t said = 0, sum = 0;
    DG_TRY(read_exactly(im, h, BLOCK));
    for (int i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : h[i];
    memcpy(name, h, 100);
    name[100] = 0;
    if (sum == 8 * ' ') return DG_OK; /* a block of zeros */
    if (!octal(h + 148, 8, &said) || said != sum || !octal(h + 124, 12, size))
        return dg_fail(
            im->err, DG_ERR_FORMAT,
            "'%s' is not the CIFAR-10 binary archive: no tar header at byte %lld of what is inside; "
            "cifar-10-binary.tar.gz is wanted, not the Python or Matlab version",
            im->path, (long long)gztell(im->file) - BLOCK);
    return DG_OK;
}

/* TRAIN, TEST, or -1 for a member that is neither. */
static int part_of(const char *name)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    if (!strcmp(base, "test_batch.bin")) return TEST;
    return !strncmp(base, "data_batch_", 11) && strstr(base, ".bin") ? TRAIN : -1;
}

/* ---- images */

static dg_status add_image(import *im, int part, const unsigned char record[RECORD])
{
    uint8_t pixels[SIDE * SIDE * 3]; // [32, 32, 3]
    char name[64];
    void *bytes = NULL;
    size_t size = 0;
    for (int i = 0; i < PLANE; i++)
        for (int c = 0; c < 3; c++) pixels[3 * i + c] = record[1 + c * PLANE + i];
    dg_status s = im->quality ? dg_image_encode_jpeg(pixels, SIDE, SIDE, im->quality, &bytes, &size, im->err)
                              : dg_image_encode_png(pixels, SIDE, SIDE, &bytes, &size, im->err);
    snprintf(name, sizeof name, "%s/%05lld.%s", class_names[record[0]], (long long)im->count[part]++,
             im->quality ? "jpg" : "png");
    if (s == DG_OK) s = dg_tar_add(im->writers[part], name, bytes, size, im->err);
    dg_free(bytes);
    return s;
}

static dg_status add_batch(import *im, int part, const char *name, uint64_t size)
{
    unsigned char record[RECORD];
    if (size % RECORD)
        return dg_fail(im->err, DG_ERR_FORMAT,
                       "'%s': '%s' has %llu bytes, which is no number of records of %d bytes", im->path, name,
                       (unsigned long long)size, RECORD);
    for (uint64_t i = 0; i < size / RECORD; i++) {
        DG_TRY(read_exactly(im, record, RECORD));
        if (record[0] >= N_CLASSES)
            return dg_fail(im->err, DG_ERR_FORMAT,
                           "'%s': '%s': record %llu has the label %d; there are 0 to %d", im->path, name,
                           (unsigned long long)i, record[0], N_CLASSES - 1);
        DG_TRY(add_image(im, part, record));
        cli_progress_show(&im->progress, im->count[TRAIN] + im->count[TEST]);
    }
    return DG_OK;
}

static dg_status add_all(import *im)
{
    for (;;) {
        char name[101];
        uint64_t size = 0;
        DG_TRY(next_member(im, name, &size));
        if (!name[0]) break;
        const int part = part_of(name);
        DG_TRY(part < 0 ? skip(im, size) : add_batch(im, part, name, size));
        DG_TRY(skip(im, (BLOCK - size % BLOCK) % BLOCK));
    }
    DG_TRY(drain(im));
    for (int i = 0; i < 2; i++) {
        if (im->count[i] == 0)
            return dg_fail(im->err, DG_ERR_FORMAT, "'%s' has no %s images: is it cifar-10-binary.tar.gz?",
                           im->path, parts[i].name);
        if (im->count[i] != parts[i].official)
            dg_logf(DG_LOG_WARNING, "'%s' has %lld %s images; the official archive has %lld", im->path,
                    (long long)im->count[i], parts[i].name, (long long)parts[i].official);
    }
    return DG_OK;
}

static dg_status import_all(import *im, const char *folder, int64_t per_shard, size_t n_shards[2])
{
    dg_status s = DG_OK;
    im->file = gzopen(im->path, "rbe");
    if (!im->file) s = dg_fail(im->err, DG_ERR_NOT_FOUND, "cannot open '%s'", im->path);
    for (int i = 0; i < 2 && s == DG_OK; i++) {
        char *pattern = dg_path_join(folder, parts[i].pattern);
        s = pattern ? dg_tar_create(pattern, per_shard, 0, &im->writers[i], im->err)
                    : dg_fail(im->err, DG_ERR_NOMEM, "out of memory");
        dg_free(pattern);
    }
    if (s == DG_OK) s = add_all(im);
    cli_progress_end(&im->progress);
    if (im->file) gzclose_r(im->file);
    for (int i = 0; i < 2; i++) {
        if (s == DG_OK)
            s = dg_tar_finish(im->writers[i], &n_shards[i], im->err);
        else
            dg_tar_abandon(im->writers[i]);
    }
    return s;
}

static int run(const cli_args *args)
{
    const char *format = cli_value(args, "format");
    int64_t quality = 95, per_shard = 10000;
    if (strcmp(args->words[0], "cifar10") != 0)
        return cli_usage("data import: the set '%s' is not known; there is cifar10", args->words[0]);
    if (format && strcmp(format, "png") != 0 && strcmp(format, "jpeg") != 0)
        return cli_usage("data import: --format %s: png or jpeg is needed", format);
    if (!cli_number(args, "quality", 1, 100, &quality) ||
        !cli_number(args, "images", 1, 100000000, &per_shard))
        return CLI_USAGE;
    dg_error err = DG_ERROR_INIT;
    size_t n_shards[2];
import im = {.path = args->words[1], .quality = format && !strcmp(format, "jpeg") ?(int) quality: 0, .progress = {.what = "images", .total = parts[TRAIN].official + parts[TEST].official }, .err = & err };
    if (import_all(&im, args->words[2], per_shard, n_shards) != DG_OK) return cli_fail(&err);
    printf("%lld training images in %zu shards and %lld test images in %zu, in %s\n",
           (long long)im.count[TRAIN], n_shards[TRAIN], (long long)im.count[TEST], n_shards[TEST],
           args->words[2]);
    return CLI_OK;
}

static const cli_option options[] = {
    {"format", "FORMAT", "png (the default; exact) or jpeg"},
    {"quality", "1..100", "of JPEGs (95)"},
    {"images", "N", "images in a shard, at most (10000)"},
    {NULL, NULL, NULL},
};

const cli_command cmd_data_import = {
    .name = "data import",
    .words = "cifar10 FILE FOLDER",
    .least = 3,
    .most = 3,
    .help = "put a public set of images into tar shards",
    .more =
        "FILE is the official cifar-10-binary.tar.gz. FOLDER gets train-*.tar and test-*.tar with members\n"
        "<class>/<number>, for `data.source: tar`.",
    .options = options,
    .run = run};
