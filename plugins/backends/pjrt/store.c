/* store.c - named tensors on the device. A tensor that is read or written in parts is kept whole on the host
 * until its last byte was reached. */
#include "pjrt.h"

static uint32_t hash_of(const char *name) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

dg_pjrt_tensor *dg_pjrt_store_find(const dg_backend_store *s, const char *name)
{
    uint32_t hash = hash_of(name);
    dg_pjrt_tensor *t = s->first;
    while (t && (t->hash != hash || strcmp(t->name, name) != 0)) t = t->next;
    return t;
}

dg_status dg_pjrt_store_create(void *self, dg_backend_store **out, dg_error *err)
{
    const dg_pjrt *pjrt = self;
    if (!pjrt->client)
        return dg_fail(err, DG_ERR_UNSUPPORTED,
                       "programs for the target %s can be compiled here, not run: leave out backend.target",
                       pjrt->target);
    *out = pjrt->host->allocate(sizeof **out);
    if (!*out) return dg_fail(err, DG_ERR_NOMEM, "out of memory for a store");
    (*out)->self = pjrt;
    return DG_OK;
}

static void drop_host(const dg_backend_store *s, dg_pjrt_tensor *t)
{
    if (t->host) s->self->host->release(t->host);
    t->host = NULL;
    t->host_is_newer = false;
}

static void free_devices(const dg_backend_store *s, dg_pjrt_tensor *t)
{
    for (uint32_t r = 0; r < s->self->n_replicas; r++) {
        dg_pjrt_free(s->self, t->device[r]);
        t->device[r] = NULL;
    }
}

void dg_pjrt_store_destroy(dg_backend_store *s)
{
    if (!s) return;
    while (s->first) {
        dg_pjrt_tensor *t = s->first;
        s->first = t->next;
        free_devices(s, t);
        drop_host(s, t);
        s->self->host->release(t);
    }
    s->self->host->release(s);
}

dg_status dg_pjrt_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err)
{
    dg_pjrt_tensor *t = dg_pjrt_store_find(s, name);
    if (t) {
        char have[96], want[96];
        if (t->type.dtype == type->dtype && dg_same_dims(&t->type, type)) return DG_OK;
        return dg_fail(err, DG_ERR_MISMATCH, "tensor %s is %s in the store, not %s", name,
                       dg_type_text(&t->type, have, sizeof have), dg_type_text(type, want, sizeof want));
    }
    size_t devices = s->self->n_replicas * sizeof *t->device;
    t = s->self->host->allocate(sizeof *t + devices + strlen(name) + 1);
    if (!t) return dg_fail(err, DG_ERR_NOMEM, "out of memory for tensor %s", name);
    t->name = strcpy((char *)t->device + devices, name);
    t->hash = hash_of(name);
    t->type = *type;
    t->next = s->first;
    s->first = t;
    return DG_OK;
}

/* The tensor of that name, if `offset` and `bytes` lie in it. */
static dg_status part_of(const dg_backend_store *s, const char *name, uint64_t offset, uint64_t bytes,
                         dg_pjrt_tensor **out, dg_error *err)
{
    dg_pjrt_tensor *t = dg_pjrt_store_find(s, name);
    if (!t) return dg_fail(err, DG_ERR_NOT_FOUND, "the store has no tensor %s", name);
    uint64_t size = (uint64_t)dg_type_bytes(&t->type);
    if (offset > size || bytes > size - offset)
        return dg_fail(err, DG_ERR_INVALID, "bytes %llu to %llu of tensor %s, which has %llu",
                       (unsigned long long)offset, (unsigned long long)(offset + bytes), name,
                       (unsigned long long)size);
    *out = t;
    return DG_OK;
}

static dg_status not_lost(const dg_pjrt_tensor *t, dg_error *err)
{
    if (!t->lost) return DG_OK;
    return dg_fail(err, DG_ERR_INVALID,
                   "tensor %s was lost when a run failed; load it again from a checkpoint", t->name);
}

/* What one replica has of the tensor. */
static dg_type device_type(const dg_backend_store *s, const dg_pjrt_tensor *t)
{
    dg_type type = t->type;
    if (t->split) type.dims[0] /= s->self->n_replicas;
    return type;
}

