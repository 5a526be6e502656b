/* pjrt_support.h - making the pjrt backend in tests. */
#ifndef DG_TEST_PJRT_SUPPORT_H
#define DG_TEST_PJRT_SUPPORT_H

#include "parity.h"

/* What XLA itself never frees is no leak of ours. */
DG_EXPORT const char *__lsan_default_suppressions(void);
DG_EXPORT const char *__lsan_default_suppressions(void)
{
    return "leak:xla_cpu_pjrt.so\n";
}

typedef struct pjrt_options {
    const char *plugin, *target; /* NULL: not set */
    int replicas;                /* 0: 1 */
    const char *cache;           /* NULL: off */
    const char *trial;           /* NULL: never */
} pjrt_options;

static DG_UNUSED dg_status pjrt_create(pjrt_options o, void **self, dg_error *err)
{
    const char *cache = o.cache ? o.cache : "off", *trial = o.trial ? o.trial : "never";
    const dg_factory *factory = module_factory("backends-pjrt");
    if (!factory) return dg_fail(err, DG_ERR_NOT_FOUND, "this build has no pjrt backend");
    const dg_param_value values[] = {
        {.type = DG_PARAM_PATH, .is_set = o.plugin != NULL, .v.s = o.plugin},
        {.type = DG_PARAM_STRING, .is_set = o.target != NULL, .v.s = o.target},
        {.type = DG_PARAM_INT, .is_set = 1, .v.i = o.replicas ? o.replicas : 1},
        {.type = DG_PARAM_PATH, .is_set = 1, .v.s = cache, .text = cache},
        {.type = DG_PARAM_CHOICE, .is_set = 1, .text = trial},
    };
    assert_int_equal(factory->n_params, sizeof values / sizeof values[0]);
    const dg_params params = {(uint32_t)sizeof params, factory->n_params, values};
    return ((const dg_backend_interface *)factory->interface)->create(dg_host_table(), &params, self, err);
}

/* The backend on XLA's CPU plugin; self NULL, for needs_pjrt to skip, where there is none. */
static DG_UNUSED backend pjrt_open(pjrt_options o)
{
    backend b = {NULL, NULL};
    dg_error err = DG_ERROR_INIT;
    const dg_factory *factory = module_factory("backends-pjrt");
    if (!factory) return b;
    b.f = factory->interface;
    o.plugin = o.plugin ? o.plugin : "cpu";
    dg_status status = pjrt_create(o, &b.self, &err);
    if (status != DG_OK && (status != DG_ERR_NOT_FOUND || getenv("DIGPT_PJRT_CPU")))
        fail_msg("%s", err.message);
    return b;
}

static DG_UNUSED void pjrt_close(backend b)
{
    if (b.self) b.f->destroy(b.self);
}

#endif
