/* geometry.c - which part of a picture a view shows: torchvision's crops, see resample.h. */
#include "resample.h"

#include <math.h>
#include <string.h>

dg_view dg_view_of_box(dg_box box, int32_t height, int32_t width)
{
    return (dg_view){box, height, width, {0, 0, height, width}, {0}};
}

/* One axis: the pixels [*first, *first + *count) of `src` in which [begin, begin + length) lies. */
static void outwards(double begin, double length, int32_t src, int32_t *first, int32_t *count)
{
    const double low = floor(begin), high = ceil(begin + length);
    *first = low < 0 ? 0 : (int32_t)low;
    *count = (high > src ? src : (int32_t)high) - *first;
}

dg_view dg_view_of_part(dg_box box, int32_t scale, int32_t top, int32_t left, int32_t src_height,
                        int32_t src_width, int32_t height, int32_t width)
{
    const double y = (double)box.top / scale - top, x = (double)box.left / scale - left,
                 h = (double)box.height / scale, w = (double)box.width / scale;
    dg_view v = dg_view_of_box(box, height, width);
    outwards(y, h, src_height, &v.box.top, &v.box.height);
    outwards(x, w, src_width, &v.box.left, &v.box.width);
    const double exact[4] = {y - v.box.top, x - v.box.left, h, w};
    memcpy(v.exact, exact, sizeof exact);
    return v;
}

static double between(dg_rng *rng, double low, double high)
{
    return low + (high - low) * dg_rng_uniform(rng);
}

/* To nearest, ties to even, as Python's round. */
static int32_t rounded(double v)
{
    return v < INT32_MAX ? (int32_t)nearbyint(v) : INT32_MAX;
}

static dg_box central(int32_t src_height, int32_t src_width, const double ratio[2])
{
    const double in = (double)src_width / src_height;
    dg_box b = {0, 0, src_height, src_width};
    if (in < ratio[0]) b.height = rounded(src_width / ratio[0]);
    if (in > ratio[1]) b.width = rounded(src_height * ratio[1]);
    if (b.height < 1) b.height = 1;
    if (b.width < 1) b.width = 1;
    if (b.height > src_height) b.height = src_height;
    if (b.width > src_width) b.width = src_width;
    b.top = (src_height - b.height) / 2;
    b.left = (src_width - b.width) / 2;
    return b;
}

dg_box dg_draw_crop(dg_rng *rng, int32_t src_height, int32_t src_width, const double scale[2],
                    const double ratio[2])
{
    const double area = (double)src_height * src_width, low = log(ratio[0]), high = log(ratio[1]);
    for (int i = 0; i < 10; i++) {
        const double target = area * between(rng, scale[0], scale[1]), aspect = exp(between(rng, low, high));
        dg_box b = {0, 0, rounded(sqrt(target / aspect)), rounded(sqrt(target * aspect))};
        if (b.width < 1 || b.width > src_width || b.height < 1 || b.height > src_height) continue;
        b.top = (int32_t)dg_rng_below(rng, (uint32_t)(src_height - b.height) + 1);
        b.left = (int32_t)dg_rng_below(rng, (uint32_t)(src_width - b.width) + 1);
        return b;
    }
    return central(src_height, src_width, ratio);
}

dg_view dg_view_of_centre(int32_t src_height, int32_t src_width, int32_t height, int32_t width,
                          double fraction, dg_fit fit)
{
    int64_t h = (int64_t)(height / fraction), w = (int64_t)(width / fraction);
    if (fit == DG_FIT_SHORTER) {
        if ((int64_t)src_height * w <= (int64_t)src_width * h)
            w = h * src_width / src_height;
        else
            h = w * src_height / src_width;
    }
    h = h < INT32_MAX ? h : INT32_MAX;
    w = w < INT32_MAX ? w : INT32_MAX;
    return (dg_view){{0, 0, src_height, src_width},
                     (int32_t)h,
                     (int32_t)w,
                     {rounded((double)(h - height) / 2), rounded((double)(w - width) / 2), height, width},
                     {0}};
}
