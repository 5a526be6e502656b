/* emit.c - what emitters stand on: pointers to values, scratch, the list of steps. */
#include "cpu.h"

/* ---- pools */

typedef struct dg_cpu_pool_block {
    struct dg_cpu_pool_block *next;
    uint64_t used, room;
    void *memory;
} dg_cpu_pool_block;

enum { POOL_BLOCK = 1 << 16 };

void *dg_cpu_pool_take(dg_cpu_pool *pool, uint64_t bytes)
{
    dg_cpu_pool_block *b = pool->head;
    bytes = (bytes + 63) / 64 * 64 + (bytes == 0) * 64;
    if (!b || b->room - b->used < bytes) {
        b = pool->cpu->host->allocate(sizeof *b);
        if (!b) return NULL;
        b->room = bytes > POOL_BLOCK ? bytes : POOL_BLOCK;
        b->memory = dg_cpu_allocate(pool->cpu, b->room);
        if (!b->memory) {
            pool->cpu->host->release(b);
            return NULL;
        }
        b->next = pool->head;
        pool->head = b;
    }
    b->used += bytes;
    return (char *)b->memory + b->used - bytes;
}

void dg_cpu_pool_free(dg_cpu_pool *pool)
{
    while (pool->head) {
        dg_cpu_pool_block *b = pool->head;
        pool->head = b->next;
        dg_cpu_free(pool->cpu, b->memory);
        pool->cpu->host->release(b);
    }
}

void dg_cpu_nomem(dg_cpu_plan *c, uint64_t bytes, const char *what)
{
    if (c->status == DG_OK)
        c->status = dg_fail(c->err, DG_ERR_NOMEM, "out of memory while compiling '%s': %llu bytes for %s",
                            c->p->name, (unsigned long long)bytes, what);
}

/* ---- values */

static char *memory_of(const dg_cpu_plan *c, const dg_cpu_value *value)
{
    if (c->dry) return NULL;
    return value->memory ? value->memory : c->arena + value->at;
}

const void *dg_cpu_in_root(dg_cpu_plan *c, int32_t root)
{
    dg_cpu_value *value = &c->values[root];
    if (c->dry && c->time > value->last) value->last = c->time;
    if (c->dry && c->time > value->last_read) value->last_read = c->time;
    return memory_of(c, value);
}

const void *dg_cpu_in(dg_cpu_plan *c, int32_t v)
{
    if (v < 0) return NULL;
    const dg_cpu_value *value = &c->values[v];
    bool copied = value->own && value->view.root != v;
    const char *at = dg_cpu_in_root(c, copied ? v : value->view.root);
    int64_t offset =
        copied ? 0 : value->view.offset * (int64_t)dg_dtype_size((dg_dtype)dg_cpu_type(c, v)->dtype);
    return at ? at + offset : NULL;
}

void *dg_cpu_out(dg_cpu_plan *c, int32_t v)
{
    dg_cpu_value *value = &c->values[v];
    if (c->dry && value->first < -1) value->first = c->time;
    if (c->dry && value->last < c->time) value->last = c->time;
    return memory_of(c, value);
}

/* ---- scratch and steps */

/* Doubles the array *items of *room elements of `size` bytes, which lives in the pool. */
static bool grow(dg_cpu_plan *c, dg_cpu_pool *pool, void *items_pp, uint32_t *room, size_t size)
{
    void *old, *more;
    uint32_t wanted = *room ? 2 * *room : 256;
    memcpy(&old, items_pp, sizeof old);
    more = dg_cpu_pool_take(pool, wanted * size);
    if (!more) {
        dg_cpu_nomem(c, wanted * size, "the plan");
        return false;
    }
    if (*room) memcpy(more, old, *room * size);
    memcpy(items_pp, &more, sizeof more);
    *room = wanted;
    return true;
}

void *dg_cpu_scratch(dg_cpu_plan *c, uint64_t bytes)
{
    if (!c->dry) return c->arena + c->scratch[c->next_scratch++].offset;
    if (c->n_scratch == c->scratch_room &&
        !grow(c, &c->plan_pool, &c->scratch, &c->scratch_room, sizeof *c->scratch))
        return NULL;
    c->scratch[c->n_scratch++] = (dg_plan_block){bytes, c->time, c->time, 0};
    return NULL;
}

void *dg_cpu_args(dg_cpu_plan *c, const void *args, uint64_t bytes)
{
    void *copy = dg_cpu_pool_take(c->dry ? &c->plan_pool : &c->pool, bytes);
    if (copy)
        memcpy(copy, args, (size_t)bytes);
    else
        dg_cpu_nomem(c, bytes, "the steps");
    return copy;
}

static void add(dg_cpu_plan *c, dg_cpu_step step)
{
    if (c->dry || c->status != DG_OK) return;
    if (c->n_steps == c->steps_room && !grow(c, &c->pool, &c->steps, &c->steps_room, sizeof *c->steps))
        return;
    step.node = (uint32_t)c->time;
    c->steps[c->n_steps++] = step;
}

static void need_worker_bytes(dg_cpu_plan *c, int64_t n)
{
    uint64_t bytes = ((uint64_t)n + 63) / 64 * 64;
    if (bytes > c->worker_bytes) c->worker_bytes = bytes;
}

void dg_cpu_add_step(dg_cpu_plan *c, dg_cpu_kernel kernel, const void *args, int64_t units, int64_t grain,
                     int64_t worker_bytes)
{
    need_worker_bytes(c, worker_bytes);
    add(c, (dg_cpu_step){.kernel = kernel, .args = args, .units = units, .grain = grain > 0 ? grain : 1});
}

void dg_cpu_add_product(dg_cpu_plan *c, struct dg_cpu_product *product, int64_t worker_bytes)
{
    need_worker_bytes(c, worker_bytes);
    add(c, (dg_cpu_step){.product = product});
}
