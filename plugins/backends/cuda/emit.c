/* emit.c - memory of values and scratch, and the list of steps, in both rounds of emission. */
#include "cuda.h"

/* ---- host memory */

typedef struct dg_cuda_block {
    struct dg_cuda_block *next;
    max_align_t data[];
} dg_cuda_block;

void *dg_cuda_take(dg_cuda_pool *pool, uint64_t bytes)
{
    if (bytes > SIZE_MAX - sizeof(dg_cuda_block)) return NULL;
    dg_cuda_block *b = pool->host->allocate(sizeof *b + (size_t)bytes);
    if (!b) return NULL;
    b->next = pool->head;
    pool->head = b;
    return b->data;
}

void dg_cuda_pool_free(dg_cuda_pool *pool)
{
    while (pool->head) {
        dg_cuda_block *b = pool->head;
        pool->head = b->next;
        pool->host->release(b);
    }
}

void dg_cuda_nomem(dg_cuda_plan *c, uint64_t bytes, const char *what)
{
    if (c->status == DG_OK)
        c->status = dg_fail(c->err, DG_ERR_NOMEM, "program %s: out of memory, %llu bytes for %s", c->p->name,
                            (unsigned long long)bytes, what);
}

/* ---- values */

static void note_read(dg_cuda_plan *c, dg_cuda_value *owner)
{
    owner->last_read = c->time;
    if (c->time > owner->last) owner->last = c->time;
}

static void *memory_of(const dg_cuda_plan *c, const dg_cuda_value *owner)
{
    return owner->memory ? owner->memory : c->arena + owner->at;
}

const void *dg_cuda_in_root(dg_cuda_plan *c, int32_t root)
{
    dg_cuda_value *owner = &c->values[root];
    if (!c->dry) return memory_of(c, owner);
    note_read(c, owner);
    return NULL;
}

const void *dg_cuda_in(dg_cuda_plan *c, int32_t v)
{
    if (v < 0) return NULL;
    const dg_cuda_value *value = &c->values[v];
    if (value->own) return dg_cuda_in_root(c, v);
    const char *root = dg_cuda_in_root(c, value->view.root);
    return root ? root + value->view.offset * (int64_t)dg_dtype_size((dg_dtype)dg_cuda_type(c, v)->dtype)
                : NULL;
}

void *dg_cuda_out(dg_cuda_plan *c, int32_t v)
{
    dg_cuda_value *value = &c->values[v];
    if (!c->dry) return memory_of(c, value);
    value->first = c->time;
    if (value->last < c->time) value->last = c->time;
    return NULL;
}

/* ---- scratch */

void *dg_cuda_scratch(dg_cuda_plan *c, uint64_t bytes)
{
    if (!c->dry) return c->arena + c->scratch[c->next_scratch++].offset;
    if (c->n_scratch == c->scratch_room) {
        uint32_t room = c->scratch_room ? 2 * c->scratch_room : 64;
        dg_plan_block *more = dg_cuda_take(&c->plan_pool, room * sizeof *more);
        if (!more) {
            dg_cuda_nomem(c, room * sizeof *more, "the plan");
            return NULL;
        }
        if (c->n_scratch) memcpy(more, c->scratch, c->n_scratch * sizeof *more);
        c->scratch = more;
        c->scratch_room = room;
    }
    c->scratch[c->n_scratch++] = (dg_plan_block){bytes, c->time, c->time, 0};
    return NULL;
}

/* ---- steps */

void dg_cuda_add_step(dg_cuda_plan *c, dg_cuda_launch launch, const void *args, uint64_t bytes)
{
    if (c->dry || c->status != DG_OK) return;
    void *copy = dg_cuda_take(&c->pool, bytes);
    if (copy && c->n_steps == c->steps_room) {
        uint32_t room = c->steps_room ? 2 * c->steps_room : 256;
        dg_cuda_step *more = dg_cuda_take(&c->pool, room * sizeof *more);
        if (more) {
            if (c->n_steps) memcpy(more, c->steps, c->n_steps * sizeof *more);
            c->steps = more;
            c->steps_room = room;
        } else
            copy = NULL;
    }
    if (!copy) {
        dg_cuda_nomem(c, bytes, "the steps");
        return;
    }
    memcpy(copy, args, bytes);
    c->steps[c->n_steps++] = (dg_cuda_step){launch, copy, (uint32_t)c->time};
}

typedef struct copy_args {
    void *to;
    const void *from;
    uint64_t bytes;
} copy_args;

static cudaError_t launch_copy(const void *args, cudaStream_t stream)
{
    const copy_args *a = args;
    return cudaMemcpyAsync(a->to, a->from, (size_t)a->bytes, cudaMemcpyDeviceToDevice, stream);
}

void dg_cuda_add_copy(dg_cuda_plan *c, void *to, const void *from, uint64_t bytes)
{
    copy_args a = {to, from, bytes};
    DG_CUDA_STEP(c, launch_copy, a);
}
