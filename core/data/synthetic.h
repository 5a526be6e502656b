/* synthetic.h - drawing scenes of shapes: the picture, the map of classes. What is in a scene is decided
 * elsewhere (source_synthetic.c); this draws it. */
#ifndef DG_DATA_SYNTHETIC_H
#define DG_DATA_SYNTHETIC_H

#include "digpt/philox.h"

#define DG_SHAPES 10
#define DG_COLOURS 8
#define DG_PATTERNS 6
#define DG_LATTICE 16 /* cells a side of the cloud pattern's coarsest grid, wrapped */

extern const char *const dg_shape_names[DG_SHAPES];
extern const char *const dg_colour_names[DG_COLOURS];
extern const char *const dg_pattern_names[DG_PATTERNS];

/* Two colours and how they alternate over the plane. */
typedef struct dg_pattern {
    int32_t kind;        /* index of dg_pattern_names */
    float rgb[2][3];     /* 0..255 */
    float along[2];      /* unit vector of gradients and stripes */
    float period, phase; /* pixels; 0..1 */
    const float *clouds; /* [DG_LATTICE, DG_LATTICE], 0..1 */
} dg_pattern;

typedef struct dg_object {
    int32_t shape;    /* index of dg_shape_names */
    uint8_t value;    /* written to the map */
    float x, y;       /* centre, pixels */
    float reach;      /* no pixel further away is touched */
    float inverse[4]; /* pixels from the centre -> the shape's own plane, row-major 2 x 2 */
    dg_pattern fill;
} dg_object;

/* pixels [height, width, 3]; map [height, width] or NULL. */
typedef struct dg_canvas {
    uint8_t *pixels, *map;
    int32_t height, width;
} dg_canvas;

void dg_paint_background(const dg_canvas *canvas, const dg_pattern *pattern);
/* Antialiased by four samples a pixel; the map is written where at least half of a pixel is covered. */
void dg_paint_object(const dg_canvas *canvas, const dg_object *object);
/* pixel = (pixel - 128) * gain + 128 + shift + noise of standard deviation sigma (triangular), drawn from
 * rng. */
void dg_paint_noise(const dg_canvas *canvas, dg_rng *rng, float gain, float shift, float sigma);

/* Hue in degrees, saturation and value 0..1, to 0..255. */
void dg_hsv(double hue, double saturation, double value, float rgb[3]);

#endif
