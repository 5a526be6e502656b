/* mem.h - allocation: checked, zeroed, and able to fail on purpose for tests; arenas for what dies together.
 */
#ifndef DG_BASE_MEM_H
#define DG_BASE_MEM_H

#include "digpt/base.h"

/* Zeroed memory, or NULL (also when count*size overflows). Size 0 gives a valid pointer. Free with dg_free.
 */
void *dg_calloc(size_t count, size_t size);
/* As realloc; the new part is not zeroed; NULL leaves the old block as it was. */
void *dg_realloc(void *p, size_t size);
void dg_free(void *p);
char *dg_strdup(const char *s);
/* 64-byte aligned, not zeroed; free with dg_free. */
void *dg_alloc_aligned(size_t size);

/* For tests: the n-th allocation from now fails (1 = the next one), and all after it; 0 turns it off. */
void dg_alloc_fail_at(size_t n);

/* Makes room for one more element of `size` bytes in the growing array *items. NULL-safe; false when out of
 * memory. */
bool dg_grow(void *items_pp, size_t count, size_t *capacity, size_t size);

/* Blocks that are freed together. Start from {0}. */
typedef struct dg_arena {
    struct dg_arena_block *head;
} dg_arena;

/* Zeroed, 16-byte aligned, or NULL. */
void *dg_arena_alloc(dg_arena *a, size_t size);
char *dg_arena_strdup(dg_arena *a, const char *s);
void dg_arena_free(dg_arena *a);

#endif
