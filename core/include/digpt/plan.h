/* digpt/plan.h - memory for values that live for part of a program: offsets in one arena such that two blocks share
 * bytes only if their lives do not overlap. Used by backends, and by whoever predicts what a backend will need.
 *
 * Greedy by size: the largest block first, each at the lowest offset that is free during its life. Deterministic. */
#ifndef DIGPT_PLAN_H
#define DIGPT_PLAN_H

#include <stdlib.h>
#include "digpt/base.h"

#define DG_PLAN_ALIGN 64

typedef struct dg_plan_block {
    uint64_t size;       /* bytes; 0: takes no room */
    int32_t first, last; /* the steps, both counted, during which it is alive */
    uint64_t offset;     /* found by dg_plan: a multiple of DG_PLAN_ALIGN */
} dg_plan_block;

static inline DG_UNUSED int dg_plan_by_size(const void *x, const void *y)
{
    const dg_plan_block *a = *(dg_plan_block *const *)x, *b = *(dg_plan_block *const *)y;
    if (a->size != b->size) return a->size < b->size ? 1 : -1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Sets the offsets and returns the arena's size, or UINT64_MAX when out of memory. */
static inline DG_UNUSED uint64_t dg_plan(dg_plan_block *blocks, size_t n)
{
    uint64_t total = 0;
    size_t n_placed = 0;
    dg_plan_block **order = (dg_plan_block **)malloc((n + 1) * sizeof *order);
    dg_plan_block **placed = (dg_plan_block **)malloc((n + 1) * sizeof *placed); /* by offset */
    if (order && placed) {
        for (size_t i = 0; i < n; i++) order[i] = &blocks[i];
        qsort(order, n, sizeof *order, dg_plan_by_size);
        for (size_t i = 0; i < n && order[i]->size; i++) {
            dg_plan_block *b = order[i];
            uint64_t size = (b->size + DG_PLAN_ALIGN - 1) / DG_PLAN_ALIGN * DG_PLAN_ALIGN, at = 0;
            for (size_t k = 0; k < n_placed; k++) {
                const dg_plan_block *p = placed[k];
                if (p->last < b->first || p->first > b->last) continue;
                if (p->offset >= at + size) break;
                uint64_t end = (p->offset + p->size + DG_PLAN_ALIGN - 1) / DG_PLAN_ALIGN * DG_PLAN_ALIGN;
                if (end > at) at = end;
            }
            b->offset = at;
            if (at + size > total) total = at + size;
            size_t k = n_placed++;
            for (; k > 0 && placed[k - 1]->offset > at; k--) placed[k] = placed[k - 1];
            placed[k] = b;
        }
    } else
        total = UINT64_MAX;
    free(order);
    free(placed);
    return total;
}

#endif
