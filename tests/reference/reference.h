/* reference.h - digpt-reference: compares this build with recorded tensors of the official code, through the
 * product's own readers, plugins, programs and optimizer. A folder holds manifest.json and the files that it
 * names. */
#ifndef DG_REFERENCE_H
#define DG_REFERENCE_H

#include "graph/graph.h"
#include "io/json.h"
#include "io/weights.h"
#include "train/classify.h"
#include "train/inputs.h"
#include "train/state.h"
#include "train/step.h"

typedef struct reference {
    const char *dir, *backend;
    const char *data; /* folder of photographs, or NULL */
    dg_dtype compute;
    dg_registry *registry;
    dg_arena arena;
    const dg_json *fixtures;
    char temporary[64]; /* folder for expanded weights */
    int passed, failed, skipped;
} reference;

/* ---- check.c: one printed line a check */

/* max|a-b| / max|b| against tol; b is the record. False when it fails. */
bool ref_compare(reference *r, const char *what, const float *a, const float *b, int64_t n, double tol);
bool ref_verdict(reference *r, const char *what, double error, double tol);
void ref_skip(reference *r, const char *what, const char *why);
/* Fails the check `what` with the error's message. */
void ref_broken(reference *r, const char *what, const dg_error *err);

/* Opens a file of the folder; NULL after a failed check. */
dg_weights *ref_open(reference *r, const char *file);
/* A tensor as f32, in the arena; NULL after a failed check when it is not there. */
const float *ref_tensor(reference *r, const dg_weights *w, const char *name, int64_t *n);
/* The k-th index of the recorded sample of a tensor with n elements. */
int64_t ref_sample_index(int64_t k, int64_t n);
/* The tensors whose names begin with `prefix`, without it; I8 ones with NAME::scale as plain F32: writes
 * temporary/FILE and returns its path; NULL after a failed check. */
const char *ref_expand(reference *r, const char *file, const char *prefix);
/* Numbers and texts of the manifest by path: "config.depth". */
double ref_number(const dg_json *object, const char *path, double otherwise);
/* Of the fixture's list `compare`, the tolerance of the entry `what`. */
double ref_tolerance(const dg_json *fixture, const char *what, double otherwise);

/* ---- session.c: a recipe's training step, run by hand */

typedef struct session {
    dg_recipe *recipe;
    dg_plugin_source plugins;
    dg_schema_source schemas;
    dg_parts parts;
    dg_step step;
    dg_state state;
    dg_backend_exe *exe;
    dg_inputs inputs;
    void **outputs; /* [n_outputs] */
} session;

/* Builds the train program of the recipe text, with taps and gradients as outputs; of a classifier if
 * `classify` is not NULL. */
dg_status session_build(reference *r, const char *recipe, const dg_optimizer *optimizer,
                        const dg_classify_spec *classify, int64_t batch, session *s, dg_error *err);
/* Then gives its parameters their values: of train.init_from where the recipe has it. */
dg_status session_fill(session *s, dg_error *err);
/* Both, and compiles it. */
dg_status session_open(reference *r, const char *recipe, const dg_optimizer *optimizer,
                       const dg_classify_spec *classify, int64_t batch, session *s, dg_error *err);
dg_status session_run(session *s, dg_error *err);
void session_close(session *s);
/* An output by its name as f32 with its size; NULL when there is none. */
const float *session_output(const session *s, const char *name, int64_t *n);

/* ---- recorded.c */

/* Every "grad.NAME" of the file, complete, sampled or as sums, against the output "grad.model.NAME"; in bf16,
 * the cosine of all together. */
void ref_gradients(reference *r, const session *s, const char *fixture, const dg_weights *grads, double tol);
/* PREFIX + NAME against the state's model.NAME after `steps` steps, in units of lr: the worst within `most`,
 * and the mean. */
void ref_after(reference *r, const session *s, const char *fixture, const dg_weights *after,
               const char *prefix, int steps, double lr, double most);

/* The worst of all recorded activations PREFIX + TAP (complete or sampled; without a prefix the sampled ones
 * only); each tap must be there. */
void ref_activations(reference *r, const session *s, const char *fixture, const dg_weights *acts,
                     const char *prefix, double tol);

/* ---- loading.c: parts of B, E and F. What a fine-tuning takes from a pretraining checkpoint; the
 * learning-rate scales of ViT-B's layers; positions of other grids. */
void ref_load_pretrained(reference *r, const dg_json *fixture);
void ref_layer_decay(reference *r, const dg_json *fixture);
void ref_interpolation(reference *r, const dg_json *fixture);

/* ---- the fixtures */
void ref_finetune(reference *r, const dg_json *fixture);  /* B */
void ref_pretrain(reference *r, const dg_json *fixture);  /* A */
void ref_mae(reference *r, const dg_json *fixture);       /* G */
void ref_mini(reference *r, const dg_json *fixture);      /* H */
void ref_clip(reference *r, const dg_json *fixture);      /* C */
void ref_images(reference *r, const dg_json *fixture);    /* D */
void ref_schedules(reference *r, const dg_json *fixture); /* E */
void ref_positions(reference *r, const dg_json *fixture); /* F */

#endif
