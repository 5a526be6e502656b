/* pjrt.h - the PJRT backend inside: XLA's devices (TPUs, GPUs, CPUs) through the PJRT C API.
 *
 * PJRT is a C table of functions that a plugin's shared object returns from GetPjrtApi. Each function takes
 * one sized record and returns NULL or an error that the caller destroys; so here every call goes through
 * dg_pjrt_status, which turns an error into ours and destroys it. Source: openxla/xla,
 * xla/pjrt/c/pjrt_c_api.h. */
#ifndef DG_PJRT_PJRT_H
#define DG_PJRT_PJRT_H

#include <pjrt_c_api.h>

#include "digpt/backend.h"

/* ---- a loaded plugin and one client of it: the backend's self */

typedef struct dg_pjrt {
    const dg_host *host;
    const PJRT_Api *api;
    PJRT_Client *client;
    PJRT_Device *device; /* the one that programs run on: the client's first */
    char platform[32];   /* "cpu", "tpu", "cuda" */
} dg_pjrt;

/* A zeroed argument record NAME of the function T. */
#define DG_PJRT_ARGS(T, NAME)                                                                                \
    T##_Args NAME = {0};                                                                                     \
    NAME.struct_size = T##_Args_STRUCT_SIZE

/* Calls the plugin's function FN with the record ARGS. */
#define DG_PJRT_CALL(API, FN, ARGS, ERR) dg_pjrt_status((API), (API)->FN(&(ARGS)), #FN, (ERR))

/* Does the plugin's table reach this member, and is it set? Needed for the functions that are not in load.c's
 * list. */
#define DG_PJRT_HAS(API, FN) ((API)->struct_size >= offsetof(PJRT_Api, FN) + sizeof((API)->FN) && (API)->FN)

/* DG_OK for NULL; else destroys e and says what failed. */
dg_status dg_pjrt_status(const PJRT_Api *api, PJRT_Error *e, const char *what, dg_error *err);

/* `plugin` is cpu, tpu, cuda, or the path of a shared object. The object stays loaded for good. */
dg_status dg_pjrt_load(const char *plugin, const PJRT_Api **api, dg_error *err);

/* ---- events and buffers (device.c) */

/* Waits, and destroys the event; its error is the result. NULL is a thing already done. */
dg_status dg_pjrt_await(const dg_pjrt *self, PJRT_Event *event, const char *what, dg_error *err);
/* Copies data to the device. */
dg_status dg_pjrt_upload(const dg_pjrt *self, const dg_type *type, const void *data, PJRT_Buffer **out,
                         dg_error *err);
/* Lends data, which must stay unchanged until the buffer is destroyed and *done awaited; copied only where
 * the device or the alignment needs it. */
dg_status dg_pjrt_lend(const dg_pjrt *self, const dg_type *type, const void *data, PJRT_Buffer **out,
                       PJRT_Event **done, dg_error *err);
/* Copies a whole buffer to the host, row-major. */
dg_status dg_pjrt_download(const dg_pjrt *self, PJRT_Buffer *buffer, const dg_type *type, void *data,
                           dg_error *err);
/* NULL is allowed; an error is of no use to anyone. */
void dg_pjrt_free(const dg_pjrt *self, PJRT_Buffer *buffer);
bool dg_pjrt_is_gone(const dg_pjrt *self, PJRT_Buffer *buffer); /* deleted, or donated to a run that failed */

/* ---- the store: named tensors on the device (store.c) */

typedef struct dg_pjrt_tensor {
    struct dg_pjrt_tensor *next;
    uint32_t hash;
    dg_type type;
    PJRT_Buffer *device; /* NULL: zeros, or only in `host` yet */
    void *host;          /* the whole tensor while it is read or written in parts, else NULL */
    bool host_is_newer;  /* than device */
    bool lost;           /* given to a run that failed */
    char name[];
} dg_pjrt_tensor;

struct dg_backend_store {
    const dg_pjrt *self;
    dg_pjrt_tensor *first;
};

dg_status dg_pjrt_store_create(void *self, dg_backend_store **out, dg_error *err);
void dg_pjrt_store_destroy(dg_backend_store *s);
dg_status dg_pjrt_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err);
dg_status dg_pjrt_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                              uint64_t bytes, dg_error *err);
dg_status dg_pjrt_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err);
dg_pjrt_tensor *dg_pjrt_store_find(const dg_backend_store *s, const char *name);
/* Makes t->device hold the tensor. */
dg_status dg_pjrt_store_settle(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err);
/* Takes over a buffer as the tensor's new value; NULL: the value is lost. */
void dg_pjrt_store_replace(const dg_backend_store *s, dg_pjrt_tensor *t, PJRT_Buffer *buffer);

/* ---- programs (exe.c) */

dg_status dg_pjrt_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **exe,
                          dg_error *err);
void dg_pjrt_release(dg_backend_exe *exe);
dg_status dg_pjrt_run(dg_backend_exe *exe, const dg_run *run, dg_error *err);

#endif
