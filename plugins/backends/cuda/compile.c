/* compile.c - from a program to an executable: lives of values, updates in place, the arena, pointers. */
#include "cuda.h"

/* ---- updates */

/* Which input of adamw each of its outputs may overwrite. */
static const uint32_t adamw_input[] = {0, 2, 3};

/* Node n reads the leaf's elements and writes those of v: does each thread read what it overwrites, and no
 * other does? */
static bool overwrites(const dg_cuda_plan *c, uint32_t n, int32_t v, int32_t leaf)
{
    const dg_program_node *node = &c->p->nodes[n];
    const dg_cuda_chain *chain = c->values[v].chain;
    if (strcmp(node->op, "adamw") == 0) {
        uint32_t same = adamw_input[v - node->out];
        for (uint32_t k = 0; k < node->n_in; k++)
            if (node->in[k] >= 0 && (c->values[node->in[k]].view.root == leaf) != (k == same)) return false;
        return node->in[same] == leaf;
    }
    if (!chain) return false;
    for (int32_t k = 0; k < chain->e.n_leaves; k++)
        if (chain->roots[k] == leaf && (chain->offsets[k] || chain->e.leaves[k].padded ||
                                        !dg_cuda_is_dense(chain->e.leaves[k].stride, dg_cuda_type(c, v))))
            return false;
    return true;
}

/* Values that can be written right into the leaf that they replace. */
static void place_updates(dg_cuda_plan *c)
{
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_program_leaf *leaf = &c->p->leaves[l];
        if (leaf->update < 0 || leaf->kind == DG_LEAF_INPUT) continue;
        dg_cuda_value *u = &c->values[leaf->update];
        int32_t n = c->p->values[leaf->update].node, last = c->values[leaf->value].last_read;
        if (n < 0 || u->home != DG_CUDA_ARENA || u->view.root != leaf->update || last > n) continue;
        if (last == n && !overwrites(c, (uint32_t)n, leaf->update, leaf->value)) continue;
        u->home = DG_CUDA_LEAF;
        u->leaf = (int32_t)l;
    }
}

/* ---- after the last node */

/* Is v in the memory of a leaf that is replaced at the end? */
static bool is_replaced(const dg_cuda_plan *c, int32_t v)
{
    int32_t owner = c->values[v].own ? v : c->values[v].view.root;
    return owner < (int32_t)c->p->n_leaves && c->p->leaves[owner].update >= 0; /* leaf i is value i */
}

/* v's elements, safe from the copies at the end. */
static const void *saved(dg_cuda_plan *c, int32_t v)
{
    uint64_t bytes = (uint64_t)dg_type_bytes(dg_cuda_type(c, v));
    const void *from = dg_cuda_in(c, v);
    if (!is_replaced(c, v)) return from;
    void *stage = dg_cuda_scratch(c, bytes);
    dg_cuda_add_copy(c, stage, from, bytes);
    return stage;
}

/* Outputs are read; updates that are not in place are copied into their leaves: first all that may be an old
 * value of another leaf is saved, then the leaves are written. */
static void emit_end(dg_cuda_plan *c)
{
    const dg_program *p = c->p;
    const void **sources = dg_cuda_take(&c->plan_pool, (p->n_leaves + 1) * sizeof *sources);
    if (!sources) {
        dg_cuda_nomem(c, p->n_leaves * sizeof *sources, "the plan");
        return;
    }
    c->time = (int32_t)p->n_nodes;
    for (uint32_t k = 0; k < p->n_outputs; k++) {
        const void *at = saved(c, p->outputs[k].value);
        if (!c->dry) c->outputs[k] = at;
    }
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].update >= 0 && p->leaves[l].kind != DG_LEAF_INPUT)
            sources[l] = saved(c, p->leaves[l].update);
    for (uint32_t l = 0; l < p->n_leaves; l++) {
        int32_t u = p->leaves[l].update;
        if (u < 0 || p->leaves[l].kind == DG_LEAF_INPUT || c->values[u].leaf == (int32_t)l) continue;
        dg_cuda_add_copy(c, c->values[p->leaves[l].value].memory, sources[l],
                         (uint64_t)dg_type_bytes(dg_cuda_type(c, u)));
    }
}

