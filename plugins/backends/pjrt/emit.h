/* emit.h - a whole program as StableHLO text, the portable language of XLA (openxla.org/stablehlo/spec).
 *
 * The text has one function, main. Its arguments are the program's leaves in their order; its results are the
 * program's outputs, then the new values of the leaves with updates, in the order of the leaves. Such a leaf
 * is marked with tf.aliasing_output: its buffer is donated to the new value.
 *
 * bool is i1 and u8 is ui8. Arithmetic on narrow floats is done in f32 and rounded once; float constants are
 * written as hexadecimal bits; f32 matmuls ask for precision HIGHEST. */
#ifndef DG_PJRT_EMIT_H
#define DG_PJRT_EMIT_H

#include "digpt/program.h"
#include "text.h"

/* NULL if the emitter can write the node for n_replicas devices, else why not. */
const char *dg_emit_refuses(const dg_program_node *node, uint32_t n_replicas);
/* Appends the text to out (host set), for n_replicas devices, which are the ranks of the ops over ranks. */
dg_status dg_emit_program(const dg_program *p, uint32_t n_replicas, dg_text *out, dg_error *err);

#define DG_EMIT_MOST_REPLICAS 64

/* ---- inside the emitter */

/* A value of the text: "%v12", or part k of several results: "%v12#1". */
typedef struct dg_ref {
    int32_t id, part; /* part -1: the only result */
    dg_type type;
} dg_ref;

typedef struct dg_emit {
    const dg_program *p;
    dg_text *out;
    dg_ref *refs;                /* [n_values] what each value of the program became */
    const dg_program_node *node; /* being written */
    int32_t next;                /* free id */
    uint32_t n_replicas;
} dg_emit;

typedef struct dg_emit_op {
    const char *op;
    void (*emit)(dg_emit *e, const char *text);
    const char *text; /* what tells apart ops that share a function */
} dg_emit_op;

const dg_emit_op *dg_emit_find(const char *op);

/* Writes one statement from a pattern: $0..$9 name inputs, @0..@9 their types, @y the type of the (first)
 * result, &0..&9 texts. */
dg_ref dg_emit_put(dg_emit *e, dg_type type, const char *pattern, const dg_ref *in, const char *const *texts);
/* As above with n results of these types; the result is the first, dg_emit_part gives the others. */
dg_ref dg_emit_put_n(dg_emit *e, const dg_type *types, int n, const char *pattern, const dg_ref *in,
                     const char *const *texts);

/* Numbers as "1, 2, 3". */
#define DG_EMIT_LIST_SIZE 160
const char *dg_emit_list(char out[DG_EMIT_LIST_SIZE], const int64_t *items, int n);

dg_ref dg_emit_scalar(dg_emit *e, dg_dtype dtype, double value);
dg_ref dg_emit_fill(dg_emit *e, dg_type type, double value);
dg_ref dg_emit_iota(dg_emit *e, dg_type type, int axis);
dg_ref dg_emit_compare(dg_emit *e, const char *direction, dg_ref a, dg_ref b);
dg_ref dg_emit_binary(dg_emit *e, const char *op, dg_ref a, dg_ref b);
dg_ref dg_emit_select(dg_emit *e, dg_ref c, dg_ref a, dg_ref b);
dg_ref dg_emit_reshape(dg_emit *e, dg_ref x, dg_type type);
/* To the dims of `type` as in numpy; the dtype stays. */
dg_ref dg_emit_stretch(dg_emit *e, dg_ref x, const dg_type *type);
/* As the op `convert`: float to integer truncates and saturates. */
dg_ref dg_emit_convert(dg_emit *e, dg_ref x, dg_dtype dtype);
/* f32 instead of a narrower float; others stay. */
dg_ref dg_emit_widen(dg_emit *e, dg_ref x);
/* Over axes, which vanish; op such as "stablehlo.add", from `init`. */
dg_ref dg_emit_reduce(dg_emit *e, const char *op, dg_ref x, double init, const int64_t *axes, int n);

#endif
