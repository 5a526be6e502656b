/* ranks.c - several processes, each of which is one rank: sums over all of them as steps of a program. */
#include "cpu.h"

/* The args of such a step. */
typedef struct sum {
    float *y;       // [n]
    const float *x; // [n]
    int64_t n;
} sum;

dg_status dg_cpu_join(void *self, const dg_collective *ranks, dg_error *err)
{
    dg_cpu *cpu = self;
    (void)err;
    cpu->ranks = ranks;
    if (!cpu->threads_given) cpu->threads = cpu->threads > ranks->sharing ? cpu->threads / ranks->sharing : 1;
    return DG_OK;
}

const char *dg_cpu_rank_refusal(const dg_cpu *cpu, const dg_work *work)
{
    if (!cpu->ranks || strcmp(work->op, "all_reduce") != 0 || work->in[0].dtype == DG_F32) return NULL;
    return "the cpu backend sums f32 over processes, and nothing else";
}

void dg_cpu_emit_all_reduce(dg_cpu_plan *c, uint32_t i)
{
    const dg_program_node *n = &c->p->nodes[i];
    sum s = {
        .x = dg_cpu_in(c, n->in[0]), .y = dg_cpu_out(c, n->out), .n = dg_type_count(dg_cpu_type(c, n->out))};
    DG_CPU_STEP(c, NULL, s, 1, 1, 0);
}

dg_status dg_cpu_sum_over_ranks(const dg_cpu *cpu, const void *args, dg_error *err)
{
    const sum *s = args;
    memcpy(s->y, s->x, (size_t)s->n * sizeof *s->y);
    return cpu->ranks->all_reduce(cpu->ranks->self, s->y, (uint64_t)s->n, DG_SUM_F32, err);
}
