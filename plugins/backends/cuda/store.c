/* store.c - named tensors on the device that programs share. */
#include "cuda.h"

static uint32_t hash_of(const char *name) /* FNV-1a */
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

static dg_cuda_tensor *find(const dg_backend_store *s, const char *name)
{
    uint32_t hash = hash_of(name);
    dg_cuda_tensor *t = s->buckets[hash % DG_CUDA_BUCKETS];
    while (t && (t->hash != hash || strcmp(t->name, name) != 0)) t = t->next;
    return t;
}

void *dg_cuda_store_find(const dg_backend_store *s, const char *name)
{
    const dg_cuda_tensor *t = find(s, name);
    return t ? t->data : NULL;
}

dg_status dg_cuda_store_create(void *self, dg_backend_store **out, dg_error *err)
{
    dg_cuda *cuda = self;
    *out = NULL;
    DG_TRY(dg_cuda_open(cuda, err));
    *out = cuda->host->allocate(sizeof **out);
    if (!*out) return dg_fail(err, DG_ERR_NOMEM, "out of memory for a store");
    (*out)->cuda = cuda;
    return DG_OK;
}

void dg_cuda_store_destroy(dg_backend_store *s)
{
    if (!s) return;
    const dg_host *host = s->cuda->host;
    for (size_t i = 0; i < DG_CUDA_BUCKETS; i++)
        while (s->buckets[i]) {
            dg_cuda_tensor *t = s->buckets[i];
            s->buckets[i] = t->next;
            cudaFree(t->data);
            host->release(t);
        }
    host->release(s);
}

static dg_status zeroed(dg_cuda *cuda, void **out, uint64_t bytes, const char *name, dg_error *err)
{
    char what[160];
    snprintf(what, sizeof what, "tensor '%.120s'", name);
    DG_TRY(dg_cuda_allocate(out, bytes, what, err));
    if (bytes == 0) return DG_OK;
    /* On the stream of all copies, for which a run waits. */
    dg_status status = dg_cuda_check(cudaMemsetAsync(*out, 0, (size_t)bytes, cuda->copy), what, err);
    if (status != DG_OK) cudaFree(*out);
    return status;
}

dg_status dg_cuda_store_add(dg_backend_store *s, const char *name, const dg_type *type, dg_error *err)
{
    dg_cuda_tensor *t = find(s, name);
    size_t length = strlen(name);
    if (t) {
        char have[96], want[96];
        if (t->type.dtype == type->dtype && dg_same_dims(&t->type, type)) return DG_OK;
        return dg_fail(err, DG_ERR_MISMATCH, "tensor '%s' is %s in the store, and %s is asked for", name,
                       dg_type_text(&t->type, have, sizeof have), dg_type_text(type, want, sizeof want));
    }
    t = s->cuda->host->allocate(sizeof *t + length + 1);
    if (!t) return dg_fail(err, DG_ERR_NOMEM, "out of memory for tensor '%s'", name);
    dg_status status = zeroed(s->cuda, &t->data, (uint64_t)dg_type_bytes(type), name, err);
    if (status != DG_OK) {
        s->cuda->host->release(t);
        return status;
    }
    memcpy(t->name, name, length + 1);
    t->hash = hash_of(name);
    t->type = *type;
    t->next = s->buckets[t->hash % DG_CUDA_BUCKETS];
    s->buckets[t->hash % DG_CUDA_BUCKETS] = t;
    return DG_OK;
}

static dg_status part_of(const dg_backend_store *s, const char *name, uint64_t offset, uint64_t bytes,
                         char **at, dg_error *err)
{
    const dg_cuda_tensor *t = find(s, name);
    if (!t) return dg_fail(err, DG_ERR_NOT_FOUND, "there is no tensor '%s' in the store", name);
    uint64_t size = (uint64_t)dg_type_bytes(&t->type);
    if (offset > size || bytes > size - offset)
        return dg_fail(err, DG_ERR_INVALID,
                       "%llu bytes from %llu on are asked of tensor '%s', which has %llu",
                       (unsigned long long)bytes, (unsigned long long)offset, name, (unsigned long long)size);
    *at = (char *)t->data + offset;
    return DG_OK;
}

dg_status dg_cuda_store_write(dg_backend_store *s, const char *name, const void *data, uint64_t offset,
                              uint64_t bytes, dg_error *err)
{
    char *at;
    DG_TRY(part_of(s, name, offset, bytes, &at, err));
    DG_TRY(dg_cuda_upload(s->cuda, at, data, bytes, err));
    return dg_cuda_check(cudaStreamSynchronize(s->cuda->copy), "writing a tensor", err);
}

dg_status dg_cuda_store_read(dg_backend_store *s, const char *name, void *data, uint64_t offset,
                             uint64_t bytes, dg_error *err)
{
    char *at;
    DG_TRY(part_of(s, name, offset, bytes, &at, err));
    return dg_cuda_download(s->cuda, data, at, bytes, err);
}
