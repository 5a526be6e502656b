/* runtime.c - the part of the CUDA runtime that the backend uses: memory, streams, events, graphs.
 *
 * A stream is a list of things to do. Nothing is done before somebody waits; then streams take turns, in
 * order or at random (DIGPT_EMU_SEED), as far as events allow, so that a missing wait has every chance to
 * show. Copies from and to pinned memory happen when their stream gets there, as on a device. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

typedef struct op {
    struct op *next;
    void (*call)(const void *args); /* NULL: about an event */
    struct CUevent_st *event;
    uint64_t version;
    bool record; /* else wait */
    bool owned;  /* args are freed after the call */
    void *args;
    size_t size;
} op;

struct CUevent_st {
    uint64_t recorded, done; /* versions */
};

typedef struct queue {
    op *first, **last;
} queue;

struct CUstream_st {
    struct CUstream_st *next;
    queue todo;
    bool capturing;
    queue captured;
};

struct CUgraph_st {
    op *first;
};

typedef struct allocation {
    struct allocation *next;
    char *base;
    size_t size; /* of the mapping */
    char *user;  /* what was handed out: it ends at the end of the mapping, to 256 bytes */
    size_t wanted;
} allocation;

static struct CUstream_st *streams;
static allocation *allocations;
static bool device_at_work;
static int captures; /* streams that are being captured */
static cudaError_t last_error;
static uint64_t memory_limit = 8ull << 30, memory_used;

enum { PAGE = 4096, POISONED = 16 << 20 };

static cudaError_t error(cudaError_t e)
{
    if (e != cudaSuccess) last_error = e;
    return e;
}

/* ---- memory */

