/* cases.c - the rows of cases.def, built as graphs and filled with values. */
#include "rules.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "digpt/philox.h"

static const dg_case cases[] = {
#define CASE(OP, TYPES, ATTRS, DATA) {#OP, TYPES, ATTRS, DATA},
#include "cases.def"
#undef CASE
};

size_t dg_case_count(void)
{
    return sizeof cases / sizeof cases[0];
}

const dg_case *dg_case_at(size_t i)
{
    return &cases[i];
}

/* ---- reading a row */

enum { MOST_NUMBERS = 32 };

static dg_dtype dtype_named(const char *name, size_t length)
{
    for (int t = DG_NONE; t < DG_DTYPE_COUNT; t++) {
        const char *known = dg_dtype_name((dg_dtype)t);
        if (strlen(known) == length && memcmp(known, name, length) == 0) return (dg_dtype)t;
    }
    return DG_DTYPE_COUNT;
}

/* "[1,2.5]" into out; -1 if it is not a list of at most MOST_NUMBERS numbers. */
static int read_list(const char *s, double *out)
{
    int n = 0;
    if (*s++ != '[') return -1;
    if (*s == ']') return s[1] ? -1 : 0;
    while (n < MOST_NUMBERS) {
        char *end;
        out[n++] = strtod(s, &end);
        if (end == s || (*end != ',' && *end != ']')) return -1;
        if (*end == ']') return end[1] ? -1 : n;
        s = end + 1;
    }
    return -1;
}

static bool read_type(const char *s, dg_type *t)
{
    double dims[MOST_NUMBERS];
    size_t name = strcspn(s, "[");
    int n = read_list(s + name, dims);
    *t = (dg_type){dtype_named(s, name), n, {0}};
    if (t->dtype == DG_NONE || t->dtype == DG_DTYPE_COUNT || n < 0 || n > DG_MAX_RANK) return false;
    for (int i = 0; i < n; i++) t->dims[i] = (int64_t)dims[i];
    return true;
}

/* Room for what attributes point to. */
typedef struct attr_room {
    char name[24];
    int64_t ints[MOST_NUMBERS];
    double floats[MOST_NUMBERS];
} attr_room;

/* "name=value" by the op's table; data: the dtype of bytes. */
static bool read_attr(const dg_op *op, const char *word, dg_dtype data, attr_room *room, dg_attr *a)
{
    const char *value = strchr(word, '=');
    const dg_op_attr *row = NULL;
    if (!value || (size_t)(value - word) >= sizeof room->name) return false;
    snprintf(room->name, sizeof room->name, "%.*s", (int)(value++ - word), word);
    for (int k = 0; k < op->n_attrs; k++)
        if (strcmp(op->attrs[k].name, room->name) == 0) row = &op->attrs[k];
    if (!row) return false;
    *a = (dg_attr){.name = room->name, .type = DG_ATTR_INT};
    if (strchr("IFB", row->type)) {
        int n = read_list(value, room->floats);
        if (n < 0) return false;
        for (int i = 0; i < n; i++) room->ints[i] = (int64_t)room->floats[i];
        a->type = row->type == 'I' ? DG_ATTR_INTS : row->type == 'F' ? DG_ATTR_FLOATS : DG_ATTR_BYTES;
        a->n = (uint64_t)n * (row->type == 'B' ? dg_dtype_size(data) : 1);
        if (row->type == 'B') dg_from_doubles(data, room->floats, n, room->ints);
        if (row->type == 'F')
            a->v.fs = room->floats;
        else
            a->v.bytes = room->ints;
    } else if (row->type == 'd') {
        a->v.i = dtype_named(value, strlen(value));
    } else if (row->type == 'f') {
        a->type = DG_ATTR_FLOAT;
        a->v.f = strtod(value, NULL);
    } else {
        a->v.i = strtoll(value, NULL, 10);
    }
    return true;
}

dg_status dg_case_build(const dg_case *c, dg_graph *g, dg_value *in, size_t *n_in, dg_value *y, dg_error *err)
{
    const dg_op *op = dg_op_find(c->op);
    dg_attr attrs[DG_OP_MAX_ATTRS];
    attr_room rooms[DG_OP_MAX_ATTRS];
    size_t n_attrs = 0;
    dg_dtype data = DG_F32;
    char word[256], name[32];
    if (!op) return dg_fail(err, DG_ERR_INVALID, "there is no op '%s'", c->op);
    const char *s = c->types;
    for (*n_in = 0; dg_next_word(&s, word, sizeof word); ++*n_in) {
        dg_type t;
        if (*n_in == DG_OP_MAX_IN)
            return dg_fail(err, DG_ERR_INVALID, "a case of %s has more than %d inputs", c->op, DG_OP_MAX_IN);
        in[*n_in] = DG_NO_VALUE;
        if (strcmp(word, "-") == 0) continue;
        if (!read_type(word, &t))
            return dg_fail(err, DG_ERR_INVALID, "'%s' in a case of %s is not a type", word, c->op);
        snprintf(name, sizeof name, "in%zu", *n_in);
        in[*n_in] = dg_input(g, name, (dg_dtype)t.dtype, t.dims, (size_t)t.rank, DG_PER_BATCH);
    }
    for (s = c->attrs; dg_next_word(&s, word, sizeof word); n_attrs++) {
        if (n_attrs == DG_OP_MAX_ATTRS || !read_attr(op, word, data, &rooms[n_attrs], &attrs[n_attrs]))
            return dg_fail(err, DG_ERR_INVALID, "'%s' in a case of %s is not one of its attributes", word,
                           c->op);
        if (strcmp(rooms[n_attrs].name, "dtype") == 0) data = (dg_dtype)attrs[n_attrs].v.i;
    }
    *y = g->api->node(g, c->op, in, *n_in, attrs, n_attrs);
    return dg_graph_error(g, err);
}

