/* compile.c - from a program to an executable: lives of values, updates in place, the arena, pointers. */
#include "cpu.h"

/* ---- updates */

/* Which input of adamw each of its outputs may overwrite. */
static const int adamw_input[] = {0, 2, 3};

/* Node n reads the leaf's elements and writes those of v: is each read before it is overwritten? */
static bool overwrites(const dg_cpu_plan *c, uint32_t n, int32_t v, int32_t leaf)
{
    const dg_program_node *node = &c->p->nodes[n];
    const dg_cpu_chain *chain = c->values[v].chain;
    if (strcmp(node->op, "adamw") == 0) {
        uint32_t same = (uint32_t)adamw_input[v - node->out];
        for (uint32_t k = 0; k < node->n_in; k++)
            if (node->in[k] >= 0 && (c->values[node->in[k]].view.root == leaf) != (k == same)) return false;
        return node->in[same] == leaf;
    }
    if (!chain) return false;
    const dg_type *t = dg_cpu_type(c, v);
    for (int32_t k = 0; k < chain->e.n_leaves; k++) {
        dg_cpu_view view = {0};
        if (chain->values[k] != leaf) continue;
        memcpy(view.stride, chain->e.leaves[k].stride, sizeof view.stride);
        if (chain->e.leaves[k].padded || chain->e.leaves[k].offset || !dg_cpu_is_dense(&view, t))
            return false;
    }
    return true;
}

/* Values that can be written right into the leaf that they replace. */
static void place_updates(dg_cpu_plan *c)
{
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_program_leaf *leaf = &c->p->leaves[l];
        if (leaf->update < 0 || leaf->kind == DG_LEAF_INPUT) continue;
        dg_cpu_value *u = &c->values[leaf->update];
        int32_t n = c->p->values[leaf->update].node, last = c->values[leaf->value].last_read;
        if (n < 0 || u->home != DG_CPU_ARENA || u->view.root != leaf->update || last > n) continue;
        if (last == n && !overwrites(c, (uint32_t)n, leaf->update, leaf->value)) continue;
        u->home = DG_CPU_LEAF;
        u->leaf = (int32_t)l;
    }
}

/* What happens after the last node: outputs are read; updates that are not in place are copied. */
static void emit_end(dg_cpu_plan *c)
{
    const dg_program *p = c->p;
    c->time = (int32_t)p->n_nodes;
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const void *at = dg_cpu_in(c, p->outputs[k].value);
        if (!c->dry) c->outputs[k] = at;
    }
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        int32_t u = p->leaves[l].update;
        if (u < 0 || p->leaves[l].kind == DG_LEAF_INPUT) continue;
        uint64_t bytes = (uint64_t)dg_type_bytes(dg_cpu_type(c, u));
        const dg_cpu_value *root = &c->values[c->values[u].view.root];
        bool staged =
            root->home == DG_CPU_LEAF && root->leaf < 0; /* another leaf, which may be overwritten first */
        const void *from = dg_cpu_in(c, u);
        void *stage = staged ? dg_cpu_scratch(c, bytes) : NULL;
        if (c->dry || c->values[u].leaf == (int32_t)l) continue;
        c->copies[c->n_copies++] = (dg_cpu_copy){c->values[p->leaves[l].value].memory, from, stage, bytes};
    }
}

/* ---- the arena */

