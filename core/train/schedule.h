/* schedule.h - the learning rate: linear warm-up, then half a cosine (Loshchilov and Hutter, "SGDR", 2017),
 * set per iteration as the official code does (lr_sched.adjust_learning_rate). */
#ifndef DG_TRAIN_SCHEDULE_H
#define DG_TRAIN_SCHEDULE_H

#include "digpt/base.h"

typedef struct dg_schedule {
    double lr, min_lr;
    double warmup; /* epochs, or any unit that `total` and `at` share */
    double total;
} dg_schedule;

/* At time `at`: lr * at / warmup, then min_lr + (lr - min_lr) (1 + cos(pi (at - warmup) / (total - warmup)))
 * / 2. */
double dg_schedule_lr(const dg_schedule *s, double at);

#endif
