/* ahead.c - compiling for devices that are not here. It runs in a child process: libtpu is made for one
 * topology a process, takes gigabytes while it compiles, and may abort. */
#include <ctype.h>
#include <stdlib.h>
#include <time.h>

#include "child.h"
#include "pjrt.h"

static const double limit = 4 * 3600; /* seconds */

typedef struct job {
    const dg_pjrt *self;
    const dg_program *program;
} job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the target */

static PJRT_NamedValue text_option(const char *name, const char *value)
{
    PJRT_NamedValue v = {0};
    v.struct_size = PJRT_NamedValue_STRUCT_SIZE;
    v.name = name;
    v.name_size = strlen(name);
    v.type = PJRT_NamedValue_kString;
    v.string_value = value;
    v.value_size = strlen(value);
    return v;
}

static dg_status make_topology(const dg_pjrt *self, PJRT_TopologyDescription **out, dg_error *err)
{
    /* The two cores of a v4 chip work as one device, as they do where JAX runs on it; of later chips too,
     * without being told. */
    const PJRT_NamedValue megacore = text_option("chip_config_name", "megacore");
    DG_PJRT_ARGS(PJRT_TopologyDescription_Create, args);
    args.topology_name = self->target;
    args.topology_name_size = strlen(self->target);
    args.create_options = &megacore;
    args.num_options = strncmp(self->target, "v4:", 3) == 0;
    if (DG_PJRT_CALL(self->api, PJRT_TopologyDescription_Create, args, err) != DG_OK) {
        snprintf(err->key, sizeof err->key, "backend.target");
        return dg_fail_in(err, "target %s (such as v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2)", self->target);
    }
    *out = args.topology;
    return DG_OK;
}

static dg_status describe(const dg_pjrt *self, PJRT_TopologyDescription *topology, dg_ahead *out,
                          dg_error *err)
{
    DG_PJRT_ARGS(PJRT_TopologyDescription_GetDeviceDescriptions, devices);
    devices.topology = topology;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_TopologyDescription_GetDeviceDescriptions, devices, err));
    out->devices = (uint32_t)devices.num_descriptions;
    if (out->devices < self->n_replicas)
        return dg_fail_key(err, DG_ERR_INVALID, "backend.replicas",
                           "target %s has %u devices for %u replicas", self->target, out->devices,
                           self->n_replicas);
    DG_PJRT_ARGS(PJRT_DeviceDescription_Kind, kind);
    kind.device_description = devices.descriptions[0];
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_DeviceDescription_Kind, kind, err));
    snprintf(out->device, sizeof out->device, "%.*s", (int)kind.device_kind_size, kind.device_kind);
    DG_PJRT_ARGS(PJRT_TopologyDescription_PlatformVersion, version);
    version.topology = topology;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_TopologyDescription_PlatformVersion, version, err));
    snprintf(out->compiler, sizeof out->compiler, "%.*s", (int)version.platform_version_size,
             version.platform_version);
    for (char *c = out->compiler; *c; c++)
        if (*c == '\n') *c = ' ';
    if (!DG_PJRT_HAS(self->api, PJRT_TopologyDescription_Attributes)) return DG_OK;
    DG_PJRT_ARGS(PJRT_TopologyDescription_Attributes, attributes);
    attributes.topology = topology;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_TopologyDescription_Attributes, attributes, err));
    for (size_t i = 0; i < attributes.num_attributes; i++) {
        const PJRT_NamedValue *a = &attributes.attributes[i];
        static const char name[] = "device_memory_bytes_limit";
        if (a->name_size == strlen(name) && memcmp(a->name, name, a->name_size) == 0 &&
            a->type == PJRT_NamedValue_kInt64)
            out->memory = (uint64_t)a->int64_value;
    }
    return DG_OK;
}

/* ---- what came of it */

static dg_status measure(const dg_pjrt *self, PJRT_Executable *executable, dg_ahead *out, dg_error *err)
{
    if (DG_PJRT_HAS(self->api, PJRT_Executable_GetCompiledMemoryStats)) {
        DG_PJRT_ARGS(PJRT_Executable_GetCompiledMemoryStats, m);
        m.executable = executable;
        DG_TRY(DG_PJRT_CALL(self->api, PJRT_Executable_GetCompiledMemoryStats, m, err));
        out->arguments = (uint64_t)m.argument_size_in_bytes;
        out->results = (uint64_t)(m.output_size_in_bytes - m.alias_size_in_bytes);
        out->temporary = (uint64_t)m.temp_size_in_bytes;
        out->code = (uint64_t)m.generated_code_size_in_bytes;
    }
    if (!DG_PJRT_HAS(self->api, PJRT_Executable_GetCostAnalysis)) return DG_OK;
    DG_PJRT_ARGS(PJRT_Executable_GetCostAnalysis, cost);
    cost.executable = executable;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Executable_GetCostAnalysis, cost, err));
    for (size_t i = 0; i < cost.num_properties; i++) {
        const PJRT_NamedValue *v = &cost.properties[i];
        if (v->type != PJRT_NamedValue_kFloat) continue;
        if (v->name_size == 5 && memcmp(v->name, "flops", 5) == 0) out->flops = (double)v->float_value;
        if (v->name_size == 14 && memcmp(v->name, "bytes accessed", 14) == 0)
            out->bytes = (double)v->float_value;
    }
    return DG_OK;
}

