/* fibers.c - runs the blocks of a grid one after another, the threads of a block as fibers. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { READY, AT_BARRIER, AT_COLLECTIVE, DONE, STACK = 128 << 10, GUARD = 8192 };

emu_fiber *emu_current;
dim3 emu_block_dim, emu_grid_dim;
uint3 emu_block;
unsigned char *emu_dynamic;
uint32_t emu_block_number, emu_launch_number;

/* Static shared memory of all kernels of this object. */
extern unsigned char __start_dg_emu_shared[] __attribute__((weak, visibility("hidden")));
extern unsigned char __stop_dg_emu_shared[] __attribute__((weak, visibility("hidden")));

static emu_fiber fibers[EMU_THREADS];
static int n_fibers, alive, at_barrier;
static int ready[EMU_THREADS], first_ready, n_ready; /* ring of fibers that can run */
static uint32_t arrived[EMU_THREADS / 32];           /* lanes of each warp that wait at a collective */
static void *scheduler_sp;
static const emu_grid *grid;
static unsigned char *dynamic_base;
static int reports;

/* ---- chance, and what goes wrong */

static uint64_t chance;

void emu_seed(uint32_t seed)
{
    chance = seed ? seed * 0x9e3779b97f4a7c15ull : 0;
}

bool emu_is_random(void)
{
    return chance != 0;
}

uint32_t emu_random(void) /* xorshift64 (Marsaglia, 2003) */
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)(chance >> 32);
}

void emu_report(const char *what)
{
    if (reports++ >= 8) return;
    fprintf(stderr, "emulator: %s; kernel %s, block (%u, %u, %u), thread %d\n", what, grid ? grid->name : "-",
            emu_block.x, emu_block.y, emu_block.z, emu_current ? emu_current->linear : -1);
}

int emu_reports(void)
{
    return reports;
}

bool emu_is_shared(const void *p)
{
    const unsigned char *c = p;
    return (dynamic_base && c >= dynamic_base && c < dynamic_base + EMU_SHARED + GUARD) ||
           (__start_dg_emu_shared && c >= __start_dg_emu_shared && c < __stop_dg_emu_shared);
}

bool emu_is_args(const void *p)
{
    return grid && (const char *)p >= (const char *)grid->args &&
           (const char *)p < (const char *)grid->args + grid->size;
}

/* The linker puts read-only data between the start of the object and its dynamic section, writable data
 * behind it. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _DYNAMIC[] __attribute__((visibility("hidden")));

bool emu_is_constant(const void *p)
{
    const char *c = p;
    return c >= __ehdr_start && c < _DYNAMIC;
}

/* What CUDA's words of emu.h read. */
static const struct {
    const void *at;
    size_t size;
} words[] = {
    {&emu_current, sizeof emu_current},     {&emu_block, sizeof emu_block},
    {&emu_block_dim, sizeof emu_block_dim}, {&emu_grid_dim, sizeof emu_grid_dim},
    {&emu_dynamic, sizeof emu_dynamic},
};

bool emu_is_own(const void *p)
{
    const char *c = p;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (c >= (const char *)words[i].at && c < (const char *)words[i].at + words[i].size) return true;
    if (c >= (const char *)fibers && c < (const char *)(fibers + EMU_THREADS)) return true;
    return emu_current && c >= emu_current->stack && c < emu_current->stack + STACK;
}

/* ---- switching */

/* Saves the callee's registers and stack of who calls, goes on where `to` was left. */
void emu_switch(void **save, void *to);
#if defined(__x86_64__)
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch,@function\nemu_switch:\n"
        " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
        " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n.size "
        "emu_switch,.-emu_switch\n");
