/* component.h - components made from plugins: an instance with its values, and the schemas of a recipe's
 * sections.
 *
 * The ways to an instance: dg_component_create with values that a recipe checked, dg_component_make with
 * values written as text. Both put the component's kind, name and plugin before the message of a failure. */
#ifndef DG_PLUGIN_COMPONENT_H
#define DG_PLUGIN_COMPONENT_H

#include "base/mem.h"
#include "plugin/registry.h"
#include "recipe/schema.h"

/* Starts as {0}; ends with dg_component_destroy, also after a failure. */
typedef struct dg_component {
    dg_component_ref ref;    /* ref.factory NULL: there is none */
    const dg_params *params; /* outlives self */
    void *self;              /* what its create made; may be NULL for a loss without state */
    dg_arena arena;          /* of params made from text */
} dg_component;

/* env: const dg_tokenizer_env * or const dg_model_env *; NULL for losses and backends. host NULL:
 * dg_host_table(). params must stay until dg_component_destroy. */
dg_status dg_component_create(const dg_component_ref *ref, const dg_params *params, const dg_host *host,
                              const void *env, dg_component *out, dg_error *err);
/* Finds it and reads its values from "key=value" texts (values are YAML), defaults for the rest. */
dg_status dg_component_make(const dg_registry *r, const char *interface, const char *name,
                            const char *const *settings, size_t n_settings, const void *env,
                            dg_component *out, dg_error *err);
void dg_component_destroy(dg_component *c);

/* For dg_recipe_load: the registry is made when the recipe's own `plugins` are known. */
typedef struct dg_plugin_source {
    const char *const *option_paths; /* [n_option] of --plugin-path */
    size_t n_option;
    dg_registry *registry; /* NULL until then; the caller destroys it after the recipe */
} dg_plugin_source;

/* *source must outlive the use of the result. */
dg_schema_source dg_plugin_schemas(dg_plugin_source *source);

#endif