static dg_status plan_arena(dg_cpu_plan *c)
{
    uint32_t n = 0, n_values = c->p->n_values, total = n_values + c->n_scratch;
    dg_plan_block *blocks = dg_cpu_pool_take(&c->plan_pool, total * sizeof *blocks);
    if (!blocks) {
        dg_cpu_nomem(c, total * sizeof *blocks, "the plan");
        return c->status;
    }
    for (uint32_t v = 0; v < n_values; v++) {
        const dg_cpu_value *value = &c->values[v];
        dg_plan_block *b = &blocks[n++];
        *b = (dg_plan_block){0, value->first, value->last, 0};
        bool input = value->home == DG_CPU_INPUT && value->last >= 0;
        if (input) b->first = -1;
        if (input || (value->home == DG_CPU_ARENA && value->first >= 0))
            b->size = (uint64_t)dg_type_bytes(&c->p->values[v].type);
    }
    for (uint32_t k = 0; k < c->n_scratch; k++) blocks[n++] = c->scratch[k];
    c->arena_bytes = dg_plan(blocks, total);
    if (c->arena_bytes == UINT64_MAX) {
        dg_cpu_nomem(c, total * sizeof(void *), "the plan");
        return c->status;
    }
    for (uint32_t v = 0; v < n_values; v++) c->values[v].at = blocks[v].offset;
    for (uint32_t k = 0; k < c->n_scratch; k++) c->scratch[k].offset = blocks[n_values + k].offset;
    return DG_OK;
}

/* Everything up to the real round. */
static dg_status prepare(dg_cpu_plan *c, dg_cpu *cpu, const dg_program *p, dg_error *err)
{
    *c = (dg_cpu_plan){
        .cpu = cpu, .p = p, .dry = true, .err = err, .plan_pool = {cpu, NULL}, .pool = {cpu, NULL}};
    DG_TRY(dg_cpu_check(cpu, p, NULL, NULL, err));
    uint64_t bytes = (p->n_values + 1) * sizeof *c->values;
    c->values = dg_cpu_pool_take(&c->plan_pool, bytes);
    if (!c->values) {
        dg_cpu_nomem(c, bytes, "the plan");
        return c->status;
    }
    DG_TRY(dg_cpu_plan_values(c));
    DG_TRY(dg_cpu_plan_emit(c));
    emit_end(c);
    if (c->status == DG_OK) place_updates(c);
    return c->status == DG_OK ? plan_arena(c) : c->status;
}

dg_status dg_cpu_memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err)
{
    dg_cpu *cpu = self;
    dg_cpu_plan c;
    int threads = dg_cpu_threads_begin(cpu->threads);
    dg_status s = prepare(&c, cpu, p, err);
    dg_cpu_threads_end(threads);
    if (s == DG_OK) {
        uint64_t state = 0;
        for (uint32_t l = 0; l < p->n_leaves; l++)
            if (p->leaves[l].kind != DG_LEAF_INPUT)
                state += (uint64_t)dg_type_bytes(dg_cpu_type(&c, p->leaves[l].value));
        *out = (dg_memory_need){.struct_size = (uint32_t)sizeof *out,
                                .state = state,
                                .temporary = c.arena_bytes + c.constant_bytes +
                                             c.worker_bytes * (uint64_t)cpu->threads,
                                .packed = c.packed_bytes};
    }
    dg_cpu_pool_free(&c.plan_pool);
    dg_cpu_pool_free(&c.pool);
    return s;
}

/* ---- frozen weights */

bool dg_cpu_is_frozen(const dg_cpu_plan *c, int32_t v)
{
    int32_t l = c->p->values[v].leaf;
    return l >= 0 && c->p->leaves[l].kind == DG_LEAF_FROZEN && c->p->leaves[l].update < 0 &&
           c->values[v].uses == 1;
}

void dg_cpu_frozen_layout(dg_cpu_plan *c, int32_t v, const dnnl_memory_desc_t *plain,
                          const dnnl_memory_desc_t *layout)
{
    if (c->dry) return;
    dg_cpu_frozen *f = &c->frozen[c->p->values[v].leaf];
    f->packed = true;
    f->plain = *plain;
    f->layout = *layout;
}

/* ---- the executable */