enum { SAVED = 6 };
#elif defined(__aarch64__)
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch,%function\nemu_switch:\n"
        " sub sp,sp,#160\n stp x19,x20,[sp]\n stp x21,x22,[sp,#16]\n stp x23,x24,[sp,#32]\n stp "
        "x25,x26,[sp,#48]\n"
        " stp x27,x28,[sp,#64]\n stp x29,x30,[sp,#80]\n stp d8,d9,[sp,#96]\n stp d10,d11,[sp,#112]\n"
        " stp d12,d13,[sp,#128]\n stp d14,d15,[sp,#144]\n mov x9,sp\n str x9,[x0]\n mov sp,x1\n"
        " ldp x19,x20,[sp]\n ldp x21,x22,[sp,#16]\n ldp x23,x24,[sp,#32]\n ldp x25,x26,[sp,#48]\n"
        " ldp x27,x28,[sp,#64]\n ldp x29,x30,[sp,#80]\n ldp d8,d9,[sp,#96]\n ldp d10,d11,[sp,#112]\n"
        " ldp d12,d13,[sp,#128]\n ldp d14,d15,[sp,#144]\n add sp,sp,#160\n ret\n");
#else
#error "the emulator switches fibers on x86-64 and arm64 only"
#endif

static void fiber_main(void);

/* Makes f start anew at fiber_main. */
static void reset_stack(emu_fiber *f)
{
    if (!f->stack) {
        f->stack =
            mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        f->copies = malloc(EMU_COPIES * sizeof *f->copies);
        if (f->stack == MAP_FAILED || !f->copies) abort();
    }
    void **sp = (void **)(f->stack + STACK - 64);
#if defined(__x86_64__)
    *--sp = NULL; /* no return address: fiber_main never returns; also what the ABI wants of the alignment */
    *--sp = (void *)fiber_main;
    for (int i = 0; i < SAVED; i++) *--sp = NULL;
#else
    sp -= 20;
    memset(sp, 0, 160);
    sp[11] = (void *)fiber_main;
#endif
    f->sp = sp;
}

static void go(emu_fiber *from, emu_fiber *to) /* NULL: the scheduler */
{
    if (from == to) return;
    emu_current = to;
    emu_switch(from ? &from->sp : &scheduler_sp, to ? to->sp : scheduler_sp);
}

static void push(emu_fiber *f)
{
    f->state = READY;
    ready[(first_ready + n_ready++) % EMU_THREADS] = f->linear;
}

static emu_fiber *pop(void)
{
    if (emu_is_random()) { /* any one: it changes places with the first */
        int k = (first_ready + (int)(emu_random() % (uint32_t)n_ready)) % EMU_THREADS,
            other = ready[first_ready];
        ready[first_ready] = ready[k];
        ready[k] = other;
    }
    emu_fiber *f = &fibers[ready[first_ready]];
    first_ready = (first_ready + 1) % EMU_THREADS;
    n_ready--;
    return f;
}

/* f cannot go on for now. If nobody can, the block is given up. */
static void wait_for_others(emu_fiber *f)
{
    if (n_ready) {
        go(f, pop());
        return;
    }
    if (alive)
        emu_report(f->state == AT_COLLECTIVE ? "deadlock: a warp collective waits for lanes that never come"
                                             : "deadlock: not all threads come to __syncthreads");
    go(f, NULL);
}

static void release_barrier(void)
{
    uint32_t line = 0;
    at_barrier = 0;
    for (int i = 0; i < n_fibers; i++) {
        emu_fiber *f = &fibers[i];
        if (f->state != AT_BARRIER) continue;
        if (line && f->op != line) emu_report("threads of a block meet at different __syncthreads");
        line = f->op;
        f->block_epoch++;
        push(f);
    }
}

static void fiber_main(void)
{
    grid->kernel(grid->args);
    emu_fiber *f = emu_current;
    if (f->n_copies) emu_report("a thread ends with asynchronous copies that it never waited for");
    f->state = DONE;
    alive--;
    if (alive && at_barrier == alive) release_barrier(); /* threads that ended count as arrived */
    wait_for_others(f);
    abort(); /* nobody goes on with a fiber that ended */
}

/* ---- barriers and warp collectives */

