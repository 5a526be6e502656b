/* host.c - the table of functions that plugins get; see host.h. */
#include "host.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/weights.h"

static void *host_allocate(size_t size)
{
    return dg_calloc(1, size);
}

static void host_log(int level, const char *line)
{
    dg_log_level l = level < DG_LOG_DEBUG   ? DG_LOG_DEBUG
                     : level > DG_LOG_ERROR ? DG_LOG_ERROR
                                            : (dg_log_level)level;
    dg_logf(l, "%s", line);
}

static bool describe(const dg_weight *t, dg_tensor_info *out)
{
    if (!t) return false;
    *out = (dg_tensor_info){t->name, dg_stored_name(t->dtype), t->rank, 0, {0}};
    memcpy(out->dims, t->dims, sizeof out->dims);
    return true;
}

static bool host_weights_at(const dg_weights *w, size_t i, dg_tensor_info *out)
{
    return describe(dg_weights_at(w, i), out);
}

static bool host_weights_find(const dg_weights *w, const char *name, dg_tensor_info *out)
{
    return describe(dg_weights_find(w, name), out);
}

static dg_status host_weights_read(dg_weights *w, const char *name, float *out, dg_error *err)
{
    const dg_weight *t = NULL;
    DG_TRY(dg_weights_need(w, name, &t, err));
    return dg_weight_read_f32(t, out, (size_t)t->count, err);
}

/* No extension yet; the name is how later hosts add tables without a new ABI. */
static const void *host_extension(const char *name)
{
    (void)name;
    return NULL;
}

const dg_host *dg_host_table(void)
{
    static const dg_host host = {(uint32_t)sizeof(dg_host),
                                 DG_ABI_MAJOR,
                                 DG_ABI_MINOR,
                                 0,
                                 DIGPT_VERSION,
                                 host_allocate,
                                 dg_free,
                                 host_log,
                                 dg_weights_open,
                                 dg_weights_close,
                                 dg_weights_count,
                                 host_weights_at,
                                 host_weights_find,
                                 host_weights_read,
                                 host_extension};
    return &host;
}
