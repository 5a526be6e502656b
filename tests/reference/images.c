/* images.c - fixture D: crops, the evaluation transform and flips; RandAugment's operations; mixup and
 * cutmix; photographs where they are at hand. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "data/image.h"
#include "data/mix.h"
#include "data/randaugment.h"
#include "data/resample.h"

static uint8_t *bytes_of(reference *r, const dg_weights *w, const char *name, const dg_weight **info)
{
    *info = dg_weights_find(w, name);
    if (!*info) return NULL;
    uint8_t *out = dg_arena_alloc(&r->arena, (*info)->bytes + 1);
    dg_error err = DG_ERROR_INIT;
    return out && dg_weight_read_raw(*info, out, (*info)->bytes, &err) == DG_OK ? out : NULL;
}

/* Worst difference of two byte pictures. */
static double worst_of(const uint8_t *a, const uint8_t *b, size_t n)
{
    int worst = 0;
    for (size_t i = 0; i < n; i++)
        if (abs(a[i] - b[i]) > worst) worst = abs(a[i] - b[i]);
    return worst;
}

static uint8_t *render(reference *r, const uint8_t *src, int32_t h, int32_t w, const dg_view *view)
{
    dg_resampler resampler = {0};
    dg_error err = DG_ERROR_INIT;
    uint8_t *out = dg_arena_alloc(&r->arena, (size_t)view->window.height * (size_t)view->window.width * 3);
    dg_status s = out ? dg_resample(&resampler, src, h, w, view, out, &err) : DG_ERR_NOMEM;
    dg_resampler_free(&resampler);
    if (s != DG_OK) ref_broken(r, "D resampling", &err);
    return s == DG_OK ? out : NULL;
}

static void check_synthetic(reference *r)
{
    dg_weights *w = ref_open(r, "D_synth.safetensors");
    const dg_weight *src, *boxes, *t;
    if (!w) return;
    const uint8_t *pixels = bytes_of(r, w, "src", &src), *raw = bytes_of(r, w, "boxes_ijhw", &boxes);
    const int32_t *ijhw = (const int32_t *)(const void *)raw;
    for (size_t i = 0; pixels && raw && i < dg_weights_count(w); i++) {
        const char *name = dg_weights_at(w, i)->name;
        int size, box;
        char title[64];
        bool flip = strstr(name, ".hflip") != NULL, crop = sscanf(name, "rrc%d.%d", &size, &box) == 2;
        if (!crop && strcmp(name, "eval224") != 0) continue;
        const uint8_t *want = bytes_of(r, w, name, &t);
        int32_t h = (int32_t)src->dims[0], wide = (int32_t)src->dims[1];
        dg_view view = crop ? dg_view_of_box((dg_box){ijhw[box * 4], ijhw[box * 4 + 1], ijhw[box * 4 + 2],
                                                      ijhw[box * 4 + 3]},
                                             size, size)
                            : dg_view_of_centre(h, wide, 224, 224, 0.875, DG_FIT_SQUASH);
        uint8_t *have = render(r, pixels, h, wide, &view);
        if (flip && have) dg_flip_horizontal(have, size, size, 3);
        snprintf(title, sizeof title, "D %s", name);
        if (have && want) ref_verdict(r, title, worst_of(have, want, t->bytes), 0);
    }
    dg_weights_close(w);
}

/* Recorded forms of a picture: 2048 sampled pixels, and sums of rows. */
static void check_photo_picture(reference *r, const dg_weights *w, const char *name, const uint8_t *have,
                                int64_t h, int64_t wide)
{
    char key[96], title[96];
    const dg_weight *t;
    snprintf(key, sizeof key, "%s::sample", name);
    snprintf(title, sizeof title, "D photograph %s", name);
    const uint8_t *sample = have ? bytes_of(r, w, key, &t) : NULL;
    if (!sample) return;
    int64_t n = t->count / 3;
    int worst = 0;
    for (int64_t k = 0; k < n; k++)
        for (int c = 0; c < 3; c++) {
            int d = abs(have[ref_sample_index(k, h * wide) * 3 + c] - sample[k * 3 + c]);
            if (d > worst) worst = d;
        }
    ref_verdict(r, title, worst, 0);
}

