/* registry.c - the search for plugins and the list of what was found; see registry.h. */
#include "registry.h"
#include "host.h"
#include "load.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "graph/graph.h"

struct dg_registry {
    dg_arena arena;
    const dg_host *host;
    dg_plugin_file **files;
    size_t n_files, files_capacity;
    dg_component_ref *components;
    size_t n_components, components_capacity;
};

/* What a path that is not there means. */
typedef enum absent { ABSENT_FINE, ABSENT_KEPT, ABSENT_ERROR } absent;

static dg_status no_memory(dg_error *err)
{
    return dg_fail(err, DG_ERR_NOMEM, "out of memory while looking for plugins");
}

/* ---- the plugin inside the core: the reference backend */

static const dg_factory *builtin_factory(const char *interface, uint32_t index)
{
    return !strcmp(interface, DG_BACKEND_INTERFACE) && index == 0 ? &dg_reference_backend : NULL;
}

static const dg_plugin builtin = {DG_PLUGIN_MAGIC, (uint32_t)sizeof(dg_plugin),
                                  DG_ABI_MAJOR,    DG_ABI_MINOR,
                                  "digpt.core",    DIGPT_VERSION,
                                  DG_BUILD_TEXT,   builtin_factory};

/* ---- files */

static dg_plugin_file *new_file(dg_registry *r, const char *path, const char *from)
{
    dg_plugin_file *f = dg_arena_alloc(&r->arena, sizeof *f);
    if (!f || !dg_grow(&r->files, r->n_files, &r->files_capacity, sizeof *r->files)) return NULL;
    f->from = from;
    f->why = "";
    /* dlopen would search its own folders for a name without a slash. */
    const char *dir = strchr(path, '/') ? "" : "./";
    char *copy = dg_arena_alloc(&r->arena, strlen(dir) + strlen(path) + 1);
    if (!copy) return NULL;
    memcpy(copy, dir, strlen(dir));
    memcpy(copy + strlen(dir), path, strlen(path) + 1);
    f->path = copy;
    r->files[r->n_files++] = f;
    return f;
}

