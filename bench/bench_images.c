/* bench_images.c - photographs to crops on one core: decoding, random crop, bicubic resize to 224 x 224.
 *
 *   bench_images FOLDER exact|fast [images]
 *
 * The files are read into memory first. When ready it prints a line of JSON; then, for each line that it
 * reads, it makes a crop of every photograph and prints the milliseconds (bench/compare.py speaks this). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "data/loader.h"

enum { SIDE = 224, MOST = 4096 };

typedef struct crop {
    uint64_t sample, view;
    dg_box box;
} crop;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(dg_status s, const dg_error *err)
{
    if (s == DG_OK) return;
    fprintf(stderr, "bench_images: %s\n", err->message);
    exit(1);
}

static void choose(void *user, int32_t height, int32_t width, dg_image_want *want)
{
    crop *c = user;
    static const double scale[2] = {0.2, 1}, ratio[2] = {3.0 / 4, 4.0 / 3};
    dg_rng rng = dg_rng_make(0, DG_RNG_CROP, c->sample, c->view);
    c->box = dg_draw_crop(&rng, height, width, scale, ratio);
    *want = (dg_image_want){c->box.top, c->box.left, c->box.height, c->box.width, SIDE, SIDE};
}

int main(int argc, char **argv)
{
    static dg_sample samples[MOST];
    static uint8_t out[SIDE * SIDE * 3];
    dg_error err = DG_ERROR_INIT;
    dg_source *source;
    dg_image image = {0};
    dg_resampler resampler = {0};
    if (argc < 3) {
        fprintf(stderr, "use: bench_images FOLDER exact|fast [images]\n");
        return 2;
    }
    bool fast = strcmp(argv[2], "fast") == 0;
    const char *folder = argv[1];
    check(dg_source_open_images(&folder, 1, &source, &err), &err);
    int64_t n = dg_source_count(source), most = argc > 3 ? strtol(argv[3], NULL, 10) : MOST;
    if (n > most) n = most;
    if (n > MOST) n = MOST;
    for (int64_t i = 0; i < n; i++) check(dg_source_read(source, i, &samples[i], &err), &err);
    printf("{\"ready\": true, \"images\": %d}\n", (int)n);
    fflush(stdout);
    char line[64];
    for (uint64_t view = 0; fgets(line, sizeof line, stdin); view++) {
        double start = now();
        for (int64_t i = 0; i < n; i++) {
            crop c = {.sample = (uint64_t)i, .view = view};
            dg_image_want want;
            dg_image_part part = {.scale = 1};
            if (fast) {
                check(dg_image_decode_part(samples[i].bytes, samples[i].size, 0, choose, &c, &image, &part,
                                           &err),
                      &err);
            } else {
                check(dg_image_decode(samples[i].bytes, samples[i].size, 0, &image, &err), &err);
                choose(&c, image.height, image.width, &want);
            }
            dg_view v = dg_view_of_part(c.box, part.scale, part.top, part.left, image.height, image.width,
                                        SIDE, SIDE);
            check(dg_resample(&resampler, image.pixels, image.height, image.width, &v, out, &err), &err);
        }
        printf("{\"ms\": %.3f}\n", 1e3 * (now() - start));
        fflush(stdout);
    }
    for (int64_t i = 0; i < n; i++) dg_sample_free(&samples[i]);
    dg_image_free(&image);
    dg_resampler_free(&resampler);
    dg_source_close(source);
    return 0;
}
