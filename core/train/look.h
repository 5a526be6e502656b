/* look.h - what a pretraining model says of a few images, as numbers: tokens, predictions, where they belong,
 * and the loss of each position.
 *
 * It works for every model and tokenizer. Where a prediction belongs is found by asking: the model runs a
 * second time on tokens whose values are their own places, and the targets that it picks from them say the
 * place of each position. A model that mixes tokens into targets of its own gives no places. */
#ifndef DG_TRAIN_LOOK_H
#define DG_TRAIN_LOOK_H

#include "train/inputs.h"
#include "train/state.h"

typedef struct dg_look_prediction {
    char name[32];
    int64_t positions, width; /* width: of a vector, or scores of as many ids */
    float *prediction;        // [batch, positions, width]
    float *loss;              // [batch, positions]
    float *weight;            // [batch, positions]; NULL: all 1
    int32_t *place;           // [batch, positions] in the grid, row-major; -1: of no cell (class token)
    bool placed;              /* false: the model gives no places */
} dg_look_prediction;

/* One half of a look: a graph and its program. */
typedef struct dg_look_program {
    dg_graph *graph;
    dg_program *program;
    dg_inputs inputs;
    dg_backend_exe *exe;
    void **outputs; // [n_outputs] f32
} dg_look_program;

/* Starts as {0}; ends with dg_look_close, also after a failure. */
typedef struct dg_look {
    const dg_parts *parts;
    int64_t batch;
    dg_look_program tokenizer, model; /* tokenizer.graph NULL: there is none, or a cache stands for it */
    float *tokens;                    // [batch, token count, width], or ids [batch, count]; NULL: no tokens
    uint32_t n_predictions;
    dg_look_prediction predictions[DG_MAX_PREDICTIONS];
    /* Of a model that compares pictures with texts, as unit vectors; NULL: this one does not. */
    float *image_features, *text_features; // [batch, feature_width]
    int64_t feature_width;
} dg_look;

/* Builds the graphs for `batch` images; nothing is compiled. A fresh state is to be filled for both graphs
 * (dg_state_init, dg_state_load for the model); the state of a run in progress has all that they need. */
dg_status dg_look_open(const dg_parts *parts, int64_t batch, dg_dtype compute, dg_look *look, dg_error *err);
/* Compiles for the state, which must outlive it, and runs on a batch of that size. */
dg_status dg_look_run(dg_look *look, const dg_state *state, const dg_batch *batch, dg_error *err);
void dg_look_close(dg_look *look);

/* A host input of the model as dg_look_run filled it ("order"), and its type; NULL: it has none of that name.
 */
const void *dg_look_input(dg_look *look, const char *name, dg_type *type);

#endif
