/* internal.h - what the parts of the emulator share: fibers.c runs a grid, runtime.c is the CUDA runtime,
 * lt.c is cuBLASLt, race.c watches accesses in builds that are instrumented for it. */
#ifndef DG_EMU_INTERNAL_H
#define DG_EMU_INTERNAL_H

#include <stdbool.h>
#include "emu.h"

enum {
    EMU_THREADS = 1024,
    EMU_SHARED = 227 << 10
}; /* of a block (CUDA programming guide, compute capability 9.0) */

typedef struct emu_grid {
    void (*kernel)(const void *args);
    const char *name;
    dim3 grid, block;
    size_t shared;
    const void *args;
    size_t size;
} emu_grid;

void emu_run_grid(const emu_grid *g);

/* A random number, or 0 when everything goes in order. */
uint32_t emu_random(void);
bool emu_is_random(void);

/* Puts a call with a copy of its argument on a stream; it happens when the stream gets there. */
cudaError_t emu_enqueue(cudaStream_t stream, void (*call)(const void *args), const void *args, size_t size);

/* What memory p is in. */
typedef enum emu_space { EMU_OTHER, EMU_SHARED_SPACE, EMU_DEVICE, EMU_OWN } emu_space;
emu_space emu_space_of(const void *p);
bool emu_is_shared(const void *p);
bool emu_is_device(const void *p);
/* The arguments of the kernel that runs. */
bool emu_is_args(const void *p);
/* Read-only data of this object: tables and numbers in kernel files. */
bool emu_is_constant(const void *p);
/* Fibers' records and stacks. */
bool emu_is_own(const void *p);
extern uint32_t emu_block_number, emu_launch_number;

/* Notes an access of a fiber; does nothing unless race.c is linked. */
void emu_touch(const void *p, size_t n, bool write, const emu_fiber *f);

#endif
