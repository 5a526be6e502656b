/* draw.c - canvases, colour scales, digits made of strokes. See draw.h. */
#include "draw.h"

#include <math.h>

#include "base/mem.h"

dg_status dg_canvas_make(int32_t width, int32_t height, dg_colour colour, dg_canvas *c, dg_error *err)
{
    c->width = width;
    c->height = height;
    c->pixels = width > 0 && height > 0 ? dg_calloc((size_t)width * 3, (size_t)height) : NULL;
    if (!c->pixels) return dg_fail(err, DG_ERR_NOMEM, "no memory for a picture of %d x %d", width, height);
    dg_canvas_fill(c, 0, 0, width, height, colour, 1);
    return DG_OK;
}

void dg_canvas_free(dg_canvas *c)
{
    dg_free(c->pixels);
    *c = (dg_canvas){0};
}

dg_status dg_canvas_of_image(const uint8_t *pixels, int32_t width, int32_t height, int32_t scale,
                             dg_canvas *c, dg_error *err)
{
    DG_TRY(dg_canvas_make(width * scale, height * scale, (dg_colour){0, 0, 0}, c, err));
    for (int32_t y = 0; y < c->height; y++)
        for (int32_t x = 0; x < c->width; x++)
            memcpy(c->pixels + ((size_t)y * (size_t)c->width + (size_t)x) * 3,
                   pixels + ((size_t)(y / scale) * (size_t)width + (size_t)(x / scale)) * 3, 3);
    return DG_OK;
}

static void mix(dg_canvas *c, int32_t x, int32_t y, dg_colour colour, double share)
{
    uint8_t *p = c->pixels + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
    const uint8_t to[3] = {colour.r, colour.g, colour.b};
    for (int k = 0; k < 3; k++) p[k] = (uint8_t)lrint(p[k] + share * (to[k] - p[k]));
}

void dg_canvas_fill(dg_canvas *c, int32_t left, int32_t top, int32_t right, int32_t bottom, dg_colour colour,
                    double share)
{
    for (int32_t y = top > 0 ? top : 0; y < bottom && y < c->height; y++)
        for (int32_t x = left > 0 ? left : 0; x < right && x < c->width; x++) mix(c, x, y, colour, share);
}

void dg_canvas_hatch(dg_canvas *c, int32_t left, int32_t top, int32_t right, int32_t bottom, dg_colour colour)
{
    enum { DISTANCE = 7, THICK = 2 };
    for (int32_t y = top > 0 ? top : 0; y < bottom && y < c->height; y++)
        for (int32_t x = left > 0 ? left : 0; x < right && x < c->width; x++)
            if ((x + y) % DISTANCE < THICK) mix(c, x, y, colour, 1);
}

/* ---- digits: strokes in a box 0.6 wide and 1 high, y downwards; a move is where the pen is lifted */

typedef struct point {
    float x, y;
} point;
#define LIFT                                                                                                 \
    {                                                                                                        \
        -1, -1                                                                                               \
    }
enum { MOST_STROKE_POINTS = 20 };

static const struct {
    int n;
    point p[MOST_STROKE_POINTS];
} digits[10] = {
    {11,
     {{.3F, 0},
      {.1F, .08F},
      {0, .3F},
      {0, .7F},
      {.1F, .92F},
      {.3F, 1},
      {.5F, .92F},
      {.6F, .7F},
      {.6F, .3F},
      {.5F, .08F},
      {.3F, 0}}},
    {3, {{.08F, .2F}, {.36F, 0}, {.36F, 1}}},
    {8, {{.02F, .24F}, {.12F, .06F}, {.3F, 0}, {.5F, .06F}, {.58F, .24F}, {.5F, .46F}, {0, 1}, {.6F, 1}}},
    {13,
     {{.02F, .1F},
      {.26F, 0},
      {.48F, .06F},
      {.56F, .22F},
      {.48F, .4F},
      {.26F, .46F},
      LIFT,
      {.26F, .46F},
      {.52F, .54F},
      {.6F, .74F},
      {.5F, .93F},
      {.26F, 1},
      {0, .9F}}},
    {4, {{.46F, 1}, {.46F, 0}, {0, .7F}, {.6F, .7F}}},
    {9,
     {{.54F, 0},
      {.1F, 0},
      {.05F, .45F},
      {.28F, .37F},
      {.5F, .45F},
      {.6F, .68F},
      {.5F, .92F},
      {.26F, 1},
      {0, .92F}}},
    {13,
     {{.52F, .06F},
      {.36F, 0},
      {.14F, .12F},
      {.02F, .4F},
      {0, .7F},
      {.1F, .93F},
      {.3F, 1},
      {.5F, .93F},
      {.6F, .7F},
      {.5F, .48F},
      {.3F, .4F},
      {.1F, .48F},
      {0, .7F}}},
    {3, {{0, 0}, {.6F, 0}, {.2F, 1}}},
    {18,
     {{.3F, .46F},
      {.1F, .38F},
      {.04F, .22F},
      {.12F, .06F},
      {.3F, 0},
      {.48F, .06F},
      {.56F, .22F},
      {.5F, .38F},
      {.3F, .46F},
      {.08F, .56F},
      {0, .76F},
      {.1F, .94F},
      {.3F, 1},
      {.5F, .94F},
      {.6F, .76F},
      {.52F, .56F},
      {.3F, .46F},
      {.3F, .46F}}},
    {13,
     {{.08F, .94F},
      {.24F, 1},
      {.46F, .88F},
      {.58F, .6F},
      {.6F, .3F},
      {.5F, .07F},
      {.3F, 0},
      {.1F, .07F},
      {0, .3F},
      {.1F, .52F},
      {.3F, .6F},
      {.5F, .52F},
      {.6F, .3F}}},
};

