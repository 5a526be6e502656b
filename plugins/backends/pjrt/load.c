/* load.c - finding a PJRT plugin's shared object, opening it, and making sure that it has what is called
 * later. */
#include "pjrt.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every function that is called without asking first. */
static const struct {
    const char *name;
    size_t offset;
} needed[] = {
#define NEED(FN)                                                                                             \
    {                                                                                                        \
#FN, offsetof(PJRT_Api, FN)                                                                          \
    }
    NEED(PJRT_Error_Destroy),
    NEED(PJRT_Error_Message),
    NEED(PJRT_Error_GetCode),
    NEED(PJRT_Plugin_Initialize),
    NEED(PJRT_Event_Destroy),
    NEED(PJRT_Event_Await),
    NEED(PJRT_Client_Create),
    NEED(PJRT_Client_Destroy),
    NEED(PJRT_Client_PlatformName),
    NEED(PJRT_Client_PlatformVersion),
    NEED(PJRT_Client_AddressableDevices),
    NEED(PJRT_Client_DefaultDeviceAssignment),
    NEED(PJRT_Client_Compile),
    NEED(PJRT_Client_BufferFromHostBuffer),
    NEED(PJRT_DeviceDescription_Id),
    NEED(PJRT_DeviceDescription_Kind),
    NEED(PJRT_DeviceDescription_DebugString),
    NEED(PJRT_Device_GetDescription),
    NEED(PJRT_Executable_Destroy),
    NEED(PJRT_Executable_NumOutputs),
    NEED(PJRT_LoadedExecutable_Destroy),
    NEED(PJRT_LoadedExecutable_GetExecutable),
    NEED(PJRT_LoadedExecutable_Execute),
    NEED(PJRT_Buffer_Destroy),
    NEED(PJRT_Buffer_IsDeleted),
    NEED(PJRT_Buffer_ToHostBuffer),
#undef NEED
};

/* The plugins that have a name, the variables that may say where they are, their usual file name, and the
 * files that a machine with such a device has: without one, libtpu asks the network for minutes before it
 * gives up. */
static const struct {
    const char *word, *variables[3], *file, *devices[3];
} known[] = {
    {"cpu", {"DIGPT_PJRT_CPU"}, "xla_cpu_pjrt.so", {NULL}},
    {"tpu", {"DIGPT_PJRT_TPU", "TPU_LIBRARY_PATH"}, "libtpu.so", {"/dev/accel*", "/dev/vfio/[0-9]*"}},
    {"cuda", {"DIGPT_PJRT_CUDA"}, "xla_cuda_plugin.so", {"/dev/nvidia[0-9]*"}},
};

static const size_t n_known = sizeof known / sizeof known[0];

/* The folder of this backend's own shared object; "" if it cannot be told. */
static void own_folder(char out[PATH_MAX])
{
    Dl_info info;
    out[0] = 0;
    if (!dladdr((const void *)needed, &info) || !info.dli_fname) return;
    const char *end = strrchr(info.dli_fname, '/');
    if (end) snprintf(out, PATH_MAX, "%.*s", (int)(end - info.dli_fname), info.dli_fname);
}

/* Where the plugin `known[k]` is: a variable, beside this backend, where the header was at build time, or (a
 * bare name) wherever the dynamic loader looks. */
static dg_status find_known(size_t k, char out[PATH_MAX], dg_error *err)
{
    char folder[PATH_MAX];
    for (const char *const *v = known[k].variables; *v; v++) {
        const char *path = getenv(*v);
        if (!path || !*path) continue;
        snprintf(out, PATH_MAX, "%s", path);
        if (access(out, R_OK) == 0) return DG_OK;
        return dg_fail_key(
            err, DG_ERR_NOT_FOUND, "backend.plugin",
            "PJRT plugin %s: there is no readable file %s, which the environment variable %s names",
            known[k].word, path, *v);
    }
    own_folder(folder);
    const char *folders[] = {folder, DIGPT_PJRT_HOME};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        int n = snprintf(out, PATH_MAX, "%s/%s", folders[i], known[k].file);
        if (*folders[i] && n < PATH_MAX && access(out, R_OK) == 0) return DG_OK;
    }
    snprintf(out, PATH_MAX, "%s", known[k].file);
    return DG_OK;
}

static dg_status open_object(const char *path, size_t k, void **object, dg_error *err)
{
    setenv("TF_CPP_MIN_LOG_LEVEL", "1", 0); /* XLA writes to standard error; warnings and worse will do */
    *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*object) return DG_OK;
    const char *why = dlerror();
    if (k < n_known && !strchr(path, '/'))
        return dg_fail_key(
            err, DG_ERR_NOT_FOUND, "backend.plugin",
            "no PJRT plugin for %s: %s is neither beside this backend, nor in %s, nor where the "
            "dynamic loader looks (%s); set %s to its path, or fetch it with scripts/fetch-pjrt",
            known[k].word, path, DIGPT_PJRT_HOME, why ? why : "", known[k].variables[0]);
    return dg_fail_key(err, DG_ERR_FORMAT, "backend.plugin", "cannot load the PJRT plugin %s: %s", path,
                       why ? why : "no reason given");
}

