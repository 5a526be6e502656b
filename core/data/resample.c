/* resample.c - see resample.h. Plain C, laid out so that compilers vectorise the two inner loops. */
#include "resample.h"

#include <math.h>

#include "base/mem.h"
#include "vector_width.h"

#define PRECISION 22       /* fraction bits of a weight */
#define SUPPORT 2.0        /* half-width of the cubic */
#define GROUP 4            /* taps are padded to a multiple of this */
#define LANES (4 * GROUP)  /* of the horizontal loop: GROUP taps of red, green, blue, nothing */
#define COLUMNS 32         /* of the vertical loop */
#define MAX_SIDE 65535     /* of a picture: image.h lets no larger one through */
#define MAX_VIEW (1 << 28) /* of a view, of which a window is cut out */

void dg_resampler_free(dg_resampler *r)
{
    dg_free(r->block);
    *r = (dg_resampler){0};
}

/* The weights of one axis: output o reads count[o] inputs from first[o] on. */
typedef struct axis {
    int32_t *first, *count; /* [outputs] */
    int32_t *weights;       /* [outputs, taps] */
    int32_t taps;           /* a multiple of GROUP; unused ones are 0 */
    int32_t outputs, start; /* start: the window's first output */
    double origin, scale;   /* input of output o's left edge: origin + o * scale */
} axis;

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static axis axis_of(double origin, double in, int32_t out, int32_t start, int32_t outputs)
{
    axis a = {.outputs = outputs, .start = start, .origin = origin, .scale = in / out};
    const double stretch = a.scale > 1.0 ? a.scale : 1.0;
    const int32_t taps = (int32_t)ceil(SUPPORT * stretch) * 2 + 1;
    a.taps = (taps + GROUP - 1) / GROUP * GROUP;
    return a;
}

/* Pillow's precompute_coeffs and normalize_coeffs_8bpc; `scratch` has room for one output's weights. */
static void axis_fill(axis *a, int32_t in, double *scratch)
{
    const double stretch = a->scale > 1.0 ? a->scale : 1.0, support = SUPPORT * stretch,
                 shrink = 1.0 / stretch;
    for (int32_t o = 0; o < a->outputs; o++) {
        const double centre = (a->start + o + 0.5) * a->scale + a->origin;
        int32_t low = (int32_t)(centre - support + 0.5), high = (int32_t)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > in) high = in;
        double sum = 0.0;
        for (int32_t i = low; i < high; i++) {
            scratch[i - low] = cubic((i - centre + 0.5) * shrink);
            sum += scratch[i - low];
        }
        int32_t *w = a->weights + (size_t)o * (size_t)a->taps;
        memset(w, 0, (size_t)a->taps * sizeof *w);
        for (int32_t i = 0; i < high - low; i++) {
            const double v = (sum != 0.0 ? scratch[i] / sum : scratch[i]) * (1 << PRECISION);
            w[i] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        a->first[o] = low;
        a->count[o] = high - low;
    }
}