/* The whole tensor from the devices, which have it. */
static dg_status download(const dg_backend_store *s, const dg_pjrt_tensor *t, char *data, dg_error *err)
{
    const dg_type type = device_type(s, t);
    const uint32_t n = t->split ? s->self->n_replicas : 1;
    for (uint32_t r = 0; r < n; r++)
        if (dg_pjrt_download(s->self, t->device[r], &type, data + r * dg_type_bytes(&type), err) != DG_OK)
            return dg_fail_in(err, "tensor %s", t->name);
    return DG_OK;
}

/* The tensor as a whole on the host: what the devices have, or zeros. */
static dg_status fill_host(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err)
{
    if (t->host) return DG_OK;
    size_t size = (size_t)dg_type_bytes(&t->type);
    t->host = s->self->host->allocate(size);
    if (!t->host)
        return dg_fail(err, DG_ERR_NOMEM, "out of memory: %zu bytes for tensor %s on the host", size,
                       t->name);
    if (!t->device[0]) return DG_OK;
    dg_status status = download(s, t, t->host, err);
    if (status != DG_OK) drop_host(s, t);
    return status;
}

static dg_status put_on_device(const dg_backend_store *s, dg_pjrt_tensor *t, const char *data, dg_error *err)
{
    char text[96];
    const dg_type type = device_type(s, t);
    const int64_t step = t->split ? dg_type_bytes(&type) : 0;
    free_devices(s, t);
    for (uint32_t r = 0; r < s->self->n_replicas; r++)
        if (dg_pjrt_upload(s->self, r, &type, data + r * step, &t->device[r], err) != DG_OK)
            return dg_fail_in(err, "tensor %s, %s", t->name, dg_type_text(&type, text, sizeof text));
    t->lost = false;
    return DG_OK;
}

dg_status dg_pjrt_store_settle(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err)
{
    DG_TRY(not_lost(t, err));
    if (t->device[s->self->n_replicas - 1] && !t->host_is_newer) return DG_OK;
    DG_TRY(fill_host(s, t, err));
    DG_TRY(put_on_device(s, t, t->host, err));
    drop_host(s, t);
    return DG_OK;
}

dg_status dg_pjrt_store_split(const dg_backend_store *s, dg_pjrt_tensor *t, dg_error *err)
{
    if (t->split) return DG_OK;
    if (t->device[0]) { /* written before a program said that it is split */
        DG_TRY(fill_host(s, t, err));
        free_devices(s, t);
        t->host_is_newer = true;
    }
    t->split = true;
    return DG_OK;
}

void dg_pjrt_store_replace(const dg_backend_store *s, dg_pjrt_tensor *t, uint32_t replica,
                           PJRT_Buffer *buffer)
{
    dg_pjrt_free(s->self, t->device[replica]);
    drop_host(s, t);
    t->device[replica] = buffer;
    if (!buffer) t->lost = true;
}

dg_status dg_pjrt_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                              uint64_t bytes, dg_error *err)
{
    dg_pjrt_tensor *t;
    DG_TRY(part_of(s, name, offset, bytes, &t, err));
    uint64_t size = (uint64_t)dg_type_bytes(&t->type);
    if (bytes == size) {
        drop_host(s, t);
        return put_on_device(s, t, data, err);
    }
    if (offset > 0) DG_TRY(not_lost(t, err));
    t->lost = false; /* written anew from its start */
    DG_TRY(fill_host(s, t, err));
    memcpy((char *)t->host + offset, data, bytes);
    t->host_is_newer = true;
    return offset + bytes == size ? dg_pjrt_store_settle(s, t, err) : DG_OK;
}

dg_status dg_pjrt_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err)
{
    dg_pjrt_tensor *t;
    DG_TRY(part_of(s, name, offset, bytes, &t, err));
    DG_TRY(not_lost(t, err));
    uint64_t size = (uint64_t)dg_type_bytes(&t->type);
    if (bytes == size && !t->host && t->device[0]) return download(s, t, data, err);
    DG_TRY(fill_host(s, t, err));
    memcpy(data, (const char *)t->host + offset, bytes);
    if (offset + bytes == size && !t->host_is_newer) drop_host(s, t);
    return DG_OK;
}