static dg_status refuse(dg_registry *r, dg_plugin_file *f, const dg_error *why, dg_error *err)
{
    f->status = why->code ? why->code : DG_ERR_INTERNAL;
    f->why = dg_arena_strdup(&r->arena, why->message);
    return f->why ? DG_OK : no_memory(err);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static dg_status add_file(dg_registry *r, const char *path, const char *from, bool asked, dg_error *err)
{
    for (size_t i = 0; i < r->n_files; i++)
        if (same_file(r->files[i]->path, path)) {
            r->files[i]->asked |= asked;
            return DG_OK;
        }
    dg_plugin_file *f = new_file(r, path, from);
    if (!f) return no_memory(err);
    f->asked = asked;
    dg_error why = DG_ERROR_INIT;
    if (dg_plugin_load(f, r->host, &why) != DG_OK) return refuse(r, f, &why, err);
    for (size_t i = 0; i + 1 < r->n_files; i++) {
        dg_plugin_file *other = r->files[i];
        if (!other->plugin || strcmp(other->plugin->id, f->plugin->id)) continue;
        /* Which one was meant cannot be told, so neither is used. */
        dg_fail(&why, DG_ERR_INVALID,
                "the id %s is in two files, '%s' and '%s': remove one of them, or one of the folders "
                "they are found in",
                f->plugin->id, other->path, f->path);
        DG_TRY(refuse(r, f, &why, err));
        return refuse(r, other, &why, err);
    }
    return DG_OK;
}

static int is_plugin_name(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && n > 3 && !strcmp(e->d_name + n - 3, ".so");
}

/* By bytes: the same order under every locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static dg_status add_folder(dg_registry *r, const char *path, const char *from, dg_error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, is_plugin_name, by_name);
    if (n < 0) {
        dg_error why = DG_ERROR_INIT;
        dg_plugin_file *f = new_file(r, path, from);
        if (!f) return no_memory(err);
        dg_fail(&why, DG_ERR_IO, "cannot list this folder: %s", strerror(errno));
        return refuse(r, f, &why, err);
    }
    dg_status s = DG_OK;
    for (int i = 0; i < n; i++) {
        char *file = s == DG_OK ? dg_path_join(path, entries[i]->d_name) : NULL;
        if (s == DG_OK) s = file ? add_file(r, file, from, false, err) : no_memory(err);
        dg_free(file);
        free(entries[i]);
    }
    free(entries);
    return s;
}

static dg_status add_path(dg_registry *r, const char *path, const char *from, absent if_absent, dg_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? add_folder(r, path, from, err)
                                   : add_file(r, path, from, if_absent == ABSENT_ERROR, err);
    if (if_absent == ABSENT_FINE) return DG_OK;
    dg_error why = DG_ERROR_INIT;
    dg_fail(&why, errno == ENOENT ? DG_ERR_NOT_FOUND : DG_ERR_IO, "plugin path '%s' (%s): %s", path, from,
            strerror(errno));
    if (if_absent == ABSENT_ERROR) return dg_fail(err, (dg_status)why.code, "%s", why.message);
    dg_plugin_file *f = new_file(r, path, from);
    return f ? refuse(r, f, &why, err) : no_memory(err);
}

/* ---- the search */

static dg_status search_environment(dg_registry *r, dg_error *err)
{
    const char *list = getenv("DIGPT_PLUGIN_PATH");
    char *copy = dg_strdup(list ? list : ""), *save = NULL;
    if (!copy) return no_memory(err);
    dg_status s = DG_OK;
    for (char *p = strtok_r(copy, ":", &save); p && s == DG_OK; p = strtok_r(NULL, ":", &save))
        s = add_path(r, p, "DIGPT_PLUGIN_PATH", ABSENT_KEPT, err);
    dg_free(copy);
    return s;
}

static dg_status search_below(dg_registry *r, const char *root, const char *rest, const char *from,
                              bool *there, dg_error *err)
{
    char *path = dg_path_join(root, rest);
    if (!path) return no_memory(err);
    *there = dg_path_is_dir(path);
    dg_status s = add_path(r, path, from, ABSENT_FINE, err);
    dg_free(path);
    return s;
}

static dg_status search_standard(dg_registry *r, dg_error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool there = false;
    if (data && data[0] == '/')
        DG_TRY(search_below(r, data, "digpt/plugins", "user's folder", &there, err));
    else if (home && home[0] == '/')
        DG_TRY(search_below(r, home, ".local/share/digpt/plugins", "user's folder", &there, err));

    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    there = false;
    if (n > 0) {
        program[n] = 0;
        char *dir = dg_path_dir(program), *prefix = dir ? dg_path_dir(dir) : NULL;
        dg_status s = prefix ? search_below(r, prefix, "lib/digpt/plugins", "beside the program", &there, err)
                             : no_memory(err);
        dg_free(prefix);
        dg_free(dir);
        DG_TRY(s);
    }
    /* A build tree or a moved installation has its own plugins; those of another installation would clash. */
    return there ? DG_OK : add_path(r, DIGPT_INSTALLED_PLUGINS, "installed folder", ABSENT_FINE, err);
}

static dg_status search_all(dg_registry *r, const dg_search *search, dg_error *err)
{
    dg_plugin_file *core = new_file(r, "(built in)", "built in");
    if (!core) return no_memory(err);
    core->path = "(built in)";
    core->plugin = &builtin;
    for (size_t i = 0; i < search->n_recipe; i++)
        DG_TRY(add_path(r, search->recipe_paths[i], "recipe", ABSENT_ERROR, err));
    for (size_t i = 0; i < search->n_option; i++)
        DG_TRY(add_path(r, search->option_paths[i], "--plugin-path", ABSENT_ERROR, err));
    if (search->only_these) return DG_OK;
    DG_TRY(search_environment(r, err));
    return search_standard(r, err);
}

static dg_status list_components(dg_registry *r, dg_error *err)
{
    for (size_t i = 0; i < r->n_files; i++) {
        const dg_plugin_file *f = r->files[i];
        for (size_t k = 0; f->status == DG_OK && k < dg_interface_count(); k++) {
            const char *interface = dg_interface_at(k)->name;
            const dg_factory *factory;
            for (uint32_t n = 0; (factory = f->plugin->factory(interface, n)); n++) {
                if (!dg_grow(&r->components, r->n_components, &r->components_capacity, sizeof *r->components))
                    return no_memory(err);
                r->components[r->n_components++] = (dg_component_ref){interface, factory, f};
            }
        }
    }
    return DG_OK;
}

dg_status dg_registry_create(const dg_search *search, dg_registry **out, dg_error *err)
{
    *out = NULL;
    dg_registry *r = dg_calloc(1, sizeof *r);
    if (!r) return no_memory(err);
    r->host = search->host ? search->host : dg_host_table();
    dg_status s = search_all(r, search, err);
    if (s == DG_OK) s = list_components(r, err);
    if (s == DG_OK)
        *out = r;
    else
        dg_registry_destroy(r);
    return s;
}

void dg_registry_destroy(dg_registry *r)
{
    if (!r) return;
    dg_free(r->files);
    dg_free(r->components);
    dg_arena_free(&r->arena);
    dg_free(r);
}

/* ---- looking up */

size_t dg_registry_files(const dg_registry *r)
{
    return r->n_files;
}

const dg_plugin_file *dg_registry_file(const dg_registry *r, size_t i)
{
    return i < r->n_files ? r->files[i] : NULL;
}

size_t dg_registry_components(const dg_registry *r)
{
    return r->n_components;
}

const dg_component_ref *dg_registry_component(const dg_registry *r, size_t i)
{
    return i < r->n_components ? &r->components[i] : NULL;
}

static dg_status not_found(const dg_registry *r, const dg_interface *kind, const char *name, dg_error *err)
{
    const char **names = dg_calloc(r->n_components + 1, sizeof *names);
    if (!names) return no_memory(err);
    size_t n = 0, n_failed = 0;
    for (size_t i = 0; i < r->n_components; i++)
        if (!strcmp(r->components[i].interface, kind->name)) names[n++] = r->components[i].factory->name;
    for (size_t i = 0; i < r->n_files; i++) n_failed += r->files[i]->status != DG_OK;
    const char *nearest = dg_nearest(name, names, n);
    dg_str text = {0};
    dg_str_printf(&text, "there is no %s '%.64s'", kind->section, name);
    if (nearest) dg_str_printf(&text, "; did you mean '%s'?", nearest);
    dg_str_puts(&text, nearest ? " There are: " : n ? "; there are: " : "; there are none");
    for (size_t i = 0; i < n; i++) dg_str_printf(&text, "%s%s", i ? ", " : "", names[i]);
    if (n_failed)
        dg_str_printf(&text, " (%zu plugin file%s could not be used: see digpt plugins --why)", n_failed,
                      n_failed > 1 ? "s" : "");
    dg_status s = dg_str_check(&text, err);
    if (s == DG_OK) s = dg_fail(err, DG_ERR_NOT_FOUND, "%s", text.text);
    dg_str_free(&text);
    dg_free(names);
    return s;
}

dg_status dg_registry_find(const dg_registry *r, const char *interface, const char *name,
                           dg_component_ref *out, dg_error *err)
{
    const dg_interface *kind = dg_interface_find(interface);
    if (!kind) return dg_fail(err, DG_ERR_INVALID, "this version knows no interface '%.64s'", interface);
    const dg_component_ref *found = NULL;
    for (size_t i = 0; i < r->n_components; i++) {
        const dg_component_ref *c = &r->components[i];
        if (strcmp(c->interface, kind->name) || strcmp(c->factory->name, name)) continue;
        if (found)
            return dg_fail(err, DG_ERR_INVALID,
                           "two plugins have a %s '%s': %s ('%s') and %s ('%s'); remove one of them",
                           kind->section, name, found->file->plugin->id, found->file->path,
                           c->file->plugin->id, c->file->path);
        found = c;
    }
    if (!found) return not_found(r, kind, name, err);
    *out = *found;
    return DG_OK;
}
