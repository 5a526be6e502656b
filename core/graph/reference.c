/* reference.c - the interpreter as a backend: no native composites, every result rounded to its dtype. */
#include "graph.h"

#include <time.h>

#include "base/mem.h"

/* ---- the store: tensors in their stored form, by name */

typedef struct tensor {
    char *name;
    dg_type type;
    unsigned char *data; /* [dg_type_bytes] */
} tensor;

struct dg_backend_store {
    tensor *tensors;
    size_t n, room;
};

static tensor *find(dg_backend_store *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->tensors[i].name, name) == 0) return &s->tensors[i];
    return NULL;
}

static dg_status store_create(void *self, dg_backend_store **out, dg_error *err)
{
    (void)self;
    *out = dg_calloc(1, sizeof **out);
    return *out ? DG_OK : dg_fail(err, DG_ERR_NOMEM, "out of memory for a store");
}

static void store_destroy(dg_backend_store *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        dg_free(s->tensors[i].name);
        dg_free(s->tensors[i].data);
    }
    dg_free(s->tensors);
    dg_free(s);
}

static dg_status store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err)
{
    char a[96], b[96];
    tensor *old = find(s, name);
    if (old) {
        if (old->type.dtype == type->dtype && dg_same_dims(&old->type, type)) return DG_OK;
        return dg_fail(err, DG_ERR_MISMATCH, "the store has '%s' as %s, not %s", name,
                       dg_type_text(&old->type, a, sizeof a), dg_type_text(type, b, sizeof b));
    }
    tensor t = {dg_strdup(name), *type, dg_calloc((size_t)dg_type_bytes(type), 1)};
    if (!t.name || !t.data || !dg_grow(&s->tensors, s->n, &s->room, sizeof *s->tensors)) {
        dg_free(t.name);
        dg_free(t.data);
        return dg_fail(err, DG_ERR_NOMEM, "out of memory for '%s' (%s)", name,
                       dg_type_text(type, a, sizeof a));
    }
    s->tensors[s->n++] = t;
    return DG_OK;
}

/* The bytes [offset, offset + bytes) of a tensor. */
static dg_status part(dg_backend_store *s, const char *name, uint64_t offset, uint64_t bytes,
                      unsigned char **at, dg_error *err)
{
    tensor *t = find(s, name);
    if (!t) return dg_fail(err, DG_ERR_NOT_FOUND, "the store has no tensor '%s'", name);
    uint64_t size = (uint64_t)dg_type_bytes(&t->type);
    if (offset > size || bytes > size - offset)
        return dg_fail(err, DG_ERR_INVALID, "'%s' has %llu bytes; %llu at offset %llu are outside", name,
                       (unsigned long long)size, (unsigned long long)bytes, (unsigned long long)offset);
    *at = t->data + offset;
    return DG_OK;
}

static dg_status store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err)
{
    unsigned char *at;
    DG_TRY(part(s, name, offset, bytes, &at, err));
    memcpy(at, data, bytes);
    return DG_OK;
}

static dg_status store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                            uint64_t bytes, dg_error *err)
{
    unsigned char *at;
    DG_TRY(part(s, name, offset, bytes, &at, err));
    memcpy(data, at, bytes);
    return DG_OK;
}

/* ---- about the backend */

static dg_status create(const dg_host *host, const dg_params *params, void **self, dg_error *err)
{
    (void)host, (void)params, (void)err;
    static char none; /* there is nothing to keep */
    *self = &none;
    return DG_OK;
}

static void destroy(void *self)
{
    (void)self;
}

static dg_status devices(void *self, dg_device_info *out, uint32_t room, uint32_t *n, dg_error *err)
{
    (void)self, (void)err;
    *n = 1;
    if (room > 0)
        out[0] = (dg_device_info){(uint32_t)sizeof *out, 0, 0, "reference",
                                  "the interpreter, in double precision"};
    return DG_OK;
}

static void fingerprint(void *self, char *out, size_t size)
{
    (void)self;
    snprintf(out, size, "reference: double precision, rounded at every value");
}

static dg_dtype preferred(void *self)
{
    (void)self;
    return DG_F32;
}

static bool supports(void *self, const dg_work *work)
{
    (void)self, (void)work;
    return false;
}

static dg_status check(void *self, const dg_program *p, dg_complain_function complain, void *user,
                       dg_error *err)
{
    (void)self;
    uint32_t bad = 0, first = 0;
    for (uint32_t n = 0; n < p->n_nodes; n++) {
        const dg_program_node *node = &p->nodes[n];
        const dg_op *op = dg_op_find(node->op);
        const char *why = !op                  ? "there is no such op"
                          : op->cls != DG_PRIM ? "only primitives are run; it must be lowered"
                          : dg_attr_int(node->attrs, node->n_attrs, "ranks") > 1 ? "this backend is one rank"
                                                                                 : NULL;
        if (!why) continue;
        if (bad++ == 0) first = n;
        if (complain) complain(user, n, why);
    }
    if (!bad) return DG_OK;
    return dg_fail(err, DG_ERR_UNSUPPORTED,
                   "the reference backend cannot run %u nodes of '%s'; the first is '%s' in '%s'", bad,
                   p->name, p->nodes[first].op, p->nodes[first].scope);
}