/* "(23.88G)" and the like in XLA's message: the first is what it would take, the second what there is. */
static uint64_t size_in(const char *text, int which)
{
    for (const char *c = text; (c = strchr(c, '(')); c++) {
        char *end;
        double value = strtod(c + 1, &end);
        int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : *end == 'T' ? 40 : 0;
        if (end == c + 1 || !(isdigit((unsigned char)c[1])) || !shift) continue;
        if (which-- == 0) return (uint64_t)(value * (double)(1ull << shift));
    }
    return 0;
}

static dg_status compile(const job *j, PJRT_TopologyDescription *topology, dg_ahead *out, dg_error *err)
{
    const dg_pjrt *self = j->self;
    PJRT_Program program;
    char options[DG_PJRT_OPTIONS_SIZE];
    DG_TRY(dg_pjrt_text(self, j->program, &program, err));
    DG_PJRT_ARGS(PJRT_Compile, args);
    args.topology = topology;
    args.program = &program;
    args.compile_options_size = dg_pjrt_options(self->n_replicas, options);
    args.compile_options = options;
    double start = now();
    dg_status status = DG_PJRT_CALL(self->api, PJRT_Compile, args, err);
    out->seconds = now() - start;
    self->host->release(program.code);
    if (status == DG_ERR_NOMEM && size_in(err->message, 1)) {
        out->fits = 0;
        out->temporary = size_in(err->message, 0);
        return DG_OK;
    }
    if (status != DG_OK) return dg_fail_in(err, "program %s", j->program->name);
    status = measure(self, args.executable, out, err);
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Executable_Destroy, destroy);
    destroy.executable = args.executable;
    DG_PJRT_CALL(self->api, PJRT_Executable_Destroy, destroy, &none);
    out->fits = !out->memory || out->arguments + out->results + out->temporary + out->code <= out->memory;
    return status;
}

/* In the child. */
static dg_status work(void *user, void *result, dg_error *err)
{
    job j = *(job *)user;
    dg_pjrt self = *j.self;
    PJRT_TopologyDescription *topology;
    j.self = &self;
    setenv("TPU_SKIP_MDS_QUERY", "1", 1);         /* or it asks the network what machine this is */
    setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1", 1); /* no device is used, so none need be locked */
    setenv("TPU_LOG_DIR", "disabled", 0);
    DG_TRY(dg_pjrt_load(self.plugin, self.path, false, &self.api, err));
    if (!DG_PJRT_HAS(self.api, PJRT_Compile) || !DG_PJRT_HAS(self.api, PJRT_TopologyDescription_Create) ||
        !DG_PJRT_HAS(self.api, PJRT_TopologyDescription_GetDeviceDescriptions) ||
        !DG_PJRT_HAS(self.api, PJRT_TopologyDescription_PlatformVersion))
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "backend.plugin",
                           "the PJRT plugin %s cannot compile for devices that are not here", self.path);
    DG_TRY(make_topology(&self, &topology, err));
    DG_TRY(describe(&self, topology, result, err));
    return compile(&j, topology, result, err);
}

dg_status dg_pjrt_ahead(void *self, const dg_program *p, dg_ahead *out, dg_error *err)
{
    job j = {self, p};
    char what[PATH_MAX + 512];
    dg_ahead got = {.struct_size = (uint32_t)sizeof got};
    if (!*j.self->target)
        return dg_fail_key(err, DG_ERR_INVALID, "backend.target",
                           "for which devices? Set backend.target, such as v5e:2x2");
    snprintf(what, sizeof what, "program %s, compiled for %s by %s in a child process", p->name,
             j.self->target, j.self->path);
    DG_TRY(dg_child_run(what, limit, work, &j, &got, sizeof got, err));
    uint32_t size = out->struct_size;
    memcpy(out, &got, size < sizeof got ? size : sizeof got);
    out->struct_size = size;
    return DG_OK;
}
