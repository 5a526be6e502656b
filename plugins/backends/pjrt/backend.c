/* backend.c - the component "pjrt": its parameters, what it says about programs, its table of functions. */
#include "pjrt.h"

#include <sched.h>
#include <stdlib.h>

#include "digpt/plan.h"

static const char *const plugin_words[] = {"cpu", "tpu", "cuda", NULL};
static const char *const cache_words[] = {"auto", "off", NULL};
static const char *const trial_words[] = {"auto", "always", "never", NULL};

enum { PLUGIN, TARGET, REPLICAS, CACHE, TRIAL };

static const dg_param_spec params[] = {
    DG_PARAM(PATH, "plugin", "", "",
             "the PJRT plugin: cpu, tpu, cuda, or the path of its shared object; cpu if not set, tpu with a "
             "target",
             0, 0, plugin_words),
    DG_PARAM(
        STRING, "target", "", "",
        "compile for devices that are not here, for `digpt aot`: v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2, ...",
        0, 0, NULL),
    DG_PARAM(INT, "replicas", "1", "devices", "devices that share each batch, each with a copy of all state",
             1, DG_EMIT_MOST_REPLICAS, NULL),
    DG_PARAM(PATH, "cache", "auto", "",
             "folder for compiled programs, or off; auto: digpt/pjrt in $XDG_CACHE_HOME or ~/.cache", 0, 0,
             cache_words),
    DG_PARAM(
        CHOICE, "trial", "auto", "",
        "start the plugin in a child process first (auto: once for each file), and compile programs there "
        "that the cache lacks: a crash is a message then",
        0, 0, trial_words),
};

/* ---- the client */

static void destroy(void *self)
{
    dg_pjrt *pjrt = self;
    if (!pjrt) return;
    dg_pjrt_close_client(pjrt);
    dg_pjrt_helper_stop(pjrt);
    pjrt->host->release(pjrt);
}

/* Where compiled programs are kept; "" where nothing says. */
static void cache_folder(const char *word, char out[PATH_MAX])
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (strcmp(word, "off") != 0 && strcmp(word, "auto") != 0)
        n = snprintf(out, PATH_MAX, "%s", word);
    else if (strcmp(word, "auto") == 0 && xdg && *xdg == '/')
        n = snprintf(out, PATH_MAX, "%s/digpt/pjrt", xdg);
    else if (strcmp(word, "auto") == 0 && home && *home == '/')
        n = snprintf(out, PATH_MAX, "%s/.cache/digpt/pjrt", home);
    if (n <= 0 || n >= PATH_MAX) out[0] = 0;
}

static dg_status start(dg_pjrt *pjrt, const char *plugin, const char *trial, dg_error *err)
{
    DG_TRY(dg_pjrt_find(plugin, pjrt->path, err));
    if (*pjrt->target) {
        snprintf(pjrt->platform, sizeof pjrt->platform, "%s", pjrt->plugin);
        return DG_OK;
    }
    if (strcmp(trial, "never") != 0) {
        DG_TRY(dg_pjrt_trial(pjrt, strcmp(trial, "always") == 0, err));
        dg_pjrt_helper_start(pjrt);
    }
    DG_TRY(dg_pjrt_load(plugin, pjrt->path, true, &pjrt->api, err));
    return dg_pjrt_make_client(pjrt, err);
}

static dg_status create(const dg_host *host, const dg_params *values, void **self, dg_error *err)
{
    const dg_param_value *v = values->values;
    dg_pjrt *pjrt = host->allocate(sizeof *pjrt);
    if (!pjrt) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    const char *target = v[TARGET].is_set ? v[TARGET].v.s : "";
    const char *plugin = v[PLUGIN].is_set ? v[PLUGIN].v.s : *target ? "tpu" : "cpu";
    size_t length = strlen(plugin);
    pjrt->host = host;
    pjrt->n_replicas = (uint32_t)v[REPLICAS].v.i;
    snprintf(pjrt->plugin, sizeof pjrt->plugin, "%s",
             length < sizeof pjrt->plugin ? plugin : plugin + length - sizeof pjrt->plugin + 1);
    snprintf(pjrt->target, sizeof pjrt->target, "%s", target);
    cache_folder(v[CACHE].v.s, pjrt->cache);
    dg_status status = start(pjrt, plugin, v[TRIAL].text, err);
    if (status == DG_OK)
        *self = pjrt;
    else
        destroy(pjrt);
    return status;
}

/* ---- devices */

