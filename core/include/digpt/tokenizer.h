/* digpt/tokenizer.h - a semantic tokenizer: turns an image batch into the tokens that a model learns to predict. */
#ifndef DIGPT_TOKENIZER_H
#define DIGPT_TOKENIZER_H

#include "digpt/plugin.h"

/* What its tokens are; known right after create, before any data is read. */
typedef struct dg_tokenizer_info {
    uint32_t struct_size;
    uint32_t discrete;      /* 1: ids 0..vocabulary-1; 0: vectors */
    int64_t image_h, image_w; /* pixels of the image it wants; the loader renders it from the student's crop box */
    int64_t grid_h, grid_w; /* tokens; row-major */
    uint32_t class_token;   /* 1: one more token stands before the grid */
    uint32_t reserved;
    int64_t width;          /* of a vector; 1 if discrete */
    int64_t vocabulary;     /* if discrete */
    char summary[256];      /* for people: "ViT-H/14, exact GELU, 630.8 M parameters" */
} dg_tokenizer_info;

static inline DG_UNUSED int64_t dg_token_count(const dg_tokenizer_info *t)
{
    return t->grid_h * t->grid_w + (t->class_token ? 1 : 0);
}

/* Where it is used. */
typedef struct dg_tokenizer_env {
    uint32_t struct_size;
    uint32_t reserved;
    int64_t image_h, image_w; /* the student's image; a tokenizer of free size takes this one */
    uint64_t seed;            /* of the run, for random weights */
} dg_tokenizer_env;

typedef struct dg_tokenizer_interface {
    uint32_t struct_size;
    uint32_t reserved;
    /* Reads the headers of weights, checks them against the parameters. On failure nothing is left behind. */
    dg_status (*create)(const dg_host *host, const dg_params *params, const dg_tokenizer_env *env, void **self,
                        dg_error *err);
    void (*destroy)(void *self);
    dg_status (*info)(void *self, dg_tokenizer_info *out, dg_error *err);
    /* image: u8 [batch, image_h, image_w, 3]. Sets *tokens to f32 [batch, token count, width] or i32 [batch, count].
     * Parameters are frozen leaves; the core opens the scope "tokenizer" around the call. */
    dg_status (*build)(void *self, dg_graph *g, dg_value image, dg_value *tokens, dg_error *err);
} dg_tokenizer_interface;

#endif
