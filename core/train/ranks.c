/* ranks.c - see ranks.h. */
#include "ranks.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- the environment */

static const struct {
    const char *rank, *world, *who;
} launchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI"},
    {"PMI_RANK", "PMI_SIZE", "MPICH or Slurm's PMI"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"}, /* SLURM_NTASKS is also set where there is no step */
    {"RANK", "WORLD_SIZE", "RANK and WORLD_SIZE"},
};

static dg_status read_number(const char *name, int64_t least, int64_t most, int64_t *out, dg_error *err)
{
    const char *text = getenv(name);
    char *end = NULL;
    long long n = text ? strtoll(text, &end, 10) : least - 1;
    if (!text || end == text || *end || n < least || n > most)
        return dg_fail(err, DG_ERR_INVALID,
                       "the environment has %s='%.32s', which should be a number from %lld to %lld", name,
                       text ? text : "(not set)", (long long)least, (long long)most);
    *out = n;
    return DG_OK;
}

dg_status dg_ranks_announced(int64_t *rank, int64_t *world, const char **launcher, dg_error *err)
{
    *rank = 0;
    *world = 1;
    *launcher = NULL;
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        if (!getenv(launchers[i].world) || !getenv(launchers[i].rank)) continue;
        *launcher = launchers[i].who;
        DG_TRY(read_number(launchers[i].world, 1, 1 << 20, world, err));
        return read_number(launchers[i].rank, 0, *world - 1, rank, err);
    }
    return DG_OK;
}

/* ---- joining */

static const dg_collective_interface *engine_of(const dg_component *c)
{
    return c->ref.factory->interface;
}

/* The engine that knows the launcher, or a list of those that do not. */
static dg_status find_engine(const dg_registry *registry, dg_component *out, dg_str *others, dg_error *err)
{
    for (size_t i = 0; i < dg_registry_components(registry); i++) {
        const dg_component_ref *ref = dg_registry_component(registry, i);
        char text[256] = "";
        if (strcmp(ref->interface, DG_COLLECTIVE_INTERFACE)) continue;
        DG_TRY(dg_component_make(registry, ref->interface, ref->factory->name, NULL, 0, NULL, out, err));
        if (engine_of(out)->launched(out->self)) return DG_OK;
        engine_of(out)->describe(out->self, text, sizeof text);
        dg_str_printf(others, "; %s is for %s", ref->factory->name, text);
        dg_component_destroy(out);
    }
    return DG_OK;
}

static dg_status join(const dg_registry *registry, dg_ranks *r, int64_t rank, int64_t world,
                      const char *launcher, dg_error *err)
{
    dg_str others = {0};
    dg_status s = find_engine(registry, &r->engine, &others, err);
    if (s == DG_OK && !r->engine.self)
        s = dg_fail(err, DG_ERR_UNSUPPORTED,
                    "this is process %lld of %lld (%s), and no engine of this build can join them%s",
                    (long long)rank, (long long)world, launcher,
                    others.text ? others.text
                                : ": for ranks over MPI, build digpt where MPI is (Debian: libopenmpi-dev)");
    dg_str_free(&others);
    DG_TRY(s);
    dg_collective all = {0};
    DG_TRY(engine_of(&r->engine)->join(r->engine.self, &all, err));
    if (all.world != world || all.rank != rank)
        s = dg_fail(
            err, DG_ERR_MISMATCH,
            "%s started process %lld of %lld, and the engine '%s' sees process %d of %d: the launcher is of "
            "another installation than the engine's library",
            launcher, (long long)rank, (long long)world, r->engine.ref.factory->name, all.rank, all.world);
    r->votes = dg_calloc((size_t)world, 2 * sizeof *r->votes);
    if (s == DG_OK && !r->votes) s = dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK)
        r->all = all;
    else
        all.give_up(all.self);
    return s;
}

/* Where a rank runs. */
typedef struct seat {
    char machine[64]; /* its boot's id */
    cpu_set_t processors;
} seat;

static void find_seat(seat *s)
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!f || !fgets(s->machine, sizeof s->machine, f)) gethostname(s->machine, sizeof s->machine - 1);
    if (f) fclose(f);
    if (sched_getaffinity(0, sizeof s->processors, &s->processors) != 0) CPU_SET(0, &s->processors);
}

