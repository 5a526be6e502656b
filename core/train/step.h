/* step.h - the programs of a training run, built from its parts: forward pass of tokenizer and model, losses,
 * gradient, optimizer, as one program; or two with gradient accumulation.
 *
 * Leaves are named by their owner: "tokenizer.*", "model.*", "optimizer.m.*", "optimizer.v.*",
 * "accumulated.*", "average.*"; inputs are "image", "image_tokenizer" (only if the tokenizer wants another
 * size), "scalars", and the model's own. */
#ifndef DG_TRAIN_STEP_H
#define DG_TRAIN_STEP_H

#include "graph/graph.h"
#include "train/parts.h"

/* What the names of the optimizer's moments begin with: "optimizer.m.model.head.weight". */
#define DG_MOMENT_1 "optimizer.m"
#define DG_MOMENT_2 "optimizer.v"
/* The first word of the names of leaves that gather gradients over batches. */
#define DG_ACCUMULATED "accumulated"
/* The same of the moving average of a parameter: "average.model.head.weight". */
#define DG_AVERAGE "average"

typedef struct dg_optimizer {
    double beta1, beta2, eps, weight_decay;
    double clip_norm;   /* 0: none */
    double layer_decay; /* learning rate of a layer over that of the next one; 0 or 1: the same for all */
} dg_optimizer;

struct dg_classify_spec;

typedef struct dg_step_spec {
    int64_t batch;      /* samples a run of the program, of all ranks together */
    uint32_t ranks;     /* that share them: each runs the program on batch / ranks; 0, 1: one */
    int32_t accumulate; /* runs of `accumulate` before one of `apply`; 1: one program does all */
    dg_dtype compute;   /* DG_F32 or DG_BF16 */
    bool taps;          /* make every tap an output of `train`, for comparisons and reports */
    double ema_decay;   /* of the moving average of the parameters; 0: there is none */
    bool gradients;     /* make the gradients outputs of `train` named "grad.<parameter>" */
    bool shard;         /* each of several ranks keeps a part of the moments: leaves that are DG_PER_RANK */
    dg_optimizer optimizer;
    const struct dg_classify_spec *classify; /* train a classifier on the encoder; NULL: pretrain */
} dg_step_spec;

/* The programs and what they were made of. Starts as {0}; ends with dg_step_destroy. */
typedef struct dg_step {
    dg_program *train; /* forward, backward and update; with accumulation: without the update */
    dg_program *apply; /* with accumulation: the update; else NULL */
    dg_graph *forward; /* after the precision policy, with all leaves and their initial values */
    char prediction_names[DG_MAX_PREDICTIONS][32];
    uint32_t n_predictions;
    uint32_t ranks; /* at least 1: losses and gradients are means over them */
} dg_step;

/* Outputs of `train`: "loss", then "loss.<prediction>" each, all f32[]; "grad_norm" with clipping. Input
 * "scalars" f32[3]: lr, 1 - beta1^t, 1 - beta2^t. The update is gated on a finite loss and, with clipping, on
 * a finite norm: if either is not, nothing changes. With ema_decay d, the state "average.P" of a parameter P
 * becomes d average + (1 - d) P after its update (timm's ModelEmaV2: Polyak and Juditsky, "Acceleration of
 * stochastic approximation by averaging", 1992). */
dg_status dg_step_build(const dg_parts *parts, const dg_step_spec *spec, dg_step *step, dg_error *err);
void dg_step_destroy(dg_step *step);

/* Makes `loss` f32[] of this rank the output "loss" of a training graph, which is its mean over ranks. */
void dg_step_output_loss(dg_graph *g, dg_value loss, uint32_t ranks);

/* The type that a leaf of one of the step's programs would have if ranks did not share it; the store has its
 * elements in order, and behind them zeros that make the ranks' parts equal. */
dg_type dg_step_whole_type(const dg_step *step, const dg_program *p, const dg_program_leaf *leaf);

/* The forward pass as a graph: output "loss" and its parts; taps as the plugins made them. For inspection,
 * and the start of all programs. */
dg_status dg_step_forward(const dg_parts *parts, const dg_step_spec *spec, dg_graph **graph, dg_step *names,
                          dg_error *err);

/* Lowers what the backend does not take, folds, shares, flattens and has the backend check the result.
 * Complaints are listed in the message. */
dg_status dg_finish_program(const dg_graph *g, const dg_parts *parts, const char *name, bool taps,
                            dg_program **out, dg_error *err);
/* The same with the tokenizer in 8-bit integers or not, whatever the recipe says (tokenizer.precision). */
dg_status dg_finish_tokens(const dg_graph *g, const dg_parts *parts, const char *name, bool taps, bool int8,
                           dg_program **out, dg_error *err);

#endif
