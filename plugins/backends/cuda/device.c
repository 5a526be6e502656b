/* device.c - the device: whether there is one, its streams and buffers, and copies to and from it. */
#include "cuda.h"

/* Kernels are built for this compute capability and later ones. */
enum { LEAST_MAJOR = 8 };

dg_status dg_cuda_check(cudaError_t e, const char *what, dg_error *err)
{
    if (e == cudaSuccess) return DG_OK;
    dg_status code =
        e == cudaErrorMemoryAllocation ? DG_ERR_NOMEM
        : e == cudaErrorNoDevice || e == cudaErrorInsufficientDriver || e == cudaErrorInvalidDevice
            ? DG_ERR_NOT_FOUND
        : e == cudaErrorNoKernelImageForDevice || e == cudaErrorNotSupported ? DG_ERR_UNSUPPORTED
                                                                             : DG_ERR_INTERNAL;
    cudaGetLastError(); /* forgets it, unless it is for good */
    return dg_fail(err, code, "%s: %s (%s)", what, cudaGetErrorString(e), cudaGetErrorName(e));
}

/* How many devices there are; with none, why. */
static dg_status count_devices(int *n, dg_error *err)
{
    *n = 0;
    cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaErrorInsufficientDriver || e == cudaErrorNoDevice || (e == cudaSuccess && *n == 0)) {
        int driver = 0;
        cudaGetLastError();
        *n = 0;
        if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
            return dg_fail(err, DG_ERR_NOT_FOUND, "no CUDA device: this machine has no NVIDIA driver");
        if (driver / 1000 < CUDART_VERSION / 1000)
            return dg_fail(err, DG_ERR_NOT_FOUND,
                           "no usable CUDA device: the NVIDIA driver is for CUDA %d.%d, and this build needs "
                           "%d; install a "
                           "newer driver",
                           driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
        return dg_fail(err, DG_ERR_NOT_FOUND, "the NVIDIA driver finds no device");
    }
    return dg_cuda_check(e, "looking for CUDA devices", err);
}

static dg_status open_parts(dg_cuda *cuda, dg_error *err)
{
    DG_TRY(dg_cuda_check(cudaStreamCreateWithFlags(&cuda->compute, cudaStreamNonBlocking), "making a stream",
                         err));
    DG_TRY(
        dg_cuda_check(cudaStreamCreateWithFlags(&cuda->copy, cudaStreamNonBlocking), "making a stream", err));
    DG_TRY(dg_cuda_check(cudaEventCreateWithFlags(&cuda->copied, cudaEventDisableTiming), "making an event",
                         err));
    for (int i = 0; i < 2; i++) {
        DG_TRY(dg_cuda_check(cudaEventCreateWithFlags(&cuda->staged[i], cudaEventDisableTiming),
                             "making an event", err));
        DG_TRY(dg_cuda_check(cudaMallocHost((void **)&cuda->pinned[i], DG_CUDA_PINNED),
                             "taking pinned memory", err));
    }
    DG_TRY(dg_cuda_allocate(&cuda->workspace, DG_CUDA_WORKSPACE, "the workspace of products", err));
    DG_TRY(dg_cuda_load_lt(&cuda->lt, err));
    cublasStatus_t s = cuda->lt.create(&cuda->handle);
    if (s != CUBLAS_STATUS_SUCCESS)
        return dg_fail(err, DG_ERR_INTERNAL, "cuBLASLt cannot be started: status %d", (int)s);
    return DG_OK;
}

dg_status dg_cuda_open(dg_cuda *cuda, dg_error *err)
{
    int n;
    struct cudaDeviceProp p;
    if (cuda->open) return dg_cuda_check(cudaSetDevice(cuda->device), "choosing the device", err);
    DG_TRY(count_devices(&n, err));
    if (cuda->device >= n)
        return dg_fail_key(err, DG_ERR_NOT_FOUND, "device", "there is no CUDA device %d: this machine has %d",
                           cuda->device, n);
    DG_TRY(dg_cuda_check(cudaSetDevice(cuda->device), "choosing the device", err));
    DG_TRY(dg_cuda_check(cudaGetDeviceProperties(&p, cuda->device), "asking about the device", err));
    if (p.major < LEAST_MAJOR)
        return dg_fail_key(err, DG_ERR_UNSUPPORTED, "device",
                           "%s has compute capability %d.%d; the kernels need %d.0 or later", p.name, p.major,
                           p.minor, LEAST_MAJOR);
    dg_status status = open_parts(cuda, err);
    cuda->open = true;
    if (status != DG_OK) dg_cuda_close(cuda);
    return status;
}

void dg_cuda_close(dg_cuda *cuda)
{
    if (!cuda->open) return;
    cudaSetDevice(cuda->device);
    if (cuda->handle) cuda->lt.destroy(cuda->handle);
    cudaFree(cuda->workspace);
    for (int i = 0; i < 2; i++) {
        if (cuda->pinned[i]) cudaFreeHost(cuda->pinned[i]);
        if (cuda->staged[i]) cudaEventDestroy(cuda->staged[i]);
        cuda->pinned[i] = NULL;
        cuda->staged[i] = NULL;
    }
    if (cuda->copied) cudaEventDestroy(cuda->copied);
    if (cuda->copy) cudaStreamDestroy(cuda->copy);
    if (cuda->compute) cudaStreamDestroy(cuda->compute);
    cuda->handle = NULL;
    cuda->workspace = NULL;
    cuda->copied = NULL;
    cuda->copy = cuda->compute = NULL;
    cuda->open = false;
}