static inline uint8_t clip(int32_t sum)
{
    const int32_t v = sum >> PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* in [n, 3] -> out [n, 4]; what the fourth lane holds is never used. bytes: [n, 4]. */
FOR_EACH_VECTOR_WIDTH
static void widen(const uint8_t *restrict in, size_t n, uint8_t *restrict bytes, int32_t *restrict out)
{
    for (size_t i = 0; i + 1 < n; i++) memcpy(bytes + 4 * i, in + 3 * i, 4);
    memcpy(bytes + 4 * (n - 1), in + 3 * (n - 1), 3); /* past the last pixel there may be nothing */
    for (size_t i = 0; i < 4 * n; i++) out[i] = bytes[i];
}

/* One row: wide [in + taps, 4] -> out [outputs, 3] and one byte more. spread: [outputs, taps, 4], each weight
 * four times over. sums: [outputs, LANES], bytes: [outputs, 4]. Four plain loops, of which the compiler makes
 * vectors. */
FOR_EACH_VECTOR_WIDTH
static void horizontal(const int32_t *restrict wide, const axis *x, const int32_t *restrict spread,
                       int32_t *restrict sums, uint8_t *restrict bytes, uint8_t *restrict out)
{
    const size_t n = (size_t)x->outputs;
    for (size_t o = 0; o < n; o++) {
        const int32_t *restrict in = wide + 4 * (size_t)x->first[o];
        const int32_t *restrict w = spread + o * 4 * (size_t)x->taps;
        int32_t sum[LANES] = {0};
        for (int32_t t = 0; t < x->count[o]; t += GROUP, in += LANES, w += LANES)
            for (int j = 0; j < LANES; j++) sum[j] += in[j] * w[j];
        memcpy(sums + o * LANES, sum, sizeof sum);
    }
    for (size_t o = 0; o < n; o++) {
        const int32_t *s = sums + o * LANES;
        int32_t total[4];
        for (int c = 0; c < 4; c++)
            total[c] = (1 << (PRECISION - 1)) + s[c] + s[4 + c] + s[8 + c] + s[12 + c];
        memcpy(sums + o * 4, total, sizeof total);
    }
    for (size_t i = 0; i < 4 * n; i++) bytes[i] = clip(sums[i]);
    for (size_t o = 0; o < n; o++) memcpy(out + 3 * o, bytes + 4 * o, 4);
}

/* One row of output: rows [count, stride] weighted by w [count] -> out [stride]. */
FOR_EACH_VECTOR_WIDTH
static void vertical(const uint8_t *restrict rows, size_t stride, const int32_t *restrict w, int32_t count,
                     uint8_t *restrict out)
{
    for (size_t at = 0; at < stride; at += COLUMNS) {
        int32_t sum[COLUMNS];
        for (int j = 0; j < COLUMNS; j++) sum[j] = 1 << (PRECISION - 1);
        const uint8_t *restrict in = rows + at;
        for (int32_t t = 0; t < count; t++, in += stride) {
            const int32_t weight = w[t];
            for (int j = 0; j < COLUMNS; j++) sum[j] += weight * in[j];
        }
        for (int j = 0; j < COLUMNS; j++) out[at + (size_t)j] = clip(sum[j]);
    }
}

static dg_status check_view(int32_t src_height, int32_t src_width, const dg_view *v, dg_error *err)
{
    const dg_box *b = &v->box, *w = &v->window;
    if (b->top < 0 || b->left < 0 || b->height < 1 || b->width < 1 || b->height > src_height - b->top ||
        b->width > src_width - b->left || src_height > MAX_SIDE || src_width > MAX_SIDE)
        return dg_fail(err, DG_ERR_INVALID,
                       "the box at (%d, %d) of %d x %d is not inside the picture of %d x %d", b->top, b->left,
                       b->height, b->width, src_height, src_width);
    if (v->height < 1 || v->width < 1 || v->height > MAX_VIEW || v->width > MAX_VIEW || w->top < 0 ||
        w->left < 0 || w->height < 1 || w->width < 1 || w->height > v->height - w->top ||
        w->width > v->width - w->left)
        return dg_fail(err, DG_ERR_INVALID,
                       "the window at (%d, %d) of %d x %d is not inside the view of %d x %d", w->top, w->left,
                       w->height, w->width, v->height, v->width);
    return DG_OK;
}

/* Where the parts lie in the resampler's block; each is a multiple of 64 bytes. */
typedef struct layout {
    axis x, y;
    int32_t *wide, *spread, *sums;
    double *scratch;
    uint8_t *bytes, *middle, *line; /* [x outputs or inputs, 4], [rows read, stride], [stride] */
    size_t stride;
} layout;

static dg_status lay_out(dg_resampler *r, const dg_view *v, layout *l, dg_error *err)
{
    const bool all = v->exact[2] == 0;
    l->x = axis_of(v->exact[1], all ? v->box.width : v->exact[3], v->width, v->window.left, v->window.width);
    l->y =
        axis_of(v->exact[0], all ? v->box.height : v->exact[2], v->height, v->window.top, v->window.height);
    l->stride = ((size_t)v->window.width * 3 + COLUMNS - 1) / COLUMNS * COLUMNS;
    const size_t nx = (size_t)l->x.outputs, ny = (size_t)l->y.outputs, tx = (size_t)l->x.taps,
                 ty = (size_t)l->y.taps, word = sizeof(int32_t);
    struct {
        void *pointer;
        size_t bytes;
    } parts[] = {
        {&l->x.first, nx * word},
        {&l->x.count, nx * word},
        {&l->x.weights, nx * tx * word},
        {&l->y.first, ny * word},
        {&l->y.count, ny * word},
        {&l->y.weights, ny * ty * word},
        {&l->wide, ((size_t)v->box.width + tx) * 4 * word},
        {&l->spread, nx * tx * 4 * word},
        {&l->sums, nx * LANES * word},
        {&l->bytes, (nx > (size_t)v->box.width ? nx : (size_t)v->box.width) * 4},
        {&l->scratch, (tx > ty ? tx : ty) * sizeof(double)},
        {&l->middle, (size_t)v->box.height * l->stride + 1},
        {&l->line, l->stride},
    };
    const size_t n = sizeof parts / sizeof *parts;
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += (parts[i].bytes + 63) / 64 * 64;
    if (total > r->capacity) {
        dg_resampler_free(r);
        r->block = dg_alloc_aligned(total);
        if (!r->block) return dg_fail(err, DG_ERR_NOMEM, "no memory for resampling (%zu bytes)", total);
        r->capacity = total;
    }
    unsigned char *at = r->block;
    for (size_t i = 0; i < n; i++) {
        memcpy(parts[i].pointer, &at, sizeof at);
        at += (parts[i].bytes + 63) / 64 * 64;
    }
    return DG_OK;
}

dg_status dg_resample(dg_resampler *r, const uint8_t *src, int32_t src_height, int32_t src_width,
                      const dg_view *view, uint8_t *out, dg_error *err)
{
    layout l;
    DG_TRY(check_view(src_height, src_width, view, err));
    DG_TRY(lay_out(r, view, &l, err));
    axis_fill(&l.x, view->box.width, l.scratch);
    axis_fill(&l.y, view->box.height, l.scratch);
    for (size_t i = 0, n = (size_t)l.x.outputs * (size_t)l.x.taps; i < n; i++)
        for (int j = 0; j < 4; j++) l.spread[4 * i + j] = l.x.weights[i];

    const int32_t last = l.y.outputs - 1, low = l.y.first[0], high = l.y.first[last] + l.y.count[last];
    const size_t width = (size_t)view->box.width, row_bytes = (size_t)view->window.width * 3;
    memset(l.wide, 0, (width + (size_t)l.x.taps) * 4 * sizeof *l.wide);
    for (int32_t y = low; y < high; y++) {
        const uint8_t *in =
            src + ((size_t)(view->box.top + y) * (size_t)src_width + (size_t)view->box.left) * 3;
        uint8_t *row = l.middle + (size_t)(y - low) * l.stride;
        widen(in, width, l.bytes, l.wide);
        horizontal(l.wide, &l.x, l.spread, l.sums, l.bytes, row);
        memset(row + row_bytes, 0, l.stride - row_bytes);
    }
    for (int32_t o = 0; o < l.y.outputs; o++) {
        vertical(l.middle + (size_t)(l.y.first[o] - low) * l.stride, l.stride,
                 l.y.weights + (size_t)o * (size_t)l.y.taps, l.y.count[o], l.line);
        memcpy(out + (size_t)o * row_bytes, l.line, row_bytes);
    }
    return DG_OK;
}

dg_status dg_resample_nearest(const uint8_t *src, int32_t src_height, int32_t src_width, const dg_view *view,
                              uint8_t *out, dg_error *err)
{
    DG_TRY(check_view(src_height, src_width, view, err));
    const dg_box *box = &view->box, *window = &view->window;
    for (int32_t y = 0; y < window->height; y++) {
        const int64_t sy = (2 * (int64_t)(window->top + y) + 1) * box->height / (2 * (int64_t)view->height);
        const uint8_t *row = src + (size_t)(box->top + sy) * (size_t)src_width + box->left;
        for (int32_t x = 0; x < window->width; x++) {
            const int64_t sx =
                (2 * (int64_t)(window->left + x) + 1) * box->width / (2 * (int64_t)view->width);
            *out++ = row[sx];
        }
    }
    return DG_OK;
}

void dg_flip_horizontal(uint8_t *pixels, int32_t height, int32_t width, int32_t channels)
{
    for (int32_t y = 0; y < height; y++) {
        uint8_t *left = pixels + (size_t)y * (size_t)width * (size_t)channels;
        uint8_t *right = left + (size_t)(width - 1) * (size_t)channels;
        for (; left < right; left += channels, right -= channels)
            for (int32_t c = 0; c < channels; c++) {
                const uint8_t t = left[c];
                left[c] = right[c];
                right[c] = t;
            }
    }
}
