/* augment.c - see augment.h. */
#include "augment.h"

dg_status dg_colour_jitter_check(const dg_colour_jitter *j, dg_error *err)
{
    const struct {
        const char *name;
        double value, most;
    } parts[] = {{"brightness", j->brightness, 100},
                 {"contrast", j->contrast, 100},
                 {"saturation", j->saturation, 100},
                 {"hue", j->hue, 0.5}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!(parts[i].value >= 0 && parts[i].value <= parts[i].most))
            return dg_fail(err, DG_ERR_INVALID, "colour jitter: %s %g, it is a number from 0 to %g",
                           parts[i].name, parts[i].value, parts[i].most);
    return DG_OK;
}

static double between(dg_rng *rng, double low, double high)
{
    return low + (high - low) * dg_rng_uniform(rng);
}

void dg_colour_jitter_run(const dg_colour_jitter *j, dg_rng *rng, dg_pixels p)
{
    const struct {
        double strength, centre, least;
        void (*change)(dg_pixels p, double v);
    } parts[4] = {{j->brightness, 1, 0, dg_adjust_brightness},
                  {j->contrast, 1, 0, dg_adjust_contrast},
                  {j->saturation, 1, 0, dg_adjust_saturation},
                  {j->hue, 0, -0.5, dg_adjust_hue}};
    int32_t order[4];
    dg_rng_permutation(rng, order, 4);
    for (int i = 0; i < 4; i++) {
        const double v = parts[order[i]].strength, low = parts[order[i]].centre - v,
                     least = parts[order[i]].least;
        if (v == 0) continue;
        parts[order[i]].change(p, between(rng, low > least ? low : least, parts[order[i]].centre + v));
    }
}

static bool jitters(const dg_colour_jitter *j)
{
    return j->brightness > 0 || j->contrast > 0 || j->saturation > 0 || j->hue > 0;
}

dg_status dg_augment_view(const dg_augmenter *a, uint64_t view_seed, int64_t id, uint64_t view, dg_pixels p,
                          dg_scratch *scratch, dg_error *err)
{
    dg_rng rng = dg_rng_make(view_seed, DG_RNG_AUGMENT, (uint64_t)id, view);
    DG_TRY(dg_randaugment_run(&a->randaugment, &rng, p, scratch, err));
    if (jitters(&a->jitter)) dg_colour_jitter_run(&a->jitter, &rng, p);
    return DG_OK;
}