static void check_photo(reference *r, const dg_weights *w, const dg_json *p)
{
    char path[1024], name[64];
    char *bytes = NULL;
    size_t size;
    dg_error err = DG_ERROR_INIT;
    dg_image image = {0};
    int k = (int)ref_number(p, "k", 0), i = 0;
    snprintf(path, sizeof path, "%s/%s", r->data, dg_json_get(p, "file")->v.text);
    dg_status s = dg_file_read(path, 1 << 30, &bytes, &size, &err);
    if (s == DG_OK) s = dg_image_decode(bytes, size, 0, &image, &err);
    if (s != DG_OK) ref_broken(r, path, &err);
    for (const dg_json *b = s == DG_OK ? dg_json_get(p, "boxes_ijhw")->v.first : NULL; b; b = b->next, i++) {
        int32_t v[4], n = 0;
        for (const dg_json *x = b->v.first; x && n < 4; x = x->next) v[n++] = (int32_t)x->v.integer;
        dg_view view = dg_view_of_box((dg_box){v[0], v[1], v[2], v[3]}, 224, 224);
        snprintf(name, sizeof name, "p%d.rrc224.%d", k, i);
        check_photo_picture(r, w, name, render(r, image.pixels, image.height, image.width, &view), 224, 224);
    }
    if (s == DG_OK) {
        dg_view view = dg_view_of_centre(image.height, image.width, 224, 224, 0.875, DG_FIT_SQUASH);
        snprintf(name, sizeof name, "p%d.eval224", k);
        check_photo_picture(r, w, name, render(r, image.pixels, image.height, image.width, &view), 224, 224);
    }
    dg_image_free(&image);
    dg_free(bytes);
}

static double value_of(const dg_json *v)
{
    return v->type == DG_JSON_INT ? (double)v->v.integer : v->v.number;
}

/* One recorded operation: its argument from its level, and its picture. */
static void check_operation(reference *r, const dg_weights *w, const dg_randaugment *policy,
                            const dg_json *entry)
{
    const char *key = dg_json_get(entry, "key")->v.text, *name = dg_json_get(entry, "op")->v.text;
    const dg_json *argument = dg_json_get(entry, "arg")->v.first;
    const dg_weight *src, *t;
    const uint8_t *pixels = bytes_of(r, w, "src", &src), *want = bytes_of(r, w, key, &t);
    uint8_t *have = pixels ? dg_arena_alloc(&r->arena, src->bytes) : NULL;
    dg_scratch scratch = {0};
    dg_error err = DG_ERROR_INIT;
    char title[96];
    int op = 0;
    while (op < DG_RA_OPS && strcmp(dg_ra_name(policy, (dg_ra_op)op), name) != 0) op++;
    if (op == DG_RA_OPS || !have || !want) return ref_broken(r, key, &err);
    const double level = ref_number(entry, "level", -1);
    const double used = dg_ra_argument(policy, (dg_ra_op)op, level, ref_number(entry, "sign", 1) < 0);
    snprintf(title, sizeof title, "D RandAugment %s, argument", key);
    if (argument) ref_verdict(r, title, fabs(used - value_of(argument)), 1e-12);
    memcpy(have, pixels, src->bytes);
    dg_status s = dg_ra_apply((dg_pixels){have, (int32_t)src->dims[0], (int32_t)src->dims[1]}, (dg_ra_op)op,
                              used, policy->fill, &scratch, &err);
    dg_scratch_free(&scratch);
    snprintf(title, sizeof title, "D RandAugment %s", key);
    if (s == DG_OK)
        ref_verdict(r, title, worst_of(have, want, t->bytes), 0);
    else
        ref_broken(r, title, &err);
}

static void check_randaugment(reference *r, const dg_json *recorded)
{
    dg_error err = DG_ERROR_INIT;
    dg_randaugment policy;
    if (dg_randaugment_parse(dg_json_get(recorded, "config")->v.text, &policy, &err) != DG_OK)
        return ref_broken(r, "D RandAugment policy", &err);
    dg_weights *w = ref_open(r, "D_randaugment.safetensors");
    const dg_json *list = dg_json_get(recorded, "ops");
    for (const dg_json *e = w ? list->v.first : NULL; e; e = e->next) check_operation(r, w, &policy, e);
    dg_weights_close(w);
}

