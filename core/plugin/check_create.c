/* check_create.c - checks that make and destroy components; see checks.h. */
#include "checks.h"

#include <time.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define RANDOM_ROUNDS 400
#define MOST_SECONDS 10 /* of random settings: a backend takes its time to start */
#define MOST_ALLOCATIONS 3000

/* Creates with values number n in surroundings number `kind`. On failure nothing is left of it. */
static dg_status create(const dg_checked *c, uint64_t n, unsigned kind, dg_component *out, dg_check_env *env,
                        dg_error *err)
{
    *out = (dg_component){0};
    const dg_params *values = dg_check_values(c->ref->factory, n, &out->arena);
    dg_status s = values ? DG_OK : dg_fail(err, DG_ERR_INTERNAL, "no values could be made from the schema");
    out->params = values; /* for messages also after a failure */
    if (s == DG_OK)
        s = dg_component_create(c->ref, values, dg_check_host(),
                                dg_check_env_make(c->ref->interface, kind, env), out, err);
    if (s == DG_OK && !out->self && strcmp(c->ref->interface, DG_LOSS_INTERFACE))
        s = dg_fail(err, DG_ERR_INTERNAL, "create succeeded and set no self");
    return s;
}

static unsigned kinds_of(const dg_checked *c)
{
    return strcmp(c->ref->interface, DG_MODEL_INTERFACE) ? 1 : DG_CHECK_ENVS;
}

/* The values and surroundings that dg_check_instance would find. */
static bool find(const dg_checked *c, uint64_t *n, unsigned *kind, dg_error *first)
{
    for (*n = 0; *n < RANDOM_ROUNDS; ++*n)
        for (*kind = 0; *kind < kinds_of(c); ++*kind) {
            dg_error err = DG_ERROR_INIT;
            dg_component made;
            dg_check_env env;
            dg_status s = create(c, *n, *kind, &made, &env, &err);
            dg_component_destroy(&made);
            if (s == DG_OK) return true;
            if (*n == 0 && *kind == 0) *first = err;
        }
    return false;
}

bool dg_check_instance(const dg_checked *c, dg_component *out, dg_check_env *env, dg_verdict *verdict)
{
    dg_error err = DG_ERROR_INIT;
    uint64_t n;
    unsigned kind;
    if (!find(c, &n, &kind, &err)) {
        dg_str_printf(c->detail, "no values were found with which it can be created: %s", err.message);
        *verdict = DG_CHECK_SKIP;
        return false;
    }
    if (create(c, n, kind, out, env, &err) == DG_OK) return true;
    *verdict = dg_check_fail(c, "the same values succeed once and fail the next time: %s", err.message);
    dg_component_destroy(out);
    return false;
}

/* ---- the checks */

static dg_verdict defaults(const dg_checked *c)
{
    dg_error err = DG_ERROR_INIT;
    dg_component made;
    dg_check_env env;
    dg_status s = create(c, 0, 0, &made, &env, &err);
    dg_component_destroy(&made);
    if (s == DG_OK) return DG_CHECK_PASS;
    if (strstr(err.message, "it failed without a message") || s == DG_ERR_INTERNAL)
        return dg_check_fail(c, "status %d: %s", s, err.message);
    dg_str_printf(c->detail, "it wants more than its defaults: %s", err.message);
    return DG_CHECK_SKIP;
}

