/* positions.h - tables of positions between grids: weights of one image size start a model of another.
 *
 * As the official fine-tuning does (interpolate_pos_embed of MAE, after DeiT): the rows of the patches are
 * resized as a picture by the bicubic op `resize` (half-pixel centres, borders clamped, no antialiasing, also
 * where the grid shrinks); rows before them, the class token's, are copied. */
#ifndef DG_TRAIN_POSITIONS_H
#define DG_TRAIN_POSITIONS_H

#include "graph/graph.h"

/* in [n_before + from[0] * from[1], width] -> out [n_before + to[0] * to[1], width]; from and to are
 * [height, width] of a grid, in tokens. DG_ERR_NOMEM. */
dg_status dg_positions_resize(const float *in, const int64_t from[2], const int64_t to[2], int64_t n_before,
                              int64_t width, float *out, dg_error *err);

/* The grid of `rows` rows, n_before of which stand before the grid's. `text`: "14x7" as checkpoints say it,
 * or NULL where a file does not: then it is taken for a square, as the official code does. False: no such
 * grid. */
bool dg_positions_grid(int64_t rows, int64_t n_before, const char *text, int64_t grid[2]);

#endif
