/* mix.c - see mix.h. */
#include "mix.h"

#include <math.h>

#define TRIES 10

static double between(dg_rng *rng, double low, double high)
{
    return low + (high - low) * dg_rng_uniform(rng);
}

dg_box dg_draw_erase(const dg_erasing *e, uint64_t seed, uint64_t ordinal, int32_t height, int32_t width)
{
    dg_rng rng = dg_rng_make(seed, DG_RNG_ERASE, ordinal, 0);
    const double whole = (double)height * width, low = log(e->aspect[0]), high = log(e->aspect[1]);
    if (dg_rng_uniform(&rng) >= e->probability) return (dg_box){0};
    for (int i = 0; i < TRIES; i++) {
        const double area = between(&rng, e->area[0], e->area[1]) * whole,
                     aspect = exp(between(&rng, low, high));
        const double h = nearbyint(sqrt(area * aspect)), w = nearbyint(sqrt(area / aspect));
        if (!(h < height && w < width)) continue;
        dg_box b = {0, 0, (int32_t)h, (int32_t)w};
        b.top = (int32_t)dg_rng_below(&rng, (uint32_t)(height - b.height) + 1);
        b.left = (int32_t)dg_rng_below(&rng, (uint32_t)(width - b.width) + 1);
        return b;
    }
    return (dg_box){0};
}

/* The logarithm of a gamma variate of scale 1. Shapes below 1 by gamma(a) = gamma(a + 1) * u^(1/a). */
static double log_gamma_variate(dg_rng *rng, double shape)
{
    const double raised = shape < 1 ? shape + 1 : shape, d = raised - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    const double boost = shape < 1 ? log(1.0 - dg_rng_uniform(rng)) / shape : 0.0;
    for (;;) {
        const double x = dg_rng_normal(rng), t = 1.0 + c * x;
        if (t <= 0) continue;
        const double v = t * t * t, u = 1.0 - dg_rng_uniform(rng);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return log(d * v) + boost;
    }
}

double dg_rng_beta(dg_rng *rng, double alpha, double beta)
{
    const double a = log_gamma_variate(rng, alpha), b = log_gamma_variate(rng, beta);
    return 1.0 / (1.0 + exp(b - a));
}

/* low..high of a cut of `size` around `centre`, within 0..side. */
static void cut(int32_t centre, int32_t size, int32_t side, int32_t *first, int32_t *length)
{
    const int32_t low = centre - size / 2, high = centre + size / 2;
    *first = low > 0 ? low : 0;
    *length = (high < side ? high : side) - *first;
}

dg_box dg_draw_cut(dg_rng *rng, double lambda, int32_t height, int32_t width)
{
    const double side = sqrt(1.0 - lambda);
    dg_box b;
    const int32_t y = (int32_t)dg_rng_below(rng, (uint32_t)height),
                  x = (int32_t)dg_rng_below(rng, (uint32_t)width);
    cut(y, (int32_t)(height * side), height, &b.top, &b.height);
    cut(x, (int32_t)(width * side), width, &b.left, &b.width);
    return b;
}

dg_mix dg_mix_of(double lambda, const dg_box *box, int32_t height, int32_t width)
{
    if (!box) return (dg_mix){lambda, lambda, {0}};
    const double area = (double)box->height * box->width;
    return (dg_mix){1.0, 1.0 - area / ((double)height * width), *box};
}

dg_mix dg_draw_mix(const dg_mixing *m, uint64_t seed, uint64_t step, uint64_t rank, int32_t height,
                   int32_t width)
{
    dg_rng rng = dg_rng_make(seed, DG_RNG_MIX, step, rank);
    const bool mixed = dg_rng_uniform(&rng) < m->probability,
               other = dg_rng_uniform(&rng) < m->switch_probability;
    const bool cuts = m->cutmix > 0 && (other || !(m->mixup > 0));
    const double alpha = cuts ? m->cutmix : m->mixup;
    if (!mixed || !(alpha > 0)) return dg_mix_of(1.0, NULL, height, width);
    const double lambda = dg_rng_beta(&rng, alpha, alpha);
    if (!cuts) return dg_mix_of(lambda, NULL, height, width);
    const dg_box box = dg_draw_cut(&rng, lambda, height, width);
    return dg_mix_of(lambda, &box, height, width);
}

void dg_mix_pixels(const dg_mix *mix, const float *x, int32_t batch, int32_t channels, int32_t height,
                   int32_t width, float *out)
{
    const float own = (float)mix->pixels, other = (float)(1.0 - mix->pixels);
    const size_t plane = (size_t)height * (size_t)width, picture = plane * (size_t)channels;
    const dg_box *b = &mix->box;
    for (int32_t i = 0; i < batch; i++) {
        const float *a = x + (size_t)i * picture, *partner = x + (size_t)(batch - 1 - i) * picture;
        float *o = out + (size_t)i * picture;
        for (size_t k = 0; k < picture; k++) o[k] = a[k] * own + partner[k] * other;
        for (int32_t c = 0; c < channels; c++)
            for (int32_t y = b->top; y < b->top + b->height; y++) {
                const size_t at = (size_t)c * plane + (size_t)y * (size_t)width + (size_t)b->left;
                memcpy(o + at, partner + at, (size_t)b->width * sizeof *o);
            }
    }
}

dg_status dg_soft_targets(const dg_mix *mix, const int32_t *labels, int32_t batch, int32_t classes,
                          double smoothing, float *out, dg_error *err)
{
    const double off = smoothing / classes, more = 1.0 - smoothing;
    for (int32_t i = 0; i < batch; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return dg_fail(err, DG_ERR_INVALID,
                           "label %d in place %d of the batch: there are %d classes, 0..%d", labels[i], i,
                           classes, classes - 1);
    for (int32_t i = 0; i < batch; i++) {
        const int32_t own = labels[i], other = labels[batch - 1 - i];
        float *row = out + (size_t)i * (size_t)classes;
        for (int32_t k = 0; k < classes; k++)
            row[k] = (float)(off + more * ((k == own) * mix->targets + (k == other) * (1.0 - mix->targets)));
    }
    return DG_OK;
}
