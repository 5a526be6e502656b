/* rules.h - the rules of every op, declared from the op table. A missing rule is a link error, not a
 * surprise. */
#ifndef DG_GRAPH_RULES_H
#define DG_GRAPH_RULES_H

#include "graph.h"

/* dg_shape_NAME for all ops; dg_lower_NAME for composites; gradients are listed in grad.c's own table. */
#define DG_RULE_PRIM(NAME)
#define DG_RULE_COMP(NAME) void dg_lower_##NAME(const dg_lower *c);
#define OP(NAME, CLASS, PRECISION, INPUTS, ATTRS, OUTPUTS, DOC)                                              \
    dg_status dg_shape_##NAME(const dg_infer *c);                                                            \
    DG_RULE_##CLASS(NAME)
#include "ops.def"
#undef OP

/* The gradient rule of an op, or NULL. */
void (*dg_grad_rule(const char *op))(const dg_grad *c);

/* Copies the next blank-separated word of *s; false at the end. Words are cut to the room there is. */
bool dg_next_word(const char **s, char *out, size_t room);

/* Attributes by their place in the table's row. */
static inline int64_t dg_ai(const dg_attr *attrs, int k)
{
    return attrs[k].v.i;
}
static inline double dg_af(const dg_attr *attrs, int k)
{
    return attrs[k].v.f;
}

#endif
