/* source_synthetic.c - scenes of shapes with label, caption and mask, each a pure function of (seed, id).
 *
 * A main object in a patterned world, up to three smaller ones (which may hide a part of it), noise and a
 * change of contrast: enough that colours, places and textures do not give the label away. With less clutter
 * the world is darker than its objects: that tells them from it, which a small network otherwise takes long
 * to learn where either may be the brighter one. */
#include "source_parts.h"

#include <math.h>
#include <xxhash.h>

#include "synthetic.h"

#define VERSION 2u /* of the pictures: the fingerprint changes with it */
#define MAX_OTHERS 3

typedef struct synthetic_source {
    dg_source base;
    dg_synthetic_config config;
} synthetic_source;

typedef struct scene {
    dg_rng *rng;
    float clouds[DG_LATTICE * DG_LATTICE];
    float side;     /* the shorter one */
    double turn;    /* most, radians */
    double clutter; /* 0..1 */
    int32_t classes;
} scene;

static double uniform(scene *s, double low, double high)
{
    return low + (high - low) * dg_rng_uniform(s->rng);
}
static int32_t below(scene *s, int32_t n)
{
    return (int32_t)dg_rng_below(s->rng, (uint32_t)n);
}

static dg_pattern draw_pattern(scene *s, float size)
{
    dg_pattern p = {.kind = below(s, DG_PATTERNS), .clouds = s->clouds};
    const double turn = uniform(s, 0, 6.283185307179586);
    p.along[0] = (float)cos(turn);
    p.along[1] = (float)sin(turn);
    p.period = (float)uniform(s, .15, .9) * size;
    p.phase = (float)uniform(s, 0, 1);
    return p;
}

static void draw_world(scene *s, dg_pattern *p)
{
    *p = draw_pattern(s, s->side);
    for (int i = 0; i < 2; i++) {
        const double hue = uniform(s, 0, 360), saturation = uniform(s, 0, .7 * s->clutter),
                     value = uniform(s, .15, .4 + .6 * s->clutter);
        dg_hsv(hue, saturation, value, p->rgb[i]);
    }
    const float contrast = (float)(.4 + .6 * s->clutter);
    for (int c = 0; c < 3; c++) p->rgb[1][c] = p->rgb[0][c] + contrast * (p->rgb[1][c] - p->rgb[0][c]);
}

/* The object of a class, or of any class when label is -1; radius in shares of the shorter side. */
static int32_t draw_object(scene *s, dg_object *o, int32_t label, double radius, const dg_canvas *canvas)
{
    static const double hues[DG_COLOURS] = {0, 30, 56, 120, 180, 228, 275, 322};
    if (label < 0) label = below(s, s->classes);
    const int32_t any = below(s, DG_COLOURS), colour = s->classes > DG_SHAPES ? label / DG_SHAPES : any;
    const double r = radius * s->side, turn = uniform(s, -s->turn, s->turn),
                 squeeze = exp(uniform(s, -.25, .25));
    const double margin = (1 - .4 * s->clutter) * r; /* of the centre to the border */
    const double shear = uniform(s, -.2, .2), c = cos(turn) / r, n = sin(turn) / r;
    o->shape = label % DG_SHAPES;
    o->value = (uint8_t)(1 + label);
    o->x = (float)uniform(s, margin, canvas->width - margin);
    o->y = (float)uniform(s, margin, canvas->height - margin);
    o->reach = (float)(r * 1.75); /* squeeze and shear stretch by less than this */
    o->inverse[0] = (float)(c * squeeze);
    o->inverse[1] = (float)(n * squeeze);
    o->inverse[2] = (float)((-n + shear * c) / squeeze);
    o->inverse[3] = (float)((c + shear * n) / squeeze);
    o->fill = draw_pattern(s, (float)r);
    const double hue = hues[colour] + uniform(s, -9, 9), saturation = uniform(s, .55, 1),
                 value = uniform(s, .75 - .3 * s->clutter, 1);
    dg_hsv(hue, saturation, value, o->fill.rgb[0]);
    const double darker = uniform(s, .55, .9);
    dg_hsv(hue, saturation * .9, value * darker, o->fill.rgb[1]);
    return colour;
}

static dg_status describe(dg_sample *sample, const char *text, dg_error *err)
{
    const size_t n = strlen(text);
    DG_TRY(dg_sample_caption(sample, n, err));
    memcpy(sample->caption, text, n);
    return DG_OK;
}