/* ---- the arena */

static dg_status plan_arena(dg_cuda_plan *c)
{
    uint32_t n_values = c->p->n_values, total = n_values + c->n_scratch;
    dg_plan_block *blocks = dg_cuda_take(&c->plan_pool, (total + 1) * sizeof *blocks);
    if (!blocks) {
        dg_cuda_nomem(c, total * sizeof *blocks, "the plan");
        return c->status;
    }
    for (uint32_t v = 0; v < n_values; v++) {
        const dg_cuda_value *value = &c->values[v];
        bool input = value->home == DG_CUDA_INPUT && value->last >= 0;
        blocks[v] = (dg_plan_block){0, input ? -1 : value->first, value->last, 0};
        if (input || (value->home == DG_CUDA_ARENA && value->first >= 0))
            blocks[v].size = (uint64_t)dg_type_bytes(&c->p->values[v].type);
    }
    for (uint32_t k = 0; k < c->n_scratch; k++) blocks[n_values + k] = c->scratch[k];
    c->arena_bytes = dg_plan(blocks, total);
    if (c->arena_bytes == UINT64_MAX) {
        dg_cuda_nomem(c, total * sizeof(void *), "the plan");
        return c->status;
    }
    for (uint32_t v = 0; v < n_values; v++)
        if (c->values[v].home != DG_CUDA_CONSTANT) c->values[v].at = blocks[v].offset;
    for (uint32_t k = 0; k < c->n_scratch; k++) c->scratch[k].offset = blocks[n_values + k].offset;
    return DG_OK;
}

/* Everything up to the real round; needs no device. */
static dg_status prepare(dg_cuda_plan *c, dg_cuda *cuda, const dg_program *p, dg_error *err)
{
    *c = (dg_cuda_plan){.cuda = cuda,
                        .p = p,
                        .dry = true,
                        .err = err,
                        .plan_pool = {cuda->host, NULL},
                        .pool = {cuda->host, NULL}};
    DG_TRY(dg_cuda_check_program(cuda, p, NULL, NULL, err));
    for (uint32_t l = 0; l < p->n_leaves; l++)
        if (p->leaves[l].kind == DG_LEAF_INPUT && p->leaves[l].update >= 0)
            return dg_fail(err, DG_ERR_UNSUPPORTED, "program %s updates its input %s", p->name,
                           p->leaves[l].name);
    uint64_t bytes = (p->n_values + 1) * sizeof *c->values;
    c->values = dg_cuda_take(&c->plan_pool, bytes);
    if (!c->values) {
        dg_cuda_nomem(c, bytes, "the plan");
        return c->status;
    }
    DG_TRY(dg_cuda_plan_values(c));
    DG_TRY(dg_cuda_plan_emit(c));
    emit_end(c);
    if (c->status == DG_OK) place_updates(c);
    return c->status == DG_OK ? plan_arena(c) : c->status;
}

dg_status dg_cuda_memory(void *self, const dg_program *p, dg_memory_need *out, dg_error *err)
{
    dg_cuda_plan c;
    dg_status s = prepare(&c, self, p, err);
    if (s == DG_OK) {
        uint64_t state = 0;
        for (uint32_t l = 0; l < p->n_leaves; l++)
            if (p->leaves[l].kind != DG_LEAF_INPUT)
                state += (uint64_t)dg_type_bytes(dg_cuda_type(&c, p->leaves[l].value));
        *out = (dg_memory_need){.struct_size = (uint32_t)sizeof *out,
                                .state = state,
                                .temporary = c.arena_bytes + c.constant_bytes + DG_CUDA_WORKSPACE};
    }
    dg_cuda_pool_free(&c.plan_pool);
    dg_cuda_pool_free(&c.pool);
    return s;
}

/* ---- the executable */

