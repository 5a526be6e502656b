/* teacher.h - the tokenizer `vit` inside: a frozen vision transformer (Dosovitskiy et al., ICLR 2021) under
 * the names of timm, which MAE, the official D-iGPT code and the checkpoints of this toolkit share.
 *
 * file.c finds it in a weights file and reads its sizes there; teacher.c checks them against the recipe and
 * computes. */
#ifndef DIGPT_TOKENIZER_VIT_H
#define DIGPT_TOKENIZER_VIT_H

#include "digpt/tokenizer.h"
#include "digpt/vit.h"

typedef struct teacher_sizes {
    int64_t width, depth, hidden;
    int64_t patch[2];      /* pixels: height, width */
    int64_t position_rows; /* patches, and one more if the class token has a position */
    int64_t classes;       /* outputs of the head; 0: there is none */
    bool class_token;
    const char *norm; /* the final norm's name, "norm" or "fc_norm"; NULL: there is none */
} teacher_sizes;

typedef struct teacher_file {
    dg_weights *weights; /* NULL: random values */
    char prefix[32];     /* of every tensor */
} teacher_file;

/* Finds the transformer, reads its sizes and checks the shape of every tensor. */
dg_status teacher_find(const dg_host *host, teacher_file *file, const char *path, teacher_sizes *sizes,
                       dg_error *err);

/* Elements of the first `depth` blocks and of all else that is used. */
int64_t teacher_count(const teacher_sizes *s, int64_t depth, bool norm, bool head);

#endif
