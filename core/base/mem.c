/* mem.c - see mem.h. */
#include "mem.h"

#include <stdatomic.h>
#include <stdlib.h>

static atomic_size_t fail_at; /* 0: never; 1: now and ever after; n: count down */

void dg_alloc_fail_at(size_t n)
{
    atomic_store(&fail_at, n);
}

static bool fails_now(void)
{
    size_t n = atomic_load(&fail_at);
    while (n > 1)
        if (atomic_compare_exchange_weak(&fail_at, &n, n - 1)) return false;
    return n == 1;
}

void *dg_calloc(size_t count, size_t size)
{
    if (fails_now()) return NULL;
    if (count == 0 || size == 0) return calloc(1, 1);
    if (count > SIZE_MAX / size) return NULL;
    return calloc(count, size);
}

void *dg_realloc(void *p, size_t size)
{
    if (fails_now()) return NULL;
    return realloc(p, size ? size : 1);
}

void dg_free(void *p)
{
    free(p);
}

char *dg_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = dg_calloc(n, 1);
    if (p) memcpy(p, s, n);
    return p;
}

void *dg_alloc_aligned(size_t size)
{
    if (fails_now() || size > SIZE_MAX - 64) return NULL;
    return aligned_alloc(64, (size + 63) / 64 * 64 + (size == 0) * 64);
}

bool dg_grow(void *items_pp, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return true;
    size_t want = *capacity ? *capacity * 2 : 16;
    if (want > SIZE_MAX / size) return false;
    void *old, *grown;
    memcpy(&old, items_pp, sizeof old);
    grown = dg_realloc(old, want * size);
    if (!grown) return false;
    memcpy(items_pp, &grown, sizeof grown);
    *capacity = want;
    return true;
}

struct dg_arena_block {
    struct dg_arena_block *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

void *dg_arena_alloc(dg_arena *a, size_t size)
{
    if (size > SIZE_MAX - 4096) return NULL;
    size = (size + 15) & ~(size_t)15;
    struct dg_arena_block *b = a->head;
    if (!b || b->size - b->used < size) {
        size_t room = size > 65536 - 64 ? size : 65536 - 64;
        b = dg_calloc(1, sizeof *b + room);
        if (!b) return NULL;
        b->size = room;
        b->next = a->head;
        a->head = b;
    }
    void *p = b->bytes + b->used;
    b->used += size;
    return p;
}

char *dg_arena_strdup(dg_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = dg_arena_alloc(a, n);
    if (p) memcpy(p, s, n);
    return p;
}

void dg_arena_free(dg_arena *a)
{
    while (a->head) {
        struct dg_arena_block *next = a->head->next;
        dg_free(a->head);
        a->head = next;
    }
}
