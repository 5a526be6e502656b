/* cpu_backend.h - the cpu backend with chosen threads and kernels, and graphs on random numbers. */
#ifndef DG_CPU_BACKEND_H
#define DG_CPU_BACKEND_H

#include "parity.h"

#include "digpt/philox.h"

/* LeakSanitizer of gcc 12 misreads the dynamic TLS of OpenMP's threads and crashes at exit. */
DG_EXPORT const char *__asan_default_options(void);
DG_EXPORT const char *__asan_default_options(void)
{
    return "intercept_tls_get_addr=0";
}

/* What LLVM's OpenMP never frees is no leak of ours. */
DG_EXPORT const char *__lsan_default_suppressions(void);
DG_EXPORT const char *__lsan_default_suppressions(void)
{
    return "leak:libomp.so\n";
}

static const char *const isas[] = {"plain", "avx2", "avx512", "avx512_bf16"};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

static const dg_factory *factory;

/* threads 0: all; isa -1: the best. self NULL: this processor has no such kernels. */
static DG_UNUSED backend cpu_backend(int64_t threads, int isa)
{
    dg_error err = DG_ERROR_INIT;
    backend b = {factory->interface, NULL};
    const dg_param_value values[] = {{.type = DG_PARAM_INT, .is_set = 1, .v.i = threads, .text = ""},
                                     {.type = DG_PARAM_CHOICE, .is_set = 1, .v.i = isa + 1, .text = ""}};
    const dg_params params = {(uint32_t)sizeof params, 2, values};
    dg_status s = b.f->create(dg_host_table(), &params, &b.self, &err);
    if (s != DG_OK && (isa < 0 || s != DG_ERR_UNSUPPORTED)) fail_msg("%s", err.message);
    return b;
}

static DG_UNUSED int open_module(void **state)
{
    (void)state;
    setenv("OMP_WAIT_POLICY", "passive", 0); /* more threads than cores: they must not spin */
    factory = module_factory("backends-cpu");
    return factory ? 0 : -1;
}

/* Numbers for a leaf, in stored form: floats of variance scale^2; i32 0..2; bool 0 or 1; the same for the
 * same name. */
static DG_UNUSED void *numbers(const dg_type *t, const char *name, double scale)
{
    uint64_t hash = 1469598103934665603u;
    for (const char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    dg_rng r = dg_rng_make(hash, DG_RNG_INIT, 0, 0);
    int64_t n = dg_type_count(t);
    double *x = dg_calloc((size_t)n, sizeof *x);
    void *stored = dg_calloc((size_t)dg_type_bytes(t) + 1, 1);
    for (int64_t i = 0; i < n; i++) {
        x[i] = scale * ((double)dg_rng_u32(&r) * 0x1p-31 - 1) * 1.7320508;
        if (t->dtype == DG_I32) x[i] = dg_rng_below(&r, 3);
        if (t->dtype == DG_U8) x[i] = dg_rng_below(&r, 256);
        if (t->dtype == DG_BOOL) x[i] = dg_rng_below(&r, 2);
    }
    dg_from_doubles((dg_dtype)t->dtype, x, n, stored);
    dg_free(x);
    return stored;
}

/* Runs once on numbers; other leaves than inputs are written to the store first, parameters being small. */
static DG_UNUSED void run_on_numbers(running *r)
{
    dg_error err;
    const dg_program *p = r->program;
    void *inputs[64] = {0};
    uint32_t n = 0;
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_type *t = &p->values[p->leaves[l].value].type;
        void *x = numbers(t, p->leaves[l].name, p->leaves[l].kind == DG_LEAF_PARAM ? 0.1 : 1);
        if (p->leaves[l].kind == DG_LEAF_INPUT) {
            inputs[n++] = x;
            continue;
        }
        ASSERT_OK(r->b.f->store_write(r->store, p->leaves[l].name, x, 0, (uint64_t)dg_type_bytes(t), &err));
        dg_free(x);
    }
    run_once(r, (const void *const *)inputs);
    for (uint32_t i = 0; i < n; i++) dg_free(inputs[i]);
}

#endif