static dg_status synthetic_read(const dg_source *source, int64_t id, dg_sample *sample, dg_error *err)
{
    const dg_synthetic_config *config = &((const synthetic_source *)source)->config;
    dg_rng rng = dg_rng_make(config->seed, DG_RNG_SYNTHETIC, (uint64_t)id, 0);
    snprintf(sample->name_buffer, sizeof sample->name_buffer, "synthetic/%lld", (long long)id);
    sample->name = sample->name_buffer;
    DG_TRY(dg_image_reserve(&sample->image, config->width, config->height, err));
    DG_TRY(dg_sample_mask(sample, (size_t)config->width * (size_t)config->height, err));
    const dg_canvas canvas = {sample->image.pixels, sample->mask, config->height, config->width};

    scene s = {.rng = &rng, .classes = config->classes};
    s.turn = config->turn * 3.141592653589793 / 180;
    s.clutter = config->clutter;
    s.side = (float)(config->height < config->width ? config->height : config->width);
    for (int i = 0; i < DG_LATTICE * DG_LATTICE; i++) s.clouds[i] = (float)dg_rng_uniform(&rng);
    sample->label = below(&s, config->classes);
    dg_pattern world;
    dg_object main_object, others[MAX_OTHERS];
    draw_world(&s, &world);
    const double radius = uniform(&s, config->radius[0], config->radius[1]);
    const int32_t colour = draw_object(&s, &main_object, sample->label, radius, &canvas);
    const int32_t count = below(&s, 1 + (int32_t)lround(MAX_OTHERS * config->clutter));
    int32_t first_colour = 0;
    for (int32_t i = 0; i < count; i++) {
        const double smaller = radius * uniform(&s, .25, .65);
        const int32_t drawn = draw_object(&s, &others[i], -1, smaller, &canvas);
        if (i == 0) first_colour = drawn;
    }
    const int32_t behind = below(&s, count + 1); /* so many lie behind the main object */

    dg_paint_background(&canvas, &world);
    for (int32_t i = 0; i < behind; i++) dg_paint_object(&canvas, &others[i]);
    dg_paint_object(&canvas, &main_object);
    for (int32_t i = behind; i < count; i++) dg_paint_object(&canvas, &others[i]);
    const float gain = (float)uniform(&s, .6, 1.2), shift = (float)uniform(&s, -35, 35),
                sigma = (float)(uniform(&s, 2, 30) * config->clutter);
    dg_paint_noise(&canvas, &rng, gain, shift, sigma);

    char caption[256], with[96] = "";
    const char *size = radius < .22 ? "small" : radius < .32 ? "medium" : "large";
    if (count)
        snprintf(with, sizeof with, ", with a smaller %s %s", dg_colour_names[first_colour],
                 dg_shape_names[others[0].shape]);
    snprintf(caption, sizeof caption, "a %s %s %s on a %s background%s", size, dg_colour_names[colour],
             dg_shape_names[main_object.shape], dg_pattern_names[world.kind], with);
    sample->is_decoded = sample->has_mask = true;
    return describe(sample, caption, err);
}

static void synthetic_close(dg_source *source)
{
    (void)source;
}

static const dg_source_kind synthetic_kind = {synthetic_read, synthetic_close};

static dg_status name_classes(dg_source *source, int32_t classes, dg_error *err)
{
    const char **names = dg_arena_alloc(&source->arena, (size_t)classes * sizeof *names);
    if (!names) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
    for (int32_t i = 0; i < classes; i++) {
        char text[64];
        if (classes > DG_SHAPES)
            snprintf(text, sizeof text, "%s %s", dg_colour_names[i / DG_SHAPES],
                     dg_shape_names[i % DG_SHAPES]);
        else
            snprintf(text, sizeof text, "%s", dg_shape_names[i]);
        names[i] = dg_arena_strdup(&source->arena, text);
        if (!names[i]) return dg_fail(err, DG_ERR_NOMEM, "no memory for class names");
    }
    source->class_names = names;
    source->classes = classes;
    return DG_OK;
}

static uint64_t fingerprint(const dg_synthetic_config *c)
{
    uint64_t words[10] = {
        VERSION, c->seed, (uint64_t)c->count, (uint64_t)c->height, (uint64_t)c->width, (uint64_t)c->classes};
    memcpy(&words[6], c->radius, sizeof c->radius);
    memcpy(&words[8], &c->turn, sizeof c->turn);
    memcpy(&words[9], &c->clutter, sizeof c->clutter);
    return XXH3_64bits(words, sizeof words);
}

dg_status dg_source_open_synthetic(const dg_synthetic_config *config, dg_source **source, dg_error *err)
{
    if (config->count < 1) return dg_fail(err, DG_ERR_INVALID, "a synthetic source has at least one sample");
    if (config->height < 8 || config->width < 8 || config->height > 4096 || config->width > 4096)
        return dg_fail(err, DG_ERR_INVALID, "synthetic images of %d x %d: a side has 8 to 4096 pixels",
                       config->height, config->width);
    if (config->classes < 1 || config->classes > DG_SHAPES * DG_COLOURS)
        return dg_fail(err, DG_ERR_INVALID, "%d synthetic classes: there are 1 to %d", config->classes,
                       DG_SHAPES * DG_COLOURS);
    const double *radius = config->radius;
    if (!(radius[0] >= .05 && radius[0] <= radius[1] && radius[1] <= .5))
        return dg_fail(err, DG_ERR_INVALID,
                       "synthetic objects of radius %g to %g: least and most are 0.05 to 0.5", radius[0],
                       radius[1]);
    if (!(config->turn >= 0 && config->turn <= 180))
        return dg_fail(err, DG_ERR_INVALID, "synthetic objects turned by up to %g degrees: 0 to 180",
                       config->turn);
    if (!(config->clutter >= 0 && config->clutter <= 1))
        return dg_fail(err, DG_ERR_INVALID, "synthetic clutter of %g: it is 0 to 1", config->clutter);
    synthetic_source *s = NULL;
    DG_TRY(dg_source_new(sizeof *s, &synthetic_kind, &s, err));
    s->config = *config;
    s->base.count = config->count;
    s->base.has_captions = s->base.has_masks = true;
    s->base.fingerprint = fingerprint(config);
    snprintf(s->base.description, sizeof s->base.description, "synthetic, %lld images of %d x %d, %d classes",
             (long long)config->count, config->height, config->width, config->classes);
    const dg_status r = name_classes(&s->base, config->classes, err);
    if (r == DG_OK)
        *source = &s->base;
    else
        dg_source_close(&s->base);
    return r;
}
