/* store.c - named tensors that programs share, and where big memory comes from. */
#include "cpu.h"

#include <stdlib.h>
#include <sys/mman.h>

/* ---- memory. The host's allocator promises no alignment; what it gave stands before what is handed out. */

enum { ALIGN = 64, LARGE = 1 << 22 };

void *dg_cpu_allocate(const dg_cpu *cpu, uint64_t bytes)
{
    if (bytes > SIZE_MAX - 2 * ALIGN) return NULL;
    char *base = cpu->host->allocate((size_t)bytes + 2 * ALIGN);
    if (!base) return NULL;
    uintptr_t at = ((uintptr_t)base + sizeof(void *) + ALIGN - 1) / ALIGN * ALIGN;
    memcpy((char *)at - sizeof base, &base, sizeof base);
    /* Fewer misses of the address cache; a hint, which may be refused. */
    if (bytes >= LARGE)
        madvise((void *)((at + 4095) / 4096 * 4096), (size_t)bytes / 4096 * 4096 - 4096, MADV_HUGEPAGE);
    return (void *)at;
}

void dg_cpu_free(const dg_cpu *cpu, void *p)
{
    if (!p) return;
    char *base;
    memcpy(&base, (char *)p - sizeof base, sizeof base);
    cpu->host->release(base);
}

/* ---- the store */

/* The index of `name`, or where it would stand. */
static size_t place(const dg_backend_store *s, const char *name, bool *found)
{
    size_t low = 0, high = s->n;
    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(s->tensors[middle]->name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool same_type(const dg_type *a, const dg_type *b)
{
    return a->dtype == b->dtype && dg_same_dims(a, b);
}

dg_cpu_tensor *dg_cpu_store_find(const dg_backend_store *s, const char *name, const dg_type *type)
{
    bool found;
    size_t i = place(s, name, &found);
    return found && same_type(&s->tensors[i]->type, type) ? s->tensors[i] : NULL;
}

/* ---- the order of elements */

static dnnl_status_t reorder(const dg_cpu *cpu, const dnnl_memory_desc_t *from, void *x,
                             const dnnl_memory_desc_t *to, void *y)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t m[2] = {NULL, NULL};
    dnnl_status_t s = dnnl_reorder_primitive_desc_create(&pd, from, cpu->engine, to, cpu->engine, NULL);
    if (s == dnnl_success) s = dnnl_primitive_create(&p, pd);
    if (s == dnnl_success) s = dnnl_memory_create(&m[0], from, cpu->engine, x);
    if (s == dnnl_success) s = dnnl_memory_create(&m[1], to, cpu->engine, y);
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, m[0]}, {DNNL_ARG_TO, m[1]}};
    if (s == dnnl_success) s = dnnl_primitive_execute(p, cpu->stream, 2, args);
    for (int i = 0; i < 2; i++)
        if (m[i]) dnnl_memory_destroy(m[i]);
    if (p) dnnl_primitive_destroy(p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return s;
}

static dg_status move(dg_backend_store *s, dg_cpu_tensor *t, const dnnl_memory_desc_t *from,
                      const dnnl_memory_desc_t *to, dg_error *err)
{
    uint64_t bytes = (uint64_t)dg_type_bytes(&t->type);
    void *copy = dg_cpu_allocate(s->cpu, bytes);
    if (!copy)
        return dg_fail(err, DG_ERR_NOMEM, "out of memory: %llu bytes to lay out tensor '%s'",
                       (unsigned long long)bytes, t->name);
    memcpy(copy, t->data, (size_t)bytes);
    dnnl_status_t status = reorder(s->cpu, from, copy, to, t->data);
    if (status != dnnl_success) memcpy(t->data, copy, (size_t)bytes);
    dg_cpu_free(s->cpu, copy);
    if (status != dnnl_success)
        return dg_fail(err, DG_ERR_INTERNAL, "oneDNN could not lay out tensor '%s' (status %d)", t->name,
                       (int)status);
    s->changes++;
    return DG_OK;
}

