/* state.h - the numbers that a run keeps: first values of parameters, weights from files, and reading them
 * back. */
#ifndef DG_TRAIN_STATE_H
#define DG_TRAIN_STATE_H

#include "io/names.h"
#include "train/step.h"

/* A store of the backend and what was put there. Starts as {0}. */
typedef struct dg_state {
    const dg_backend_interface *backend;
    dg_backend_store *store;
    uint64_t frozen; /* fingerprint of the weights that dg_state_init read for others than the model */
} dg_state;

dg_status dg_state_open(const dg_parts *parts, dg_state *state, dg_error *err);
void dg_state_close(dg_state *state);

/* Gives every PARAM and FROZEN leaf of the graph its first value: constants, seeded random numbers (the same
 * for a name and seed whatever else the graph has), given data, or tensors of weights files. With
 * `only_frozen`, parameters are left alone: for a resume. */
dg_status dg_state_init(dg_state *state, const dg_graph *forward, uint64_t seed, bool only_frozen,
                        dg_error *err);

/* The leaves "model.*" without that prefix, as dg_names_match wants them; dg_free, NULL: out of memory. Names
 * live as long as the graph. */
dg_wanted *dg_state_wanted(const dg_graph *forward, size_t *n);

/* Overwrites the leaves "model.*" with what the weights file `path` has for them (official, timm, MAE,
 * Hugging Face or our own names; io/names.h). Positions of another grid are interpolated (positions.h). What
 * is missing or left over is logged; nothing matching at all is an error. */
dg_status dg_state_init_from(dg_state *state, const dg_graph *forward, const char *path, dg_error *err);

/* The same where the model is to be used as it is: a tensor that the file lacks is an error too, except those
 * whose names begin with `optional` ("norm."; NULL: none). */
dg_status dg_state_load(dg_state *state, const dg_graph *forward, const char *path, const char *optional,
                        dg_error *err);

/* Makes each moving average of the step's programs ("average.*") what its parameter is now: before the first
 * step. */
dg_status dg_state_start_averages(dg_state *state, const dg_step *step, dg_error *err);

/* One tensor as f32, whatever it is stored as; [dg_type_count(type)]. */
dg_status dg_state_read_f32(const dg_state *state, const char *name, const dg_type *type, float *out,
                            dg_error *err);
dg_status dg_state_write_f32(const dg_state *state, const char *name, const dg_type *type, const float *in,
                             dg_error *err);

/* The first values of one leaf; pure. */
dg_status dg_init_values(const dg_leaf *leaf, uint64_t seed, float *out, dg_error *err);

#endif