/* The host may touch device memory only while the device works; so it must copy. */
static void protect(bool on)
{
    device_at_work = on;
    for (allocation *a = allocations; a; a = a->next)
        mprotect(a->base, a->size, on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

cudaError_t cudaMalloc(void **out, size_t size)
{
    if (captures) return error(cudaErrorStreamCaptureUnsupported);
    if (size > memory_limit - memory_used) return error(cudaErrorMemoryAllocation);
    allocation *a = calloc(1, sizeof *a);
    if (!a) return error(cudaErrorMemoryAllocation);
    a->wanted = size;
    a->size = (size + PAGE - 1) / PAGE * PAGE + (size == 0) * PAGE;
    char *p = mmap(NULL, a->size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        free(a);
        return error(cudaErrorMemoryAllocation);
    }
    a->base = p + PAGE;
    a->user = a->base + (a->size - (size + 255) / 256 * 256);
    mprotect(a->base, a->size, PROT_READ | PROT_WRITE);
    /* NaN; pages that nobody touches, such as most of a workspace, stay cheap to protect. */
    if (a->size <= POISONED) memset(a->base, 0xff, a->size);
    if (!device_at_work) mprotect(a->base, a->size, PROT_NONE);
    a->next = allocations;
    allocations = a;
    memory_used += a->size;
    *out = a->user;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    cudaDeviceSynchronize();
    for (allocation **at = &allocations; *at; at = &(*at)->next) {
        allocation *a = *at;
        if (a->user != p) continue;
        *at = a->next;
        memory_used -= a->size;
        munmap(a->base - PAGE, a->size + 2 * PAGE);
        free(a);
        return cudaSuccess;
    }
    return error(cudaErrorInvalidValue);
}

bool emu_is_device(const void *p)
{
    for (const allocation *a = allocations; a; a = a->next)
        if ((const char *)p >= a->user && (const char *)p < a->user + a->wanted) return true;
    return false;
}

emu_space emu_space_of(const void *p)
{
    return emu_is_shared(p)                  ? EMU_SHARED_SPACE
           : emu_is_args(p) || emu_is_own(p) ? EMU_OWN
           : emu_is_device(p)                ? EMU_DEVICE
                                             : EMU_OTHER;
}

cudaError_t cudaMallocHost(void **p, size_t size)
{
    *p = malloc(size ? size : 1);
    return *p ? cudaSuccess : error(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    *total = memory_limit;
    *left = memory_limit - memory_used;
    return cudaSuccess;
}

/* ---- streams */

static void append(queue *q, op *o)
{
    if (!q->last) q->last = &q->first;
    *q->last = o;
    q->last = &o->next;
}

static cudaError_t add(cudaStream_t stream, op o)
{
    op *copy = malloc(sizeof *copy);
    if (!copy || !stream) {
        free(copy);
        return error(stream ? cudaErrorMemoryAllocation : cudaErrorInvalidResourceHandle);
    }
    *copy = o;
    append(stream->capturing ? &stream->captured : &stream->todo, copy);
    return cudaSuccess;
}

cudaError_t emu_enqueue(cudaStream_t stream, void (*call)(const void *args), const void *args, size_t size)
{
    void *copy = malloc(size);
    if (!copy) return error(cudaErrorMemoryAllocation);
    memcpy(copy, args, size);
    return add(stream, (op){.call = call, .args = copy, .size = size, .owned = true});
}

static void take_first(struct CUstream_st *s)
{
    op *o = s->todo.first;
    s->todo.first = o->next;
    if (!s->todo.first) s->todo.last = NULL;
    if (o->call)
        o->call(o->args);
    else if (o->record)
        o->event->done = o->version;
    if (o->owned) free(o->args);
    free(o);
}

static bool can_go_on(const struct CUstream_st *s)
{
    const op *o = s->todo.first;
    return o && (o->call || o->record || o->event->done >= o->version);
}

static bool is_idle(const struct CUstream_st *stream, const struct CUevent_st *event)
{
    if (event) return event->done >= event->recorded;
    for (const struct CUstream_st *s = streams; s; s = s->next)
        if (s->todo.first && (!stream || s == stream)) return false;
    return true;
}

/* Works until the stream (NULL: all streams) is empty, or until the event is done. */
static cudaError_t work(struct CUstream_st *stream, const struct CUevent_st *event)
{
    if (captures) return error(cudaErrorStreamCaptureUnsupported);
    if (!is_idle(stream, event)) protect(true);
    while (!is_idle(stream, event)) {
        int can = 0;
        for (struct CUstream_st *s = streams; s; s = s->next) can += can_go_on(s);
        if (!can) {
            emu_report("deadlock: every stream waits for an event");
            break;
        }
        int pick = emu_is_random() ? (int)(emu_random() % (uint32_t)can) : 0;
        struct CUstream_st *s = streams;
        while (!can_go_on(s) || pick-- > 0) s = s->next;
        take_first(s);
    }
    if (device_at_work) protect(false);
    return emu_reports() ? error(cudaErrorLaunchFailure) : cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    struct CUstream_st *s = calloc(1, sizeof *s);
    if (!s) return error(cudaErrorMemoryAllocation);
    (void)flags;
    s->next = streams;
    streams = s;
    *out = s;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    work(stream, NULL);
    for (struct CUstream_st **at = &streams; *at; at = &(*at)->next)
        if (*at == stream) {
            *at = stream->next;
            free(stream);
            return cudaSuccess;
        }
    return error(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return work(stream, NULL);
}
cudaError_t cudaDeviceSynchronize(void)
{
    return work(NULL, NULL);
}

typedef struct copy_args {
    void *to;
    const void *from;
    size_t size;
    int value;
} copy_args;

static void copy_bytes(const void *args)
{
    const copy_args *c = args;
    memcpy(c->to, c->from, c->size);
}

static void set_bytes(const void *args)
{
    const copy_args *c = args;
    memset(c->to, c->value, c->size);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (size && (emu_is_device(to) != to_device || emu_is_device(from) != from_device))
        return error(cudaErrorInvalidMemcpyDirection);
    copy_args c = {to, from, size, 0};
    return emu_enqueue(stream, copy_bytes, &c, sizeof c);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream)
{
    copy_args c = {to, NULL, size, value};
    return emu_enqueue(stream, set_bytes, &c, sizeof c);
}

/* ---- launches */

typedef struct launch {
    emu_grid grid;
    max_align_t args[];
} launch;

static void run_launch(const void *args)
{
    launch *l = (launch *)args;
    l->grid.args = l->args;
    emu_run_grid(&l->grid);
}

cudaError_t emu_launch(void (*kernel)(const void *args), const char *name, dim3 grid, dim3 block,
                       size_t shared, cudaStream_t stream, const void *args, size_t size)
{
    unsigned threads = block.x * block.y * block.z;
    if (threads < 1 || threads > EMU_THREADS || shared > EMU_SHARED || !grid.x || !grid.y || !grid.z ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return error(cudaErrorInvalidConfiguration);
    launch *l = malloc(sizeof *l + size);
    if (!l) return error(cudaErrorMemoryAllocation);
    l->grid = (emu_grid){kernel, name, grid, block, shared, NULL, size};
    memcpy(l->args, args, size);
    cudaError_t e = emu_enqueue(stream, run_launch, l, sizeof *l + size);
    free(l);
    return e;
}

/* ---- events */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    return *out ? cudaSuccess : error(cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    cudaDeviceSynchronize();
    free(e);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    return add(stream, (op){.event = e, .version = ++e->recorded, .record = true});
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned flags)
{
    (void)flags;
    return add(stream, (op){.event = e, .version = e->recorded});
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    return work(NULL, e);
}

/* Nothing here takes a time that means anything. */
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    if (from->done < from->recorded || to->done < to->recorded) return error(cudaErrorNotReady);
    *milliseconds = 0.001f;
    return cudaSuccess;
}

/* ---- graphs */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    if (stream->capturing) return error(cudaErrorIllegalState);
    stream->capturing = true;
    captures++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    if (!stream->capturing) return error(cudaErrorIllegalState);
    stream->capturing = false;
    captures--;
    *out = calloc(1, sizeof **out);
    if (!*out) return error(cudaErrorMemoryAllocation);
    (*out)->first = stream->captured.first;
    stream->captured = (queue){0};
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    if (!graph) return cudaSuccess;
    while (graph->first) {
        op *o = graph->first;
        graph->first = o->next;
        free(o->args);
        free(o);
    }
    free(graph);
    return cudaSuccess;
}

/* An executable graph is a copy: the graph that it came from may be destroyed. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    struct CUgraph_st *g = calloc(1, sizeof *g);
    queue q = {0};
    if (!g) return error(cudaErrorMemoryAllocation);
    for (const op *o = graph->first; o; o = o->next) {
        op *copy = malloc(sizeof *copy);
        void *args = malloc(o->size);
        if (!copy || !args) abort();
        memcpy(args, o->args, o->size);
        *copy = *o;
        copy->next = NULL;
        copy->args = args;
        append(&q, copy);
    }
    g->first = q.first;
    *out = (cudaGraphExec_t)g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaDeviceSynchronize();
    return cudaGraphDestroy((cudaGraph_t)exec);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    for (const op *o = ((cudaGraph_t)exec)->first; o; o = o->next) {
        op again = *o;
        again.next = NULL;
        again.owned = false;
        cudaError_t e = add(stream, again);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}

/* ---- the device */

cudaError_t cudaGetDeviceCount(int *n)
{
    const char *seed = getenv("DIGPT_EMU_SEED"), *limit = getenv("DIGPT_EMU_MEMORY");
    emu_seed(seed ? (uint32_t)strtoul(seed, NULL, 10) : 0);
    if (limit) memory_limit = strtoull(limit, NULL, 10);
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : error(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device != 0) return error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated");
    p->totalGlobalMem = memory_limit;
    p->major = 9;
    p->multiProcessorCount = 1;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "a kernel broke a rule (emulator)"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
};

static size_t error_row(cudaError_t e)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].error == e) return i;
    return sizeof errors / sizeof errors[0];
}

const char *cudaGetErrorName(cudaError_t e)
{
    size_t i = error_row(e);
    return i < sizeof errors / sizeof errors[0] ? errors[i].name : "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t e)
{
    size_t i = error_row(e);
    return i < sizeof errors / sizeof errors[0] ? errors[i].text : "another error (emulator)";
}

__attribute__((weak)) void emu_touch(const void *p, size_t n, bool write, const emu_fiber *f)
{
    (void)p;
    (void)n;
    (void)write;
    (void)f;
}
