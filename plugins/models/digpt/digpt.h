/* digpt.h - the model `digpt` inside: what its recipe says, worked out by
 * digpt.c, and read by order.c and build.c.
 *
 * D-iGPT (Ren et al., "Rejuvenating image-GPT as Strong Visual Representation
 * Learners", ICML 2024): the patches of an image are cut into a grid of
 * segments, which are put in an order. The encoder sees all segments of the
 * order but the last, each seeing itself and those before it. One decoder
 * predicts the semantic tokens of the next segment, one those of the segments
 * that are seen. */
#ifndef DIGPT_MODEL_DIGPT_H
#define DIGPT_MODEL_DIGPT_H

#include "digpt/encoder.h"

#define MAX_SEGMENTS 256
#define MAX_TAPS 64

enum order { ORDER_RANDOM, ORDER_RASTER, ORDER_SPIRAL, ORDER_FIXED };
enum branches { BRANCHES_BOTH, BRANCHES_NEXT, BRANCHES_VISIBLE };

typedef struct digpt {
    dg_encoder encoder;
    int64_t decoder_width, decoder_depth, decoder_heads, decoder_hidden;
    int64_t segments[2];     /* rows, columns */
    int64_t n_segments;      /* at least 2 */
    int64_t segment_patches; /* patches in a segment */
    int64_t n_visible;       /* patches that the encoder sees */
    int64_t target_grid[2];  /* tokens of a segment: rows, columns */
    int64_t target_width;    /* of a prediction: the tokenizer's width, or its
                                vocabulary */
    bool target_class;       /* the tokenizer gives a class token */
    bool target_discrete;
    int64_t taps[MAX_TAPS]; /* counts of blocks, rising, the last is depth */
    int64_t n_taps;
    enum order order;
    enum branches branches;
    int32_t fixed[MAX_SEGMENTS]; /* every order but random: the segment at each
                                    place */
} digpt;

/* The segments, numbered row by row, along a spiral that starts at the top
 * left, turns clockwise, and ends inside. */
void digpt_spiral(int64_t rows, int64_t columns, int32_t *out);

/* Fills one sample's order, i32 [n_segments]. */
dg_status digpt_fill(void *self, const char *name, uint64_t seed, uint64_t ordinal, void *dst, size_t bytes,
                     dg_error *err);

/* The elements of each segment of a grid of rows x columns, row by row inside
 * it, plus `offset`: i32 [n_segments, rows * columns / n_segments]. */
void digpt_segment_table(const digpt *s, int64_t rows, int64_t columns, int32_t offset, int32_t *out);

dg_status digpt_build(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out,
                      dg_error *err);

#endif
