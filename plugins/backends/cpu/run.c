/* run.c - carries out an executable's steps: threads, inputs and outputs, times. */
#include "cpu.h"

#include <sched.h>
#include <time.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

/* ---- threads: OpenMP's, which oneDNN uses too. Without OpenMP there is one. */

int dg_cpu_usable_threads(void)
{
#if defined(_OPENMP)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    return omp_get_num_procs();
#else
    return 1;
#endif
}

int dg_cpu_threads_begin(int threads)
{
#if defined(_OPENMP)
    int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    return before;
#else
    return threads;
#endif
}

void dg_cpu_threads_end(int before)
{
#if defined(_OPENMP)
    omp_set_num_threads(before);
#else
    (void)before;
#endif
}

void dg_cpu_parallel(int threads, dg_cpu_kernel kernel, const void *args, int64_t units, int64_t grain,
                     char *workers, uint64_t stride)
{
#if defined(_OPENMP)
    int64_t pieces = (units + grain - 1) / grain;
    if (threads > 1 && pieces > 1) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (int64_t i = 0; i < pieces; i++) {
            int64_t end = (i + 1) * grain < units ? (i + 1) * grain : units;
            kernel(args, workers + (uint64_t)omp_get_thread_num() * stride, i * grain, end);
        }
        return;
    }
#endif
    (void)threads, (void)grain, (void)stride;
    kernel(args, workers, 0, units);
}

/* ---- one run */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dg_status run_step(const dg_backend_exe *exe, const dg_cpu_step *step, dg_error *err)
{
    const dg_cpu_plan *c = &exe->plan;
    if (step->product) return dg_cpu_product_run(step->product, exe->workers, c->worker_bytes, err);
    if (!step->kernel) return dg_cpu_sum_over_ranks(c->cpu, step->args, err);
    dg_cpu_parallel(c->cpu->threads, step->kernel, step->args, step->units, step->grain, exe->workers,
                    c->worker_bytes);
    return DG_OK;
}

static dg_status run_steps(dg_backend_exe *exe, dg_error *err)
{
    const dg_cpu_plan *c = &exe->plan;
    for (uint32_t i = 0; i < c->n_steps; i++) {
        double start = exe->profiling ? now() : 0;
        if (run_step(exe, &c->steps[i], err) != DG_OK)
            return dg_fail_in(err, "'%s' in '%s'", c->p->nodes[c->steps[i].node].op,
                              c->p->nodes[c->steps[i].node].scope);
        if (exe->profiling) exe->times[c->steps[i].node].seconds += now() - start;
    }
    for (uint32_t n = 0; n < c->p->n_nodes && exe->profiling; n++) exe->times[n].runs++;
    return DG_OK;
}

static void finish(const dg_cpu_plan *c, const dg_run *run)
{
    for (uint32_t k = 0; k < c->p->n_outputs; k++)
        if (run->outputs[k])
            memcpy(run->outputs[k], c->outputs[k],
                   (size_t)dg_type_bytes(dg_cpu_type(c, c->p->outputs[k].value)));
    for (uint32_t k = 0; k < c->n_copies; k++)
        if (c->copies[k].stage) memcpy(c->copies[k].stage, c->copies[k].from, (size_t)c->copies[k].bytes);
    for (uint32_t k = 0; k < c->n_copies; k++) {
        const dg_cpu_copy *copy = &c->copies[k];
        memcpy(copy->to, copy->stage ? copy->stage : copy->from, (size_t)copy->bytes);
    }
}

/* Frozen weights are in the order that this program reads, unless another one ran or they were written. */
static dg_status order_weights(dg_backend_exe *exe, dg_error *err)
{
    dg_cpu_plan *c = &exe->plan;
    if (exe->seen == exe->store->changes) return DG_OK;
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_cpu_frozen *f = &c->frozen[l];
        if (f->tensor)
            DG_TRY(dg_cpu_store_order(exe->store, f->tensor, f->packed ? &f->plain : NULL,
                                      f->packed ? &f->layout : NULL, err));
    }
    DG_TRY(dg_cpu_int8_pack(c, err));
    exe->seen = exe->store->changes;
    return DG_OK;
}

dg_status dg_cpu_run(dg_backend_exe *exe, const dg_run *run, dg_error *err)
{
    const dg_cpu_plan *c = &exe->plan;
    if (run->n_inputs != c->n_inputs || run->n_outputs != c->p->n_outputs)
        return dg_fail(err, DG_ERR_INVALID, "'%s' takes %u inputs and gives %u outputs, not %u and %u",
                       c->p->name, c->n_inputs, c->p->n_outputs, run->n_inputs, run->n_outputs);
    for (uint32_t k = 0; k < c->n_inputs; k++)
        if (c->inputs[k].bytes) memcpy(c->inputs[k].to, run->inputs[k], (size_t)c->inputs[k].bytes);
    int threads = dg_cpu_threads_begin(c->cpu->threads);
    dg_status s = order_weights(exe, err);
    if (s == DG_OK) s = run_steps(exe, err);
    dg_cpu_threads_end(threads);
    if (s == DG_OK) finish(c, run);
    return s;
}

/* ---- times */

void dg_cpu_profile(dg_backend_exe *exe, bool on)
{
    uint32_t n = exe->plan.p->n_nodes;
    if (on && !exe->profiling) memset(exe->times, 0, n * sizeof *exe->times);
    for (uint32_t i = 0; i < n; i++) exe->times[i].node = i;
    exe->profiling = on;
}

dg_status dg_cpu_times(dg_backend_exe *exe, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err)
{
    (void)err;
    *n = exe->plan.p->n_nodes;
    uint32_t some = room < *n ? room : *n;
    if (some) memcpy(out, exe->times, some * sizeof *out);
    return DG_OK;
}
