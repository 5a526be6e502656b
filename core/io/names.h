/* names.h - which tensor of a foreign file is which of ours, and back: rules that are printed, and a list of
 * what is missing, left over, or of another shape.
 *
 * Ours are the official D-iGPT names (cls_token, pos_embed, patch_embed.proj.*, blocks.N.*, ...), which timm
 * and MAE share. A file may put one prefix before all of them ("module.", "model.", "visual.", "encoder.",
 * ...: those that give the most matches are stripped), or use the names of Hugging Face's ViT, whose query,
 * key and value become one qkv, of OpenAI's and OpenCLIP's image towers, whose projection is stored
 * transposed, or of Hugging Face's CLIP. */
#ifndef DG_IO_NAMES_H
#define DG_IO_NAMES_H

#include "base/mem.h"
#include "base/str.h"
#include "weights.h"

/* Whose names. */
typedef enum dg_naming {
    DG_NAMING_OFFICIAL, /* ours: everything has a place */
    DG_NAMING_TIMM,     /* VisionTransformer: the encoder, its norms and its head */
    DG_NAMING_MAE,      /* He et al., CVPR 2022: the same, and MAE's decoder */
    DG_NAMING_HF_VIT,   /* ViTModel; ViTForImageClassification, ViTMAEForPreTraining if there is more */
    DG_NAMING_OPENCLIP, /* OpenAI's CLIP and OpenCLIP: "visual." */
    DG_NAMING_HF_CLIP   /* CLIPVisionModelWithProjection */
} dg_naming;

typedef struct dg_wanted {
    const char *name;
    int32_t rank;
    int64_t dims[DG_MAX_RANK];
} dg_wanted;

/* What was found for one wanted tensor: one tensor of the file, or three that follow each other along axis 0.
 */
typedef struct dg_name_match {
    const dg_weight *parts[3];
    int32_t n_parts; /* 0: missing */
    int32_t lead;    /* leading axes of 1 that the wanted tensor has and the file's has not */
    bool transpose;  /* the file has the matrix the other way round */
    bool same_shape; /* of the whole; false: present with another shape, which the caller may be able to
                        resize */
} dg_name_match;

#define DG_NAME_RULES 52 /* rows of the table in names.c */

typedef struct dg_names {
    dg_name_match *matches; /* [n], as wanted */
    size_t n;
    const dg_weight *
        *left_over; /* [n_left_over] tensors of the file that nothing asked for, in the order of names */
    size_t n_left_over;
    size_t n_found, n_missing, n_other_shape; /* found: present and of the wanted shape */
    uint32_t rule_uses[DG_NAME_RULES];        /* tensors that each rule renamed */
    char prefix[96];                          /* what was stripped; "" for nothing */
} dg_names;

/* Fills *out (freed by dg_names_free, on failure too). Missing and left-over tensors are no error here: the
 * caller decides. An error is two tensors of the file that mean the same one of ours. */
dg_status dg_names_match(const dg_weights *w, const dg_wanted *wanted, size_t n, dg_names *out,
                         dg_error *err);
void dg_names_free(dg_names *names);

/* Everything in a file that is part of a vision transformer by these rules, in our names and shapes, sorted
 * by name: what dg_names_match can be asked for when no model says what it wants. Lives in `arena`. n 0: it
 * has no patch embedding under any known name. */
dg_status dg_names_known(const dg_weights *w, dg_arena *arena, dg_wanted **known, size_t *n, dg_error *err);

/* How a naming stores one of our tensors. */
typedef struct dg_name_place {
    int32_t n_parts; /* 1, or 3 that follow each other along axis 0; 0: it has no place there */
    int32_t lead;    /* leading axes of 1 that ours has and theirs has not */
    bool transpose;
    int32_t rules[3]; /* rows of the table; -1: the name is ours */
    char names[3][256];
} dg_name_place;

/* `decoder`: the file has MAE's decoder, whose names D-iGPT shares in part. `whole`: in Hugging Face's ViT
 * the encoder is part of a larger model ("vit."). */
dg_name_place dg_names_place(dg_naming naming, const char *ours, bool decoder, bool whole);
/* Whether `ours` stands outside the encoder: a head or a decoder. */
bool dg_names_is_outer(const char *ours);
/* "encoder.layer.#.output.dense.* -> blocks.#.mlp.fc2.*", read from right to left when writing. */
void dg_names_print_rule(int32_t rule, dg_str *out);

/* For people: the rules that were used, then what is missing, of another shape, left over; at most `limit`
 * names of each kind (the rest are counted). */
void dg_names_report(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out);

/* The value of a match as the wanted tensor has it: parts one after the other along axis 0, transposed if
 * need be; as f32, or as stored (`room` bytes; DG_ERR_MISMATCH if the parts differ in type). */
dg_status dg_name_match_read_f32(const dg_name_match *m, float *out, size_t room, dg_error *err);
dg_status dg_name_match_read_raw(const dg_name_match *m, void *out, size_t room, dg_error *err);
/* out [columns, rows] = in [rows, columns], elements of `size` bytes. */
void dg_transpose_bytes(const void *in, size_t rows, size_t columns, size_t size, void *out);

/* Prints the rule table itself, a rule a line: "encoder.layer.#.output.dense.* -> blocks.#.mlp.fc2.*". */
void dg_names_print_rules(dg_str *out);

#endif
