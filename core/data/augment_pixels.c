/* augment_pixels.c - see augment_pixels.h: tables, blends, hue. */
#include "augment_pixels.h"

#include <math.h>

#include "augment_parts.h"
#include "base/mem.h"
#include "vector_width.h"

#define CHUNK 256 /* pixels that are blended at a time */

void dg_scratch_free(dg_scratch *s)
{
    dg_free(s->block);
    *s = (dg_scratch){0};
}

void *dg_scratch_need(dg_scratch *s, size_t bytes, dg_error *err)
{
    if (bytes <= s->capacity) return s->block;
    dg_scratch_free(s);
    s->block = dg_alloc_aligned(bytes);
    if (s->block)
        s->capacity = bytes;
    else
        dg_fail(err, DG_ERR_NOMEM, "no memory for augmentation (%zu bytes)", bytes);
    return s->block;
}

static size_t count_of(dg_pixels p)
{
    return (size_t)p.height * (size_t)p.width;
}

/* ---- tables */

static void apply(dg_pixels p, const uint8_t table[256])
{
    const size_t n = count_of(p) * 3;
    for (size_t i = 0; i < n; i++) p.rgb[i] = table[p.rgb[i]];
}

static void apply_each(dg_pixels p, uint8_t table[3][256])
{
    const size_t n = count_of(p);
    uint8_t *at = p.rgb;
    for (size_t i = 0; i < n; i++, at += 3)
        for (int c = 0; c < 3; c++) at[c] = table[c][at[c]];
}

static void histograms(dg_pixels p, uint32_t counts[3][256])
{
    const size_t n = count_of(p);
    const uint8_t *at = p.rgb;
    memset(counts, 0, 3 * sizeof *counts);
    for (size_t i = 0; i < n; i++, at += 3)
        for (int c = 0; c < 3; c++) counts[c][at[c]]++;
}

static uint8_t clip_int(int64_t v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void stretch(const uint32_t counts[256], uint8_t table[256])
{
    int low = 0, high = 255;
    while (low < 255 && !counts[low]) low++;
    while (high > 0 && !counts[high]) high--;
    const bool flat = high <= low;
    const double scale = flat ? 1.0 : 255.0 / (high - low), offset = flat ? 0.0 : -low * scale;
    for (int i = 0; i < 256; i++) table[i] = clip_int((int64_t)(i * scale + offset));
}

void dg_auto_contrast(dg_pixels p)
{
    uint32_t counts[3][256];
    uint8_t table[3][256];
    histograms(p, counts);
    for (int c = 0; c < 3; c++) stretch(counts[c], table[c]);
    apply_each(p, table);
}

/* A step is the share of one output value, of which the pixels with the last value are left out. */
static void flatten(const uint32_t counts[256], uint8_t table[256])
{
    uint64_t total = 0, last = 0;
    for (int i = 0; i < 256; i++) {
        total += counts[i];
        if (counts[i]) last = counts[i];
    }
    const uint64_t step = (total - last) / 255;
    uint64_t n = step / 2;
    for (int i = 0; i < 256; i++) {
        table[i] = step ? clip_int((int64_t)(n / step)) : (uint8_t)i;
        n += counts[i];
    }
}

void dg_equalize(dg_pixels p)
{
    uint32_t counts[3][256];
    uint8_t table[3][256];
    histograms(p, counts);
    for (int c = 0; c < 3; c++) flatten(counts[c], table[c]);
    apply_each(p, table);
}

void dg_invert(dg_pixels p)
{
    const size_t n = count_of(p) * 3;
    for (size_t i = 0; i < n; i++) p.rgb[i] = (uint8_t)(255 - p.rgb[i]);
}

void dg_posterize(dg_pixels p, int32_t bits)
{
    const size_t n = count_of(p) * 3;
    const uint8_t mask = (uint8_t)(0xff00u >> bits);
    for (size_t i = 0; i < n; i++) p.rgb[i] &= mask;
}

void dg_solarize(dg_pixels p, double threshold)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = (uint8_t)(i < threshold ? i : 255 - i);
    apply(p, table);
}

void dg_solarize_add(dg_pixels p, int32_t add)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = i < 128 ? clip_int((int64_t)i + add) : (uint8_t)i;
    apply(p, table);
}

/* ---- blends */

static inline uint8_t blend(uint8_t degenerate, uint8_t value, float factor)
{
    const int32_t v = (int32_t)((float)degenerate + factor * (float)(value - degenerate));
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

FOR_EACH_VECTOR_WIDTH
static void blend_row(const uint8_t *restrict degenerate, uint8_t *restrict values, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) values[i] = blend(degenerate[i], values[i], factor);
}

static void blend_constant(dg_pixels p, uint8_t degenerate, float factor)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = blend(degenerate, (uint8_t)i, factor);
    apply(p, table);
}

