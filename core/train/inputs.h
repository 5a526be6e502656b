/* inputs.h - the host inputs of a step: which buffers a program reads, and how they are filled for a batch.
 */
#ifndef DG_TRAIN_INPUTS_H
#define DG_TRAIN_INPUTS_H

#include "data/loader.h"
#include "train/step.h"

/* Buffers for the INPUT leaves of one program. Starts as {0}, or with ranks; ends with
 * dg_inputs_close. */
typedef struct dg_inputs {
    const dg_parts *parts;
    const dg_program *program;
    const void **data; /* [n] what a run reads: own buffers or the batch's */
    void **own;        /* [n] NULL where data comes from the batch */
    const char **name; /* [n] without the owner's prefix */
    dg_type *type;     /* [n] */
    uint32_t *per;     /* [n] dg_per */
    uint32_t n;
    uint32_t ranks; /* whose samples lie one rank's after the other's; set before opening; 0, 1: one */
    /* Fills what neither the batch nor the model has: a task's own inputs. NULL: there are none. */
    dg_status (*fill)(void *user, const char *name, const dg_batch *batch, void *dst, size_t bytes,
                      dg_error *err);
    void *user;
} dg_inputs;

dg_status dg_inputs_open(const dg_parts *parts, const dg_program *program, dg_inputs *in, dg_error *err);
void dg_inputs_close(dg_inputs *in);

/* Fills everything for a batch of the loader (NULL: none of the inputs comes from one): pictures, labels, and
 * the model's own inputs, drawn for each sample's ordinal. scalars: f32[3], or NULL. */
dg_status dg_inputs_fill(dg_inputs *in, const dg_batch *batch, const float scalars[3], dg_error *err);

/* One host input by its name, to be filled by hand; NULL when the program does not read it. */
void *dg_inputs_buffer(dg_inputs *in, const char *name);

#endif
