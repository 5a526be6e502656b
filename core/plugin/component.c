/* component.c - instances of components, and schemas for recipes; see component.h. */
#include "component.h"
#include "host.h"

#include "digpt/backend.h"
#include "digpt/loss.h"
#include "digpt/model.h"

/* The interfaces differ only in what create is told. */
static dg_status call_create(const dg_component_ref *ref, const dg_params *params, const dg_host *host,
                             const void *env, void **self, dg_error *err)
{
    const void *table = ref->factory->interface;
    if (!strcmp(ref->interface, DG_TOKENIZER_INTERFACE))
        return ((const dg_tokenizer_interface *)table)->create(host, params, env, self, err);
    if (!strcmp(ref->interface, DG_MODEL_INTERFACE))
        return ((const dg_model_interface *)table)->create(host, params, env, self, err);
    if (!strcmp(ref->interface, DG_LOSS_INTERFACE))
        return ((const dg_loss_interface *)table)->create(host, params, self, err);
    if (!strcmp(ref->interface, DG_COLLECTIVE_INTERFACE))
        return ((const dg_collective_interface *)table)->create(host, params, self, err);
    return ((const dg_backend_interface *)table)->create(host, params, self, err);
}

static void call_destroy(const dg_component_ref *ref, void *self)
{
    const void *table = ref->factory->interface;
    if (!strcmp(ref->interface, DG_TOKENIZER_INTERFACE))
        ((const dg_tokenizer_interface *)table)->destroy(self);
    else if (!strcmp(ref->interface, DG_MODEL_INTERFACE))
        ((const dg_model_interface *)table)->destroy(self);
    else if (!strcmp(ref->interface, DG_LOSS_INTERFACE))
        ((const dg_loss_interface *)table)->destroy(self);
    else if (!strcmp(ref->interface, DG_COLLECTIVE_INTERFACE))
        ((const dg_collective_interface *)table)->destroy(self);
    else
        ((const dg_backend_interface *)table)->destroy(self);
}

dg_status dg_component_create(const dg_component_ref *ref, const dg_params *params, const dg_host *host,
                              const void *env, dg_component *out, dg_error *err)
{
    dg_error local = DG_ERROR_INIT;
    void *self = NULL;
    dg_status s = call_create(ref, params, host ? host : dg_host_table(), env, &self, &local);
    if (s == DG_OK) {
        out->ref = *ref;
        out->params = params;
        out->self = self;
        return DG_OK;
    }
    if (err) {
        if (!local.message[0]) snprintf(local.message, sizeof local.message, "it failed without a message");
        snprintf(err->key, sizeof err->key, "%s", local.key);
        dg_fail(err, s, "%s", local.message);
        dg_fail_in(err, "%s '%s' of %s", dg_interface_find(ref->interface)->section, ref->factory->name,
                   ref->file->plugin->id);
    }
    return s;
}

dg_status dg_component_make(const dg_registry *r, const char *interface, const char *name,
                            const char *const *settings, size_t n_settings, const void *env,
                            dg_component *out, dg_error *err)
{
    dg_component_ref ref;
    const dg_params *params = NULL;
    *out = (dg_component){0};
    DG_TRY(dg_registry_find(r, interface, name, &ref, err));
    dg_status s = dg_params_from_text(ref.factory->params, ref.factory->n_params, settings, n_settings,
                                      &out->arena, &params, err);
    if (s != DG_OK)
        dg_fail_in(err, "%s '%s'", dg_interface_find(interface)->section, name);
    else
        s = dg_component_create(&ref, params, NULL, env, out, err);
    if (s != DG_OK) dg_component_destroy(out);
    return s;
}

void dg_component_destroy(dg_component *c)
{
    if (c->self) call_destroy(&c->ref, c->self);
    dg_arena_free(&c->arena);
    *c = (dg_component){0};
}

/* ---- schemas of a recipe's sections */

static dg_status source_plugins(void *user, const char *const *paths, size_t n, dg_error *err)
{
    dg_plugin_source *source = user;
    const dg_search search = {paths, n, source->option_paths, source->n_option, false, NULL};
    if (source->registry) return DG_OK;
    DG_TRY(dg_registry_create(&search, &source->registry, err));
    for (size_t i = 0; i < dg_registry_files(source->registry); i++) {
        const dg_plugin_file *f = dg_registry_file(source->registry, i);
        if (f->asked && f->status != DG_OK)
            return dg_fail(err, (dg_status)f->status, "plugin '%s': %s", f->path, f->why);
    }
    return DG_OK;
}

static dg_status source_component(void *user, const char *section, const char *name,
                                  const dg_param_spec **specs, size_t *n, dg_error *err)
{
    dg_plugin_source *source = user;
    dg_component_ref ref;
    /* The recipe's own plugins may have failed, which is reported; the others still serve to check the rest.
     */
    if (!source->registry) DG_TRY(source_plugins(user, NULL, 0, err));
    DG_TRY(dg_registry_find(source->registry, section, name, &ref, err));
    *specs = ref.factory->params;
    *n = ref.factory->n_params;
    return DG_OK;
}

dg_schema_source dg_plugin_schemas(dg_plugin_source *source)
{
    return (dg_schema_source){source, source_plugins, source_component};
}