void emu_barrier(uint32_t line)
{
    emu_fiber *f = emu_current;
    f->state = AT_BARRIER;
    f->op = line;
    if (++at_barrier == alive) release_barrier();
    wait_for_others(f);
}

static float low(uint32_t v)
{
    return dg_bf16_to_f32((uint16_t)v);
}
static float high(uint32_t v)
{
    return dg_bf16_to_f32((uint16_t)(v >> 16));
}

/* Fragments of mma.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"). */
static void multiply(emu_fiber *w)
{
    float a[16][16], b[16][8], c[16][8] = {{0}};
    for (int l = 0; l < 32; l++) {
        const uint32_t *ra = w[l].a, *rb = w[l].b;
        int group = l >> 2, t = (l & 3) * 2;
        for (int r = 0; r < 4; r++) {
            a[group + (r & 1) * 8][t + (r >> 1) * 8] = low(ra[r]);
            a[group + (r & 1) * 8][t + (r >> 1) * 8 + 1] = high(ra[r]);
        }
        for (int r = 0; r < 2; r++) {
            b[t + r * 8][group] = low(rb[r]);
            b[t + r * 8 + 1][group] = high(rb[r]);
        }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) c[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < 32; l++) {
        float *to = w[l].c;
        int group = l >> 2, t = (l & 3) * 2;
        for (int r = 0; r < 4; r++) to[r] += c[group + (r >> 1) * 8][t + (r & 1)];
    }
}

/* Fragments of ldmatrix.x4 (PTX ISA). */
static void load_matrices(emu_fiber *w, bool transposed)
{
    uint16_t m[4][8][8];
    for (int l = 0; l < 32; l++) {
        if ((uintptr_t)w[l].a & 15) {
            emu_report("a row for ldmatrix is not 16-byte aligned");
            return;
        }
        if (!emu_is_shared(w[l].a)) emu_report("a row for ldmatrix is not in shared memory");
        emu_touch(w[l].a, 16, false, &w[l]);
        memcpy(m[l >> 3][l & 7], w[l].a, 16);
    }
    for (int l = 0; l < 32; l++)
        for (int j = 0; j < 4; j++) {
            int r = l >> 2, c = (l & 3) * 2;
            ((uint32_t *)w[l].c)[j] = transposed ? m[j][c][r] | (uint32_t)m[j][c + 1][r] << 16
                                                 : m[j][r][c] | (uint32_t)m[j][r][c + 1] << 16;
        }
}

void emu_collective(uint32_t op, uint32_t mask)
{
    emu_fiber *f = emu_current, *w = &fibers[f->warp * 32];
    int lanes = n_fibers - f->warp * 32 < 32 ? n_fibers - f->warp * 32 : 32;
    mask &= lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    if (!(mask >> f->lane & 1)) emu_report("a lane is not in its own mask");
    f->op = op;
    f->mask = mask;
    f->state = AT_COLLECTIVE;
    arrived[f->warp] |= 1u << f->lane;
    if ((arrived[f->warp] & mask) != mask) {
        wait_for_others(f);
        return;
    }
    for (int l = 0; l < lanes; l++)
        if (mask >> l & 1 && (w[l].op != op || w[l].mask != mask))
            emu_report("lanes of a warp meet at different collectives");
    if (op == EMU_MMA) multiply(w);
    if (op == EMU_LDMATRIX || op == EMU_LDMATRIX_T) load_matrices(w, op == EMU_LDMATRIX_T);
    arrived[f->warp] &= ~mask;
    for (int l = 0; l < lanes; l++) {
        if (!(mask >> l & 1)) continue;
        if (op == EMU_SYNC) w[l].warp_epoch++;
        if (l != f->lane) push(&w[l]);
    }
    f->state = READY;
    if (emu_is_random() && emu_random() & 1) {
        push(f);
        wait_for_others(f);
    }
}

