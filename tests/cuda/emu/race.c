/* race.c - watches what kernels read and write. Kernels are compiled with -fsanitize=thread, which calls a
 * hook at each access, and linked with these hooks instead of that sanitizer's.
 *
 * Exact for code that orders accesses by barriers: two accesses of a byte, one of them a write, by threads of
 * a block are in order if a __syncthreads lies between, or a __syncwarp and the threads are of one warp;
 * those of two blocks of a launch never are. Each two bytes of memory keep their last write and reads, in a
 * table with open addressing. */
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>

typedef struct access {
    uint32_t launch, block, epoch, warp_epoch;
    int32_t thread;
    int32_t spread; /* of reads: 0 one thread, 1 several of one warp, 2 several warps */
} access;

typedef struct cell {
    uint64_t key; /* address / 2 + 1; 0: free */
    access write, read;
} cell;

enum { CELLS = 1 << 21, TRIES = 64 };

static cell *cells;

static cell *cell_of(uintptr_t address)
{
    if (!cells) {
        cells = mmap(NULL, CELLS * sizeof *cells, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (cells == MAP_FAILED) abort();
    }
    uint64_t key = (address >> 1) + 1;
    uint32_t at = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 43) % CELLS;
    for (int i = 0; i < TRIES; i++, at = (at + 1) % CELLS) {
        /* What an earlier launch left is of no interest any more. */
        if (cells[at].key && cells[at].key != key &&
            (cells[at].write.launch == emu_launch_number || cells[at].read.launch == emu_launch_number))
            continue;
        if (cells[at].key != key) cells[at] = (cell){.key = key};
        return &cells[at];
    }
    return NULL; /* too crowded: not watched */
}

/* Is the access of this launch, and of the block if the memory is the block's own? */
static bool counts(const access *a, bool shared)
{
    return a->launch == emu_launch_number && (!shared || a->block == emu_block_number);
}

static bool in_order(const access *a, const emu_fiber *f)
{
    if (a->epoch != f->block_epoch) return true;
    return a->spread < 2 && a->thread / 32 == f->warp && a->warp_epoch < f->warp_epoch;
}

static const char *conflict(const cell *c, bool write, bool shared, const emu_fiber *f)
{
    const access *w = &c->write, *r = &c->read;
    if (counts(w, shared)) {
        if (w->block != emu_block_number)
            return write ? "race: two blocks write one address"
                         : "race: reads what another block writes in this launch";
        if (w->thread != f->linear && !in_order(w, f))
            return write ? "race: two threads write without a barrier between"
                         : "race: reads what another thread writes without a barrier between";
    }
    if (!write || !counts(r, shared)) return NULL;
    if (r->block != emu_block_number) return "race: writes what another block reads in this launch";
    if ((r->spread || r->thread != f->linear) && !in_order(r, f))
        return "race: writes what another thread reads without a barrier between";
    return NULL;
}

static void note(cell *c, bool write, const emu_fiber *f)
{
    access now = {emu_launch_number, emu_block_number, f->block_epoch, f->warp_epoch, f->linear, 0};
    if (write) {
        c->write = now;
        c->read = (access){0};
        return;
    }
    const access *r = &c->read;
    if (r->launch == now.launch && r->block == now.block && r->epoch == now.epoch) {
        int spread = r->thread / 32 != f->warp ? 2 : r->thread != f->linear ? 1 : 0;
        now.spread = spread > r->spread ? spread : r->spread;
    }
    c->read = now;
}

void emu_touch(const void *p, size_t n, bool write, const emu_fiber *f)
{
    emu_space space = emu_space_of(p);
    if (space == EMU_OWN) return;
    if (space == EMU_OTHER) {
        if (write || !emu_is_constant(p)) emu_report("a kernel touches memory of the host");
        return;
    }
    for (uintptr_t a = (uintptr_t)p & ~(uintptr_t)1; a < (uintptr_t)p + n; a += 2) {
        cell *c = cell_of(a);
        if (!c) continue;
        const char *what = conflict(c, write, space == EMU_SHARED_SPACE, f);
        if (what) emu_report(what);
        note(c, write, f);
    }
}

/* ---- the hooks */

static void touched(void *p, size_t n, bool write, bool aligned)
{
    if (!emu_current) return; /* the host's own code in a kernel file */
    if (aligned && (uintptr_t)p % n) emu_report("a misaligned access");
    emu_touch(p, n, write, emu_current);
}

#define HOOKS(N)                                                                                             \
    void __tsan_read##N(void *p);                                                                            \
    void __tsan_write##N(void *p);                                                                           \
    void __tsan_unaligned_read##N(void *p);                                                                  \
    void __tsan_unaligned_write##N(void *p);                                                                 \
    void __tsan_read##N(void *p)                                                                             \
    {                                                                                                        \
        touched(p, N, false, true);                                                                          \
    }                                                                                                        \
    void __tsan_write##N(void *p)                                                                            \
    {                                                                                                        \
        touched(p, N, true, true);                                                                           \
    }                                                                                                        \
    void __tsan_unaligned_read##N(void *p)                                                                   \
    {                                                                                                        \
        touched(p, N, false, false);                                                                         \
    }                                                                                                        \
    void __tsan_unaligned_write##N(void *p)                                                                  \
    {                                                                                                        \
        touched(p, N, true, false);                                                                          \
    }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n);
void __tsan_init(void);
void __tsan_func_entry(void *p);
void __tsan_func_exit(void);
void __tsan_read_range(void *p, size_t n)
{
    touched(p, n, false, false);
}
void __tsan_write_range(void *p, size_t n)
{
    touched(p, n, true, false);
}
void __tsan_init(void) {}
void __tsan_func_entry(void *p)
{
    (void)p;
}
void __tsan_func_exit(void) {}
