/* digpt/plugin.h - the plugin ABI: one exported function, a descriptor, factories by name, and the host's table.
 *
 * A plugin is a shared object that exports
 *
 *     DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);
 *
 * It is loaded with RTLD_NOW | RTLD_LOCAL, links to nothing of ours, stays loaded for the run, and reaches the core
 * through `host` and through the graph's own table. It never prints, exits, or throws. Whoever allocates frees.
 * The entry may be called more than once and must be cheap: no files, no threads, no devices. */
#ifndef DIGPT_PLUGIN_H
#define DIGPT_PLUGIN_H

#include "digpt/base.h"
#include "digpt/graph.h"
#include "digpt/params.h"

#if defined(__cplusplus)
#define DG_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define DG_EXPORT __attribute__((visibility("default")))
#endif

#define DG_PLUGIN_MAGIC 0x54504744u /* "DGPT" */

/* ---- weights files, read by the core: .safetensors, .pt, .pth, .bin, Hugging Face index folders */

typedef struct dg_tensor_info {
    const char *name;
    const char *dtype; /* as stored: "F32", "BF16", "F16", "I64", ... */
    int32_t rank;
    int32_t reserved;
    int64_t dims[DG_MAX_RANK];
} dg_tensor_info;

/* What the core offers. A sized table: check DG_HAS before using members newer than your minimum. */
typedef struct dg_host {
    uint32_t struct_size;
    uint32_t abi_major, abi_minor;
    uint32_t reserved;
    const char *version; /* of digpt: "0.1.0" */
    /* Zeroed memory, NULL when there is none; freed with release. Counted, and made to fail, by `digpt check`. */
    void *(*allocate)(size_t size);
    void (*release)(void *p);
    /* level: 0 debug, 1 information, 2 warning, 3 error. One line, no newline. */
    void (*log)(int level, const char *line);
    /* A weights file; close it no earlier than the component that uses it in a DG_INIT_WEIGHTS is destroyed. */
    dg_status (*weights_open)(const char *path, dg_weights **out, dg_error *err);
    void (*weights_close)(dg_weights *w);
    size_t (*weights_count)(const dg_weights *w);
    /* false when there is no such tensor. The pointers live as long as w. */
    bool (*weights_at)(const dg_weights *w, size_t i, dg_tensor_info *out);
    bool (*weights_find)(const dg_weights *w, const char *name, dg_tensor_info *out);
    /* The whole tensor as f32; room for all its elements. */
    dg_status (*weights_read)(dg_weights *w, const char *name, float *out, dg_error *err);
    /* A table of functions by its name ("digpt.weights/2"), or NULL. */
    const void *(*extension)(const char *name);
} dg_host;

/* ---- what a plugin has */

#define DG_TOKENIZER_INTERFACE "digpt.tokenizer/1"
#define DG_MODEL_INTERFACE "digpt.model/1"
#define DG_LOSS_INTERFACE "digpt.loss/1"
#define DG_BACKEND_INTERFACE "digpt.backend/1"
#define DG_COLLECTIVE_INTERFACE "digpt.collective/1"

/* One component that recipes can name. */
typedef struct dg_factory {
    uint32_t struct_size;
    uint32_t n_params;
    const char *name;            /* what a recipe says: "clip" */
    const char *help;            /* one line */
    const dg_param_spec *params; /* [n_params] */
    const void *interface;       /* dg_tokenizer_interface, dg_model_interface, ... */
} dg_factory;

typedef struct dg_plugin {
    uint32_t magic; /* DG_PLUGIN_MAGIC */
    uint32_t struct_size;
    uint32_t abi_major, abi_minor; /* those it was built with: DG_ABI_MAJOR, DG_ABI_MINOR */
    const char *id;                /* "digpt.clip", or reverse DNS: "org.example.mytokenizer" */
    const char *version;           /* its own: "1.2.0" */
    const char *build;             /* compiler, options, commit: free text for reports */
    /* The index-th factory of an interface, NULL past the last and for interfaces that it does not have. */
    const dg_factory *(*factory)(const char *interface, uint32_t index);
} dg_plugin;

#define DG_PLUGIN_ENTRY "digpt_plugin_entry"
typedef const dg_plugin *(*dg_plugin_entry_function)(const dg_host *host);

#if defined(__VERSION__)
#define DG_BUILD_TEXT "compiled with " __VERSION__
#else
#define DG_BUILD_TEXT ""
#endif

/* For the usual plugin, which has factories of one interface in a static array.
 *   DG_PLUGIN(id, version, DG_LOSS_INTERFACE, factories)
 * defines digpt_plugin_entry; `factories` is an array of dg_factory in scope. */
#define DG_PLUGIN(ID, VERSION, INTERFACE, FACTORIES)                                                                   \
    static const dg_factory *dg_plugin_factory_(const char *interface, uint32_t index)                                 \
    {                                                                                                                  \
        if (strcmp(interface, INTERFACE) != 0) return NULL;                                                            \
        return index < sizeof(FACTORIES) / sizeof(FACTORIES)[0] ? &(FACTORIES)[index] : NULL;                          \
    }                                                                                                                  \
    DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host);                                                \
    DG_EXPORT const dg_plugin *digpt_plugin_entry(const dg_host *host)                                                 \
    {                                                                                                                  \
        static const dg_plugin plugin = {DG_PLUGIN_MAGIC, (uint32_t)sizeof(dg_plugin),                                 \
                                         DG_ABI_MAJOR,    DG_ABI_MINOR,                                                \
                                         ID,              VERSION,                                                     \
                                         DG_BUILD_TEXT,   dg_plugin_factory_};                                         \
        (void)host;                                                                                                    \
        return &plugin;                                                                                                \
    }

#endif
