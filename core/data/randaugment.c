/* randaugment.c - see randaugment.h. */
#include "randaugment.h"

#include <stdlib.h>

#define PI 3.14159265358979323846

/* ---- levels to arguments: timm's functions. `sign` is 1 or -1. */

static double no_argument(double level, double sign)
{
    (void)level;
    (void)sign;
    return 0.0;
}

static double degrees(double level, double sign)
{
    return sign * (level / DG_RA_TOP * 30.0);
}

static double bits(double level, double sign)
{
    (void)sign;
    return (int)(level / DG_RA_TOP * 4);
}

static double bits_increasing(double level, double sign)
{
    return 4 - bits(level, sign);
}

static double threshold(double level, double sign)
{
    (void)sign;
    const int v = (int)(level / DG_RA_TOP * 256);
    return v < 256 ? v : 256;
}

static double threshold_increasing(double level, double sign)
{
    return 256 - threshold(level, sign);
}

static double addend(double level, double sign)
{
    (void)sign;
    const int v = (int)(level / DG_RA_TOP * 110);
    return v < 128 ? v : 128;
}

static double factor(double level, double sign)
{
    (void)sign;
    return level / DG_RA_TOP * 1.8 + 0.1;
}

static double factor_increasing(double level, double sign)
{
    const double v = 1.0 + sign * (level / DG_RA_TOP * 0.9);
    return v > 0.1 ? v : 0.1;
}

static double shear(double level, double sign)
{
    return sign * (level / DG_RA_TOP * 0.3);
}

static double share(double level, double sign)
{
    return sign * (level / DG_RA_TOP * 0.45);
}

/* ---- arguments to pixels */

typedef struct call {
    dg_pixels p;
    double argument;
    const uint8_t *fill; /* [3] */
    dg_scratch *scratch;
    dg_error *err;
} call;

static dg_status auto_contrast(const call *c)
{
    dg_auto_contrast(c->p);
    return DG_OK;
}

static dg_status equalize(const call *c)
{
    dg_equalize(c->p);
    return DG_OK;
}

static dg_status invert(const call *c)
{
    dg_invert(c->p);
    return DG_OK;
}

static dg_status posterize(const call *c)
{
    dg_posterize(c->p, (int32_t)c->argument);
    return DG_OK;
}

static dg_status solarize(const call *c)
{
    dg_solarize(c->p, c->argument);
    return DG_OK;
}

static dg_status solarize_add(const call *c)
{
    dg_solarize_add(c->p, (int32_t)c->argument);
    return DG_OK;
}

static dg_status color(const call *c)
{
    dg_adjust_saturation(c->p, c->argument);
    return DG_OK;
}

static dg_status contrast(const call *c)
{
    dg_adjust_contrast(c->p, c->argument);
    return DG_OK;
}

static dg_status brightness(const call *c)
{
    dg_adjust_brightness(c->p, c->argument);
    return DG_OK;
}

static dg_status sharpness(const call *c)
{
    return dg_adjust_sharpness(c->p, c->argument, c->scratch, c->err);
}

static dg_status affine(const call *c, double a, double b, double x, double d, double e, double y)
{
    const double m[6] = {a, b, x, d, e, y};
    return dg_affine(c->p, m, c->fill, c->scratch, c->err);
}

static dg_status shear_x(const call *c)
{
    return affine(c, 1, c->argument, 0, 0, 1, 0);
}

static dg_status shear_y(const call *c)
{
    return affine(c, 1, 0, 0, c->argument, 1, 0);
}

static dg_status translate_x(const call *c)
{
    return affine(c, 1, 0, c->argument * c->p.width, 0, 1, 0);
}

static dg_status translate_y(const call *c)
{
    return affine(c, 1, 0, 0, 0, 1, c->argument * c->p.height);
}

/* To 15 decimals, as Python's round. */
static double rounded(double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.15f", v);
    return strtod(text, NULL);
}

