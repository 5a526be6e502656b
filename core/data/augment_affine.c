/* augment_affine.c - affine maps of a picture, see augment_pixels.h. In f64 and in Pillow's order of
 * operations, because truncation shows every last bit.
 *
 * A row of output is made in whole-row loops, of which the compiler makes vectors: where each pixel comes
 * from; the four taps gathered; cubics along x for as many lines as are needed; a cubic along y. A pixel is
 * four lanes, the fourth never used. Shears and translations leave one axis exact, and what is exact is
 * copied. */
#include "augment_pixels.h"

#include "augment_parts.h"
#include "vector_width.h"

#define TAPS 4
#define MARGIN 2 /* columns that the border goes on for on both sides: taps reach from -2 to width + 1 */

/* One picture's plan; all pointers are into the scratch. */
typedef struct affine {
    int32_t height, width;
    size_t stride;            /* bytes of a line of `wide` */
    uint8_t *wide;            /* [height, MARGIN + width + MARGIN, 4] */
    int32_t *column, *line;   /* [width]: of the source, of the tap at or before the point */
    double *dx, *dy;          /* [width, 4] */
    uint8_t *taps;            /* [TAPS, width, 4] */
    double *lines, *sum;      /* [TAPS, width, 4], [width, 4] */
    uint8_t *bytes, *outside; /* [width, 4], [width] */
} affine;

static dg_status lay_out(affine *a, dg_pixels p, dg_scratch *scratch, dg_error *err)
{
    const size_t w = (size_t)p.width;
    a->height = p.height;
    a->width = p.width;
    a->stride = (w + 2 * MARGIN) * 4;
    struct {
        void *pointer;
        size_t bytes;
    } parts[] = {
        {&a->wide, (size_t)p.height * a->stride},
        {&a->column, w * sizeof(int32_t)},
        {&a->line, w * sizeof(int32_t)},
        {&a->dx, w * 4 * sizeof(double)},
        {&a->dy, w * 4 * sizeof(double)},
        {&a->taps, TAPS * w * 4},
        {&a->lines, TAPS * w * 4 * sizeof(double)},
        {&a->sum, w * 4 * sizeof(double)},
        {&a->bytes, w * 4},
        {&a->outside, w},
    };
    const size_t n = sizeof parts / sizeof *parts;
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += (parts[i].bytes + 63) / 64 * 64;
    unsigned char *at = dg_scratch_need(scratch, total, err);
    if (!at) return DG_ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        memcpy(parts[i].pointer, &at, sizeof at);
        at += (parts[i].bytes + 63) / 64 * 64;
    }
    return DG_OK;
}

/* The picture in four lanes, its first and last column repeated. */
static void widen(const affine *a, const uint8_t *rgb)
{
    const size_t w = (size_t)a->width;
    for (int32_t y = 0; y < a->height; y++, rgb += 3 * w) {
        uint8_t *out = a->wide + (size_t)y * a->stride, *in = out + MARGIN * 4;
        for (size_t x = 0; x < w; x++) {
            memcpy(in + 4 * x, rgb + 3 * x, 3);
            in[4 * x + 3] = 0;
        }
        for (size_t i = 0; i < MARGIN; i++) {
            memcpy(out + 4 * i, in, 4);
            memcpy(in + 4 * (w + i), in + 4 * (w - 1), 4);
        }
    }
}

/* Of output row y: column, line and outside, and dx and dy in the first `width` places of theirs. */
FOR_EACH_VECTOR_WIDTH
static void locate(const double m[6], int32_t y, int32_t height, int32_t width, int32_t *restrict column,
                   int32_t *restrict line, double *restrict dx, double *restrict dy,
                   uint8_t *restrict outside)
{
    const double yc = y + 0.5;
    for (int32_t x = 0; x < width; x++) {
        const double xc = x + 0.5, xs = m[0] * xc + m[1] * yc + m[2], ys = m[3] * xc + m[4] * yc + m[5];
        const bool inside = (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height);
        const double xi = (inside ? xs : 0.5) - 0.5, yi = (inside ? ys : 0.5) - 0.5;
        const int32_t xt = (int32_t)xi, yt = (int32_t)yi, xf = xt - (xi < xt), yf = yt - (yi < yt);
        outside[x] = !inside;
        column[x] = xf;
        line[x] = yf;
        dx[x] = xi - xf;
        dy[x] = yi - yf;
    }
}

