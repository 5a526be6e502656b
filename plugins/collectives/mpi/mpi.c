/* mpi.c - ranks over MPI, as a plugin: joins what mpirun, mpiexec or srun has started.
 *
 * Everything that waits does so by testing a request, so that a rank that waits for long (the first one
 * writes a checkpoint) leaves its processor to others, and so that it can look whether the others are still
 * alive. */
#include <errno.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "digpt/collective.h"

enum {
    PIECE = 1 << 20,      /* elements that are summed at once: bounds the workspace */
    ONE_ROUND = 1 << 14,  /* bytes of all ranks up to which a sum is one exchange instead of two */
    MOST_BYTES = 1 << 28, /* of one message: MPI counts in int */
    MACHINE_TEXT = 128,
};

static const double patience = 0.02; /* seconds of yielding before the first nap */
static const double look_every = 0.5;

/* Where a process is. Two whose `machine` is equal see each other's process ids. */
typedef struct place {
    char machine[MACHINE_TEXT];
    char host[64];
    int64_t pid;
} place;

typedef struct engine {
    const dg_host *host;
    bool joined, failed;
    MPI_Comm comm;
    int rank, world;
    place *places; /* [world] */
    int *counts;   /* [world] zeros, and equal counts, for exchanges of unequal parts: */
    int *starts, *mine, *mine_starts;
    void *work; /* PIECE elements and a little, of the widest type */
} engine;

/* ---- waiting */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dg_status failed(engine *e, int code, const char *what, dg_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    e->failed = true;
    MPI_Error_string(code, text, &length);
    return dg_fail(err, DG_ERR_IO, "rank %d of %d: MPI cannot %s: %s", e->rank, e->world, what, text);
}

/* Has a process of this machine died? */
static dg_status look(engine *e, dg_error *err)
{
    const place *here = &e->places[e->rank];
    for (int r = 0; r < e->world; r++) {
        const place *p = &e->places[r];
        if (strcmp(p->machine, here->machine) || kill((pid_t)p->pid, 0) == 0 || errno != ESRCH) continue;
        e->failed = true;
        return dg_fail(
            err, DG_ERR_IO,
            "rank %d of %d, process %lld on %s, is gone; rank %d gives up. The last checkpoint is intact: "
            "--resume goes on from it",
            r, e->world, (long long)p->pid, p->host, e->rank);
    }
    return DG_OK;
}

static dg_status wait_for(engine *e, MPI_Request *request, const char *what, dg_error *err)
{
    const struct timespec nap = {0, 200000};
    double begun = now(), looked = begun;
    for (;;) {
        int done = 0;
        int code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (code != MPI_SUCCESS) return failed(e, code, what, err);
        if (done) return DG_OK;
        double t = now();
        if (t - begun < patience)
            sched_yield();
        else
            nanosleep(&nap, NULL);
        if (t - looked < look_every) continue;
        looked = t;
        DG_TRY(look(e, err));
    }
}

/* Waits for what CALL has begun. Needs e and err in scope. */
#define FINISH(CALL, WHAT)                                                                                   \
    do {                                                                                                     \
        int code_ = (CALL);                                                                                  \
        if (code_ != MPI_SUCCESS) return failed(e, code_, WHAT, err);                                        \
        DG_TRY(wait_for(e, &request, WHAT, err));                                                            \
    } while (0)

/* ---- sums */

typedef struct number {
    size_t size;
    MPI_Datatype type;
} number;

static bool number_of(dg_sum_type type, number *out)
{
    switch (type) {
    case DG_SUM_F32:
        *out = (number){4, MPI_FLOAT};
        return true;
    case DG_SUM_F64:
        *out = (number){8, MPI_DOUBLE};
        return true;
    case DG_SUM_I64:
        *out = (number){8, MPI_INT64_T};
        return true;
    default:
        return false;
    }
}

/* out [n] = parts[0] + parts[1] + ..., in this order; parts [world, stride] */
#define SUM(NAME, T)                                                                                         \
    static void NAME(T *out, const T *parts, int64_t n, int64_t stride, int world)                           \
    {                                                                                                        \
        memcpy(out, parts, (size_t)n * sizeof *out);                                                         \
        for (int r = 1; r < world; r++)                                                                      \
            for (int64_t i = 0; i < n; i++) out[i] += parts[r * stride + i];                                 \
    }
