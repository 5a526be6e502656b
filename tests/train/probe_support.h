/* probe_support.h - what the tests of features, neighbours and probes share: parts with a backend, made-up
 * features. */
#ifndef DG_TEST_PROBE_SUPPORT_H
#define DG_TEST_PROBE_SUPPORT_H

#include "train_support.h"

#include "digpt/philox.h"
#include "train/features.h"

/* The tiny recipe's parts on the cpu backend where there is one. */
typedef struct probe_parts {
    opened o;
    dg_parts parts;
} probe_parts;

static DG_UNUSED void open_parts(probe_parts *p, const char *overrides)
{
    char all[1024];
    dg_error err;
    snprintf(all, sizeof all, "%s %s", has_backend("cpu") ? "backend.name=cpu" : "", overrides);
    memset(p, 0, sizeof *p);
    open_recipe(&p->o, all);
    ASSERT_OK(dg_parts_open(p->o.recipe, p->o.plugins.registry, true, &p->parts, &err));
}

static DG_UNUSED void close_parts(probe_parts *p)
{
    dg_parts_close(&p->parts);
    close_recipe(&p->o);
}

/* n vectors: standard normal noise times `noise`, plus 1 at the place of the label, which is i mod classes.
 */
static DG_UNUSED dg_feature_set planted(int64_t n, int64_t width, int32_t classes, double noise,
                                        uint64_t seed)
{
    dg_feature_set f = {n, width, dg_calloc((size_t)(n * width), sizeof(float)),
                        dg_calloc((size_t)n, sizeof(int32_t)), dg_calloc((size_t)n, sizeof(int64_t))};
    dg_rng rng = dg_rng_make(seed, DG_RNG_PLUGIN, 0, 0);
    for (int64_t i = 0; i < n; i++) {
        f.ids[i] = i;
        f.labels[i] = (int32_t)(i % classes);
        for (int64_t k = 0; k < width; k++)
            f.x[i * width + k] = (float)(noise * dg_rng_normal(&rng) + (k == f.labels[i] ? 1 : 0));
    }
    return f;
}

#endif
