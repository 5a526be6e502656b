/* support.c - what the backend can run, and why not. */
#include "cpu.h"

#include <stdlib.h>

static const char *wrong_dtype(int32_t dtype)
{
    if (dtype == DG_F16) return "the cpu backend has no f16 arithmetic; use bf16 or f32";
    if (dtype == DG_F8E4M3) return "the cpu backend has no f8e4m3 arithmetic; use bf16 or f32";
    return NULL;
}

/* Before AVX-512 VNNI oneDNN adds pairs of products in 16 bits, which saturates. */
static bool has_exact_int8(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni;
}

const char *dg_cpu_refusal(const dg_work *work)
{
    if (!dg_cpu_knows(work->op)) return "the cpu backend does not have this op";
    if (strcmp(work->op, "linear_int8") == 0 && !has_exact_int8())
        return "this processor has no exact products of 8-bit integers (AVX-512 VNNI)";
    if (dg_attr_int(work->attrs, work->n_attrs, "ranks") > 1)
        return "the cpu backend keeps whole tensors on each rank; leave optimizer.shard off";
    for (uint32_t k = 0; k < work->n_in; k++)
        if (wrong_dtype(work->in[k].dtype)) return wrong_dtype(work->in[k].dtype);
    for (uint32_t k = 0; k < work->n_out; k++)
        if (wrong_dtype(work->out[k].dtype)) return wrong_dtype(work->out[k].dtype);
    return NULL;
}

bool dg_cpu_supports(void *self, const dg_work *work)
{
    (void)self;
    return !dg_cpu_refusal(work);
}

dg_status dg_cpu_check(void *self, const dg_program *p, dg_complain_function complain, void *user,
                       dg_error *err)
{
    dg_cpu *cpu = self;
    uint32_t most = 1, bad = 0, first = 0;
    const char *why = NULL;
    for (uint32_t n = 0; n < p->n_nodes; n++)
        if (p->nodes[n].n_in + p->nodes[n].n_out > most) most = p->nodes[n].n_in + p->nodes[n].n_out;
    dg_type *types = cpu->host->allocate(most * sizeof *types);
    if (!types) return dg_fail(err, DG_ERR_NOMEM, "out of memory while checking '%s'", p->name);
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        dg_work work;
        dg_program_work(p, n, types, &work);
        const char *reason = dg_cpu_refusal(&work);
        if (!reason) reason = dg_cpu_rank_refusal(cpu, &work);
        if (!reason) continue;
        if (complain) complain(user, n, reason);
        if (bad++ == 0) {
            first = n;
            why = reason;
        }
    }
    cpu->host->release(types);
    if (!bad) return DG_OK;
    return dg_fail(err, DG_ERR_UNSUPPORTED,
                   "the cpu backend cannot run %u node(s) of '%s'; the first is '%s' in '%s': %s", bad,
                   p->name, p->nodes[first].op, p->nodes[first].scope, why);
}