static void describe(const dg_pjrt *pjrt, PJRT_Device *device, dg_device_info *out)
{
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Device_GetDescription, get);
    get.device = device;
    if (DG_PJRT_CALL(pjrt->api, PJRT_Device_GetDescription, get, &none) == DG_OK) {
        DG_PJRT_ARGS(PJRT_DeviceDescription_Kind, kind);
        kind.device_description = get.device_description;
        if (DG_PJRT_CALL(pjrt->api, PJRT_DeviceDescription_Kind, kind, &none) == DG_OK)
            snprintf(out->name, sizeof out->name, "%.*s", (int)kind.device_kind_size, kind.device_kind);
        DG_PJRT_ARGS(PJRT_DeviceDescription_DebugString, debug);
        debug.device_description = get.device_description;
        if (DG_PJRT_CALL(pjrt->api, PJRT_DeviceDescription_DebugString, debug, &none) == DG_OK)
            snprintf(out->detail, sizeof out->detail, "%.*s, PJRT API %d.%d", (int)debug.debug_string_size,
                     debug.debug_string, pjrt->api->pjrt_api_version.major_version,
                     pjrt->api->pjrt_api_version.minor_version);
    }
    if (!DG_PJRT_HAS(pjrt->api, PJRT_Device_MemoryStats)) return;
    DG_PJRT_ARGS(PJRT_Device_MemoryStats, memory);
    memory.device = device;
    if (DG_PJRT_CALL(pjrt->api, PJRT_Device_MemoryStats, memory, &none) == DG_OK && memory.bytes_limit_is_set)
        out->memory = (uint64_t)memory.bytes_limit;
}

static dg_status devices(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err)
{
    const dg_pjrt *pjrt = self;
    if (!pjrt->client)
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "programs are compiled for the target %s only, no device is used", pjrt->target);
    DG_PJRT_ARGS(PJRT_Client_AddressableDevices, args);
    args.client = pjrt->client;
    DG_TRY(DG_PJRT_CALL(pjrt->api, PJRT_Client_AddressableDevices, args, err));
    *n = (uint32_t)args.num_addressable_devices;
    for (uint32_t i = 0; i < room && i < *n; i++) {
        out[i] = (dg_device_info){.struct_size = (uint32_t)sizeof out[i], .index = (int32_t)i};
        describe(pjrt, args.addressable_devices[i], &out[i]);
    }
    return DG_OK;
}

/* On the host's processor, XLA's code depends on the instruction set and its sums on the number of threads.
 */
static void host_text(char *out, size_t size)
{
    cpu_set_t set;
    int threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    const char *isa = "";
#if defined(__x86_64__)
    isa = __builtin_cpu_supports("avx512bf16") ? ", avx512bf16"
          : __builtin_cpu_supports("avx512f")  ? ", avx512f"
          : __builtin_cpu_supports("avx2")     ? ", avx2"
                                               : "";
#endif
    snprintf(out, size, "%s, %d threads", isa, threads);
}

void dg_pjrt_fingerprint(const dg_pjrt *pjrt, char *out, size_t size)
{
    dg_error none = DG_ERROR_INIT;
    char version[128] = "", host[64] = "", replicas[32] = "";
    if (!pjrt->client) {
        snprintf(out, size, "pjrt %s, compiled ahead for %s", pjrt->platform, pjrt->target);
        return;
    }
    DG_PJRT_ARGS(PJRT_Client_PlatformVersion, args);
    args.client = pjrt->client;
    if (DG_PJRT_CALL(pjrt->api, PJRT_Client_PlatformVersion, args, &none) == DG_OK)
        snprintf(version, sizeof version, "%.*s", (int)args.platform_version_size, args.platform_version);
    for (char *c = version; *c; c++)
        if (*c == '\n') *c = ' ';
    if (strcmp(pjrt->platform, "cpu") == 0) host_text(host, sizeof host);
    dg_device_info info = {.struct_size = (uint32_t)sizeof info};
    describe(pjrt, pjrt->devices[0], &info);
    if (pjrt->n_replicas > 1) snprintf(replicas, sizeof replicas, ", %u replicas", pjrt->n_replicas);
    snprintf(out, size, "pjrt %s (%s), version %s, API %d.%d%s%s", pjrt->platform, info.name, version,
             pjrt->api->pjrt_api_version.major_version, pjrt->api->pjrt_api_version.minor_version, host,
             replicas);
}

static void fingerprint(void *self, char *out, size_t size)
{
    dg_pjrt_fingerprint(self, out, size);
}

static uint32_t ranks(void *self)
{
    return ((const dg_pjrt *)self)->n_replicas;
}

