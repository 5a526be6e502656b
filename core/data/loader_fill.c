/* loader_fill.c - see loader_parts.h. */
#include "loader_parts.h"

#include "base/log.h"
#include "base/mem.h"

/* So many bad images in a row are a wrong folder, not bad luck, even where batches are small. */
#define LEAST_TRIES 16

void dg_filler_free(dg_filler *filler)
{
    dg_sample_free(&filler->sample);
    dg_resampler_free(&filler->resampler);
    dg_scratch_free(&filler->scratch);
}

static bool is_bad_image(dg_status s)
{
    return s != DG_ERR_NOMEM && s != DG_ERR_INTERNAL;
}

/* ---- the crop: drawn when the picture's size is known, before it is decoded */

typedef struct crop {
    const dg_loader_config *config;
    const dg_sample *sample;
    uint64_t view;
    dg_box box;         /* of the whole picture */
    dg_image_part part; /* that is decoded */
} crop;

static void choose_crop(void *user, int32_t height, int32_t width, dg_image_want *want)
{
    crop *p = user;
    const dg_loader_config *c = p->config;
    p->box = (dg_box){0, 0, height, width};
    if (c->augment == DG_AUGMENT_CROP_FLIP) {
        dg_rng crops = dg_rng_make(c->view_seed, DG_RNG_CROP, (uint64_t)p->sample->id, p->view);
        p->box = dg_draw_crop(&crops, height, width, c->scale, c->ratio);
    }
    *want = (dg_image_want){.top = p->box.top,
                            .left = p->box.left,
                            .height = p->box.height,
                            .width = p->box.width,
                            .to_height = c->height > c->second_height ? c->height : c->second_height,
                            .to_width = c->width > c->second_width ? c->width : c->second_width};
}

static dg_status read_sample(const dg_fill_plan *plan, int64_t id, dg_sample *sample, crop *p, dg_error *err)
{
    const dg_loader_config *c = &plan->config;
    dg_image_want want;
    p->part = (dg_image_part){.scale = 1};
    if (c->decode == DG_DECODE_FAST && c->augment == DG_AUGMENT_CROP_FLIP && !c->masks) {
        DG_TRY(dg_source_read_part(plan->source, id, c->max_pixels, choose_crop, p, sample, &p->part, err));
    } else {
        DG_TRY(dg_source_read_image(plan->source, id, c->max_pixels, sample, err));
        choose_crop(p, sample->image.height, sample->image.width, &want);
    }
    if (c->captions && sample->caption[strspn(sample->caption, " \t\r\n")] == 0)
        return dg_fail(err, DG_ERR_FORMAT, "'%s' has no caption", sample->name);
    return DG_OK;
}

/* Reads and decodes sample `id`, or the first good one after it. */
static dg_status read_good(dg_fill_plan *plan, dg_sample *sample, int64_t id, crop *p, dg_error *err)
{
    const dg_loader_config *c = &plan->config;
    const int64_t n = plan->sampler.count, worth = c->batch > LEAST_TRIES ? c->batch : LEAST_TRIES;
    const int64_t tries = worth < n ? worth : n;
    dg_error own = DG_ERROR_INIT;
    for (int64_t i = 0; i < tries; i++, id = (id + 1) % n) {
        const dg_status s = read_sample(plan, id, sample, p, &own);
        if (s == DG_OK) return DG_OK;
        if (is_bad_image(s)) atomic_fetch_add(&plan->bad_images, 1);
        if (!is_bad_image(s) || c->on_bad == DG_BAD_FAIL) return dg_fail(err, s, "%s", own.message);
        dg_logf(DG_LOG_WARNING, "bad image, the next one takes its place: %s", own.message);
    }
    return dg_fail(err, DG_ERR_FORMAT, "%lld images in a row are bad; the last: %s", (long long)tries,
                   own.message);
}

/* The view for an output size: the same box of the picture whatever the size, when training. */
static dg_view view_for(const crop *p, int32_t height, int32_t width)
{
    const dg_loader_config *c = p->config;
    const dg_image *image = &p->sample->image;
    if (c->augment == DG_AUGMENT_CROP_FLIP)
        return dg_view_of_part(p->box, p->part.scale, p->part.top, p->part.left, image->height, image->width,
                               height, width);
    return dg_view_of_centre(image->height, image->width, height, width, c->fraction, c->fit);
}

