/* check_host.c - a host that counts allocations and lets them fail; see checks.h. */
#include "checks.h"
#include "host.h"

#include <stdatomic.h>
#include <stdlib.h>

#define MARK 0x6469677074686f73ull   /* before every block that came from here */
#define MOST_BYTES ((size_t)1 << 32) /* parameters at their edges must not exhaust the machine */

typedef struct header {
    uint64_t mark, reserved; /* 16 bytes: what follows stays aligned */
} header;

static atomic_size_t live, total, wrong, fail_at;

static void *allocate(size_t size)
{
    size_t n = atomic_fetch_add(&total, 1) + 1, limit = atomic_load(&fail_at);
    if ((limit && n >= limit) || size > MOST_BYTES) return NULL;
    header *h = calloc(1, sizeof *h + size);
    if (!h) return NULL;
    h->mark = MARK;
    atomic_fetch_add(&live, 1);
    return h + 1;
}

static void release(void *p)
{
    if (!p) return;
    header *h = (header *)p - 1;
    if (h->mark != MARK) {
        atomic_fetch_add(&wrong, 1);
        return;
    }
    h->mark = 0;
    atomic_fetch_sub(&live, 1);
    free(h);
}

/* What a plugin has to say about random values is of no interest. */
static void quiet(int level, const char *line)
{
    (void)level;
    (void)line;
}

const dg_host *dg_check_host(void)
{
    static dg_host host;
    host = *dg_host_table();
    host.allocate = allocate;
    host.release = release;
    host.log = quiet;
    return &host;
}

void dg_check_host_reset(size_t at)
{
    atomic_store(&live, 0);
    atomic_store(&total, 0);
    atomic_store(&wrong, 0);
    atomic_store(&fail_at, at);
}

size_t dg_check_host_live(void)
{
    return atomic_load(&live);
}
size_t dg_check_host_total(void)
{
    return atomic_load(&total);
}
size_t dg_check_host_wrong(void)
{
    return atomic_load(&wrong);
}
