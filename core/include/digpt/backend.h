/* digpt/backend.h - a backend: runs programs on devices.
 *
 * A store holds the state that several programs share: named tensors on the device. A program's leaves other than
 * inputs are bound by name to the store when it is compiled; after a run, leaves with an update hold the new value.
 * All calls on one self come from one thread at a time. */
#ifndef DIGPT_BACKEND_H
#define DIGPT_BACKEND_H

#include "digpt/collective.h"
#include "digpt/plugin.h"
#include "digpt/program.h"

typedef struct dg_device_info {
    uint32_t struct_size;
    int32_t index;
    uint64_t memory; /* bytes; 0: not known */
    char name[128];
    char detail[256]; /* instruction sets, compute capability, library versions */
} dg_device_info;

typedef struct dg_memory_need {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t state;     /* parameters, moments, frozen weights */
    uint64_t temporary; /* what lives during a run */
    uint64_t packed;    /* copies of weights in the backend's own layouts */
} dg_memory_need;

/* Told once for every node that cannot be run. */
typedef void (*dg_complain_function)(void *user, uint32_t node, const char *reason);

typedef struct dg_backend_store dg_backend_store;
typedef struct dg_backend_exe dg_backend_exe;

/* The data of one run. Inputs and outputs are in host memory; they are read and written during the call only. */
typedef struct dg_run {
    uint32_t struct_size;
    uint32_t n_inputs;          /* leaves of kind INPUT in the order of the program's leaves */
    const void *const *inputs;  /* dense, row-major */
    uint32_t n_outputs;         /* as the program's outputs */
    uint32_t ranks;             /* how many ranks' samples lie in the inputs per sample, one rank's after the other's;
                                   0, 1: one share, which every rank gets */
    void *const *outputs;       /* room for each, from the first rank; NULL: not wanted */
} dg_run;

/* Where a node's time went, summed over runs since profiling was switched on. */
typedef struct dg_node_time {
    uint32_t node;
    uint32_t runs;
    double seconds;
} dg_node_time;

/* What a compiler made of a program for devices that need not be here. Bytes are those of one device. */
typedef struct dg_ahead {
    uint32_t struct_size;
    uint32_t devices;    /* that the target has */
    uint32_t fits;       /* 0: out of memory; of the sizes only `memory` and `temporary` are known then */
    uint32_t reserved;
    uint64_t memory;     /* that programs can use; 0: not known */
    uint64_t arguments;  /* state and inputs */
    uint64_t results;    /* that do not take the place of an argument */
    uint64_t temporary;
    uint64_t code;
    double flops, bytes; /* of one run on one device, as the compiler counts; 0: not known */
    double seconds;      /* that compiling took */
    char device[64];     /* "TPU v5 lite" */
    char compiler[192];  /* its version, on one line */
} dg_ahead;

typedef struct dg_backend_interface {
    uint32_t struct_size;
    uint32_t reserved;
    dg_status (*create)(const dg_host *host, const dg_params *params, void **self, dg_error *err);
    void (*destroy)(void *self);
    /* Fills up to `room` entries and sets *n to how many there are. With none, the error says why none is usable. */
    dg_status (*devices)(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err);
    /* What results may depend on, in one line: name, instruction set, library versions. Resume compares it. */
    void (*fingerprint)(void *self, char *out, size_t size);
    /* The compute dtype that `precision: auto` means here: DG_BF16 or DG_F32. */
    dg_dtype (*preferred)(void *self);
    /* Can it run this composite as it is? Pure. Primitives are not asked. */
    bool (*supports)(void *self, const dg_work *work);
    /* Calls complain for every node that it cannot run; DG_ERR_UNSUPPORTED if there was any. */
    dg_status (*check)(void *self, const dg_program *p, dg_complain_function complain, void *user, dg_error *err);
    /* What compile and run will take, without doing either. */
    dg_status (*memory)(void *self, const dg_program *p, dg_memory_need *out, dg_error *err);

    dg_status (*store_create)(void *self, dg_backend_store **out, dg_error *err);
    void (*store_destroy)(dg_backend_store *s);
    /* Makes a zeroed tensor; again with the same type is no error. */
    dg_status (*store_add)(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err);
    /* bytes must be the tensor's own size; offset and bytes allow large tensors in parts. */
    dg_status (*store_write)(dg_backend_store *s, const char *name, const void *data, uint64_t offset, uint64_t bytes,
                             dg_error *err);
    dg_status (*store_read)(dg_backend_store *s, const char *name, void *data, uint64_t offset, uint64_t bytes,
                            dg_error *err);

    /* Adds what is missing to the store, binds leaves, plans memory. The program must outlive *exe. */
    dg_status (*compile)(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **exe, dg_error *err);
    void (*release)(dg_backend_exe *exe);
    dg_status (*run)(dg_backend_exe *exe, const dg_run *run, dg_error *err);
    /* Switches timing per node on or off; reads what was gathered: up to `room` entries, *n there are. */
    void (*profile)(dg_backend_exe *exe, bool on);
    dg_status (*times)(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err);

    /* May be NULL, or absent. How many ranks one run drives, each on a device of its own: programs are compiled for
     * one rank, all_reduce sums over all, and every rank keeps a copy of the store, except of leaves that are
     * DG_PER_RANK: the store has a tensor with `ranks` times their first dim, of which each rank keeps its part.
     * Without it: one. */
    uint32_t (*ranks)(void *self);
    /* May be NULL, or absent. Compiles for devices that need not be here; which ones, a parameter of the backend
     * says. Running out of the device's memory is no error: see dg_ahead.fits. */
    dg_status (*ahead)(void *self, const dg_program *p, dg_ahead *out, dg_error *err);
    /* May be NULL, or absent: then it cannot train in several processes. Called before all else but devices,
     * fingerprint and preferred, with ranks->world > 1; from then on all_reduce sums over all processes, each of which
     * drives as many ranks as `ranks` says. *ranks lives longer than self. */
    dg_status (*join)(void *self, const dg_collective *ranks, dg_error *err);
} dg_backend_interface;

#endif