/* One output size of one sample. */
static dg_status render(const crop *p, dg_resampler *r, bool flip, int32_t height, int32_t width,
                        uint8_t *out, dg_error *err)
{
    const dg_image *image = &p->sample->image;
    const dg_view view = view_for(p, height, width);
    DG_TRY(dg_resample(r, image->pixels, image->height, image->width, &view, out, err));
    if (flip) dg_flip_horizontal(out, height, width, 3);
    return DG_OK;
}

static dg_status render_mask(const crop *p, bool flip, uint8_t *out, dg_error *err)
{
    const dg_loader_config *c = p->config;
    const dg_sample *sample = p->sample;
    const dg_image *image = &sample->image;
    const dg_view view = view_for(p, c->height, c->width);
    if (!sample->has_mask) {
        memset(out, 0, (size_t)c->height * (size_t)c->width);
        return DG_OK;
    }
    DG_TRY(dg_resample_nearest(sample->mask, image->height, image->width, &view, out, err));
    if (flip) dg_flip_horizontal(out, c->height, c->width, 1);
    return DG_OK;
}

static dg_status copy_caption(dg_caption *buffer, const char *text, dg_error *err)
{
    const size_t need = strlen(text) + 1;
    if (need > buffer->capacity) {
        char *grown = dg_realloc(buffer->text, need);
        if (!grown) return dg_fail(err, DG_ERR_NOMEM, "no memory for a caption");
        buffer->text = grown;
        buffer->capacity = need;
    }
    memcpy(buffer->text, text, need);
    return DG_OK;
}

static size_t image_bytes(int32_t height, int32_t width)
{
    return (size_t)height * (size_t)width * 3;
}

dg_status dg_fill_place(dg_fill_plan *plan, dg_filler *filler, dg_batch *batch, dg_caption *captions,
                        int32_t place, dg_error *err)
{
    const dg_loader_config *c = &plan->config;
    const size_t first = image_bytes(c->height, c->width),
                 second = image_bytes(c->second_height, c->second_width);
    uint8_t *image = batch->images + (size_t)place * first;
    uint8_t *other = batch->second ? batch->second + (size_t)place * second : NULL;
    uint8_t *mask = batch->masks ? batch->masks + (size_t)place * (first / 3) : NULL;
    dg_sample *sample = &filler->sample;
    const int64_t id = dg_sampler_at(&plan->sampler, batch->step, place, &batch->ordinals[place]);

    batch->valid[place] = id >= 0 ? 1.0f : 0.0f;
    if (id < 0) {
        batch->ids[place] = -1;
        batch->labels[place] = 0;
        memset(image, 0, first);
        if (other) memset(other, 0, second);
        if (mask) memset(mask, 0, first / 3);
    } else {
        const uint64_t view = (uint64_t)(c->views > 0 ? batch->epoch % c->views : batch->epoch);
        crop p = {.config = c, .sample = sample, .view = view};
        bool flip = false;
        DG_TRY(read_good(plan, sample, id, &p, err));
        if (c->augment == DG_AUGMENT_CROP_FLIP) {
            dg_rng flips = dg_rng_make(c->view_seed, DG_RNG_FLIP, (uint64_t)sample->id, view);
            flip = dg_rng_uniform(&flips) < c->flip;
        }
        batch->ids[place] = sample->id;
        batch->labels[place] = sample->label;
        DG_TRY(render(&p, &filler->resampler, flip, c->height, c->width, image, err));
        if (c->augment == DG_AUGMENT_CROP_FLIP)
            DG_TRY(dg_augment_view(&plan->augmenter, c->view_seed, sample->id, view,
                                   (dg_pixels){image, c->height, c->width}, &filler->scratch, err));
        if (other)
            DG_TRY(render(&p, &filler->resampler, flip, c->second_height, c->second_width, other, err));
        if (mask) DG_TRY(render_mask(&p, flip, mask, err));
    }
    if (!captions) return DG_OK;
    DG_TRY(copy_caption(&captions[place], id >= 0 ? sample->caption : "", err));
    batch->captions[place] = captions[place].text;
    return DG_OK;
}