static dg_verdict random_values(const dg_checked *c)
{
    size_t created = 0;
    uint64_t n = 0;
    time_t start = time(NULL);
    for (; n < RANDOM_ROUNDS && time(NULL) - start < MOST_SECONDS; n++) {
        dg_error err = DG_ERROR_INIT;
        dg_component made;
        dg_check_env env;
        dg_check_host_reset(0);
        dg_status s = create(c, n, (unsigned)n % DG_CHECK_ENVS, &made, &env, &err);
        dg_str values = {0};
        if (made.params) dg_check_values_print(c->ref->factory, made.params, &values);
        dg_component_destroy(&made);
        const char *said = values.length ? values.text : "no settings";
        dg_verdict v = DG_CHECK_PASS;
        if (s != DG_OK && (s == DG_ERR_INTERNAL || strstr(err.message, "it failed without a message")))
            v = dg_check_fail(c, "status %d with %s: %s", s, said, err.message);
        else if (dg_check_host_live() || dg_check_host_wrong())
            v = dg_check_fail(c, "with %s it leaves %zu blocks and releases %zu that it did not get", said,
                              dg_check_host_live(), dg_check_host_wrong());
        dg_str_free(&values);
        if (v == DG_CHECK_FAIL) return v;
        created += s == DG_OK;
    }
    dg_str_printf(c->detail, "%zu of %llu create it%s", created, (unsigned long long)n,
                  created < n ? ", the others are refused with a message" : "");
    return DG_CHECK_PASS;
}

static size_t bytes_in_use(void)
{
#ifdef __GLIBC__
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#else
    return 0;
#endif
}

static dg_verdict leaks(const dg_checked *c)
{
    enum { WARM = 3, ROUNDS = 20 };
    uint64_t n;
    unsigned kind;
    dg_error err = DG_ERROR_INIT;
    if (!find(c, &n, &kind, &err)) {
        dg_str_puts(c->detail, "it could not be created");
        return DG_CHECK_SKIP;
    }
    size_t before = 0;
    for (int i = 0; i < WARM + ROUNDS; i++) {
        dg_component made;
        dg_check_env env;
        if (i == WARM) before = bytes_in_use(); /* what is kept for good after the first time is no leak */
        dg_check_host_reset(0);
        create(c, n, kind, &made, &env, &err);
        dg_component_destroy(&made);
        if (dg_check_host_live())
            return dg_check_fail(c, "%zu blocks are left after destroy", dg_check_host_live());
        if (dg_check_host_wrong())
            return dg_check_fail(c, "it releases a pointer that the host did not give");
    }
    size_t after = bytes_in_use();
    /* The libraries under a backend keep a little of their own. */
    size_t allowed = strcmp(c->ref->interface, DG_BACKEND_INTERFACE) ? 16 : 65536;
    if (after > before + allowed * ROUNDS)
        return dg_check_fail(c, "%zu bytes from malloc are left each time", (after - before) / ROUNDS);
    return DG_CHECK_PASS;
}

static dg_verdict out_of_memory(const dg_checked *c)
{
    uint64_t n;
    unsigned kind;
    dg_error err = DG_ERROR_INIT;
    if (!find(c, &n, &kind, &err)) {
        dg_str_puts(c->detail, "it could not be created");
        return DG_CHECK_SKIP;
    }
    for (size_t at = 1; at <= MOST_ALLOCATIONS; at++) {
        dg_component made;
        dg_check_env env;
        err = (dg_error)DG_ERROR_INIT;
        dg_check_host_reset(at);
        dg_status s = create(c, n, kind, &made, &env, &err);
        bool reached = dg_check_host_total() >= at;
        dg_component_destroy(&made);
        size_t live = dg_check_host_live();
        dg_check_host_reset(0);
        if (!reached) {
            if (at == 1) {
                dg_str_puts(c->detail, "it allocates nothing from the host");
                return DG_CHECK_SKIP;
            }
            dg_str_printf(c->detail, "each of %zu allocations was made to fail", at - 1);
            return DG_CHECK_PASS;
        }
        if (s == DG_OK) return dg_check_fail(c, "allocation %zu failed and create succeeded", at);
        if (strstr(err.message, "it failed without a message"))
            return dg_check_fail(c, "allocation %zu failed and create gave no message", at);
        if (live) return dg_check_fail(c, "allocation %zu failed and %zu others were not released", at, live);
    }
    dg_str_printf(c->detail, "the first %d allocations were made to fail", MOST_ALLOCATIONS);
    return DG_CHECK_PASS;
}

const dg_check dg_create_checks[] = {{"created with its defaults", "", defaults},
                                     {"random settings", "", random_values},
                                     {"nothing left after destroy", "", leaks},
                                     {"memory that runs out", "", out_of_memory},
                                     {NULL, NULL, NULL}};
