/* support.c - what can be run: for each op, the dtypes of its inputs. */
#include "cuda.h"

enum {
    F32 = 1 << DG_F32,
    I32 = 1 << DG_I32,
    REAL = F32 | 1 << DG_BF16,
    NUMBER = REAL | I32,
    PIXEL = REAL | 1 << DG_U8,
    ABSENT = 1 << DG_NONE,
    ANY = ~ABSENT
};

typedef struct rule {
    const char *op;
    int in[8]; /* sets of dtypes; the ops that are not here take any */
} rule;

static const rule rules[] = {
    {"matmul", {REAL, REAL}},
    {"scatter_add", {I32, REAL}},
    {"reduce_sum", {NUMBER}},
    {"reduce_max", {NUMBER}},
    {"argmax", {NUMBER}},
    {"top_k", {NUMBER}},
    {"linear", {REAL, REAL, REAL | ABSENT}},
    {"layer_norm", {REAL, F32 | ABSENT, F32 | ABSENT}},
    {"layer_norm_grad", {REAL, REAL, F32, F32, F32 | ABSENT}},
    {"softmax", {REAL}},
    {"gelu", {REAL}},
    {"gelu_grad", {REAL, REAL}},
    {"attention", {REAL, REAL, REAL, I32 | ABSENT, I32 | ABSENT, ABSENT}},
    {"attention_grad", {REAL, REAL, REAL, REAL, REAL, F32, I32 | ABSENT, I32 | ABSENT}},
    {"normalize", {REAL}},
    {"normalize_grad", {REAL, REAL, F32}},
    {"cross_entropy", {REAL, I32 | F32}},
    {"cross_entropy_grad", {F32, REAL, I32 | F32, F32}},
    {"patchify", {PIXEL}},
    {"adamw", {F32, F32, F32, F32, F32, 1 << DG_BOOL | ABSENT}},
};

static const rule *rule_of(const char *op)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].op, op) == 0) return &rules[i];
    return NULL;
}

static bool is_attention(const char *op)
{
    return strcmp(op, "attention") == 0 || strcmp(op, "attention_grad") == 0;
}

/* The grid of the attention kernels has a block row for each head of each sample. */
static bool attention_fits(const dg_work *w)
{
    bool forward = strcmp(w->op, "attention") == 0;
    const dg_type *q = &w->in[forward ? 0 : 1];
    int64_t heads = dg_attr_int(w->attrs, w->n_attrs, "heads"), first = w->in[0].dtype;
    uint32_t n = forward ? 3 : 5, bias = forward ? 5 : 8;
    for (uint32_t k = 1; k < n; k++)
        if (w->in[k].dtype != first) return false;
    if (bias < w->n_in && w->in[bias].dtype != DG_NONE) return false;
    return heads > 0 && q->dims[2] / heads <= DG_CUDA_HEAD_MOST && q->dims[0] * heads <= 65535;
}

static const char *refusal(const dg_work *w)
{
    const rule *r = rule_of(w->op);
    if (dg_attr_int(w->attrs, w->n_attrs, "ranks") > 1) return "the cuda backend is one rank";
    if (!r) return dg_cuda_knows(w->op) ? NULL : "a composite that must be lowered";
    for (uint32_t k = 0; k < w->n_in && k < sizeof r->in / sizeof r->in[0] && r->in[k]; k++)
        if (!(r->in[k] >> w->in[k].dtype & 1)) return "not with inputs of these types";
    for (uint32_t k = 0; k < w->n_out; k++)
        if (dg_dtype_is_float((dg_dtype)w->out[k].dtype) && !(REAL >> w->out[k].dtype & 1))
            return "not with a result of this type";
    if (is_attention(w->op) && !attention_fits(w))
        return "attention with a bias, or with heads this many or this wide";
    if (strcmp(w->op, "patchify") == 0 && w->in[0].dims[3] > DG_CUDA_CHANNELS)
        return "images of this many channels";
    return NULL;
}

bool dg_cuda_supports(void *self, const dg_work *work)
{
    (void)self;
    return refusal(work) == NULL;
}

dg_status dg_cuda_check_program(void *self, const dg_program *p, dg_complain_function complain, void *user,
                                dg_error *err)
{
    uint32_t bad = 0, first = 0;
    (void)self;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        dg_type types[DG_WORK_MAX_IN + 8];
        dg_work work;
        const char *why = "an op with more inputs than any that is known";
        if (p->nodes[n].n_in <= DG_WORK_MAX_IN && p->nodes[n].n_out <= 8) {
            dg_program_work(p, n, types, &work);
            why = refusal(&work);
        }
        if (!why) continue;
        if (bad++ == 0) first = n;
        if (complain) complain(user, n, why);
    }
    if (bad == 0) return DG_OK;
    return dg_fail(err, DG_ERR_UNSUPPORTED,
                   "cuda cannot run %u of the %u nodes of program %s; the first is node %u, %s", bad,
                   p->n_nodes, p->name, first, p->nodes[first].op);
}
