/* draw.h - small pictures of what a model sees and says: canvases, colours, and numbers written on them. */
#ifndef DG_TRAIN_DRAW_H
#define DG_TRAIN_DRAW_H

#include "digpt/base.h"

/* Starts as {0}; ends with dg_canvas_free. */
typedef struct dg_canvas {
    int32_t width, height;
    uint8_t *pixels; // [height, width, 3]
} dg_canvas;

typedef struct dg_colour {
    uint8_t r, g, b;
} dg_colour;

/* All of one colour. */
dg_status dg_canvas_make(int32_t width, int32_t height, dg_colour colour, dg_canvas *c, dg_error *err);
void dg_canvas_free(dg_canvas *c);
/* Pixels [height, width, 3], each `scale` times in both directions. */
dg_status dg_canvas_of_image(const uint8_t *pixels, int32_t width, int32_t height, int32_t scale,
                             dg_canvas *c, dg_error *err);
/* Mixes the colour into the rectangle; share 1 covers it. What lies outside of the canvas is left out. */
void dg_canvas_fill(dg_canvas *c, int32_t left, int32_t top, int32_t right, int32_t bottom, dg_colour colour,
                    double share);
/* Slanted lines of the colour: "there is nothing here". */
void dg_canvas_hatch(dg_canvas *c, int32_t left, int32_t top, int32_t right, int32_t bottom,
                     dg_colour colour);
/* A number centred on (x, y), digits `height` pixels high, with a rim of the other colour. */
void dg_canvas_number(dg_canvas *c, double x, double y, double height, int64_t number, dg_colour ink,
                      dg_colour rim);

/* The edges of cell i of n over `length` pixels: cells tile it without gaps whatever the remainder. */
static inline int32_t dg_cell_edge(int64_t i, int64_t n, int32_t length)
{
    return (int32_t)(i * length / n);
}

/* A scale from dark violet over green to yellow, even to the eye and readable without colour vision (after
 * viridis, van der Walt and Smith 2015); t in [0, 1], what is outside is clamped. */
dg_colour dg_heat(double t);
/* Many colours that differ from their neighbours: for ids and places. */
dg_colour dg_hue(int64_t i);

#endif
