/* check.c - comparing, printing, and reading of recorded tensors (reference.h). */
#include "reference.h"

#include <math.h>

#include "base/file.h"
#include "io/safetensors.h"

bool ref_verdict(reference *r, const char *what, double error, double tol)
{
    bool ok = error <= tol; /* NaN fails */
    printf("%-52s error %.2e  tolerance %.1e  %s\n", what, error, tol, ok ? "ok" : "FAILED");
    if (ok)
        r->passed++;
    else
        r->failed++;
    return ok;
}

bool ref_compare(reference *r, const char *what, const float *a, const float *b, int64_t n, double tol)
{
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) worst = d;
        if (fabs((double)b[i]) > most) most = fabs((double)b[i]);
    }
    return ref_verdict(r, what, worst / (most > 0 ? most : 1), tol);
}

void ref_skip(reference *r, const char *what, const char *why)
{
    printf("%-52s skipped: %s\n", what, why);
    r->skipped++;
}

void ref_broken(reference *r, const char *what, const dg_error *err)
{
    printf("%-52s FAILED: %s\n", what, err->message);
    r->failed++;
}

dg_weights *ref_open(reference *r, const char *file)
{
    dg_error err = DG_ERROR_INIT;
    dg_weights *w = NULL;
    char *path = dg_path_join(r->dir, file);
    if (!path || dg_weights_open(path, &w, &err) != DG_OK) ref_broken(r, file, &err);
    dg_free(path);
    return w;
}

const float *ref_tensor(reference *r, const dg_weights *w, const char *name, int64_t *n)
{
    dg_error err = DG_ERROR_INIT;
    const dg_weight *t;
    float *out = NULL;
    *n = 0;
    if (dg_weights_need(w, name, &t, &err) == DG_OK) {
        out = dg_arena_alloc(&r->arena, (size_t)(t->count + 1) * sizeof *out);
        if (out && dg_weight_read_f32(t, out, (size_t)t->count, &err) == DG_OK) *n = t->count;
    }
    if (*n == 0) ref_broken(r, name, &err);
    return *n ? out : NULL;
}

int64_t ref_sample_index(int64_t k, int64_t n)
{
    return (int64_t)((uint32_t)((uint64_t)k * 2654435761u)) % n;
}

static dg_status expand_to(const dg_weights *w, const char *prefix, const char *path, dg_arena *arena,
                           dg_error *err)
{
    size_t n = dg_weights_count(w), m = 0;
    dg_st_tensor *tensors = dg_arena_alloc(arena, n * sizeof *tensors);
    const void **data = dg_arena_alloc(arena, n * sizeof *data);
    if (!tensors || !data) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const dg_weight *t = dg_weights_at(w, i);
        char name[512];
        size_t length = strlen(t->name), skip = strlen(prefix);
        if (strncmp(t->name, prefix, skip) != 0) continue;
        if (length > 7 && strcmp(t->name + length - 7, "::scale") == 0) continue;
        float *values = dg_arena_alloc(arena, (size_t)(t->count + 1) * sizeof *values), scale = 1;
        if (!values) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
        DG_TRY(dg_weight_read_f32(t, values, (size_t)t->count, err));
        snprintf(name, sizeof name, "%s::scale", t->name);
        const dg_weight *s = dg_weights_find(w, name);
        if (s) DG_TRY(dg_weight_read_f32(s, &scale, 1, err));
        for (int64_t k = 0; k < t->count; k++) values[k] *= scale;
        tensors[m] = (dg_st_tensor){.name = t->name + skip, .dtype = DG_STORED_F32, .rank = t->rank};
        memcpy(tensors[m].dims, t->dims, sizeof tensors[m].dims);
        data[m++] = values;
    }
    return dg_st_write(path, tensors, data, m, NULL, 0, err);
}

const char *ref_expand(reference *r, const char *file, const char *prefix)
{
    dg_error err = DG_ERROR_INIT;
    char *path = dg_arena_alloc(&r->arena, 512);
    dg_weights *w = ref_open(r, file);
    if (!w || !path) return NULL;
    snprintf(path, 512, "%s/%s", r->temporary, file);
    dg_status s = expand_to(w, prefix, path, &r->arena, &err);
    dg_weights_close(w);
    if (s != DG_OK) ref_broken(r, file, &err);
    return s == DG_OK ? path : NULL;
}

double ref_number(const dg_json *object, const char *path, double otherwise)
{
    char part[64];
    for (const char *dot; object && (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(dot - path), path);
        object = dg_json_get(object, part);
    }
    const dg_json *v = dg_json_get(object, path);
    if (!v) return otherwise;
    return v->type == DG_JSON_INT ? (double)v->v.integer : v->type == DG_JSON_FLOAT ? v->v.number : otherwise;
}

double ref_tolerance(const dg_json *fixture, const char *what, double otherwise)
{
    const dg_json *list = dg_json_get(fixture, "compare");
    for (const dg_json *e = list ? list->v.first : NULL; e; e = e->next) {
        const dg_json *name = dg_json_get(e, "what");
        if (!name || strcmp(name->v.text, what) != 0) continue;
        otherwise =
            ref_number(e, "tol_rel_to_max", ref_number(e, "tol_rel", ref_number(e, "tol_abs", otherwise)));
    }
    return otherwise;
}