/* ---- what is there */

dg_status dg_cuda_devices(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err)
{
    dg_cuda *cuda = self;
    int count, driver = 0, runtime = 0;
    *n = 0;
    DG_TRY(count_devices(&count, err));
    DG_TRY(dg_cuda_open(cuda, err));
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    size_t lt = cuda->lt.version();
    for (int i = 0; i < count && (uint32_t)i < room; i++) {
        struct cudaDeviceProp p;
        DG_TRY(dg_cuda_check(cudaGetDeviceProperties(&p, i), "asking about a device", err));
        out[i] =
            (dg_device_info){.struct_size = (uint32_t)sizeof out[i], .index = i, .memory = p.totalGlobalMem};
        snprintf(out[i].name, sizeof out[i].name, "%.100s", p.name);
        snprintf(out[i].detail, sizeof out[i].detail,
                 "compute capability %d.%d, %d multiprocessors, driver for CUDA %d.%d, runtime %d.%d, "
                 "cuBLASLt %zu.%zu.%zu",
                 p.major, p.minor, p.multiProcessorCount, driver / 1000, driver % 1000 / 10, runtime / 1000,
                 runtime % 1000 / 10, lt / 10000, lt / 100 % 100, lt % 100);
    }
    *n = (uint32_t)count;
    return DG_OK;
}

void dg_cuda_fingerprint(void *self, char *out, size_t size)
{
    dg_cuda *cuda = self;
    dg_error none = DG_ERROR_INIT;
    struct cudaDeviceProp p;
    if (dg_cuda_open(cuda, &none) != DG_OK || cudaGetDeviceProperties(&p, cuda->device) != cudaSuccess) {
        snprintf(out, size, "cuda: no device");
        return;
    }
    snprintf(out, size, "cuda: %.100s, compute capability %d.%d, runtime %d, cuBLASLt %zu", p.name, p.major,
             p.minor, CUDART_VERSION, cuda->lt.version());
}

/* ---- copies */

dg_status dg_cuda_allocate(void **out, uint64_t bytes, const char *what, dg_error *err)
{
    size_t left = 0, total = 0;
    *out = NULL;
    if (bytes == 0) return DG_OK;
    cudaError_t e = bytes > SIZE_MAX ? cudaErrorMemoryAllocation : cudaMalloc(out, (size_t)bytes);
    if (e != cudaErrorMemoryAllocation) return dg_cuda_check(e, "taking device memory", err);
    cudaGetLastError();
    cudaMemGetInfo(&left, &total);
    return dg_fail(err, DG_ERR_NOMEM, "out of device memory: %s needs %.1f MB, and %.1f of %.1f MB are free",
                   what, (double)bytes * 1e-6, (double)left * 1e-6, (double)total * 1e-6);
}

dg_status dg_cuda_upload(dg_cuda *cuda, void *to, const void *from, uint64_t bytes, dg_error *err)
{
    static const char what[] = "copying to the device";
    for (uint64_t at = 0; at < bytes; at += DG_CUDA_PINNED) {
        int k = cuda->turn ^= 1;
        size_t n = (size_t)(bytes - at < DG_CUDA_PINNED ? bytes - at : DG_CUDA_PINNED);
        DG_TRY(dg_cuda_check(cudaEventSynchronize(cuda->staged[k]), what, err));
        memcpy(cuda->pinned[k], (const char *)from + at, n);
        DG_TRY(dg_cuda_check(
            cudaMemcpyAsync((char *)to + at, cuda->pinned[k], n, cudaMemcpyHostToDevice, cuda->copy), what,
            err));
        DG_TRY(dg_cuda_check(cudaEventRecord(cuda->staged[k], cuda->copy), what, err));
    }
    return DG_OK;
}

dg_status dg_cuda_download(dg_cuda *cuda, void *to, const void *from, uint64_t bytes, dg_error *err)
{
    static const char what[] = "copying from the device";
    uint64_t taken = 0; /* bytes that are out of the pinned buffers again */
    for (uint64_t at = 0, k = 0; taken < bytes; k ^= 1) {
        /* While one buffer is emptied, the other one is filled. */
        if (at < bytes) {
            size_t n = (size_t)(bytes - at < DG_CUDA_PINNED ? bytes - at : DG_CUDA_PINNED);
            DG_TRY(dg_cuda_check(cudaEventSynchronize(cuda->staged[k]), what, err));
            DG_TRY(dg_cuda_check(cudaMemcpyAsync(cuda->pinned[k], (const char *)from + at, n,
                                                 cudaMemcpyDeviceToHost, cuda->copy),
                                 what, err));
            DG_TRY(dg_cuda_check(cudaEventRecord(cuda->staged[k], cuda->copy), what, err));
            at += n;
        }
        if (at - taken <= DG_CUDA_PINNED && at < bytes) continue;
        uint64_t old = taken / DG_CUDA_PINNED & 1,
                 n = bytes - taken < DG_CUDA_PINNED ? bytes - taken : DG_CUDA_PINNED;
        DG_TRY(dg_cuda_check(cudaEventSynchronize(cuda->staged[old]), what, err));
        memcpy((char *)to + taken, cuda->pinned[old], (size_t)n);
        taken += n;
    }
    return DG_OK;
}
