/* plugin.c - the cpu backend as a plugin: its parameters, the machine, and the table of its functions. */
#include "cpu.h"

#include <unistd.h>

static const char *const isa_choices[] = {"auto", "plain", "avx2", "avx512", "avx512_bf16", NULL};

static const dg_param_spec specs[] = {
    DG_PARAM(INT, "threads", "0", "threads",
             "threads of a step; 0: all cores that the process may use, shared among the ranks of a machine",
             0, 4096, NULL),
    DG_PARAM(CHOICE, "isa", "auto", "", "instruction set of the kernels other than matrix products", 0, 0,
             isa_choices),
};

static void destroy(void *self)
{
    dg_cpu *cpu = self;
    if (!cpu) return;
    if (cpu->stream) dnnl_stream_destroy(cpu->stream);
    if (cpu->engine) dnnl_engine_destroy(cpu->engine);
    cpu->host->release(cpu);
}

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    *self = NULL;
    int64_t threads = params && params->count > 0 ? params->values[0].v.i : 0;
    int64_t isa = params && params->count > 1 ? params->values[1].v.i : 0;
    const dg_cpu_kernels *kernels = dg_cpu_kernels_pick(isa ? isa_choices[isa] : NULL);
    if (!kernels)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "isa",
                           "this processor cannot run the %s kernels; the best that it can is %s",
                           isa_choices[isa], dg_cpu_kernels_pick(NULL)->name);
    dg_cpu *cpu = host->allocate(sizeof *cpu);
    if (!cpu) return dg_fail(err, DG_ERR_NOMEM, "out of memory for the cpu backend");
    cpu->host = host;
    cpu->kernels = kernels;
    cpu->threads_given = threads > 0;
    cpu->threads = threads > 0 ? (int)threads : dg_cpu_usable_threads();
    if (dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags) != dnnl_success) {
        destroy(cpu);
        return dg_fail(err, DG_ERR_INTERNAL, "oneDNN offers no cpu engine");
    }
    cpu->bf16 = dg_cpu_is_native(cpu, DG_BF16, DG_BF16) && dg_cpu_is_native(cpu, DG_BF16, DG_F32);
    *self = cpu;
    return DG_OK;
}

static const char *dnnl_isa_name(void)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_sse41, "sse41"},
        {dnnl_cpu_isa_avx, "avx"},
        {dnnl_cpu_isa_avx2, "avx2"},
        {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_bf16"},
        {dnnl_cpu_isa_avx512_core_amx, "avx512_amx"},
    };
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].isa == isa) return names[i].name;
    return "generic";
}

static void fingerprint(void *self, char *out, size_t size)
{
    const dg_cpu *cpu = self;
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "cpu: kernels %s; oneDNN %d.%d.%d %s; bf16 products %s", cpu->kernels->name, v->major,
             v->minor, v->patch, dnnl_isa_name(), cpu->bf16 ? "native" : "through f32");
}

static dg_status devices(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err)
{
    const dg_cpu *cpu = self;
    (void)err;
    *n = 1;
    if (!room) return DG_OK;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    *out = (dg_device_info){.struct_size = (uint32_t)sizeof *out,
                            .memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0};
    snprintf(out->name, sizeof out->name, "cpu, %d thread%s", cpu->threads, cpu->threads == 1 ? "" : "s");
    fingerprint(self, out->detail, sizeof out->detail);
    return DG_OK;
}

/* Plain AVX-512 multiplies bf16 too, but only as fast as f32. */
static dg_dtype preferred(void *self)
{
    (void)self;
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx ? DG_BF16 : DG_F32;
}

static const dg_backend_interface interface = {
    .struct_size = (uint32_t)sizeof interface,
    .create = create,
    .destroy = destroy,
    .devices = devices,
    .fingerprint = fingerprint,
    .preferred = preferred,
    .supports = dg_cpu_supports,
    .check = dg_cpu_check,
    .memory = dg_cpu_memory,
    .store_create = dg_cpu_store_create,
    .store_destroy = dg_cpu_store_destroy,
    .store_add = dg_cpu_store_add,
    .store_write = dg_cpu_store_write,
    .store_read = dg_cpu_store_read,
    .compile = dg_cpu_compile,
    .release = dg_cpu_release,
    .run = dg_cpu_run,
    .profile = dg_cpu_profile,
    .times = dg_cpu_times,
    .join = dg_cpu_join,
};

static const dg_factory factories[] = {
    {
        .struct_size = (uint32_t)sizeof(dg_factory),
        .n_params = sizeof specs / sizeof specs[0],
        .name = "cpu",
        .help = "runs anywhere: oneDNN for products, own vectorised kernels for the rest",
        .params = specs,
        .interface = &interface,
    },
};

DG_PLUGIN("digpt.cpu", "0.1.0", DG_BACKEND_INTERFACE, factories)
