/* bench.h - how fast a recipe, or a part of it, runs here, against the GEMM rate of the same process. */
#ifndef DG_TRAIN_BENCH_H
#define DG_TRAIN_BENCH_H

#include "train/run.h"

typedef struct dg_bench {
    double images_per_second; /* from the median step, data wait included */
    double ms_per_step;       /* median */
    double gflop_per_image;   /* 2mnk of the program's products */
    double gflops;            /* reached */
    double
        peak_gflops; /* best of GEMMs with the program's own shapes and a large one, in its compute dtype */
    double fraction_of_peak;
    double data_wait_fraction;
    double peak_rss_bytes;
    char backend[256], precision[16];
    int64_t batch, steps;
} dg_bench;

typedef enum dg_bench_part {
    DG_BENCH_STEP,      /* the whole training step of the recipe's task */
    DG_BENCH_TOKENIZER, /* tokens of a batch */
    DG_BENCH_ENCODER    /* features of a batch of whole pictures */
} dg_bench_part;

typedef struct dg_bench_options {
    int64_t steps; /* counted ones, after `warmup` */
    int64_t warmup;
    dg_bench_part part;
    bool nodes; /* time every node */
    /* Before each counted step, which is not done when it says no, and after it; NULL: nobody is asked. */
    bool (*before)(void *user);
    void (*after)(void *user, double ms);
    void *user;
} dg_bench_options;

/* Runs on the recipe's data without writing anything. With options->nodes, *nodes gets a table: time, share,
 * GFLOP/s by op. */
dg_status dg_bench_run(const dg_recipe *recipe, const dg_registry *registry, const dg_bench_options *options,
                       dg_bench *out, dg_str *nodes, dg_error *err);

#endif