SUM(sum_f32, float)
SUM(sum_f64, double)
SUM(sum_i64, uint64_t) /* unsigned: wraps around and is not undefined */

static void sum(dg_sum_type type, void *out, const void *parts, int64_t n, int64_t stride, int world)
{
    if (type == DG_SUM_F32) sum_f32(out, parts, n, stride, world);
    if (type == DG_SUM_F64) sum_f64(out, parts, n, stride, world);
    if (type == DG_SUM_I64) sum_i64(out, parts, n, stride, world);
}

/* Each rank sums one part of the elements and gives it to all: two exchanges, each of about the buffer's size
 * however many ranks there are, and an order of summation that is ours and not the library's. */
static dg_status reduce_piece(engine *e, char *data, int64_t n, dg_sum_type type, dg_error *err)
{
    number kind;
    MPI_Request request;
    if (!number_of(type, &kind))
        return dg_fail(err, DG_ERR_INVALID, "there are no sums of numbers of kind %d", (int)type);
    if ((uint64_t)n * kind.size * (uint64_t)e->world <= ONE_ROUND) {
        FINISH(MPI_Iallgather(data, (int)n, kind.type, e->work, (int)n, kind.type, e->comm, &request),
               "sum over ranks");
        sum(type, data, e->work, n, n, e->world);
        return DG_OK;
    }
    int64_t part = (n + e->world - 1) / e->world;
    for (int r = 0; r < e->world; r++) {
        int64_t from = r * part < n ? r * part : n, to = from + part < n ? from + part : n;
        e->starts[r] = (int)from;
        e->counts[r] = (int)(to - from);
    }
    int own = e->counts[e->rank];
    for (int r = 0; r < e->world; r++) {
        e->mine[r] = own;
        e->mine_starts[r] = r * own;
    }
    FINISH(MPI_Ialltoallv(data, e->counts, e->starts, kind.type, e->work, e->mine, e->mine_starts, kind.type,
                          e->comm, &request),
           "sum over ranks");
    sum(type, data + (size_t)e->starts[e->rank] * kind.size, e->work, own, own, e->world);
    FINISH(
        MPI_Iallgatherv(MPI_IN_PLACE, 0, kind.type, data, e->counts, e->starts, kind.type, e->comm, &request),
        "sum over ranks");
    return DG_OK;
}

static dg_status all_reduce(void *self, void *data, uint64_t count, dg_sum_type type, dg_error *err)
{
    engine *e = self;
    number kind = {0};
    number_of(type, &kind);
    for (uint64_t at = 0; at < count; at += PIECE) {
        uint64_t n = count - at < PIECE ? count - at : PIECE;
        DG_TRY(reduce_piece(e, (char *)data + at * kind.size, (int64_t)n, type, err));
    }
    return DG_OK;
}

/* ---- bytes */

static dg_status all_gather(void *self, const void *mine, void *all, uint64_t bytes, dg_error *err)
{
    engine *e = self;
    MPI_Request request;
    if (bytes > MOST_BYTES / (uint64_t)e->world)
        return dg_fail(err, DG_ERR_INVALID, "%llu bytes of each of %d ranks are too many for one exchange",
                       (unsigned long long)bytes, e->world);
    FINISH(MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, e->comm, &request),
           "gather from all ranks");
    return DG_OK;
}

static dg_status broadcast(void *self, void *data, uint64_t bytes, int32_t root, dg_error *err)
{
    engine *e = self;
    MPI_Request request;
    for (uint64_t at = 0; at < bytes; at += MOST_BYTES) {
        uint64_t n = bytes - at < MOST_BYTES ? bytes - at : MOST_BYTES;
        FINISH(MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, root, e->comm, &request), "broadcast");
    }
    return DG_OK;
}

static dg_status barrier(void *self, dg_error *err)
{
    engine *e = self;
    MPI_Request request;
    FINISH(MPI_Ibarrier(e->comm, &request), "wait for all ranks");
    return DG_OK;
}

static void give_up(void *self)
{
    engine *e = self;
    e->failed = true;
}

/* ---- joining */