/* Around the middle; Pillow's Image.rotate. */
static dg_status rotate(const call *c)
{
    double turn = fmod(c->argument, 360.0);
    if (turn < 0) turn += 360.0;
    const double angle = -(turn * (PI / 180.0)), cosine = rounded(cos(angle)), sine = rounded(sin(angle)),
                 x = c->p.width / 2.0, y = c->p.height / 2.0;
    return affine(c, cosine, sine, cosine * -x + sine * -y + x, -sine, cosine, -sine * -x + cosine * -y + y);
}

/* ---- the table */

static const struct {
    const char *name[2]; /* plain; increasing */
    double (*argument[2])(double level, double sign);
    dg_status (*apply)(const call *c);
} ops[DG_RA_OPS] = {
    [DG_RA_AUTO_CONTRAST] = {{"AutoContrast", "AutoContrast"}, {no_argument, no_argument}, auto_contrast},
    [DG_RA_EQUALIZE] = {{"Equalize", "Equalize"}, {no_argument, no_argument}, equalize},
    [DG_RA_INVERT] = {{"Invert", "Invert"}, {no_argument, no_argument}, invert},
    [DG_RA_ROTATE] = {{"Rotate", "Rotate"}, {degrees, degrees}, rotate},
    [DG_RA_POSTERIZE] = {{"Posterize", "PosterizeIncreasing"}, {bits, bits_increasing}, posterize},
    [DG_RA_SOLARIZE] = {{"Solarize", "SolarizeIncreasing"}, {threshold, threshold_increasing}, solarize},
    [DG_RA_SOLARIZE_ADD] = {{"SolarizeAdd", "SolarizeAdd"}, {addend, addend}, solarize_add},
    [DG_RA_COLOR] = {{"Color", "ColorIncreasing"}, {factor, factor_increasing}, color},
    [DG_RA_CONTRAST] = {{"Contrast", "ContrastIncreasing"}, {factor, factor_increasing}, contrast},
    [DG_RA_BRIGHTNESS] = {{"Brightness", "BrightnessIncreasing"}, {factor, factor_increasing}, brightness},
    [DG_RA_SHARPNESS] = {{"Sharpness", "SharpnessIncreasing"}, {factor, factor_increasing}, sharpness},
    [DG_RA_SHEAR_X] = {{"ShearX", "ShearX"}, {shear, shear}, shear_x},
    [DG_RA_SHEAR_Y] = {{"ShearY", "ShearY"}, {shear, shear}, shear_y},
    [DG_RA_TRANSLATE_X] = {{"TranslateXRel", "TranslateXRel"}, {share, share}, translate_x},
    [DG_RA_TRANSLATE_Y] = {{"TranslateYRel", "TranslateYRel"}, {share, share}, translate_y},
};

const char *dg_ra_name(const dg_randaugment *policy, dg_ra_op op)
{
    return ops[op].name[policy->increasing];
}

double dg_ra_argument(const dg_randaugment *policy, dg_ra_op op, double level, bool negated)
{
    return ops[op].argument[policy->increasing](level, negated ? -1.0 : 1.0);
}

dg_status dg_ra_apply(dg_pixels p, dg_ra_op op, double argument, const uint8_t fill[3], dg_scratch *scratch,
                      dg_error *err)
{
    const call c = {p, argument, fill, scratch, err};
    return ops[op].apply(&c);
}

/* ---- draws */

void dg_randaugment_draw(const dg_randaugment *policy, dg_rng *rng, dg_ra_step steps[DG_RA_MAX_STEPS])
{
    for (int32_t i = 0; i < policy->steps; i++) {
        dg_ra_step *s = &steps[i];
        s->op = (dg_ra_op)dg_rng_below(rng, DG_RA_OPS);
        s->applied = dg_rng_uniform(rng) < policy->probability;
        const double level = policy->magnitude + policy->deviation * dg_rng_normal(rng);
        s->level = level < 0 ? 0 : level > DG_RA_TOP ? DG_RA_TOP : level;
        s->negated = dg_rng_below(rng, 2) == 1;
        s->argument = dg_ra_argument(policy, s->op, s->level, s->negated);
    }
}

