/* load.c - opens one shared object and checks what it says of itself; see load.h. */
#include "load.h"

#include <dlfcn.h>
#include <time.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"

#define MOST_FACTORIES 256 /* of one interface in one plugin: a getter that never says NULL must end */

static const char *volatile loading;

const char *dg_plugin_loading(void)
{
    return loading;
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dg_status hash_file(dg_plugin_file *file, dg_error *err)
{
    dg_map map;
    DG_TRY(dg_map_open(file->path, &map, err));
    XXH128_hash_t h = XXH3_128bits(map.bytes, map.size);
    snprintf(file->hash, sizeof file->hash, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    dg_map_close(&map);
    return DG_OK;
}

static dg_status check_version(const dg_plugin *p, dg_error *err)
{
    if (!p) return dg_fail(err, DG_ERR_VERSION, "its entry returned nothing: it does not want this host");
    if (p->magic != DG_PLUGIN_MAGIC)
        return dg_fail(err, DG_ERR_FORMAT,
                       "its descriptor begins with %#010x, not %#010x: use DG_PLUGIN_MAGIC", p->magic,
                       DG_PLUGIN_MAGIC);
    if (p->abi_major != DG_ABI_MAJOR)
        return dg_fail(
            err, DG_ERR_VERSION,
            "it was built for plugin ABI %u.%u and this digpt (%s) has %u.%u: build it against these headers",
            p->abi_major, p->abi_minor, DIGPT_VERSION, DG_ABI_MAJOR, DG_ABI_MINOR);
    size_t least = offsetof(dg_plugin, factory) + sizeof p->factory;
    if (p->struct_size < least)
        return dg_fail(err, DG_ERR_FORMAT,
                       "its descriptor has %u bytes, at least %zu are needed: set struct_size",
                       p->struct_size, least);
    return DG_OK;
}

static dg_status check_texts(const dg_plugin *p, dg_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (!p->id || !p->id[0] || strlen(p->id) > 127 || strspn(p->id, letters) != strlen(p->id))
        return dg_fail(err, DG_ERR_FORMAT, "its id '%.64s' is not a name such as org.example.thing",
                       p->id ? p->id : "(null)");
    if (!p->version || !p->version[0] || !p->build)
        return dg_fail(err, DG_ERR_FORMAT, "%s has no version or no build text", p->id);
    if (!p->factory) return dg_fail(err, DG_ERR_FORMAT, "%s has no function to get factories with", p->id);
    return DG_OK;
}

static dg_status check_factories(const dg_plugin *p, dg_error *err)
{
    uint32_t total = 0;
    for (size_t k = 0; k < dg_interface_count(); k++) {
        const dg_interface *kind = dg_interface_at(k);
        const dg_factory *f;
        for (uint32_t i = 0; (f = p->factory(kind->name, i)); i++, total++) {
            if (i == MOST_FACTORIES)
                return dg_fail(err, DG_ERR_INVALID,
                               "its getter goes on after %d %s: it must return NULL past the last", i,
                               kind->plural);
            if (dg_factory_check(kind, f, err) != DG_OK)
                return dg_fail_in(err, "%s %u of %s", kind->section, i, p->id);
            for (uint32_t j = 0; j < i; j++)
                if (!strcmp(p->factory(kind->name, j)->name, f->name))
                    return dg_fail(err, DG_ERR_INVALID, "it has two %s named '%s'", kind->plural, f->name);
        }
    }
    if (total == 0)
        return dg_fail(
            err, DG_ERR_UNSUPPORTED,
            "it has nothing of a kind that this digpt (%s) knows: tokenizers, models, losses, backends",
            DIGPT_VERSION);
    return DG_OK;
}

static dg_status open_and_check(dg_plugin_file *file, const dg_host *host, const dg_plugin **plugin,
                                dg_error *err)
{
    void *handle = dlopen(file->path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return dg_fail(err, DG_ERR_FORMAT, "cannot be loaded: %s", dlerror());
    /* From here on the file stays loaded, also if it is refused: its code may have started something. */
    dg_plugin_entry_function entry = NULL;
    void *symbol = dlsym(handle, DG_PLUGIN_ENTRY);
    if (!symbol)
        return dg_fail(err, DG_ERR_FORMAT,
                       "has no symbol " DG_PLUGIN_ENTRY
                       ": it is no digpt plugin, or its entry is not marked DG_EXPORT");
    memcpy(&entry, &symbol, sizeof entry);
    const dg_plugin *p = entry(host);
    DG_TRY(check_version(p, err));
    DG_TRY(check_texts(p, err));
    DG_TRY(check_factories(p, err));
    *plugin = p;
    return DG_OK;
}

dg_status dg_plugin_load(dg_plugin_file *file, const dg_host *host, dg_error *err)
{
    DG_TRY(hash_file(file, err));
    dg_logf(DG_LOG_DEBUG, "loading plugin %s", file->path);
    double start = seconds_now();
    loading = file->path;
    dg_status s = open_and_check(file, host, &file->plugin, err);
    loading = NULL;
    file->seconds = seconds_now() - start;
    return s;
}
