/* schedule.c - see schedule.h. */
#include "schedule.h"

#include <math.h>

double dg_schedule_lr(const dg_schedule *s, double at)
{
    const double pi = 3.14159265358979323846;
    if (at < s->warmup) return s->lr * at / s->warmup;
    double span = s->total - s->warmup, part = span > 0 ? (at - s->warmup) / span : 1;
    return s->min_lr + (s->lr - s->min_lr) * 0.5 * (1.0 + cos(pi * (part < 1 ? part : 1)));
}
