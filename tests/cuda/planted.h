/* planted.h - the mistakes of planted.cu. */
#ifndef DG_PLANTED_H
#define DG_PLANTED_H

#include <stdint.h>

enum { PLANTED_BLOCKS = 3 };

enum {
    PLANTED_NONE,
    PLANTED_NO_BARRIER,        /* shared memory is read before all have written it */
    PLANTED_NO_SECOND_BARRIER, /* shared memory is overwritten before all have read it */
    PLANTED_NO_WARP_BARRIER,
    PLANTED_NO_COPY_WAIT, /* for cp.async */
    PLANTED_SHARED_OVERRUN,
    PLANTED_GLOBAL_OVERRUN,
    PLANTED_GLOBAL_OVERREAD, /* into what the allocation was rounded up by */
    PLANTED_UNINITIALISED,   /* shared memory that nobody wrote */
    PLANTED_MISALIGNED,
    PLANTED_DIVERGENT_BARRIER,
    PLANTED_DIVERGENT_COLLECTIVE,
    PLANTED_TWO_BLOCKS,          /* write one address */
    PLANTED_NO_STREAM_WAIT,      /* the copy does not wait for the kernel */
    PLANTED_HOST_MEMORY,         /* is given to the kernel */
    PLANTED_HOST_TOUCHES_DEVICE, /* without a copy */
    PLANTED_COUNT
};

typedef enum planted_outcome {
    PLANTED_RIGHT,
    PLANTED_WRONG,
    PLANTED_REPORTED,
    PLANTED_BROKEN
} planted_outcome;

/* Runs the kernel with one mistake; seed 0: in order. May end the process by a signal. */
typedef planted_outcome planted_run_function(int mistake, uint32_t seed);

#endif