static dg_status bind_leaves(dg_cpu_plan *c, dg_backend_store *s)
{
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_program_leaf *leaf = &c->p->leaves[l];
        const dg_type *t = dg_cpu_type(c, leaf->value);
        if (leaf->kind == DG_LEAF_INPUT) continue;
        DG_TRY(dg_cpu_store_add(s, leaf->name, t, c->err));
        dg_cpu_tensor *tensor = dg_cpu_store_find(s, leaf->name, t);
        c->values[leaf->value].memory = tensor->data;
        if (leaf->kind == DG_LEAF_FROZEN) c->frozen[l].tensor = tensor;
        if (leaf->update >= 0 && c->values[leaf->update].leaf == (int32_t)l)
            c->values[leaf->update].memory = c->values[leaf->value].memory;
    }
    return DG_OK;
}

static void *persistent(dg_cpu_plan *c, uint64_t n, uint64_t size, const char *what)
{
    void *p = dg_cpu_pool_take(&c->pool, n * size);
    if (!p) dg_cpu_nomem(c, n * size, what);
    return p;
}

static dg_status make(dg_backend_exe *exe, dg_backend_store *s)
{
    dg_cpu_plan *c = &exe->plan;
    const dg_program *p = c->p;
    exe->store = s;
    exe->seen = s->changes - 1;
    c->frozen = persistent(c, p->n_leaves, sizeof *c->frozen, "the weights");
    if (c->status != DG_OK) return c->status;
    DG_TRY(bind_leaves(c, s));
    uint64_t workers = c->worker_bytes * (uint64_t)c->cpu->threads;
    c->arena = dg_cpu_allocate(c->cpu, c->arena_bytes);
    if (!c->arena) dg_cpu_nomem(c, c->arena_bytes, "the values");
    exe->workers = dg_cpu_allocate(c->cpu, workers);
    if (!exe->workers) dg_cpu_nomem(c, workers, "the threads");
    exe->times = persistent(c, p->n_nodes, sizeof *exe->times, "the times");
    c->outputs = persistent(c, p->n_outputs, sizeof *c->outputs, "the outputs");
    c->inputs = persistent(c, p->n_leaves, sizeof *c->inputs, "the inputs");
    c->copies = persistent(c, p->n_leaves, sizeof *c->copies, "the updates");
    if (c->status != DG_OK) return c->status;
    c->dry = false;
    DG_TRY(dg_cpu_plan_emit(c));
    emit_end(c);
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        const dg_cpu_value *value = &c->values[p->leaves[l].value];
        if (p->leaves[l].kind != DG_LEAF_INPUT) continue;
        uint64_t bytes = value->last >= 0 ? (uint64_t)dg_type_bytes(dg_cpu_type(c, p->leaves[l].value)) : 0;
        c->inputs[c->n_inputs++] = (dg_cpu_copy){c->arena + value->at, NULL, NULL, bytes};
    }
    return c->status;
}

dg_status dg_cpu_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                         dg_error *err)
{
    dg_cpu *cpu = self;
    *out = NULL;
    dg_backend_exe *exe = cpu->host->allocate(sizeof *exe);
    if (!exe) return dg_fail(err, DG_ERR_NOMEM, "out of memory while compiling '%s'", p->name);
    int threads = dg_cpu_threads_begin(cpu->threads);
    dg_status status = prepare(&exe->plan, cpu, p, err);
    if (status == DG_OK) status = make(exe, s);
    dg_cpu_threads_end(threads);
    dg_cpu_pool_free(&exe->plan.plan_pool);
    exe->plan.values = NULL;
    if (status == DG_OK)
        *out = exe;
    else
        dg_cpu_release(exe);
    return status;
}

void dg_cpu_release(dg_backend_exe *exe)
{
    if (!exe) return;
    const dg_cpu *cpu = exe->plan.cpu;
    dg_cpu_products_free(&exe->plan);
    dg_cpu_int8_free(&exe->plan);
    dg_cpu_pool_free(&exe->plan.pool);
    dg_cpu_free(cpu, exe->plan.arena);
    dg_cpu_free(cpu, exe->workers);
    cpu->host->release(exe);
}