static double distance_to_segment(double x, double y, point a, point b)
{
    double dx = (double)b.x - (double)a.x, dy = (double)b.y - (double)a.y, length = dx * dx + dy * dy;
    double t = length > 0 ? ((x - (double)a.x) * dx + (y - (double)a.y) * dy) / length : 0;
    t = fmin(1, fmax(0, t));
    return hypot(x - ((double)a.x + t * dx), y - ((double)a.y + t * dy));
}

static double distance_to_digit(double x, double y, int digit)
{
    double least = INFINITY;
    for (int i = 0; i + 1 < digits[digit].n; i++) {
        point a = digits[digit].p[i], b = digits[digit].p[i + 1];
        if (a.x < 0 || b.x < 0) continue; /* LIFT */
        least = fmin(least, distance_to_segment(x, y, a, b));
    }
    return least;
}

void dg_canvas_number(dg_canvas *c, double x, double y, double height, int64_t number, dg_colour ink,
                      dg_colour rim)
{
    const double ADVANCE = 0.84, INK = 0.085,
                 RIM = 0.16; /* of the height: pitch, half the stroke, with its rim */
    char text[24];
    int n = snprintf(text, sizeof text, "%lld", (long long)number);
    double left = x - height * (ADVANCE * n - (ADVANCE - 0.6)) / 2, top = y - height / 2;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            if (text[i] == '-') continue;
            double x0 = left + height * ADVANCE * i, half = pass ? INK : RIM;
            for (int32_t py = (int32_t)(top - height * RIM - 1); py <= top + height * (1 + RIM) + 1; py++)
                for (int32_t px = (int32_t)(x0 - height * RIM - 1); px <= x0 + height * (0.6 + RIM) + 1;
                     px++) {
                    if (px < 0 || py < 0 || px >= c->width || py >= c->height) continue;
                    double d =
                        distance_to_digit((px + 0.5 - x0) / height, (py + 0.5 - top) / height, text[i] - '0');
                    double share = fmin(1, fmax(0, (half - d) * height + 0.5)); /* a soft edge of one pixel */
                    if (share > 0) mix(c, px, py, pass ? ink : rim, share);
                }
        }
}

/* ---- colours */

dg_colour dg_heat(double t)
{
    static const uint8_t stops[][3] = {{68, 1, 84},    {71, 44, 122},  {59, 81, 139},
                                       {44, 113, 142}, {33, 144, 141}, {39, 173, 129},
                                       {92, 200, 99},  {170, 220, 50}, {253, 231, 37}};
    enum { LAST = sizeof stops / sizeof stops[0] - 1 };
    double at = isfinite(t) ? fmin(1, fmax(0, t)) * LAST : 0;
    int i = at < LAST ? (int)at : LAST - 1;
    double share = at - i;
    uint8_t rgb[3];
    for (int k = 0; k < 3; k++)
        rgb[k] = (uint8_t)lrint(stops[i][k] + share * (stops[i + 1][k] - stops[i][k]));
    return (dg_colour){rgb[0], rgb[1], rgb[2]};
}

dg_colour dg_hue(int64_t i)
{
    double turn = fmod(0.58 + 0.61803398875 * (double)i, 1.0) * 6; /* the golden ratio spreads them */
    double rgb[3];
    for (int k = 0; k < 3; k++) {
        double d = fabs(fmod(turn - 2 * k + 9, 6.0) - 3); /* 0 opposite of this primary, 3 on it */
        rgb[k] = 0.18 + 0.68 * fmin(1, fmax(0, d - 1));
    }
    return (dg_colour){(uint8_t)lrint(255 * rgb[0]), (uint8_t)lrint(255 * rgb[1]),
                       (uint8_t)lrint(255 * rgb[2])};
}
