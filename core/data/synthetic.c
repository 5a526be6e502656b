/* synthetic.c - see synthetic.h. */
#include "synthetic.h"

#include <math.h>

const char *const dg_shape_names[DG_SHAPES] = {"circle", "square", "triangle", "star",    "cross",
                                               "ring",   "heart",  "crescent", "hexagon", "arrow"};
const char *const dg_colour_names[DG_COLOURS] = {"red",  "orange", "yellow", "green",
                                                 "cyan", "blue",   "purple", "pink"};
const char *const dg_pattern_names[DG_PATTERNS] = {"plain",   "shaded", "striped",
                                                   "checked", "cloudy", "dotted"};

/* Corners inside the unit circle; shapes without corners have their own test in covers(). */
static const float square[] = {-.7f, -.7f, .7f, -.7f, .7f, .7f, -.7f, .7f};
static const float triangle[] = {0, -1, .866f, .5f, -.866f, .5f};
static const float star[] = {0, -1,  .235f,  -.324f, .951f,  -.309f, .380f,  .124f,  .588f,  .809f,
                             0, .4f, -.588f, .809f,  -.380f, .124f,  -.951f, -.309f, -.235f, -.324f};
static const float cross[] = {-.3f, -.95f, .3f,  -.95f, .3f,  -.3f, .95f,  -.3f, .95f,  .3f,  .3f,  .3f,
                              .3f,  .95f,  -.3f, .95f,  -.3f, .3f,  -.95f, .3f,  -.95f, -.3f, -.3f, -.3f};
static const float hexagon[] = {1, 0, .5f, .866f, -.5f, .866f, -1, 0, -.5f, -.866f, .5f, -.866f};
static const float arrow[] = {0, -1, .8f, -.1f, .3f, -.1f, .3f, .95f, -.3f, .95f, -.3f, -.1f, -.8f, -.1f};

static const struct {
    const float *corners;
    int count;
} polygons[DG_SHAPES] = {[1] = {square, 4}, [2] = {triangle, 3}, [3] = {star, 10},
                         [4] = {cross, 12}, [8] = {hexagon, 6},  [9] = {arrow, 7}};

