/* cmd_data_pack.c - `digpt data pack`: class folders into tar shards, the same bytes every time. */
#include "data.h"

#include <stdlib.h>

#include "base/log.h"
#include "data/resample.h"
#include "data/tar_write.h"

/* One image on its way into a shard. */
typedef struct parcel {
    void *bytes;
    size_t size;
    char *name, *why; /* why: it cannot be used */
} parcel;

typedef struct packing {
    const dg_source *source;
    const char *root;
    int64_t side; /* 0: as they are */
    int quality;
    int64_t first;   /* number of parcels[0] */
    parcel *parcels; /* [chunk] */
    struct tools {
        dg_sample sample;
        dg_resampler resampler;
    } * tools; /* [threads] */
    int64_t n_left_out;
} packing;

/* <class>/<file>: folders inside a class become part of the file's name, since a reader takes the last folder
 * for the class. A picture that was made smaller is a JPEG. */
static char *member_name(const packing *p, const dg_sample *sample, bool resized)
{
    char number[32];
    const char *class_name = dg_source_class_name(p->source, sample->label, number, sizeof number);
    const char *rest = sample->name + strlen(p->root);
    rest += strspn(rest, "/");
    rest += strlen(class_name);
    rest += strspn(rest, "/");
    dg_str s = {0};
    dg_str_printf(&s, "%s/", class_name);
    const size_t at = s.length;
    dg_str_puts(&s, rest);
    for (char *c = s.text ? s.text + at : NULL; c && *c; c++)
        if (*c == '/') *c = '_';
    if (resized && s.text) {
        s.length = (size_t)(strrchr(s.text, '.') - s.text);
        s.text[s.length] = 0;
        dg_str_puts(&s, ".jpg");
    }
    if (!s.failed) return s.text;
    dg_str_free(&s);
    return NULL;
}

/* Shorter side to `side`, the longer one rounded down, as torchvision's Resize does. */
static dg_status shrink(const packing *p, struct tools *t, parcel *out, dg_error *err)
{
    const dg_image *image = &t->sample.image;
    const int64_t w = image->width, h = image->height, shorter = w < h ? w : h;
    const int32_t new_w = (int32_t)(w == shorter ? p->side : p->side * w / h);
    const int32_t new_h = (int32_t)(h == shorter ? p->side : p->side * h / w);
    const dg_view view = dg_view_of_box((dg_box){0, 0, image->height, image->width}, new_h, new_w);
    uint8_t *pixels = dg_calloc((size_t)new_w * (size_t)new_h, 3); // [new_h, new_w, 3]
    dg_status s = pixels ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "no memory for %d x %d pixels", new_w, new_h);
    if (s == DG_OK)
        s = dg_resample(&t->resampler, image->pixels, image->height, image->width, &view, pixels, err);
    if (s == DG_OK) s = dg_image_encode_jpeg(pixels, new_w, new_h, p->quality, &out->bytes, &out->size, err);
    dg_free(pixels);
    return s;
}

/* The file's own bytes, unless it is larger than wanted. */
static dg_status make(const packing *p, struct tools *t, int64_t id, parcel *out, dg_error *err)
{
    dg_sample *sample = &t->sample;
    int32_t w, h;
    DG_TRY(dg_source_read(p->source, id, sample, err));
    dg_status s = dg_image_read_size(sample->bytes, sample->size, &w, &h, err);
    if (s == DG_OK && p->side) s = dg_image_decode(sample->bytes, sample->size, 0, &sample->image, err);
    const bool large = s == DG_OK && p->side && (w < h ? w : h) > p->side;
    if (large) s = shrink(p, t, out, err);
    if (s != DG_OK) {
        dg_fail_in(err, "'%s'", sample->name);
        return s;
    }
    if (!large) { /* the sample's buffer goes into the shard, and it makes a new one */
        out->bytes = sample->bytes;
        out->size = sample->size;
        sample->bytes = NULL;
        sample->capacity = 0;
    }
    out->name = member_name(p, sample, large);
    return out->name ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
}

static void make_parcel(void *user, int thread, int64_t i)
{
    packing *p = user;
    parcel *out = &p->parcels[i - p->first];
    dg_error err = DG_ERROR_INIT;
    if (make(p, &p->tools[thread], i, out, &err) == DG_OK) return;
    out->why = dg_strdup(err.message);
    dg_free(out->bytes);
    out->bytes = NULL;
}