/* bf16 pays wherever matrix units take it: on every accelerator, and on processors with such instructions. */
static dg_dtype preferred(void *self)
{
    const dg_pjrt *pjrt = self;
    if (strcmp(pjrt->platform, "cpu") != 0) return DG_BF16;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16")) return DG_BF16;
#endif
    return DG_F32;
}

/* ---- programs */

/* Composites are lowered: XLA fuses what they become. */
static bool supports(void *self, const dg_work *work)
{
    (void)self;
    (void)work;
    return false;
}

static dg_status check(void *self, const dg_program *p, dg_complain_function complain, void *user,
                       dg_error *err)
{
    const dg_pjrt *pjrt = self;
    uint32_t bad = 0, first = 0;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        const char *why = dg_emit_refuses(&p->nodes[n], pjrt->n_replicas);
        if (!why) continue;
        if (bad++ == 0) first = n;
        if (complain) complain(user, n, why);
    }
    if (bad == 0) return DG_OK;
    return dg_fail(err, DG_ERR_UNSUPPORTED,
                   "pjrt cannot run %u of the %u nodes of program %s; the first is node %u, %s", bad,
                   p->n_nodes, p->name, first, p->nodes[first].op);
}

/* Values that XLA never writes to memory: they are computed where they are read. */
static bool is_free(const char *op)
{
    static const char *const ops[] = {"broadcast", "constant", "fill", "iota", "reshape"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(op, ops[i]) == 0) return true;
    return false;
}

/* From the lives of the program's values. XLA fuses more, so it needs less as a rule. */
static dg_status memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err)
{
    const dg_pjrt *pjrt = self;
    dg_plan_block *blocks = pjrt->host->allocate((p->n_values + 1) * sizeof *blocks);
    if (!blocks) return dg_fail(err, DG_ERR_NOMEM, "out of memory planning program %s", p->name);
    uint64_t state = 0;
    for (uint32_t i = 0; i < p->n_values; i++) {
        const dg_program_value *v = &p->values[i];
        uint64_t bytes = (uint64_t)dg_type_bytes(&v->type);
        if (v->leaf >= 0 && p->leaves[v->leaf].kind != DG_LEAF_INPUT)
            state += bytes;
        else if (v->leaf >= 0)
            blocks[i] = (dg_plan_block){bytes, 0, (int32_t)p->n_nodes, 0};
        else if (v->last >= v->node && !is_free(p->nodes[v->node].op))
            blocks[i] = (dg_plan_block){bytes, v->node, v->last, 0};
    }
    for (uint32_t i = 0; i < p->n_leaves; i++) /* an update takes its leaf's place */
        if (p->leaves[i].update >= 0) blocks[p->leaves[i].update].size = 0;
    uint64_t temporary = dg_plan(blocks, p->n_values);
    pjrt->host->release(blocks);
    if (temporary == UINT64_MAX)
        return dg_fail(err, DG_ERR_NOMEM, "out of memory planning program %s", p->name);
    out->state = state;
    out->temporary = temporary;
    out->packed = 0;
    return DG_OK;
}

/* ---- times of nodes */

static void profile(dg_backend_exe *exe, bool on)
{
    (void)exe;
    (void)on;
}

static dg_status times(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err)
{
    (void)exe;
    (void)out;
    (void)room;
    *n = 0;
    return dg_fail(
        err, DG_ERR_UNSUPPORTED,
        "XLA fuses a program's nodes, so that times per node are not known; time whole steps instead");
}

/* ---- the plugin */

static const dg_backend_interface table = {
    .struct_size = sizeof(dg_backend_interface),
    .create = create,
    .destroy = destroy,
    .devices = devices,
    .fingerprint = fingerprint,
    .preferred = preferred,
    .supports = supports,
    .check = check,
    .memory = memory,
    .store_create = dg_pjrt_store_create,
    .store_destroy = dg_pjrt_store_destroy,
    .store_add = dg_pjrt_store_add,
    .store_write = dg_pjrt_store_write,
    .store_read = dg_pjrt_store_read,
    .compile = dg_pjrt_compile,
    .release = dg_pjrt_release,
    .run = dg_pjrt_run,
    .profile = profile,
    .times = times,
    .ranks = ranks,
    .ahead = dg_pjrt_ahead,
};

static const dg_factory factories[] = {
    {(uint32_t)sizeof(dg_factory), sizeof params / sizeof params[0], "pjrt",
     "TPUs, GPUs and CPUs through XLA and the PJRT C API", params, &table},
};

DG_PLUGIN("digpt.pjrt", "0.1.0", DG_BACKEND_INTERFACE, factories)