static void check_largest(reference *r, const char *what, int i, const float *have, const float *want,
                          int64_t n, double tol)
{
    char title[64];
    double worst = 0;
    for (int64_t k = 0; k < n; k++)
        if (!(fabsf(have[k] - want[k]) <= worst)) worst = fabsf(have[k] - want[k]);
    snprintf(title, sizeof title, "D %s %d", what, i);
    ref_verdict(r, title, worst, tol);
}

/* One recorded batch; the lambda that was used goes with the targets. */
static void check_mix(reference *r, const dg_weights *w, const dg_json *mixup, const dg_json *entry, int i,
                      double tol)
{
    const dg_weight *x = dg_weights_find(w, "x"), *l = NULL;
    int64_t n, m;
    char name[32];
    const float *in = ref_tensor(r, w, "x", &n);
    const int32_t *labels = (const int32_t *)(const void *)bytes_of(r, w, "labels", &l);
    snprintf(name, sizeof name, "out.%d", i);
    const float *pixels = ref_tensor(r, w, name, &n);
    snprintf(name, sizeof name, "target.%d", i);
    const float *targets = ref_tensor(r, w, name, &m);
    float *have = dg_arena_alloc(&r->arena, (size_t)(n + m + 1) * sizeof *have);
    if (!in || !labels || !pixels || !targets || !have) return;
    const int32_t batch = (int32_t)x->dims[0], h = (int32_t)x->dims[2], wide = (int32_t)x->dims[3];
    int32_t edge[4] = {0}, k = 0; /* yl, yh, xl, xh */
    const dg_json *edges = dg_json_get(entry, "box_yl_yh_xl_xh");
    for (const dg_json *v = edges->type == DG_JSON_ARRAY ? edges->v.first : NULL; v && k < 4; v = v->next)
        edge[k++] = (int32_t)v->v.integer;
    const dg_box box = {edge[0], edge[2], edge[1] - edge[0], edge[3] - edge[2]};
    const dg_mix mix = dg_mix_of(ref_number(entry, "lam_drawn", 0), k ? &box : NULL, h, wide);
    dg_error err = DG_ERROR_INIT;
    snprintf(name, sizeof name, "D lambda %d", i);
    ref_verdict(r, name, fabs(mix.targets - ref_number(entry, "lam_used", -1)), 1e-12);
    dg_mix_pixels(&mix, in, batch, (int32_t)x->dims[1], h, wide, have);
    check_largest(r, "mixed pixels", i, have, pixels, n, tol);
    if (dg_soft_targets(&mix, labels, batch, (int32_t)ref_number(mixup, "num_classes", 0),
                        ref_number(mixup, "smoothing", 0), have + n, &err) != DG_OK)
        return ref_broken(r, "D soft targets", &err);
    check_largest(r, "soft targets", i, have + n, targets, m, tol);
}

static void check_mixup(reference *r, const dg_json *recorded, double tol)
{
    dg_weights *w = ref_open(r, "D_mixup.safetensors");
    int i = 0;
    for (const dg_json *e = w ? dg_json_get(recorded, "cases")->v.first : NULL; e; e = e->next)
        check_mix(r, w, recorded, e, i++, tol);
    dg_weights_close(w);
}

void ref_images(reference *r, const dg_json *fixture)
{
    if (r->compute != DG_F32) return;
    check_synthetic(r);
    const dg_json *randaugment = dg_json_get(fixture, "randaugment"), *mixup = dg_json_get(fixture, "mixup");
    if (randaugment) check_randaugment(r, randaugment);
    if (mixup) check_mixup(r, mixup, ref_tolerance(fixture, "mixup", 1e-6));
    const dg_json *photos = dg_json_get(fixture, "photos");
    if (!photos || !r->data || !dg_path_is_dir(r->data)) {
        ref_skip(r, "D photographs", "no folder of photographs (--data DIR)");
        return;
    }
    dg_weights *w = ref_open(r, "D_photos.safetensors");
    for (const dg_json *p = w ? photos->v.first : NULL; p; p = p->next) check_photo(r, w, p);
    dg_weights_close(w);
}