/* ---- values */

typedef struct filler {
    dg_rng rng;
    const dg_type *type;
    int64_t low, high; /* of int: and odd: */
    int32_t *order;    /* [count] a permutation; for spread */
    double shift;      /* keeps spread inputs apart from each other */
} filler;

static double fill_normal(filler *f, int64_t i)
{
    (void)i;
    switch (f->type->dtype) {
    case DG_I32:
        return (double)dg_rng_below(&f->rng, 7) - 3;
    case DG_U8:
        return (double)dg_rng_below(&f->rng, 256);
    case DG_BOOL:
        return (double)dg_rng_below(&f->rng, 2);
    default:
        return dg_rng_normal(&f->rng);
    }
}

static double fill_positive(filler *f, int64_t i)
{
    (void)i;
    return 0.5 + fabs(dg_rng_normal(&f->rng));
}

static double fill_away(filler *f, int64_t i)
{
    (void)i;
    double x = dg_rng_normal(&f->rng);
    return x + copysign(0.25, x);
}

static double fill_unit(filler *f, int64_t i)
{
    (void)i;
    return 1.8 * dg_rng_uniform(&f->rng) - 0.9;
}

static double fill_spread(filler *f, int64_t i)
{
    return ((double)f->order[i] - (double)(dg_type_count(f->type) / 2)) * 0.25 + 0.125 + f->shift;
}

static double fill_int(filler *f, int64_t i)
{
    (void)i;
    return (double)(f->low + (int64_t)dg_rng_below(&f->rng, (uint32_t)(f->high - f->low + 1)));
}

static double fill_odd(filler *f, int64_t i)
{
    static const double odd[] = {INFINITY, -INFINITY, NAN};
    return i % 2 ? odd[i / 2 % 3] : fill_int(f, i);
}

static double fill_true(filler *f, int64_t i)
{
    (void)f, (void)i;
    return 1;
}

static double fill_false(filler *f, int64_t i)
{
    (void)f, (void)i;
    return 0;
}

static double fill_again(filler *f, int64_t i)
{
    (void)i;
    return (double)dg_rng_below(&f->rng, 5) * 0.5;
}

static const struct {
    const char *word;
    double (*f)(filler *f, int64_t i);
} fillers[] = {
    {"normal", fill_normal}, {"positive", fill_positive}, {"away", fill_away},   {"unit", fill_unit},
    {"spread", fill_spread}, {"chance", fill_positive},   {"int", fill_int},     {"odd", fill_odd},
    {"true", fill_true},     {"false", fill_false},       {"again", fill_again},
};

/* The word for input k; the last one serves the rest. */
static void word_of(const dg_case *c, size_t k, char *word, size_t room)
{
    const char *s = c->data;
    snprintf(word, room, "normal");
    for (size_t i = 0; i <= k && dg_next_word(&s, word, room); i++) {
    }
}

void dg_case_fill(const dg_case *c, size_t k, const dg_type *type, uint64_t seed, double *out)
{
    char word[32];
    int64_t n = dg_type_count(type), row = type->rank ? type->dims[type->rank - 1] : 1;
    filler f = {dg_rng_make(seed, DG_RNG_PLUGIN, k, 0), type, 0, 0, NULL, 0.0625 * (double)(k % 2)};
    word_of(c, k, word, sizeof word);
    char *range = strchr(word, ':');
    if (range) {
        char *high;
        *range = 0;
        f.low = strtoll(range + 1, &high, 10);
        f.high = *high ? strtoll(high + 1, NULL, 10) : f.low;
    }
    size_t which = 0;
    while (which + 1 < sizeof fillers / sizeof fillers[0] && strcmp(fillers[which].word, word) != 0) which++;
    if (fillers[which].f == fill_spread) {
        f.order = dg_calloc((size_t)n, sizeof *f.order);
        if (!f.order) which = 0;
        if (f.order) dg_rng_permutation(&f.rng, f.order, (int32_t)n);
    }
    for (int64_t i = 0; i < n; i++) out[i] = fillers[which].f(&f, i);
    dg_free(f.order);
    for (int64_t i = 0; i < n && strcmp(word, "chance") == 0; i += row) {
        double sum = 0;
        for (int64_t j = 0; j < row; j++) sum += out[i + j];
        for (int64_t j = 0; j < row; j++) out[i + j] /= sum;
    }
    dg_round_doubles((dg_dtype)type->dtype, out, n);
}
