/* digpt/collective.h - processes that train together: what each of them can ask of all.
 *
 * An engine (interface digpt.collective/1) knows one way of passing bytes between processes and the launchers
 * that start them for it. Where the environment says that this process is one of several, the core joins
 * through the first engine that knows the launcher and hands the result, a dg_collective, to the backend
 * (dg_backend_interface.join). Buffers are in host memory. A backend that moves its own buffers from device
 * to device needs it only to begin with: to broadcast what its own communicator is made from, such as NCCL's
 * unique id.
 *
 * Every rank calls the same functions in the same order with the same sizes, from one thread at a time. After
 * a failure nothing may be called but destroy. While a rank waits for others it finds out within seconds if
 * one of them, on its machine, has died, and fails with DG_ERR_IO and a message that names it; on other
 * machines the launcher does that. */
#ifndef DIGPT_COLLECTIVE_H
#define DIGPT_COLLECTIVE_H

#include "digpt/plugin.h"

typedef enum dg_sum_type { DG_SUM_F32 = 0, DG_SUM_F64 = 1, DG_SUM_I64 = 2 } dg_sum_type;

typedef struct dg_collective {
    uint32_t struct_size;
    int32_t rank, world; /* this process, of all */
    /* Filled in by the core after join: */
    int32_t machine_rank, machine_ranks; /* this process, of those on its machine */
    int32_t sharing;                     /* ranks that may run on this one's processors, itself included */

    void *self; /* the first argument of each function */
    /* data [count], in place: the sum over ranks in their order, (x0 + x1) + x2 ..., in the type of the
     * elements. So it depends on the values and the number of ranks alone, and is the same bits on all of
     * them. */
    dg_status (*all_reduce)(void *self, void *data, uint64_t count, dg_sum_type type, dg_error *err);
    /* all [world, bytes]: what every rank has in mine [bytes], in the order of ranks. */
    dg_status (*all_gather)(void *self, const void *mine, void *all, uint64_t bytes, dg_error *err);
    /* data [bytes] becomes what rank `root` has there. */
    dg_status (*broadcast)(void *self, void *data, uint64_t bytes, int32_t root, dg_error *err);
    /* Returns when all ranks have called it. */
    dg_status (*barrier)(void *self, dg_error *err);
    /* This rank cannot go on: destroy is not to wait for the others. */
    void (*give_up)(void *self);
} dg_collective;

typedef struct dg_collective_interface {
    uint32_t struct_size;
    uint32_t reserved;
    /* Cheap: nothing is joined yet. */
    dg_status (*create)(const dg_host *host, const dg_params *params, void **self, dg_error *err);
    /* Leaves the others, and waits until they leave too; but after a failure, or give_up, it does not wait.
     * The process should end soon then, which the launcher takes for its failure. */
    void (*destroy)(void *self);
    /* One line for people: the library and its version, and by what it wants to be started. */
    void (*describe)(void *self, char *out, size_t size);
    /* Does the environment say that a launcher of this engine's kind has started the process? */
    bool (*launched)(void *self);
    /* Once in the life of a process. Fills *out, which lives as long as self. */
    dg_status (*join)(void *self, dg_collective *out, dg_error *err);
} dg_collective_interface;

#endif
