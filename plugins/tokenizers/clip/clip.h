/* clip.h - the tokenizer `clip` inside: the image tower of a CLIP (Radford et al., "Learning Transferable
 * Visual Models From Natural Language Supervision", ICML 2021), frozen.
 *
 * tower.c finds the tower in a weights file and reads its sizes there; activation.c finds out which GELU it
 * was trained with; clip.c checks both against the recipe; build.c computes. */
#ifndef DIGPT_TOKENIZER_CLIP_H
#define DIGPT_TOKENIZER_CLIP_H

#include "digpt/tokenizer.h"
#include "digpt/vit.h"

/* How a file names the tensors. */
enum naming { NAMING_OPEN /* OpenAI, OpenCLIP */, NAMING_HF /* Hugging Face */ };

typedef struct tower {
    int64_t width, layers, heads, hidden, patch_h, patch_w;
    int64_t grid_h, grid_w; /* patches */
    int64_t out;            /* width after the projection; 0: there is none */
} tower;

/* A tower in an open file. */
typedef struct tower_file {
    dg_weights *weights; /* NULL: no file, random weights */
    enum naming naming;
    char prefix[64]; /* of every tensor but Hugging Face's projection */
    char outer[64];  /* of that one */
} tower_file;

/* Finds the tower, reads its sizes (heads: 0, the file does not tell) and checks the shape of every tensor.
 */
dg_status clip_tower_find(const dg_host *host, tower_file *file, const char *path, tower *t, dg_error *err);

/* Names of the tensors that make the parameter `name` ("attn.qkv.weight", of block `block`) into names[0..3),
 * and how many; 0 if there is no such parameter. *transpose: the file has the matrix the other way round. */
int clip_tensor_names(const tower_file *file, const char *name, int64_t block, char names[3][160],
                      bool *transpose);

/* Elements of the first `layers` blocks and of all else. */
int64_t clip_parameter_count(const tower *t, int64_t layers, bool projected);

enum activation { ACTIVATION_UNKNOWN, ACTIVATION_GELU, ACTIVATION_QUICK_GELU };

/* Which GELU the weights were trained with, where that can be told, and from what (`why`, for people). */
enum activation clip_activation_of(const dg_host *host, const dg_weights *w, const char *path, char *why,
                                   size_t size);

typedef struct clip {
    const dg_host *host;
    tower tower;
    tower_file file;
    bool quick, projected;
    int64_t layers;           /* blocks that are computed */
    const double *mean, *std; /* [3]: of colours */
    dg_tokenizer_info info;
} clip;

dg_status clip_build(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err);

#endif
