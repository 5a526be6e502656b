/* names.h - which tensor of a foreign file is which of ours: rules that are printed, and a list of what is
 * missing, left over, or of another shape.
 *
 * Ours are the official D-iGPT names (cls_token, pos_embed, patch_embed.proj.*, blocks.N.*, ...), which timm
 * and MAE share. A file may put one prefix before all of them ("module.", "model.", "visual.", "encoder.",
 * ...: those that give the most matches are stripped), or use Hugging Face's ViT names, whose query, key and
 * value become one qkv. */
#ifndef DG_IO_NAMES_H
#define DG_IO_NAMES_H

#include "base/str.h"
#include "weights.h"

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
    bool same_shape; /* of the whole; false: present with another shape, which the caller may be able to
                        resize */
} dg_name_match;

#define DG_NAME_RULES 13 /* rows of the table in names.c */

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

/* For people: the rules that were used, then what is missing, of another shape, left over; at most `limit`
 * names of each kind (the rest are counted). */
void dg_names_report(const dg_names *names, const dg_wanted *wanted, size_t limit, dg_str *out);

/* The value of a match as f32, parts one after the other along axis 0. */
dg_status dg_name_match_read_f32(const dg_name_match *m, float *out, size_t room, dg_error *err);

/* Prints the rule table itself, a rule a line: "encoder.layer.#.output.dense.* -> blocks.#.mlp.fc2.*". */
void dg_names_print_rules(dg_str *out);

#endif