dg_status dg_randaugment_run(const dg_randaugment *policy, dg_rng *rng, dg_pixels p, dg_scratch *scratch,
                             dg_error *err)
{
    dg_ra_step steps[DG_RA_MAX_STEPS];
    dg_randaugment_draw(policy, rng, steps);
    for (int32_t i = 0; i < policy->steps; i++)
        if (steps[i].applied)
            DG_TRY(dg_ra_apply(p, steps[i].op, steps[i].argument, policy->fill, scratch, err));
    return DG_OK;
}

/* ---- the policy's text */

typedef struct policy_key {
    const char *name;
    double low, high;
    bool whole;
} policy_key;

enum { KEY_M, KEY_MSTD, KEY_INC, KEY_N, KEY_P, KEYS };

static const policy_key keys[KEYS] = {
    [KEY_M] = {"m", 0, DG_RA_TOP, false}, [KEY_MSTD] = {"mstd", 0, 100, false},
    [KEY_INC] = {"inc", 0, 1, true},      [KEY_N] = {"n", 0, DG_RA_MAX_STEPS, true},
    [KEY_P] = {"p", 0, 1, false},
};

/* One part, such as "mstd0.5": text[0..length). */
static dg_status parse_part(const char *text, size_t length, double values[KEYS], dg_error *err)
{
    char part[32];
    snprintf(part, sizeof part, "%.*s", (int)(length < sizeof part ? length : sizeof part - 1), text);
    const size_t name = strcspn(part, "0123456789.");
    int k = 0;
    while (k < KEYS && !(strlen(keys[k].name) == name && strncmp(part, keys[k].name, name) == 0)) k++;
    if (k == KEYS)
        return dg_fail(err, DG_ERR_INVALID,
                       "RandAugment policy: '%s' is none of m, mstd, inc, n, p with a number, as in "
                       "rand-m9-mstd0.5-inc1",
                       part);
    char *end;
    const double v = strtod(part + name, &end);
    if (length >= sizeof part || !part[name] || *end ||
        strspn(part + name, "0123456789.") != strlen(part + name))
        return dg_fail(err, DG_ERR_INVALID, "RandAugment policy: '%s' needs a number after '%s'", part,
                       keys[k].name);
    if (v < keys[k].low || v > keys[k].high || (keys[k].whole && v != (int)v))
        return dg_fail(err, DG_ERR_INVALID, "RandAugment policy: '%s': %s is %s from %g to %g", part,
                       keys[k].name, keys[k].whole ? "a whole number" : "a number", keys[k].low,
                       keys[k].high);
    values[k] = v;
    return DG_OK;
}

dg_status dg_randaugment_parse(const char *text, dg_randaugment *policy, dg_error *err)
{
    double v[KEYS] = {[KEY_M] = DG_RA_TOP, [KEY_N] = 2, [KEY_P] = 0.5};
    if (strncmp(text, "rand", 4) != 0 || (text[4] && text[4] != '-'))
        return dg_fail(err, DG_ERR_INVALID,
                       "RandAugment policy '%.64s': it starts with 'rand', as in rand-m9-mstd0.5-inc1", text);
    for (const char *at = text + 4; *at;) {
        at++;
        const size_t length = strcspn(at, "-");
        DG_TRY(parse_part(at, length, v, err));
        at += length;
    }
    *policy = (dg_randaugment){.magnitude = v[KEY_M],
                               .deviation = v[KEY_MSTD],
                               .probability = v[KEY_P],
                               .steps = (int32_t)v[KEY_N],
                               .increasing = v[KEY_INC] != 0,
                               .fill = {124, 116, 104}};
    return DG_OK;
}