/* d [n] -> d [n, 4], each four times over. False when all are 0. */
static bool spread(double *d, int32_t n)
{
    bool any = false;
    for (int32_t i = n - 1; i >= 0; i--) {
        const double v = d[i];
        any |= v != 0;
        for (int c = 0; c < 4; c++) d[4 * i + c] = v;
    }
    return any;
}

/* taps[0..count) of the line `down` below each pixel's own, from the column `from` before it on. */
static inline void gather(const affine *a, int32_t down, int32_t from, int32_t count)
{
    const int32_t last = a->height - 1;
    const size_t row = (size_t)a->width * 4;
    for (int32_t x = 0; x < a->width; x++) {
        const int32_t y = a->line[x] + down, line = y < 0 ? 0 : y > last ? last : y;
        const uint8_t *in = a->wide + (size_t)line * a->stride + (size_t)(a->column[x] + MARGIN - from) * 4;
        for (int32_t t = 0; t < count; t++) memcpy(a->taps + (size_t)t * row + (size_t)x * 4, in + 4 * t, 4);
    }
}

FOR_EACH_VECTOR_WIDTH
static void cubic_of_bytes(const uint8_t *restrict taps, const double *restrict d, size_t n,
                           double *restrict out)
{
    const uint8_t *restrict v1 = taps, *restrict v2 = v1 + n, *restrict v3 = v2 + n, *restrict v4 = v3 + n;
    for (size_t i = 0; i < n; i++) {
        const int32_t a = v1[i], b = v2[i], c = v3[i], e = v4[i];
        const double p1 = b, p2 = c - a, p3 = 2 * (a - b) + c - e, p4 = b - a - c + e;
        out[i] = p1 + d[i] * (p2 + d[i] * (p3 + d[i] * p4));
    }
}

FOR_EACH_VECTOR_WIDTH
static void cubic_of_lines(const double *restrict lines, const double *restrict d, size_t n,
                           double *restrict out)
{
    const double *restrict v1 = lines, *restrict v2 = v1 + n, *restrict v3 = v2 + n, *restrict v4 = v3 + n;
    for (size_t i = 0; i < n; i++) {
        const double p1 = v2[i], p2 = -v1[i] + v3[i], p3 = 2 * (v1[i] - v2[i]) + v3[i] - v4[i],
                     p4 = -v1[i] + v2[i] - v3[i] + v4[i];
        out[i] = p1 + d[i] * (p2 + d[i] * (p3 + d[i] * p4));
    }
}

FOR_EACH_VECTOR_WIDTH
static void to_bytes(const double *restrict in, size_t n, uint8_t *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t v = (int32_t)in[i];
        out[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* One row of output in four lanes. */
static const uint8_t *interpolate(const affine *a, bool along_x, bool along_y)
{
    const size_t n = (size_t)a->width * 4;
    if (!along_x) {
        /* taps along y are the source's own bytes: four lines, one column */
        affine part = *a;
        for (int32_t t = 0; t < (along_y ? TAPS : 1); t++) {
            part.taps = a->taps + (size_t)t * n;
            gather(&part, along_y ? t - 1 : 0, 0, 1);
        }
        if (!along_y) return a->taps;
        cubic_of_bytes(a->taps, a->dy, n, a->sum);
    } else if (!along_y) {
        gather(a, 0, 1, TAPS);
        cubic_of_bytes(a->taps, a->dx, n, a->sum);
    } else {
        for (int32_t t = 0; t < TAPS; t++) {
            gather(a, t - 1, 1, TAPS);
            cubic_of_bytes(a->taps, a->dx, n, a->lines + (size_t)t * n);
        }
        cubic_of_lines(a->lines, a->dy, n, a->sum);
    }
    to_bytes(a->sum, n, a->bytes);
    return a->bytes;
}

dg_status dg_affine(dg_pixels p, const double m[6], const uint8_t fill[3], dg_scratch *scratch, dg_error *err)
{
    affine a;
    DG_TRY(lay_out(&a, p, scratch, err));
    widen(&a, p.rgb);
    uint8_t *out = p.rgb;
    for (int32_t y = 0; y < p.height; y++) {
        locate(m, y, a.height, a.width, a.column, a.line, a.dx, a.dy, a.outside);
        const bool along_x = spread(a.dx, a.width), along_y = spread(a.dy, a.width);
        const uint8_t *row = interpolate(&a, along_x, along_y);
        for (int32_t x = 0; x < p.width; x++, out += 3) memcpy(out, a.outside[x] ? fill : row + 4 * x, 3);
    }
    return DG_OK;
}