/* Two slots in turn: a lane that is ahead may bring its next value before others have taken this one. */
uint64_t emu_shuffle(uint32_t op, uint32_t mask, uint64_t value, int source)
{
    emu_fiber *f = emu_current;
    int phase = f->phase ^= 1;
    f->slot[phase] = value;
    emu_collective(op, mask);
    if (f->warp * 32 + source >= n_fibers || !(mask >> source & 1)) {
        emu_report("a shuffle asks a lane that takes no part");
        return value;
    }
    return fibers[f->warp * 32 + source].slot[phase];
}

/* ---- asynchronous copies: nothing arrives before the wait */

void emu_copy_async(void *to, const void *from, bool valid)
{
    emu_fiber *f = emu_current;
    if (((uintptr_t)to | (uintptr_t)from) & 15) {
        emu_report("an asynchronous copy is not 16-byte aligned");
        return;
    }
    if (!emu_is_shared(to)) emu_report("an asynchronous copy does not go to shared memory");
    if (f->n_copies == EMU_COPIES) {
        emu_report("more asynchronous copies than the emulator keeps");
        return;
    }
    memset(to, 0xff, 16);
    emu_touch(to, 16, true, f);
    f->copies[f->n_copies++] = (emu_copy){to, from, valid, 0};
}

void emu_copy_commit(void)
{
    for (int i = 0; i < emu_current->n_copies; i++) emu_current->copies[i].group++;
}

void emu_copy_wait(int groups_left)
{
    emu_fiber *f = emu_current;
    int left = 0;
    for (int i = 0; i < f->n_copies; i++) {
        emu_copy c = f->copies[i];
        if (c.group <= groups_left) {
            f->copies[left++] = c;
            continue;
        }
        if (c.valid) emu_touch(c.from, 16, false, f);
        if (c.valid)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
        emu_touch(c.to, 16, true, f);
    }
    f->n_copies = left;
}

/* ---- grids */

static void run_block(uint64_t number)
{
    dim3 g = grid->grid, b = grid->block;
    emu_block =
        (uint3){(unsigned)(number % g.x), (unsigned)(number / g.x % g.y), (unsigned)(number / g.x / g.y)};
    emu_block_number++;
    memset(emu_dynamic, 0xff, grid->shared); /* NaN */
    if (__start_dg_emu_shared)
        memset(__start_dg_emu_shared, 0xff, (size_t)(__stop_dg_emu_shared - __start_dg_emu_shared));
    memset(arrived, 0, sizeof arrived);
    first_ready = n_ready = at_barrier = 0;
    alive = n_fibers;
    for (int i = 0; i < n_fibers; i++) {
        emu_fiber *f = &fibers[i];
        unsigned k = (unsigned)i;
        reset_stack(f);
        f->linear = i;
        f->warp = i / 32;
        f->lane = i % 32;
        f->index = (uint3){k % b.x, k / b.x % b.y, k / b.x / b.y};
        f->block_epoch = f->warp_epoch = 0;
        f->n_copies = f->phase = 0;
        push(f);
    }
    go(NULL, pop());
}

void emu_run_grid(const emu_grid *g)
{
    if (!dynamic_base) {
        dynamic_base =
            mmap(NULL, EMU_SHARED + 2 * GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (dynamic_base == MAP_FAILED) abort();
        mprotect(dynamic_base + (EMU_SHARED + GUARD) / 4096 * 4096, GUARD, PROT_NONE);
    }
    grid = g;
    emu_launch_number++;
    emu_block_dim = g->block;
    emu_grid_dim = g->grid;
    n_fibers = (int)(g->block.x * g->block.y * g->block.z);
    /* ends, to 128 bytes, where memory may not be touched */
    emu_dynamic = dynamic_base + (EMU_SHARED + GUARD) / 4096 * 4096 - (g->shared + 127) / 128 * 128;
    uint64_t blocks = (uint64_t)g->grid.x * g->grid.y * g->grid.z,
             first = emu_is_random() ? emu_random() % blocks : 0;
    for (uint64_t i = 0; i < blocks; i++) run_block((first + i) % blocks);
    emu_current = NULL;
    grid = NULL;
}
