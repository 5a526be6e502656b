/* shape.h - what the shape rules write with. */
#ifndef DG_GRAPH_SHAPE_H
#define DG_GRAPH_SHAPE_H

#include "rules.h"

/* Inside a rule, whose context is c. */
#define IN(K) (&c->in[K])
#define HAS(K) (c->in[K].dtype != DG_NONE)
#define FAIL(...) dg_fail(c->err, DG_ERR_INVALID, __VA_ARGS__)

/* "f32[2,3]", good for the next few calls of this thread. */
static inline DG_UNUSED const char *text(const dg_type *t)
{
    static _Thread_local char ring[4][96];
    static _Thread_local unsigned next;
    return dg_type_text(t, ring[next++ % 4], sizeof ring[0]);
}

#endif