static bool in_polygon(const float *p, int n, float u, float v)
{
    bool inside = false;
    for (int i = 0, j = n - 1; i < n; j = i++) {
        const float xi = p[2 * i], yi = p[2 * i + 1], xj = p[2 * j], yj = p[2 * j + 1];
        if ((yi > v) != (yj > v) && u < (xj - xi) * (v - yi) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
}

static bool covers(int32_t shape, float u, float v)
{
    const float r = u * u + v * v;
    if (r > 1.05f) return false;
    if (polygons[shape].count) return in_polygon(polygons[shape].corners, polygons[shape].count, u, v);
    if (shape == 0) return r < .81f;
    if (shape == 5) return r < .81f && r > .25f;
    if (shape == 7) return r < .81f && (u - .4f) * (u - .4f) + v * v > .5f;
    const float x = 1.2f * u, y = .1f - 1.2f * v, q = x * x + y * y - 1; /* the heart curve */
    return q * q * q < x * x * y * y * y;
}

static float fraction(float v)
{
    return v - floorf(v);
}

static float clouds(const float *grid, float x, float y)
{
    float sum = 0, weight = .55f;
    for (int octave = 0; octave < 3; octave++, weight *= .5f, x *= 2, y *= 2) {
        const float fx = fraction(x), fy = fraction(y), sx = fx * fx * (3 - 2 * fx),
                    sy = fy * fy * (3 - 2 * fy);
        const int ix = (int)floorf(x) & (DG_LATTICE - 1), iy = (int)floorf(y) & (DG_LATTICE - 1);
        const int jx = (ix + 1) & (DG_LATTICE - 1), jy = (iy + 1) & (DG_LATTICE - 1);
        const float a = grid[iy * DG_LATTICE + ix], b = grid[iy * DG_LATTICE + jx];
        const float c = grid[jy * DG_LATTICE + ix], d = grid[jy * DG_LATTICE + jx];
        sum += weight * ((a + (b - a) * sx) * (1 - sy) + (c + (d - c) * sx) * sy);
    }
    return sum / .9625f;
}

/* Share of the second colour at a point. */
static float mix_at(const dg_pattern *p, float x, float y)
{
    const float s = (x * p->along[0] + y * p->along[1]) / p->period + p->phase;
    const float t = (y * p->along[0] - x * p->along[1]) / p->period + p->phase;
    const float a = fraction(s), b = fraction(t);
    switch (p->kind) {
    case 1:
        return a < .5f ? 2 * a : 2 - 2 * a;
    case 2:
        return a < .5f;
    case 3:
        return (a < .5f) != (b < .5f);
    case 4:
        return clouds(p->clouds, s + 8, t + 8);
    case 5:
        return (a - .5f) * (a - .5f) + (b - .5f) * (b - .5f) < .09f;
    default:
        return 0;
    }
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + .5f);
}

void dg_paint_background(const dg_canvas *canvas, const dg_pattern *pattern)
{
    uint8_t *out = canvas->pixels;
    for (int32_t y = 0; y < canvas->height; y++)
        for (int32_t x = 0; x < canvas->width; x++, out += 3) {
            const float m = mix_at(pattern, (float)x, (float)y);
            for (int c = 0; c < 3; c++)
                out[c] = to_byte(pattern->rgb[0][c] + m * (pattern->rgb[1][c] - pattern->rgb[0][c]));
        }
    if (canvas->map) memset(canvas->map, 0, (size_t)canvas->height * (size_t)canvas->width);
}

static int32_t within(float v, int32_t limit)
{
    return v < 0 ? 0 : v > (float)limit ? limit : (int32_t)v;
}

void dg_paint_object(const dg_canvas *canvas, const dg_object *o)
{
    const int32_t x0 = within(o->x - o->reach, canvas->width),
                  x1 = within(o->x + o->reach + 2, canvas->width);
    const int32_t y0 = within(o->y - o->reach, canvas->height),
                  y1 = within(o->y + o->reach + 2, canvas->height);
    for (int32_t y = y0; y < y1; y++)
        for (int32_t x = x0; x < x1; x++) {
            int hits = 0;
            for (int k = 0; k < 4; k++) {
                const float dx = (float)x + ((k & 1) ? .75f : .25f) - o->x,
                            dy = (float)y + ((k & 2) ? .75f : .25f) - o->y;
                hits += covers(o->shape, o->inverse[0] * dx + o->inverse[1] * dy,
                               o->inverse[2] * dx + o->inverse[3] * dy);
            }
            if (!hits) continue;
            const size_t at = (size_t)y * (size_t)canvas->width + (size_t)x;
            const float m = mix_at(&o->fill, (float)x - o->x, (float)y - o->y), alpha = (float)hits / 4;
            for (int c = 0; c < 3; c++) {
                const float colour = o->fill.rgb[0][c] + m * (o->fill.rgb[1][c] - o->fill.rgb[0][c]);
                uint8_t *p = &canvas->pixels[at * 3 + (size_t)c];
                *p = to_byte((float)*p + alpha * (colour - (float)*p));
            }
            if (canvas->map && hits >= 2) canvas->map[at] = o->value;
        }
}

void dg_paint_noise(const dg_canvas *canvas, dg_rng *rng, float gain, float shift, float sigma)
{
    const size_t n = (size_t)canvas->height * (size_t)canvas->width * 3;
    const float scale = sigma / 104.5f; /* deviation of the sum of two bytes */
    for (size_t i = 0; i < n; i += 2) {
        const uint32_t word = dg_rng_u32(rng);
        for (size_t j = i; j < n && j < i + 2; j++) {
            const uint32_t half = j == i ? word : word >> 16;
            const float noise = (float)((int)(half & 255) + (int)((half >> 8) & 255) - 255) * scale;
            canvas->pixels[j] = to_byte(((float)canvas->pixels[j] - 128) * gain + 128 + shift + noise);
        }
    }
}

void dg_hsv(double hue, double saturation, double value, float rgb[3])
{
    for (int c = 0; c < 3; c++) {
        const double k = fmod((c == 0 ? 5 : c == 1 ? 3 : 1) + hue / 60 + 6, 6);
        const double ramp = fmin(fmin(k, 4 - k), 1);
        rgb[c] = (float)(255 * value * (1 - saturation * (ramp > 0 ? ramp : 0)));
    }
}