/* Is there a device for the plugin known[k]? */
static dg_status check_devices(size_t k, dg_error *err)
{
    for (const char *const *pattern = known[k].devices; *pattern; pattern++) {
        glob_t found;
        int missing = glob(*pattern, 0, NULL, &found);
        if (missing == 0) {
            globfree(&found);
            return DG_OK;
        }
    }
    if (!known[k].devices[0]) return DG_OK;
    return dg_fail_key(err, DG_ERR_NOT_FOUND, "backend.plugin",
                       "the PJRT plugin for %s is here, but this machine has no such device (no %s%s%s)",
                       known[k].word, known[k].devices[0], known[k].devices[1] ? ", no " : "",
                       known[k].devices[1] ? known[k].devices[1] : "");
}

/* The version and every function of `needed`. */
static dg_status check_table(const char *path, const PJRT_Api *api, dg_error *err)
{
    const size_t version_end = offsetof(PJRT_Api, pjrt_api_version) + sizeof api->pjrt_api_version;
    if (api->struct_size < version_end)
        return dg_fail_key(err, DG_ERR_VERSION, "backend.plugin",
                           "%s is too old: its PJRT table has %zu bytes and no version", path,
                           api->struct_size);
    int major = api->pjrt_api_version.major_version, minor = api->pjrt_api_version.minor_version;
    if (major != PJRT_API_MAJOR)
        return dg_fail_key(err, DG_ERR_VERSION, "backend.plugin",
                           "%s has PJRT API %d.%d; this build of digpt needs major version %d", path, major,
                           minor, PJRT_API_MAJOR);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        void *function = NULL;
        if (needed[i].offset + sizeof function <= api->struct_size)
            memcpy(&function, (const char *)api + needed[i].offset, sizeof function);
        if (!function)
            return dg_fail_key(err, DG_ERR_VERSION, "backend.plugin",
                               "%s is too old: its PJRT API %d.%d lacks %s; this build was made for %d.%d",
                               path, major, minor, needed[i].name, PJRT_API_MAJOR, PJRT_API_MINOR);
    }
    return DG_OK;
}

/* PJRT_Plugin_Initialize is for once a process. */
static dg_status initialize(const PJRT_Api *api, dg_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const PJRT_Api *done[16];
    dg_status status = DG_OK;
    size_t i = 0;
    pthread_mutex_lock(&lock);
    while (i < sizeof done / sizeof done[0] && done[i] && done[i] != api) i++;
    if (i == sizeof done / sizeof done[0])
        status = dg_fail(err, DG_ERR_INVALID, "more than %zu PJRT plugins in one process", i);
    else if (!done[i]) {
        DG_PJRT_ARGS(PJRT_Plugin_Initialize, args);
        status = DG_PJRT_CALL(api, PJRT_Plugin_Initialize, args, err);
        if (status == DG_OK) done[i] = api;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static size_t find_word(const char *plugin)
{
    size_t k = 0;
    while (k < n_known && strcmp(plugin, known[k].word) != 0) k++;
    return k;
}

dg_status dg_pjrt_find(const char *plugin, char path[PATH_MAX], dg_error *err)
{
    size_t k = find_word(plugin);
    if (k < n_known) return find_known(k, path, err);
    snprintf(path, PATH_MAX, "%s", plugin);
    if (access(path, R_OK) == 0) return DG_OK;
    return dg_fail_key(err, DG_ERR_NOT_FOUND, "backend.plugin",
                       "there is no readable file %s; give cpu, tpu, cuda or the path of a PJRT plugin",
                       path);
}

bool dg_pjrt_identity(const char *path, char *out, size_t size)
{
    struct stat st;
    if (!strchr(path, '/') || stat(path, &st) != 0) return false;
    snprintf(out, size, "%s %lld %lld.%09ld", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
             st.st_mtim.tv_nsec);
    return true;
}

bool dg_pjrt_is_loaded(const char *path)
{
    void *loaded = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (loaded) dlclose(loaded);
    return loaded != NULL;
}

dg_status dg_pjrt_load(const char *plugin, const char *path, bool here, const PJRT_Api **api, dg_error *err)
{
    void *object = NULL;
    size_t k = find_word(plugin);
    DG_TRY(open_object(path, k, &object, err));
    if (k < n_known && here) DG_TRY(check_devices(k, err));
    const PJRT_Api *(*get)(void) = NULL;
    *(void **)&get = dlsym(object, "GetPjrtApi"); /* POSIX's way around C's function pointers */
    if (!get)
        return dg_fail_key(err, DG_ERR_FORMAT, "backend.plugin",
                           "%s is not a PJRT plugin: it has no function GetPjrtApi", path);
    const PJRT_Api *table = get();
    if (!table)
        return dg_fail_key(err, DG_ERR_FORMAT, "backend.plugin", "%s: GetPjrtApi gave no table of functions",
                           path);
    DG_TRY(check_table(path, table, err));
    if (initialize(table, err) != DG_OK) return dg_fail_in(err, "PJRT plugin %s", path);
    *api = table;
    return DG_OK;
}