/* ITU-R 601-2 luma with 16 fraction bits. */
static inline uint8_t grey_of(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

void dg_adjust_brightness(dg_pixels p, double factor)
{
    blend_constant(p, 0, (float)factor);
}

void dg_adjust_contrast(dg_pixels p, double factor)
{
    const size_t n = count_of(p);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += grey_of(p.rgb + 3 * i);
    blend_constant(p, (uint8_t)((double)sum / (double)n + 0.5), (float)factor);
}

void dg_adjust_saturation(dg_pixels p, double factor)
{
    uint8_t greys[CHUNK * 3];
    const size_t n = count_of(p);
    for (size_t first = 0; first < n; first += CHUNK) {
        const size_t count = n - first < CHUNK ? n - first : CHUNK;
        uint8_t *rgb = p.rgb + 3 * first;
        for (size_t i = 0; i < count; i++)
            greys[3 * i] = greys[3 * i + 1] = greys[3 * i + 2] = grey_of(rgb + 3 * i);
        blend_row(greys, rgb, 3 * count, (float)factor);
    }
}

/* One line of the 3 x 3 mean without its first and last pixel: sum/13 to nearest. Whole numbers do, as no sum
 * of thirteenths is a tie. above, here, below: [n + 6]; out: [n]. */
FOR_EACH_VECTOR_WIDTH
static void smooth_row(const uint8_t *restrict above, const uint8_t *restrict here,
                       const uint8_t *restrict below, size_t n, uint8_t *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t sum = (uint16_t)(above[i] + above[i + 3] + above[i + 6] + here[i] + 5 * here[i + 3] +
                                        here[i + 6] + below[i] + below[i + 3] + below[i + 6]);
        out[i] = (uint8_t)((uint16_t)(sum + 6) / 13);
    }
}

dg_status dg_adjust_sharpness(dg_pixels p, double factor, dg_scratch *scratch, dg_error *err)
{
    if (p.height < 3 || p.width < 3) return DG_OK; /* a border only, which the smoothing leaves alone */
    const size_t stride = (size_t)p.width * 3, inner = stride - 6;
    uint8_t *lines = dg_scratch_need(scratch, 3 * stride, err); /* above, here, smooth: [3, width, 3] */
    if (!lines) return DG_ERR_NOMEM;
    uint8_t *above = lines, *here = lines + stride, *smooth = here + stride;
    memcpy(above, p.rgb, stride);
    for (int32_t y = 1; y < p.height - 1; y++) {
        uint8_t *row = p.rgb + (size_t)y * stride, *t = above;
        memcpy(here, row, stride);
        smooth_row(above, here, row + stride, inner, smooth);
        blend_row(smooth, row + 3, inner, (float)factor);
        above = here;
        here = t;
    }
    return DG_OK;
}

/* ---- hue: Pillow's RGB -> HSV in bytes, a shift, and back */

static void hue_and_saturation(const uint8_t rgb[3], uint8_t high, uint8_t low, uint8_t *hue,
                               uint8_t *saturation)
{
    const float range = (float)(high - low), s = range / (float)high;
    const float r = (float)(high - rgb[0]) / range, g = (float)(high - rgb[1]) / range,
                b = (float)(high - rgb[2]) / range;
    float h = rgb[0] == high ? b - g : (float)(rgb[1] == high ? 2.0 + r - b : 4.0 + g - r);
    h = (float)fmod(h / 6.0 + 1.0, 1.0);
    *hue = clip_int((int)(h * 255.0));
    *saturation = clip_int((int)(s * 255.0));
}

static void colour_of(uint8_t hue, uint8_t saturation, uint8_t value, uint8_t rgb[3])
{
    /* of each sixth of the circle: which of (value, p, q, t) are red, green, blue */
    static const uint8_t parts[6][3] = {{0, 3, 1}, {2, 0, 1}, {1, 0, 3}, {1, 2, 0}, {3, 1, 0}, {0, 1, 2}};
    const int sixth = (int)floor((float)hue * 6.0 / 255.0);
    const float f = (float)((float)hue * 6.0 / 255.0 - (float)sixth), s = (float)saturation / 255.0f;
    const uint8_t from[4] = {value, clip_int((int)round((float)value * (1.0 - s))),
                             clip_int((int)round((float)value * (1.0 - s * f))),
                             clip_int((int)round((float)value * (1.0 - s * (1.0 - f))))};
    for (int c = 0; c < 3; c++) rgb[c] = from[parts[sixth % 6][c]];
}

void dg_adjust_hue(dg_pixels p, double turns)
{
    const size_t n = count_of(p);
    const uint8_t shift = (uint8_t)(int32_t)(turns * 255);
    uint8_t *rgb = p.rgb;
    for (size_t i = 0; i < n; i++, rgb += 3) {
        uint8_t high = rgb[0], low = rgb[0], hue, saturation;
        for (int c = 1; c < 3; c++) {
            if (rgb[c] > high) high = rgb[c];
            if (rgb[c] < low) low = rgb[c];
        }
        if (high == low) continue; /* a grey has no hue */
        hue_and_saturation(rgb, high, low, &hue, &saturation);
        if (saturation == 0)
            memset(rgb, high, 3);
        else
            colour_of((uint8_t)(hue + shift), saturation, high, rgb);
    }
}