static dg_status bind_leaves(dg_cuda_plan *c, dg_backend_store *s)
{
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_program_leaf *leaf = &c->p->leaves[l];
        if (leaf->kind == DG_LEAF_INPUT) continue;
        DG_TRY(dg_cuda_store_add(s, leaf->name, dg_cuda_type(c, leaf->value), c->err));
        c->values[leaf->value].memory = dg_cuda_store_find(s, leaf->name);
        if (leaf->update >= 0 && c->values[leaf->update].leaf == (int32_t)l)
            c->values[leaf->update].memory = c->values[leaf->value].memory;
    }
    return DG_OK;
}

static void *persistent(dg_cuda_plan *c, uint64_t n, uint64_t size, const char *what)
{
    void *p = dg_cuda_take(&c->pool, (n + 1) * size);
    if (!p) dg_cuda_nomem(c, n * size, what);
    return p;
}

static void list_inputs(dg_cuda_plan *c)
{
    for (uint32_t l = 0; l < c->p->n_leaves; l++) {
        const dg_cuda_value *value = &c->values[c->p->leaves[l].value];
        if (c->p->leaves[l].kind != DG_LEAF_INPUT) continue;
        c->inputs[c->n_inputs] = value->last >= 0 ? c->arena + value->at : NULL;
        c->input_bytes[c->n_inputs++] = (uint64_t)dg_type_bytes(dg_cuda_type(c, c->p->leaves[l].value));
    }
}

static dg_status make(dg_backend_exe *exe, dg_backend_store *s, dg_error *err)
{
    dg_cuda_plan *c = &exe->plan;
    const dg_program *p = c->p;
    DG_TRY(bind_leaves(c, s));
    DG_TRY(dg_cuda_allocate((void **)&c->arena, c->arena_bytes, "the values of a step", err));
    DG_TRY(dg_cuda_allocate((void **)&c->constants, c->constant_bytes, "the constants of a step", err));
    c->constant_data = dg_cuda_take(&c->plan_pool, c->constant_bytes);
    if (!c->constant_data) dg_cuda_nomem(c, c->constant_bytes, "the constants");
    exe->times = persistent(c, p->n_nodes, sizeof *exe->times, "the times");
    c->outputs = persistent(c, p->n_outputs, sizeof *c->outputs, "the outputs");
    c->inputs = persistent(c, p->n_leaves, sizeof *c->inputs, "the inputs");
    c->input_bytes = persistent(c, p->n_leaves, sizeof *c->input_bytes, "the inputs");
    if (c->status != DG_OK) return c->status;
    c->dry = false;
    DG_TRY(dg_cuda_plan_emit(c));
    emit_end(c);
    list_inputs(c);
    DG_TRY(c->status);
    DG_TRY(dg_cuda_upload(c->cuda, c->constants, c->constant_data, c->constant_bytes, err));
    return dg_cuda_check(cudaStreamSynchronize(c->cuda->copy), "copying constants to the device", err);
}

dg_status dg_cuda_compile(void *self, const dg_program *p, dg_backend_store *s, dg_backend_exe **out,
                          dg_error *err)
{
    dg_cuda *cuda = self;
    *out = NULL;
    DG_TRY(dg_cuda_open(cuda, err));
    dg_backend_exe *exe = cuda->host->allocate(sizeof *exe);
    if (!exe) return dg_fail(err, DG_ERR_NOMEM, "out of memory while compiling program %s", p->name);
    dg_status status = prepare(&exe->plan, cuda, p, err);
    if (status == DG_OK) status = make(exe, s, err);
    dg_cuda_pool_free(&exe->plan.plan_pool);
    exe->plan.values = NULL;
    exe->plan.scratch = NULL;
    exe->plan.constant_data = NULL;
    if (status == DG_OK) {
        *out = exe;
        return DG_OK;
    }
    dg_fail_in(err, "program %s", p->name);
    dg_cuda_release(exe);
    return status;
}

void dg_cuda_release(dg_backend_exe *exe)
{
    if (!exe) return;
    const dg_host *host = exe->plan.cuda->host;
    dg_cuda_profile(exe, false);
    if (exe->graph) cudaGraphExecDestroy(exe->graph);
    dg_cuda_products_free(&exe->plan);
    cudaFree(exe->plan.arena);
    cudaFree(exe->plan.constants);
    dg_cuda_pool_free(&exe->plan.pool);
    host->release(exe);
}