/* A launcher that binds ranks, as Open MPI's does, may leave most of a machine idle. */
static void tell_binding(int ranks, const cpu_set_t *used)
{
    long there = sysconf(_SC_NPROCESSORS_ONLN);
    if (CPU_COUNT(used) < there)
        dg_logf(DG_LOG_INFO,
                "the launcher has bound the %d rank%s on this machine to %d of its %ld processors; "
                "mpirun --bind-to none lets them use all",
                ranks, ranks > 1 ? "s" : "", CPU_COUNT(used), there);
}

static dg_status take_seats(dg_ranks *r, dg_error *err)
{
    seat mine = {0}, *seats = dg_calloc((size_t)r->all.world, sizeof *seats);
    cpu_set_t used, both;
    if (!seats) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    find_seat(&mine);
    dg_status s = dg_ranks_gather(r, DG_OK, &mine, seats, sizeof mine, err);
    CPU_ZERO(&used);
    for (int32_t k = 0; s == DG_OK && k < r->all.world; k++) {
        if (strncmp(seats[k].machine, mine.machine, sizeof mine.machine)) continue;
        CPU_OR(&used, &used, &seats[k].processors);
        CPU_AND(&both, &mine.processors, &seats[k].processors);
        r->all.machine_rank += k < r->all.rank;
        r->all.machine_ranks++;
        r->all.sharing += CPU_COUNT(&both) > 0;
    }
    dg_free(seats);
    if (s == DG_OK && dg_ranks_first(r)) tell_binding(r->all.machine_ranks, &used);
    return s;
}

/* Of ranks but the first: what all of them would say is said once. */
static void log_of_rank(void *user, dg_log_level level, const char *line)
{
    const dg_ranks *r = user;
    if (level >= DG_LOG_WARNING)
        fprintf(stderr, "%s: rank %d: %s\n", level == DG_LOG_ERROR ? "error" : "warning", r->all.rank, line);
}

dg_status dg_ranks_open(const dg_registry *registry, dg_ranks *r, dg_error *err)
{
    int64_t rank, world;
    const char *launcher;
    r->all = (dg_collective){.struct_size = (uint32_t)sizeof r->all, .world = 1};
    DG_TRY(dg_ranks_announced(&rank, &world, &launcher, err));
    r->all.rank = (int32_t)rank;
    if (world == 1) return DG_OK;
    DG_TRY(join(registry, r, rank, world, launcher, err));
    if (!dg_ranks_first(r)) dg_log_set_sink(log_of_rank, r);
    return take_seats(r, err);
}

void dg_ranks_close(dg_ranks *r)
{
    dg_error ignored = DG_ERROR_INIT;
    if (!dg_ranks_alone(r) && !r->lost) r->all.barrier(r->all.self, &ignored);
    if (r->engine.self && !dg_ranks_first(r)) dg_log_set_sink(NULL, NULL);
    dg_component_destroy(&r->engine);
    dg_free(r->votes);
    memset(r, 0, sizeof *r);
}

/* ---- keeping in step */

/* A call of the engine has failed. What went wrong before is what people should hear. */
static dg_status lose(dg_ranks *r, dg_status mine, dg_status s, const dg_error *why, dg_error *err)
{
    r->lost = true;
    if (mine != DG_OK) return mine;
    return dg_fail(err, s, "%s", why->message);
}

/* All get the error of rank `root`, which has one. */
static dg_status tell(dg_ranks *r, int32_t root, dg_status mine, dg_error *err)
{
    dg_error why = DG_ERROR_INIT, theirs = DG_ERROR_INIT;
    if (r->all.rank == root) theirs = *err;
    dg_status s = r->all.broadcast(r->all.self, &theirs, sizeof theirs, root, &why);
    if (s != DG_OK) return lose(r, mine, s, &why, err);
    r->failed = true;
    *err = theirs;
    err->message[sizeof err->message - 1] = err->key[sizeof err->key - 1] = 0;
    return root ? dg_fail_in(err, "rank %d of %d", root, r->all.world) : (dg_status)err->code;
}