static dg_status send(packing *p, int64_t n, dg_tar_writer *w, dg_error *err)
{
    dg_status s = DG_OK;
    for (int64_t i = 0; i < n; i++) {
        parcel *q = &p->parcels[i];
        if (q->bytes && s == DG_OK)
            s = dg_tar_add(w, q->name, q->bytes, q->size, err);
        else if (!q->bytes) {
            p->n_left_out++;
            dg_logf(DG_LOG_WARNING, "left out: %s", q->why ? q->why : "out of memory");
        }
        dg_free(q->bytes);
        dg_free(q->name);
        dg_free(q->why);
        *q = (parcel){0};
    }
    return s;
}

static dg_status pack_all(packing *p, int threads, dg_tar_writer *w, dg_error *err)
{
    const int64_t total = dg_source_count(p->source), chunk = 64 * threads;
    cli_progress progress = {.what = "images", .total = total};
    p->parcels = dg_calloc((size_t)chunk, sizeof *p->parcels);
    p->tools = dg_calloc((size_t)threads, sizeof *p->tools);
    dg_status s = p->parcels && p->tools ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (p->first = 0; s == DG_OK && p->first < total; p->first += chunk) {
        const int64_t n = total - p->first < chunk ? total - p->first : chunk;
        s = cli_each(threads, p->first, n, make_parcel, p, &progress, err);
        if (s == DG_OK) s = send(p, n, w, err);
    }
    cli_progress_end(&progress);
    for (int i = 0; p->tools && i < threads; i++) {
        dg_sample_free(&p->tools[i].sample);
        dg_resampler_free(&p->tools[i].resampler);
    }
    dg_free(p->tools);
    dg_free(p->parcels);
    if (s == DG_OK && p->n_left_out == total)
        s = dg_fail(err, DG_ERR_FORMAT, "not one of the %lld images can be used", (long long)total);
    return s;
}

static int run(const cli_args *args)
{
    int64_t most = 10000, bytes = 0, quality = 95;
    packing p = {.root = args->words[0]};
    int threads;
    if (!cli_threads(args, &threads) || !cli_number(args, "images", 1, 100000000, &most) ||
        !cli_number(args, "bytes", 1, (int64_t)1 << 50, &bytes) ||
        !cli_number(args, "size", 1, 65535, &p.side) || !cli_number(args, "quality", 1, 100, &quality))
        return CLI_USAGE;
    p.quality = (int)quality;
    dg_error err = DG_ERROR_INIT;
    dg_source *source = NULL;
    dg_tar_writer *w = NULL;
    size_t n_shards = 0;
    dg_status s = dg_source_open_folder(p.root, &source, &err);
    if (s == DG_OK) s = dg_tar_create(args->words[1], most, bytes, &w, &err);
    if (s == DG_OK) {
        p.source = source;
        s = pack_all(&p, threads, w, &err);
        if (s == DG_OK)
            s = dg_tar_finish(w, &n_shards, &err);
        else
            dg_tar_abandon(w);
    }
    int code = CLI_OK;
    if (s != DG_OK)
        code = cli_fail(&err);
    else {
        printf("%lld images in %zu shard%s", (long long)(dg_source_count(source) - p.n_left_out), n_shards,
               n_shards == 1 ? "" : "s");
        if (p.n_left_out) printf("; %lld left out, named above", (long long)p.n_left_out);
        printf("\n");
    }
    dg_source_close(source);
    return code;
}

static const cli_option options[] = {
    {"images", "N", "images in a shard, at most (10000)"},
    {"bytes", "N", "bytes of images in a shard, at most"},
    {"size", "PIXELS", "make larger images smaller: their shorter side, bicubic, as JPEG"},
    {"quality", "1..100", "of those JPEGs (95)"},
    {"threads", "N", "threads that decode; otherwise as many as there are cores"},
    {NULL, NULL, NULL},
};

const cli_command cmd_data_pack = {
    .name = "data pack",
    .words = "FOLDER OUT-%05d.tar",
    .least = 2,
    .most = 2,
    .help = "put the images of class folders into tar shards",
    .more = "Members are <class>/<file>, in the order of their names, with the files' own bytes unless "
            "--size makes\n"
            "them smaller; the same input gives the same shards. What is no image is named and left out. The "
            "shards\n"
            "appear when all are complete; one that is there already is never replaced.",
    .options = options,
    .run = run};