/* The boot's id, and the process ids' name space: the same in two processes that can see each other. */
static void find_place(place *p)
{
    char boot[64] = "", space[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (f && fgets(boot, sizeof boot, f)) boot[strcspn(boot, "\n")] = 0;
    if (f) fclose(f);
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    if (n > 0) space[n] = 0;
    if (gethostname(p->host, sizeof p->host - 1) != 0) snprintf(p->host, sizeof p->host, "this machine");
    snprintf(p->machine, sizeof p->machine, "%s %s", boot[0] ? boot : p->host, space);
    p->pid = getpid();
}

static dg_status take_room(engine *e, dg_error *err)
{
    size_t n = (size_t)e->world;
    e->places = e->host->allocate(n * sizeof *e->places);
    e->counts = e->host->allocate(4 * n * sizeof *e->counts);
    e->work = e->host->allocate((PIECE + n) * sizeof(double) + ONE_ROUND);
    if (!e->places || !e->counts || !e->work)
        return dg_fail(err, DG_ERR_NOMEM, "out of memory for sums over ranks");
    e->starts = e->counts + n;
    e->mine = e->starts + n;
    e->mine_starts = e->mine + n;
    return DG_OK;
}

static dg_status join(void *self, dg_collective *out, dg_error *err)
{
    engine *e = self;
    int begun = 0, level;
    place here = {{0}, {0}, 0};
    MPI_Initialized(&begun);
    if (begun) return dg_fail(err, DG_ERR_INVALID, "this process has joined other ranks already");
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code != MPI_SUCCESS) return dg_fail(err, DG_ERR_IO, "MPI does not start (error %d)", code);
    e->joined = true;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    code = MPI_Comm_dup(MPI_COMM_WORLD, &e->comm);
    if (code != MPI_SUCCESS) return failed(e, code, "join the other ranks", err);
    MPI_Comm_rank(e->comm, &e->rank);
    MPI_Comm_size(e->comm, &e->world);
    find_place(&here);
    dg_status s = take_room(e, err);
    if (s == DG_OK) {
        code =
            MPI_Allgather(&here, (int)sizeof here, MPI_BYTE, e->places, (int)sizeof here, MPI_BYTE, e->comm);
        if (code != MPI_SUCCESS) s = failed(e, code, "join the other ranks", err);
    }
    e->failed |= s != DG_OK;
    *out = (dg_collective){.struct_size = (uint32_t)sizeof *out,
                           .rank = e->rank,
                           .world = e->world,
                           .self = e,
                           .all_reduce = all_reduce,
                           .all_gather = all_gather,
                           .broadcast = broadcast,
                           .barrier = barrier,
                           .give_up = give_up};
    return s;
}

static bool launched(void *self)
{
    (void)self;
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i])) return true;
    return false;
}

static void describe(void *self, char *out, size_t size)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    (void)self;
    MPI_Get_library_version(version, &length);
    version[strcspn(version, ",\n")] = 0; /* what follows is who built it */
    snprintf(out, size, "%s: mpirun -n N digpt run ..., or srun --mpi=pmix", version);
}

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    (void)params;
    engine *e = *self = host->allocate(sizeof *e);
    if (!e) return dg_fail(err, DG_ERR_NOMEM, "out of memory for the engine mpi");
    e->host = host;
    return DG_OK;
}

/* A rank that gives up does not finalize: that would wait for ranks which wait for it. */
static void destroy(void *self)
{
    engine *e = self;
    if (!e) return;
    if (e->joined && !e->failed) MPI_Finalize();
    e->host->release(e->places);
    e->host->release(e->counts);
    e->host->release(e->work);
    e->host->release(e);
}

static const dg_collective_interface interface = {
    .struct_size = (uint32_t)sizeof interface,
    .create = create,
    .destroy = destroy,
    .describe = describe,
    .launched = launched,
    .join = join,
};

static const dg_factory factories[] = {
    {
        .struct_size = (uint32_t)sizeof(dg_factory),
        .name = "mpi",
        .help = "ranks that mpirun or srun has started",
        .interface = &interface,
    },
};

DG_PLUGIN("digpt.mpi", "0.1.0", DG_COLLECTIVE_INTERFACE, factories)
