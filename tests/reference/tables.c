/* tables.c - fixtures E and F: learning rates, sine-cosine positions. */
#include "reference.h"

#include <math.h>

#include "digpt/vit.h"
#include "train/schedule.h"

/* Learning rates are recorded in float64 and compared as such. */
static const double *doubles_of(reference *r, const dg_weights *w, const char *name, int64_t *n)
{
    const dg_weight *t = dg_weights_find(w, name);
    dg_error err = DG_ERROR_INIT;
    double *out = t ? dg_arena_alloc(&r->arena, t->bytes + 8) : NULL;
    *n = out && dg_weight_read_raw(t, out, t->bytes, &err) == DG_OK ? t->count : 0;
    if (*n == 0) ref_broken(r, name, &err);
    return *n ? out : NULL;
}

/* A recorded schedule is "NAME.lr", or "NAME.lr_scaled_DECAY^LAYERS" for a layer of its own rate: its scale,
 * or 0 for another name. */
static double scale_of(const char *recorded, const char *schedule)
{
    size_t n = strlen(schedule);
    double decay;
    int layers;
    if (strncmp(recorded, schedule, n) != 0) return 0;
    if (strcmp(recorded + n, ".lr") == 0) return 1;
    return sscanf(recorded + n, ".lr_scaled_%lf^%d", &decay, &layers) == 2 ? pow(decay, layers) : 0;
}

/* Every recorded form of the schedule `s`. */
static void check_schedule(reference *r, const dg_weights *w, const dg_json *s, double tol)
{
    int64_t n, per_epoch = (int64_t)ref_number(s, "ipe", 1),
               accumulate = (int64_t)ref_number(s, "accum_iter", 1);
    dg_schedule schedule = {ref_number(s, "lr", 0), ref_number(s, "min_lr", 0),
                            ref_number(s, "warmup_epochs", 0), ref_number(s, "epochs", 0)};
    for (size_t k = 0; k < dg_weights_count(w); k++) {
        const char *name = dg_weights_at(w, k)->name;
        char title[96];
        double worst = 0, scale = scale_of(name, s->key);
        if (scale == 0) continue;
        snprintf(title, sizeof title, "E learning rates '%s'", name);
        const double *want = doubles_of(r, w, name, &n);
        for (int64_t i = 0; want && i < n; i++) {
            int64_t start = i - i % per_epoch % accumulate; /* changes at the first batch of a step only */
            double lr = scale * dg_schedule_lr(&schedule, (double)start / (double)per_epoch);
            double d = fabs(lr - want[i]);
            if (!(d <= worst * fabs(want[i]))) worst = want[i] != 0 ? d / fabs(want[i]) : d;
        }
        if (want) ref_verdict(r, title, worst, tol);
    }
}

void ref_schedules(reference *r, const dg_json *fixture)
{
    dg_weights *w = ref_open(r, "E_schedules.safetensors");
    const dg_json *list = dg_json_get(fixture, "schedules");
    double tol = ref_tolerance(fixture, "lr", 1e-12);
    for (const dg_json *s = w && list ? list->v.first : NULL; s; s = s->next) check_schedule(r, w, s, tol);
    dg_weights_close(w);
    ref_layer_decay(r, fixture);
}

void ref_positions(reference *r, const dg_json *fixture)
{
    dg_weights *w = ref_open(r, "F_pos_embed.safetensors");
    double tol = ref_tolerance(fixture, "sincos", 3e-6);
    for (size_t i = 0; w && i < dg_weights_count(w); i++) {
        const dg_weight *t = dg_weights_at(w, i);
        int width, grid;
        int64_t n;
        char title[96];
        if (sscanf(t->name, "sincos.%d.grid%d", &width, &grid) != 2) continue;
        const float *want = ref_tensor(r, w, t->name, &n);
        float *have = dg_arena_alloc(&r->arena, (size_t)(n + 1) * sizeof *have);
        double worst = 0;
        if (!want || !have) continue;
        dg_vit_sincos(have, grid, grid, width);
        for (int64_t k = 0; k < n; k++)
            if (!(fabs((double)have[k] - (double)want[k]) <= worst))
                worst = fabs((double)have[k] - (double)want[k]);
        snprintf(title, sizeof title, "F %s", t->name);
        ref_verdict(r, title, worst, tol);
    }
    dg_weights_close(w);
    ref_interpolation(r, fixture);
}