dg_status dg_cpu_store_order(dg_backend_store *s, dg_cpu_tensor *t, const dnnl_memory_desc_t *plain,
                             const dnnl_memory_desc_t *layout, dg_error *err)
{
    if (t->packed && layout && dnnl_memory_desc_equal(&t->layout, layout)) return DG_OK;
    if (t->packed) DG_TRY(move(s, t, &t->layout, &t->plain, err));
    t->packed = false;
    if (!layout) return DG_OK;
    DG_TRY(move(s, t, plain, layout, err));
    t->packed = true;
    t->plain = *plain;
    t->layout = *layout;
    return DG_OK;
}

dg_status dg_cpu_store_create(void *self, dg_backend_store **out, dg_error *err)
{
    dg_cpu *cpu = self;
    *out = cpu->host->allocate(sizeof **out);
    if (!*out) return dg_fail(err, DG_ERR_NOMEM, "out of memory for a store");
    (*out)->cpu = cpu;
    return DG_OK;
}

void dg_cpu_store_destroy(dg_backend_store *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        dg_cpu_free(s->cpu, s->tensors[i]->data);
        s->cpu->host->release(s->tensors[i]);
    }
    s->cpu->host->release(s->tensors);
    s->cpu->host->release(s);
}

static bool make_room(dg_backend_store *s)
{
    if (s->n < s->room) return true;
    size_t room = s->room ? 2 * s->room : 64;
    dg_cpu_tensor **more = s->cpu->host->allocate(room * sizeof *more);
    if (!more) return false;
    if (s->n) memcpy(more, s->tensors, s->n * sizeof *more);
    s->cpu->host->release(s->tensors);
    s->tensors = more;
    s->room = room;
    return true;
}

dg_status dg_cpu_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err)
{
    bool found;
    char old[96], new[96];
    size_t i = place(s, name, &found), length = strlen(name);
    if (found) {
        if (same_type(&s->tensors[i]->type, type)) return DG_OK;
        return dg_fail(err, DG_ERR_MISMATCH, "tensor '%s' is %s in the store, and %s is asked for", name,
                       dg_type_text(&s->tensors[i]->type, old, sizeof old),
                       dg_type_text(type, new, sizeof new));
    }
    int64_t bytes = dg_type_bytes(type);
    dg_cpu_tensor *t = s->cpu->host->allocate(sizeof *t + length + 1);
    char *data = t ? dg_cpu_allocate(s->cpu, (uint64_t)bytes) : NULL;
    if (!data || !make_room(s)) {
        if (data) dg_cpu_free(s->cpu, data);
        s->cpu->host->release(t);
        return dg_fail(err, DG_ERR_NOMEM, "out of memory: %lld bytes for tensor '%s'", (long long)bytes,
                       name);
    }
    t->type = *type;
    t->data = data;
    t->packed = false;
    memcpy(t->name, name, length + 1);
    memmove(s->tensors + i + 1, s->tensors + i, (s->n - i) * sizeof *s->tensors);
    s->tensors[i] = t;
    s->n++;
    return DG_OK;
}

static dg_status part_of(dg_backend_store *s, const char *name, uint64_t offset, uint64_t bytes, char **at,
                         dg_error *err)
{
    bool found;
    size_t i = place(s, name, &found);
    if (!found) return dg_fail(err, DG_ERR_NOT_FOUND, "there is no tensor '%s' in the store", name);
    uint64_t size = (uint64_t)dg_type_bytes(&s->tensors[i]->type);
    if (offset > size || bytes > size - offset)
        return dg_fail(err, DG_ERR_INVALID, "bytes %llu to %llu of tensor '%s', which has %llu",
                       (unsigned long long)offset, (unsigned long long)(offset + bytes), name,
                       (unsigned long long)size);
    *at = s->tensors[i]->data + offset;
    return dg_cpu_store_order(s, s->tensors[i], NULL, NULL, err);
}

dg_status dg_cpu_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err)
{
    char *at;
    DG_TRY(part_of(s, name, offset, bytes, &at, err));
    memcpy(at, data, (size_t)bytes);
    s->changes++;
    return DG_OK;
}

dg_status dg_cpu_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                            uint64_t bytes, dg_error *err)
{
    char *at;
    DG_TRY(part_of(s, name, offset, bytes, &at, err));
    memcpy(data, at, (size_t)bytes);
    return DG_OK;
}