dg_status dg_ranks_any(dg_ranks *r, dg_status mine, bool *flag, dg_error *err)
{
    const int32_t vote[2] = {mine, *flag};
    dg_error why = DG_ERROR_INIT;
    if (dg_ranks_alone(r) || r->failed || r->lost) return mine;
    if (mine != DG_OK) err->code = mine;
    dg_status s = r->all.all_gather(r->all.self, vote, r->votes, sizeof vote, &why);
    if (s != DG_OK) return lose(r, mine, s, &why, err);
    for (int32_t k = 0; k < r->all.world; k++)
        if (r->votes[2 * k] != DG_OK) return tell(r, k, mine, err);
    for (int32_t k = 0; k < r->all.world; k++) *flag |= r->votes[2 * k + 1] != 0;
    return DG_OK;
}

dg_status dg_ranks_agree(dg_ranks *r, dg_status mine, dg_error *err)
{
    bool none = false;
    return dg_ranks_any(r, mine, &none, err);
}

dg_status dg_ranks_sum(dg_ranks *r, dg_status mine, void *values, uint64_t n, dg_sum_type type, dg_error *err)
{
    dg_error why = DG_ERROR_INIT;
    DG_TRY(dg_ranks_agree(r, mine, err));
    if (dg_ranks_alone(r)) return DG_OK;
    dg_status s = r->all.all_reduce(r->all.self, values, n, type, &why);
    return s == DG_OK ? DG_OK : lose(r, DG_OK, s, &why, err);
}

dg_status dg_ranks_gather(dg_ranks *r, dg_status mine, const void *one, void *all, uint64_t bytes,
                          dg_error *err)
{
    dg_error why = DG_ERROR_INIT;
    DG_TRY(dg_ranks_agree(r, mine, err));
    if (dg_ranks_alone(r)) {
        memcpy(all, one, bytes);
        return DG_OK;
    }
    dg_status s = r->all.all_gather(r->all.self, one, all, bytes, &why);
    return s == DG_OK ? DG_OK : lose(r, DG_OK, s, &why, err);
}

dg_status dg_ranks_same(dg_ranks *r, const char *const *names, const char *const *texts, size_t n,
                        dg_error *err)
{
    if (dg_ranks_alone(r)) return DG_OK;
    uint64_t *mine = dg_calloc(n, sizeof *mine), *all = dg_calloc(n * (size_t)r->all.world, sizeof *all);
    dg_status s = mine && all ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; s == DG_OK && i < n; i++) mine[i] = XXH3_64bits(texts[i], strlen(texts[i]));
    s = dg_ranks_gather(r, s, mine, all, n * sizeof *mine, err);
    for (size_t i = 0; s == DG_OK && i < n; i++)
        if (mine[i] != all[i])
            s = dg_fail(
                err, DG_ERR_MISMATCH,
                "its %s is not the same as of rank 0, so that this would not be one run: here it is %.200s",
                names[i], texts[i]);
    dg_free(mine);
    dg_free(all);
    return dg_ranks_agree(r, s, err);
}

dg_status dg_ranks_give_up(dg_ranks *r, dg_status mine, dg_error *err)
{
    if (dg_ranks_alone(r) || r->failed) return mine;
    if (!r->lost) r->all.give_up(r->all.self);
    r->lost = true;
    err->code = mine;
    return dg_fail_in(err, "rank %d of %d", r->all.rank, r->all.world);
}

dg_status dg_ranks_join_backend(const dg_ranks *r, const dg_parts *parts, dg_error *err)
{
    const dg_backend_interface *b = dg_backend_of(parts);
    if (dg_ranks_alone(r)) return DG_OK;
    if (!DG_HAS(b, dg_backend_interface, join) || !b->join)
        return dg_fail_key(
            err, DG_ERR_UNSUPPORTED, "backend.name",
            "the backend '%s' cannot train in several processes, and %d were started; the backend "
            "'cpu' can",
            parts->backend.ref.factory->name, r->all.world);
    return b->join(parts->backend.self, &r->all, err);
}

void dg_ranks_loader(const dg_ranks *r, const dg_recipe *recipe, bool whole, dg_loader_config *c)
{
    if (!whole) c->batch /= r->all.world;
    c->rank = r->all.rank;
    c->world = r->all.world;
    if (!dg_ranks_alone(r) && dg_recipe_int(recipe, "data.workers") == 0)
        c->threads = c->threads > r->all.sharing ? c->threads / r->all.sharing : 1;
}
