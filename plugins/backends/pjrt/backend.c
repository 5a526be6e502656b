/* backend.c - the component "pjrt": its parameters, what it says about programs, its table of functions. */
#include "pjrt.h"

#include <sched.h>

#include "digpt/plan.h"
#include "emit.h"

static const char *const plugin_words[] = {"cpu", "tpu", "cuda", NULL};

static const dg_param_spec params[] = {
    DG_PARAM(PATH, "plugin", "cpu", "", "the PJRT plugin: cpu, tpu, cuda, or the path of its shared object",
             0, 0, plugin_words),
};

/* ---- the client */

static void destroy(void *self)
{
    dg_pjrt *pjrt = self;
    if (!pjrt) return;
    if (pjrt->client) {
        dg_error none = DG_ERROR_INIT;
        DG_PJRT_ARGS(PJRT_Client_Destroy, args);
        args.client = pjrt->client;
        DG_PJRT_CALL(pjrt->api, PJRT_Client_Destroy, args, &none);
    }
    pjrt->host->release(pjrt);
}

static dg_status make_client(dg_pjrt *pjrt, const char *plugin, dg_error *err)
{
    /* XLA's CPU plugin would make several devices of one processor. */
    PJRT_NamedValue one_device = {0};
    one_device.struct_size = PJRT_NamedValue_STRUCT_SIZE;
    one_device.name = "cpu_device_count";
    one_device.name_size = strlen(one_device.name);
    one_device.type = PJRT_NamedValue_kInt64;
    one_device.int64_value = 1;
    one_device.value_size = 1;
    DG_PJRT_ARGS(PJRT_Client_Create, create);
    create.create_options = &one_device;
    create.num_options = strcmp(plugin, "cpu") == 0;
    if (DG_PJRT_CALL(pjrt->api, PJRT_Client_Create, create, err) != DG_OK)
        return dg_fail_in(err, "PJRT plugin %s", plugin);
    pjrt->client = create.client;
    DG_PJRT_ARGS(PJRT_Client_PlatformName, name);
    name.client = pjrt->client;
    DG_TRY(DG_PJRT_CALL(pjrt->api, PJRT_Client_PlatformName, name, err));
    snprintf(pjrt->platform, sizeof pjrt->platform, "%.*s", (int)name.platform_name_size, name.platform_name);
    DG_PJRT_ARGS(PJRT_Client_AddressableDevices, devices);
    devices.client = pjrt->client;
    DG_TRY(DG_PJRT_CALL(pjrt->api, PJRT_Client_AddressableDevices, devices, err));
    if (devices.num_addressable_devices == 0)
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "the PJRT plugin %s works, but has no device that this process can use", plugin);
    pjrt->device = devices.addressable_devices[0];
    return DG_OK;
}

static dg_status create(const dg_host *host, const dg_params *values, void **self, dg_error *err)
{
    const char *plugin = values->values[0].v.s;
    dg_pjrt *pjrt = host->allocate(sizeof *pjrt);
    if (!pjrt) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    pjrt->host = host;
    dg_status status = dg_pjrt_load(plugin, &pjrt->api, err);
    if (status == DG_OK) status = make_client(pjrt, plugin, err);
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

static void fingerprint(void *self, char *out, size_t size)
{
    const dg_pjrt *pjrt = self;
    dg_error none = DG_ERROR_INIT;
    char version[128] = "", host[64] = "";
    DG_PJRT_ARGS(PJRT_Client_PlatformVersion, args);
    args.client = pjrt->client;
    if (DG_PJRT_CALL(pjrt->api, PJRT_Client_PlatformVersion, args, &none) == DG_OK)
        snprintf(version, sizeof version, "%.*s", (int)args.platform_version_size, args.platform_version);
    for (char *c = version; *c; c++)
        if (*c == '\n') *c = ' ';
    if (strcmp(pjrt->platform, "cpu") == 0) host_text(host, sizeof host);
    dg_device_info info = {.struct_size = (uint32_t)sizeof info};
    describe(pjrt, pjrt->device, &info);
    snprintf(out, size, "pjrt %s (%s), version %s, API %d.%d%s", pjrt->platform, info.name, version,
             pjrt->api->pjrt_api_version.major_version, pjrt->api->pjrt_api_version.minor_version, host);
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
    (void)self;
    uint32_t bad = 0, first = 0;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        const char *why = dg_emit_refuses(p->nodes[n].op);
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
};

static const dg_factory factories[] = {
    {(uint32_t)sizeof(dg_factory), sizeof params / sizeof params[0], "pjrt",
     "TPUs, GPUs and CPUs through XLA and the PJRT C API", params, &table},
};

DG_PLUGIN("digpt.pjrt", "0.1.0", DG_BACKEND_INTERFACE, factories)
