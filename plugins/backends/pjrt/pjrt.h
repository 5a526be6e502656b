/* pjrt.h - the PJRT backend inside: XLA's devices (TPUs, GPUs, CPUs) through the PJRT C API.
 *
 * PJRT is a C table of functions that a plugin's shared object returns from GetPjrtApi. Each function takes
 * one sized record and returns NULL or an error that the caller destroys; so here every call goes through
 * dg_pjrt_status, which turns an error into ours and destroys it. Source: openxla/xla,
 * xla/pjrt/c/pjrt_c_api.h. */
#ifndef DG_PJRT_PJRT_H
#define DG_PJRT_PJRT_H

#include <limits.h>
#include <pjrt_c_api.h>
#include <sys/types.h>

#include "digpt/backend.h"
#include "emit.h"

/* ---- a loaded plugin and one client of it: the backend's self */

typedef struct dg_pjrt {
    const dg_host *host;
    const PJRT_Api *api; /* NULL with a target: nothing is loaded in this process */
    PJRT_Client *client; /* NULL with a target */
    uint32_t n_replicas; /* a program runs on as many devices, each with a copy of the state */
    PJRT_Device *devices[DG_EMIT_MOST_REPLICAS]; /* [n_replicas] in the order of the replicas */
    char platform[64];                           /* "cpu", "tpu", "cuda" */
    char plugin[64];                             /* cpu, tpu, cuda, or the end of the path: for messages */
    char path[PATH_MAX];  /* of the plugin; without '/': wherever the dynamic loader finds it */
    char target[64];      /* "v5e:2x2"; "": the devices of this machine */
    char cache[PATH_MAX]; /* folder of compiled programs; "": none */
    pid_t helper;         /* process that compiles first (helper.c); 0: there is none */
    int helper_socket;    /* to it */
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

/* ---- finding and loading the plugin (load.c) */

/* Finds the file of `plugin`, which is cpu, tpu, cuda, or a path. */
dg_status dg_pjrt_find(const char *plugin, char path[PATH_MAX], dg_error *err);
/* Loads that file, for good. `here`: its devices are wanted, not only its compiler. */
dg_status dg_pjrt_load(const char *plugin, const char *path, bool here, const PJRT_Api **api, dg_error *err);
/* Makes the client and fills devices and platform; api is set (client.c). */
dg_status dg_pjrt_make_client(dg_pjrt *self, dg_error *err);
void dg_pjrt_close_client(dg_pjrt *self);
/* What results may depend on, in one line (backend.c). */
void dg_pjrt_fingerprint(const dg_pjrt *self, char *out, size_t size);
/* Tells one file of a plugin from another: path, size, time. False for a file that the dynamic loader looks
 * for. */
bool dg_pjrt_identity(const char *path, char *out, size_t size);

/* Is the plugin's file loaded in this process? Then no child can try it: its threads would be missing there.
 */
bool dg_pjrt_is_loaded(const char *path);

/* ---- a plugin that may take the process along (trial.c, helper.c) */

/* Loads the plugin, makes a client and compiles a program of one op in a child process, unless the cache's
 * folder says that this file did so before, or the plugin is loaded in this process already. */
dg_status dg_pjrt_trial(const dg_pjrt *self, bool always, dg_error *err);
/* Forks the process that compiles each program first, unless the plugin is loaded already; without one,
 * programs are compiled here. Call before loading the plugin. */
void dg_pjrt_helper_start(dg_pjrt *self);
void dg_pjrt_helper_stop(dg_pjrt *self);
/* Has the program compiled there. A failure is the plugin's error, or DG_ERR_UNSUPPORTED with its last words
 * if it died; only a child that got no client proves nothing, and is no error. *bytes: the plugin's form of
 * the result, to be released; NULL: it has to be compiled here. */
dg_status dg_pjrt_helper_compile(const dg_pjrt *self, const char *name, const PJRT_Program *program,
                                 char **bytes, size_t *n_bytes, dg_error *err);

/* ---- compiling (exe.c, ahead.c) */

/* CompileOptionsProto for n replicas; its length. */
#define DG_PJRT_OPTIONS_SIZE 16
size_t dg_pjrt_options(uint32_t n_replicas, char out[DG_PJRT_OPTIONS_SIZE]);
/* The program as text (to be freed with the host's release) and XLA's record of it. */
dg_status dg_pjrt_text(const dg_pjrt *self, const dg_program *p, PJRT_Program *out, dg_error *err);
dg_status dg_pjrt_ahead(void *self, const dg_program *p, dg_ahead *out, dg_error *err);

/* ---- compiled programs on disk (cache.c): nothing here fails a run, what cannot be used is logged */

typedef struct dg_pjrt_key {
    char name[40]; /* of the file */
} dg_pjrt_key;

void dg_pjrt_cache_key(const dg_pjrt *self, const PJRT_Program *program, const char *options,
                       size_t n_options, dg_pjrt_key *key);
/* A program from the plugin's own bytes; NULL with an error. */
PJRT_LoadedExecutable *dg_pjrt_from_bytes(const dg_pjrt *self, const char *bytes, size_t size, dg_error *err);
/* NULL: there is none, or none that can be used. */
PJRT_LoadedExecutable *dg_pjrt_cache_load(const dg_pjrt *self, const dg_pjrt_key *key);
void dg_pjrt_cache_keep(const dg_pjrt *self, const dg_pjrt_key *key, const char *bytes, size_t size);
/* What this process compiled; not what it loaded, of which XLA's CPU plugin writes out something incomplete.
 */
void dg_pjrt_cache_save(const dg_pjrt *self, const dg_pjrt_key *key, PJRT_LoadedExecutable *loaded);
/* Makes the folder; false if it cannot be used. */
bool dg_pjrt_cache_folder(const dg_pjrt *self);

/* ---- events and buffers (device.c) */

/* Waits, and destroys the event; its error is the result. NULL is a thing already done. */
dg_status dg_pjrt_await(const dg_pjrt *self, PJRT_Event *event, const char *what, dg_error *err);
/* Copies data to the device of a replica. */
dg_status dg_pjrt_upload(const dg_pjrt *self, uint32_t replica, const dg_type *type, const void *data,
                         PJRT_Buffer **out, dg_error *err);
/* Lends data, which must stay unchanged until the buffer is destroyed and *done awaited; copied only where
 * the device or the alignment needs it. */
dg_status dg_pjrt_lend(const dg_pjrt *self, uint32_t replica, const dg_type *type, const void *data,
                       PJRT_Buffer **out, PJRT_Event **done, dg_error *err);
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
    const char *name;
    void *host;            /* the whole tensor while it is read or written in parts, else NULL */
    bool host_is_newer;    /* than device */
    bool lost;             /* given to a run that failed */
    bool split;            /* each replica has its part of axis 0 */
    bool whole;            /* a program takes it whole: it must not be split */
    PJRT_Buffer *device[]; /* [n_replicas] the same bits, or parts; NULL: zeros, or only in `host` yet */
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
/* From now on each replica keeps only its part along axis 0, which is a multiple of their number. */
dg_status dg_pjrt_store_split(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err);
/* Makes t->device hold the tensor. */
dg_status dg_pjrt_store_settle(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err);
/* Takes over a buffer as the new value of a replica's tensor; NULL: the value is lost. */
void dg_pjrt_store_replace(const dg_backend_store *s, dg_pjrt_tensor *t, uint32_t replica,
                           PJRT_Buffer *buffer);

/* ---- programs (exe.c) */

dg_status dg_pjrt_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **exe,
                          dg_error *err);
void dg_pjrt_release(dg_backend_exe *exe);
dg_status dg_pjrt_run(dg_backend_exe *exe, const dg_run *run, dg_error *err);

#endif
