/* pjrt_train.h - whole runs of the tiny recipe on the pjrt backend, and comparing their curves. */
#ifndef DG_TEST_PJRT_TRAIN_H
#define DG_TEST_PJRT_TRAIN_H

#include "../train/train_support.h"

enum { STEPS = 10 };

/* Compiled programs are kept in the tests' folder: equal ones are compiled once, and resumes load them. */
static DG_UNUSED const char *with_cache(const char *overrides)
{
    static char text[2400];
    snprintf(text, sizeof text, "backend.name=pjrt backend.trial=never backend.cache=%s %s",
             test_path("cache"), overrides);
    return text;
}

static DG_UNUSED bool there_is_a_device(void)
{
    static int known = -1;
    if (known < 0) {
        dg_error err = DG_ERROR_INIT;
        opened o;
        dg_parts parts = {0};
        known = 0;
        if (has_backend("pjrt")) {
            open_recipe(&o, with_cache(""));
            known = dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err) == DG_OK;
            if (!known && getenv("DIGPT_PJRT_CPU")) fail_msg("%s", err.message);
            dg_parts_close(&parts);
            close_recipe(&o);
        }
    }
    return known;
}

static DG_UNUSED void needs_device(void)
{
    if (!there_is_a_device()) skip();
}

/* The losses of a run, a line of metrics.jsonl each. */
static DG_UNUSED void losses(const char *run, double out[STEPS])
{
    char path[800];
    size_t size, n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path(run));
    char *text = read_file(path, &size), *save = NULL;
    text[size - 1] = 0;
    for (char *line = strtok_r(text, "\n", &save); line && n < STEPS; line = strtok_r(NULL, "\n", &save)) {
        const char *at = strstr(line, "\"loss\":");
        assert_non_null(at);
        out[n++] = strtod(at + 7, NULL);
    }
    assert_int_equal(n, STEPS);
    dg_free(text);
}

static DG_UNUSED void assert_same_curve(const char *a, const char *b, double tolerance)
{
    double x[STEPS], y[STEPS];
    losses(a, x);
    losses(b, y);
    for (int i = 0; i < STEPS; i++)
        if (!(fabs(x[i] - y[i]) <= tolerance * fabs(y[i])))
            fail_msg("%s and %s: loss %.9g and %.9g at step %d", a, b, x[i], y[i], i + 1);
    assert_true(x[STEPS - 1] < x[0]);
}

/* With the second process loading what the first compiled. */
static DG_UNUSED void check_resume(const char *name, const char *overrides)
{
    char straight[64], other[64];
    snprintf(straight, sizeof straight, "%s-straight", name);
    snprintf(other, sizeof other, "%s-resumed", name);
    must_train(straight, 0, with_cache(overrides));
    must_train(other, 0, with_cache(overrides));
    forget_after(other, 4);
    must_train(other, RESUME, with_cache(overrides));
    assert_same_run(straight, other, STEPS);
}

#endif
