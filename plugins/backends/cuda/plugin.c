/* plugin.c - the cuda backend as a plugin: its parameters and the table of its functions. */
#include "cuda.h"

static const dg_param_spec specs[] = {
    DG_PARAM(INT, "device", "0", "", "which of the machine's devices", 0, 1024, NULL),
    DG_PARAM(BOOL, "graph", "true", "", "launch a whole step as one CUDA graph; false: kernel by kernel", 0,
             0, NULL),
};

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    *self = NULL;
    dg_cuda *cuda = host->allocate(sizeof *cuda);
    if (!cuda) return dg_fail(err, DG_ERR_NOMEM, "out of memory for the cuda backend");
    cuda->host = host;
    cuda->device = params && params->count > 0 ? (int)params->values[0].v.i : 0;
    cuda->eager = params && params->count > 1 && !params->values[1].v.i;
    *self = cuda; /* the device is opened when it is first needed: programs can be checked without one */
    return DG_OK;
}

static void destroy(void *self)
{
    dg_cuda *cuda = self;
    if (!cuda) return;
    dg_cuda_close(cuda);
    cuda->host->release(cuda);
}

static dg_dtype preferred(void *self)
{
    (void)self;
    return DG_BF16;
}

static const dg_backend_interface interface = {
    .struct_size = (uint32_t)sizeof interface,
    .create = create,
    .destroy = destroy,
    .devices = dg_cuda_devices,
    .fingerprint = dg_cuda_fingerprint,
    .preferred = preferred,
    .supports = dg_cuda_supports,
    .check = dg_cuda_check_program,
    .memory = dg_cuda_memory,
    .store_create = dg_cuda_store_create,
    .store_destroy = dg_cuda_store_destroy,
    .store_add = dg_cuda_store_add,
    .store_write = dg_cuda_store_write,
    .store_read = dg_cuda_store_read,
    .compile = dg_cuda_compile,
    .release = dg_cuda_release,
    .run = dg_cuda_run,
    .profile = dg_cuda_profile,
    .times = dg_cuda_times,
};

static const dg_factory factories[] = {
    {
        .struct_size = (uint32_t)sizeof(dg_factory),
        .n_params = sizeof specs / sizeof specs[0],
        .name = DG_CUDA_NAME,
        .help = "NVIDIA GPUs: cuBLASLt for products, own kernels for the rest, a step is one CUDA graph",
        .params = specs,
        .interface = &interface,
    },
};

DG_PLUGIN("digpt." DG_CUDA_NAME, "0.1.0", DG_BACKEND_INTERFACE, factories)
