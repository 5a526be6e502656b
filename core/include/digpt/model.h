/* digpt/model.h - a model: from images and target tokens to predictions. */
#ifndef DIGPT_MODEL_H
#define DIGPT_MODEL_H

#include "digpt/philox.h"
#include "digpt/plugin.h"
#include "digpt/tokenizer.h"

/* A named field of the batch: "image" u8 [batch, h, w, 3]; "label" i32 [batch]; "caption" i32 [batch, length];
 * "mask" u8 [batch, h, w]. Which are there depends on the task and the source. */
typedef struct dg_field {
    const char *name;
    dg_value value;
} dg_field;

typedef struct dg_model_env {
    uint32_t struct_size;
    uint32_t reserved;
    int64_t image_h, image_w;
    const dg_tokenizer_info *tokens; /* NULL: the recipe has no tokenizer */
} dg_model_env;

typedef struct dg_model_batch {
    uint32_t struct_size;
    uint32_t n_fields;
    int64_t batch;
    const dg_field *fields;
    dg_value tokens; /* as the tokenizer built them; DG_NO_VALUE without one */
} dg_model_batch;

static inline DG_UNUSED dg_value dg_batch_field(const dg_model_batch *b, const char *name)
{
    for (uint32_t i = 0; i < b->n_fields; i++)
        if (strcmp(b->fields[i].name, name) == 0) return b->fields[i].value;
    return DG_NO_VALUE;
}

/* One thing predicted: the loss compares prediction and target position by position; the core takes the mean over
 * positions weighted by `weight`, times `scale`, and adds it to the total. */
typedef struct dg_prediction {
    const char *name;    /* "next", "visible"; names its loss in logs */
    dg_value prediction; /* [batch, positions, width] */
    dg_value target;     /* [batch, positions, width], or i32 ids [batch, positions] */
    dg_value weight;     /* f32 [batch, positions]; DG_NO_VALUE: all 1 */
    double scale;
} dg_prediction;

#define DG_MAX_PREDICTIONS 8

typedef struct dg_model_output {
    uint32_t struct_size;
    uint32_t n_predictions;
    dg_prediction predictions[DG_MAX_PREDICTIONS];
    dg_value loss; /* optional scalar f32 that the model computed itself (a contrastive one); added as it is */
} dg_model_output;

/* Features of an encoder, for fine-tuning, probes and tokenizers made of checkpoints. */
typedef struct dg_features {
    uint32_t struct_size;
    uint32_t n_classes; /* class tokens that stand before the patches in `tokens`: 0 or 1 */
    dg_value tokens;    /* [batch, n_classes + patches, width], before any final norm */
    int64_t width, depth;
} dg_features;

typedef struct dg_model_interface {
    uint32_t struct_size;
    uint32_t reserved;
    dg_status (*create)(const dg_host *host, const dg_params *params, const dg_model_env *env, void **self, dg_error *err);
    void (*destroy)(void *self);
    /* The pretraining forward pass. The core opens the scope "model". */
    dg_status (*build)(void *self, dg_graph *g, const dg_model_batch *batch, dg_model_output *out, dg_error *err);
    /* Fills one sample's share of a host input that build declared (dg_input, per sample), or the whole of one per
     * batch. name is as declared; dst has the bytes of that share; ordinal counts samples over the whole run (or
     * steps, for inputs per batch). Pure and thread-safe: draws only from dg_rng_make(seed, ..., ordinal, ...). NULL
     * when there are no host inputs. */
    dg_status (*fill)(void *self, const char *name, uint64_t seed, uint64_t ordinal, void *dst, size_t bytes, dg_error *err);
    /* The encoder alone, up to `layer` blocks (0: all), on whole images: u8 pixels, or f32 that are normalised
     * already. keep: f32 [batch, 2 * depth], 0 or 1/(1 - p) for the two branches of each block (drop path), or
     * DG_NO_VALUE. NULL when it has none. */
    dg_status (*encode)(void *self, dg_graph *g, dg_value image, int64_t layer, dg_value keep, dg_features *out,
                        dg_error *err);
} dg_model_interface;

#endif
