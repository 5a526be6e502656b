/* registry.h - plugins found, loaded and looked up by interface and name.
 *
 * Search order: paths that the recipe names, --plugin-path, DIGPT_PLUGIN_PATH (separated by colons), the
 * user's data folder ($XDG_DATA_HOME/digpt/plugins, or ~/.local/share/digpt/plugins), the folder
 * ../lib/digpt/plugins beside the program, and only where that is not there the installed folder. In a folder
 * every *.so, sorted by name; the same file met twice counts once. A file that cannot be loaded is kept with
 * the reason: nothing is passed over in silence. Plugins stay loaded for the run, also after the registry is
 * gone. */
#ifndef DG_PLUGIN_REGISTRY_H
#define DG_PLUGIN_REGISTRY_H

#include "digpt/plugin.h"

/* Where to look, in this order. All may be zero. */
typedef struct dg_search {
    const char *const *recipe_paths; /* [n_recipe] files or folders */
    size_t n_recipe;
    const char *const *option_paths; /* [n_option] files or folders */
    size_t n_option;
    bool only_these;     /* neither the environment nor the standard folders */
    const dg_host *host; /* what plugins get; NULL: dg_host_table() */
} dg_search;

/* One file that was met, loaded or not. */
typedef struct dg_plugin_file {
    const char *path;
    const char *from;        /* who led to it: "recipe", "--plugin-path", "user's folder", ... */
    bool asked;              /* named itself in a recipe or option, not only found in a folder */
    int status;              /* dg_status; DG_OK: usable */
    const char *why;         /* if not */
    const dg_plugin *plugin; /* NULL when the file did not get so far */
    double seconds;          /* that loading took */
    char hash[33];           /* XXH3-128 of the file; "" for what is built in */
} dg_plugin_file;

/* One component of one plugin. */
typedef struct dg_component_ref {
    const char *interface; /* DG_LOSS_INTERFACE, ... */
    const dg_factory *factory;
    const dg_plugin_file *file;
} dg_component_ref;

typedef struct dg_registry dg_registry;

/* Fails only for want of memory and for a path in the recipe or an option that is not there; what is wrong
 * with single files stands in their status. *out is NULL on failure. */
dg_status dg_registry_create(const dg_search *search, dg_registry **out, dg_error *err);
void dg_registry_destroy(dg_registry *r);

/* Files in the order of the search; the built-in plugin is the first. */
size_t dg_registry_files(const dg_registry *r);
const dg_plugin_file *dg_registry_file(const dg_registry *r, size_t i);
/* Components of all usable files, in the same order. */
size_t dg_registry_components(const dg_registry *r);
const dg_component_ref *dg_registry_component(const dg_registry *r, size_t i);

/* The component of an interface by its name. DG_ERR_NOT_FOUND lists what there is and the nearest name;
 * DG_ERR_INVALID when two plugins have it. */
dg_status dg_registry_find(const dg_registry *r, const char *interface, const char *name,
                           dg_component_ref *out, dg_error *err);

/* ---- the interfaces that this version knows */

typedef struct dg_interface {
    const char *name;    /* DG_LOSS_INTERFACE */
    const char *section; /* of a recipe, and the word for people: "loss" */
    const char *plural;
    uint32_t least_size; /* of its struct, as of ABI 1.0 */
} dg_interface;

size_t dg_interface_count(void);
const dg_interface *dg_interface_at(size_t i);
/* By name or by section; NULL if there is none. */
const dg_interface *dg_interface_find(const char *word);

/* What the core refuses in a factory: a bad name, no help, a schema whose defaults break its own rules, an
 * interface without a function that it needs. The message names the parameter or function. */
dg_status dg_factory_check(const dg_interface *interface, const dg_factory *f, dg_error *err);

/* The file whose code is being loaded right now, or NULL; safe in a signal handler. */
const char *dg_plugin_loading(void);

#endif