static dg_status memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err)
{
    (void)self, (void)err;
    uint64_t state = 0, temporary = 0;
    for (uint32_t v = 0; v < p->n_values; v++)
        temporary += (uint64_t)dg_type_count(&p->values[v].type) * sizeof(double);
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].kind != DG_LEAF_INPUT)
            state += (uint64_t)dg_type_bytes(&p->values[p->leaves[l].value].type);
    *out = (dg_memory_need){(uint32_t)sizeof *out, 0, state, temporary, 0};
    return DG_OK;
}

/* ---- running */

struct dg_backend_exe {
    const dg_program *p;
    dg_backend_store *store;
    dg_interp *interp;
    dg_node_time *times; /* [n_nodes] */
    bool profiling;
};

static void release(dg_backend_exe *e)
{
    if (!e) return;
    dg_interp_destroy(e->interp);
    dg_free(e->times);
    dg_free(e);
}

static dg_status compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                         dg_error *err)
{
    *out = NULL;
    DG_TRY(check(self, p, NULL, NULL, err));
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].kind != DG_LEAF_INPUT)
            DG_TRY(store_add(s, p->leaves[l].name, &p->values[p->leaves[l].value].type, err));
    dg_backend_exe *e = dg_calloc(1, sizeof *e);
    if (e) e->times = dg_calloc(p->n_nodes, sizeof *e->times);
    if (!e || !e->times) {
        release(e);
        return dg_fail(err, DG_ERR_NOMEM, "out of memory while compiling '%s'", p->name);
    }
    e->p = p;
    e->store = s;
    dg_status status = dg_interp_create(p, true, &e->interp, err);
    if (status == DG_OK)
        *out = e;
    else
        release(e);
    return status;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dg_status run_nodes(dg_backend_exe *e, dg_error *err)
{
    for (uint32_t n = 0; n < e->p->n_nodes; n++) {
        double start = e->profiling ? now() : 0;
        DG_TRY(dg_interp_step(e->interp, n, err));
        if (!e->profiling) continue;
        e->times[n].node = n;
        e->times[n].runs++;
        e->times[n].seconds += now() - start;
    }
    return DG_OK;
}

static dg_status run(dg_backend_exe *e, const dg_run *r, dg_error *err)
{
    const dg_program *p = e->p;
    uint32_t input = 0;
    for (uint32_t l = 0; l < p->n_leaves; l++) input += p->leaves[l].kind == DG_LEAF_INPUT;
    if (r->n_inputs != input || r->n_outputs != p->n_outputs)
        return dg_fail(err, DG_ERR_INVALID, "'%s' takes %u inputs and gives %u outputs, not %u and %u",
                       p->name, input, p->n_outputs, r->n_inputs, r->n_outputs);
    input = 0;
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_type *t = &p->values[p->leaves[l].value].type;
        const void *from =
            p->leaves[l].kind == DG_LEAF_INPUT ? r->inputs[input++] : find(e->store, p->leaves[l].name)->data;
        dg_to_doubles((dg_dtype)t->dtype, from, dg_type_count(t), dg_interp_leaf(e->interp, (int32_t)l));
    }
    DG_TRY(run_nodes(e, err));
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const dg_type *t = &p->values[p->outputs[k].value].type;
        if (!r->outputs[k]) continue;
        dg_from_doubles((dg_dtype)t->dtype, dg_interp_value(e->interp, p->outputs[k].value), dg_type_count(t),
                        r->outputs[k]);
    }
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        int32_t update = p->leaves[l].update;
        if (update < 0) continue;
        const dg_type *t = &p->values[update].type;
        dg_from_doubles((dg_dtype)t->dtype, dg_interp_value(e->interp, update), dg_type_count(t),
                        find(e->store, p->leaves[l].name)->data);
    }
    return DG_OK;
}

static void profile(dg_backend_exe *e, bool on)
{
    if (on && !e->profiling) memset(e->times, 0, e->p->n_nodes * sizeof *e->times);
    e->profiling = on;
}

static dg_status times(dg_backend_exe *e, dg_node_time *out, uint32_t room, uint32_t *n, dg_error *err)
{
    (void)err;
    *n = e->p->n_nodes;
    if (room && *n) memcpy(out, e->times, (room < *n ? room : *n) * sizeof *out);
    return DG_OK;
}

static const dg_backend_interface interface = {
    .struct_size = (uint32_t)sizeof interface,
    .create = create,
    .destroy = destroy,
    .devices = devices,
    .fingerprint = fingerprint,
    .preferred = preferred,
    .supports = supports,
    .check = check,
    .memory = memory,
    .store_create = store_create,
    .store_destroy = store_destroy,
    .store_add = store_add,
    .store_write = store_write,
    .store_read = store_read,
    .compile = compile,
    .release = release,
    .run = run,
    .profile = profile,
    .times = times,
};

const dg_factory dg_reference_backend = {
    .struct_size = (uint32_t)sizeof dg_reference_backend,
    .name = "reference",
    .help = "the interpreter in double precision, slow and plain: what other backends are compared with",
    .interface = &interface,
};
