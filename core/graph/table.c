/* table.c - the op table: the rows of ops.def with their rules, their texts read once. */
#include "rules.h"

#include <pthread.h>
#include <stdlib.h>

#define LOWER_PRIM(NAME) NULL
#define LOWER_COMP(NAME) dg_lower_##NAME
static dg_op table[] = {
#define OP(NAME, CLASS, PRECISION, INPUTS, ATTRS, OUTPUTS, DOC)                                              \
    {.name = #NAME,                                                                                          \
     .inputs = INPUTS,                                                                                       \
     .attrs_text = ATTRS,                                                                                    \
     .outputs = OUTPUTS,                                                                                     \
     .doc = DOC,                                                                                             \
     .cls = DG_##CLASS,                                                                                      \
     .precision = DG_##PRECISION,                                                                            \
     .shape = dg_shape_##NAME,                                                                               \
     .lower = LOWER_##CLASS(NAME)},
#include "ops.def"
#undef OP
};
enum { N_OPS = sizeof table / sizeof table[0] };

static const dg_op *by_name[N_OPS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

bool dg_next_word(const char **s, char *out, size_t room)
{
    size_t n = 0;
    while (**s == ' ') ++*s;
    if (!**s) return false;
    for (; **s && **s != ' '; ++*s)
        if (n + 1 < room) out[n++] = **s;
    out[n] = 0;
    return true;
}

static double default_value(const char *text)
{
    for (int t = 0; t < DG_DTYPE_COUNT; t++)
        if (strcmp(text, dg_dtype_name((dg_dtype)t)) == 0) return t;
    return strtod(text, NULL);
}

static void read_texts(dg_op *op)
{
    char w[48];
    const char *s = op->inputs;
    while (dg_next_word(&s, w, sizeof w)) {
        char *mark = strpbrk(w, "?*");
        bool list = mark && *mark == '*';
        if (mark) *mark = 0;
        snprintf(op->in_name[op->n_in_most], sizeof op->in_name[0], "%.15s", w);
        op->optional[op->n_in_most] = mark && !list;
        if (!mark) op->n_in_least = op->n_in_most + 1;
        op->n_in_most = list ? -1 : op->n_in_most + 1;
        if (list) op->n_in_least = 1;
    }
    for (s = op->attrs_text; dg_next_word(&s, w, sizeof w); op->n_attrs++) {
        dg_op_attr *a = &op->attrs[op->n_attrs];
        char *type = strchr(w, ':'), *def = strchr(w, '=');
        if (def) *def++ = 0;
        *type++ = 0;
        snprintf(a->name, sizeof a->name, "%.23s", w);
        a->type = *type;
        a->has_default = def != NULL;
        a->def = def ? default_value(def) : 0;
    }
    for (s = op->outputs; dg_next_word(&s, w, sizeof w);) op->n_out++;
    op->grad = dg_grad_rule(op->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const dg_op *const *)a)->name, (*(const dg_op *const *)b)->name);
}

static void set_up(void)
{
    for (int i = 0; i < N_OPS; i++) {
        read_texts(&table[i]);
        by_name[i] = &table[i];
    }
    qsort(by_name, N_OPS, sizeof by_name[0], compare_names);
}

const dg_op *dg_op_find(const char *name)
{
    pthread_once(&once, set_up);
    const dg_op key = {.name = name}, *p = &key;
    const dg_op **hit = bsearch(&p, by_name, N_OPS, sizeof by_name[0], compare_names);
    return hit ? *hit : NULL;
}

bool dg_op_over_ranks(const dg_op *op)
{
    if (strcmp(op->name, "all_reduce") == 0) return true;
    for (int k = 0; k < op->n_attrs; k++)
        if (strcmp(op->attrs[k].name, "ranks") == 0) return true;
    return false;
}

size_t dg_op_count(void)
{
    return N_OPS;
}

const dg_op *dg_op_at(size_t i)
{
    pthread_once(&once, set_up);
    return &table[i];
}
