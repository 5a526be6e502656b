/* recorded.c - gradients, and parameters after steps, against their recorded forms (reference.h). */
#include "reference.h"

#include <math.h>

/* Recorded forms of one tensor: complete, sampled, sums of rows, sums of columns of the view [dims[0], rest].
 */
typedef struct recorded {
    char name[128];
    const char *form; /* "", "sample", "rowsum", "colsum" */
} recorded;

static recorded split(const char *key, const char *prefix)
{
    recorded out = {"", ""};
    snprintf(out.name, sizeof out.name, "%s", key + strlen(prefix));
    char *mark = strstr(out.name, "::");
    if (mark) {
        *mark = 0;
        out.form = key + strlen(prefix) + (mark - out.name) + 2;
    }
    return out;
}

/* The value that the record's k-th number stands for. rows x cols is the view. */
static double form_value(const float *x, int64_t n, int64_t rows, const char *form, int64_t k)
{
    int64_t cols = n / rows;
    double sum = 0;
    if (form[0] == 0) return x[k];
    if (strcmp(form, "sample") == 0) return x[ref_sample_index(k, n)];
    if (strcmp(form, "rowsum") == 0)
        for (int64_t c = 0; c < cols; c++) sum += x[k * cols + c];
    else
        for (int64_t i = 0; i < rows; i++) sum += x[i * cols + k];
    return sum;
}

/* Rows of the view: leading axes of size 1 are dropped. */
static int64_t view_rows(const session *s, const char *name)
{
    char full[160];
    snprintf(full, sizeof full, "model.%s", name);
    dg_value v = dg_graph_leaf(s->step.forward, full);
    dg_type t = dg_type_of(s->step.forward, v);
    for (int i = 0; i < t.rank - 1; i++)
        if (t.dims[i] > 1) return t.dims[i];
    return t.rank > 1 ? 1 : t.dims[0];
}

void ref_gradients(reference *r, const session *s, const char *fixture, const dg_weights *grads, double tol)
{
    double worst = 0, dot = 0, aa = 0, bb = 0;
    char title[200], worst_name[128] = "", output[160];
    int count = 0;
    for (size_t i = 0; i < dg_weights_count(grads); i++) {
        const char *key = dg_weights_at(grads, i)->name;
        if (strncmp(key, "grad.", 5) != 0) continue;
        recorded rec = split(key, "grad.");
        int64_t n, m;
        snprintf(output, sizeof output, "grad.model.%s", rec.name);
        const float *want = ref_tensor(r, grads, key, &m), *have = session_output(s, output, &n);
        dg_error err = DG_ERROR_INIT;
        if (!have || !want) {
            dg_fail(&err, DG_ERR_NOT_FOUND, "the program has no such gradient");
            ref_broken(r, key, &err);
            continue;
        }
        int64_t rows = view_rows(s, rec.name);
        double difference = 0, most = 0, largest = 0;
        for (int64_t k = 0; k < n; k++)
            if (fabs((double)have[k]) > largest) largest = fabs((double)have[k]);
        for (int64_t k = 0; k < m; k++) {
            double a = form_value(have, n, rows, rec.form, k), b = want[k];
            if (!(fabs(a - b) <= difference)) difference = fabs(a - b);
            if (fabs(b) > most) most = fabs(b);
            dot += a * b;
            aa += a * a;
            bb += b * b;
        }
        /* A sum may cancel: measured against what its terms could add up to. */
        double scale = strstr(rec.form, "sum") ? most + sqrt((double)m) * largest : most;
        if (!(difference / scale <= worst)) {
            worst = difference / scale;
            snprintf(worst_name, sizeof worst_name, "%s", key + 5);
        }
        count++;
    }
    if (r->compute == DG_F32) {
        snprintf(title, sizeof title, "%s gradients (%d, worst %s)", fixture, count, worst_name);
        ref_verdict(r, title, count ? worst : 1, tol);
    } else {
        snprintf(title, sizeof title, "%s gradients, 1 - cosine with f32", fixture);
        ref_verdict(r, title, 1 - dot / sqrt(aa * bb), 0.01);
    }
}

/* Key biases have a true gradient of zero, and Adam turns rounding into steps: they are passed over. */
static bool is_key_bias(const char *name, int64_t n, int64_t k)
{
    size_t length = strlen(name);
    if (length > 8 && strcmp(name + length - 8, "qkv.bias") == 0) return k >= n / 3 && k < 2 * (n / 3);
    if (length > 7 && strcmp(name + length - 7, "kv.bias") == 0) return k < n / 2;
    return false;
}

/* Parameters after the steps, in units of the learning rate: the mean and the worst difference. */
void ref_after(reference *r, const session *s, const char *fixture, const dg_weights *after,
               const char *prefix, int steps, double lr, double most)
{
    double worst = 0, sum = 0;
    int64_t count = 0;
    char title[160], full[160];
    for (size_t i = 0; i < dg_weights_count(after); i++) {
        const char *key = dg_weights_at(after, i)->name;
        recorded rec = split(key, prefix);
        snprintf(full, sizeof full, "model.%s", rec.name);
        dg_value v = dg_graph_leaf(s->step.forward, full);
        if (!dg_is_value(v) || strstr(rec.form, "sum")) continue;
        dg_type t = dg_type_of(s->step.forward, v);
        int64_t n = dg_type_count(&t), m;
        const float *want = ref_tensor(r, after, key, &m);
        float *have = dg_arena_alloc(&r->arena, (size_t)n * sizeof *have);
        dg_error err = DG_ERROR_INIT;
        if (!want || !have || dg_state_read_f32(&s->state, full, &t, have, &err) != DG_OK) {
            ref_broken(r, key, &err);
            continue;
        }
        for (int64_t k = 0; k < m; k++) {
            int64_t at = rec.form[0] ? ref_sample_index(k, n) : k;
            if (is_key_bias(rec.name, n, at)) continue;
            double d = fabs((double)have[at] - (double)want[k]) / lr;
            if (!(d <= worst)) worst = d;
            sum += d;
            count++;
        }
    }
    snprintf(title, sizeof title, "%s parameters after %d steps, worst, in lr", fixture, steps);
    ref_verdict(r, title, count ? worst : 1, most);
    snprintf(title, sizeof title, "%s parameters after %d steps, mean, in lr", fixture, steps);
    ref_verdict(r, title, count ? sum / (double)count : 1, 1e-4);
}

void ref_activations(reference *r, const session *s, const char *fixture, const dg_weights *acts,
                     const char *prefix, double tol)
{
    double worst = 0;
    char title[160], worst_name[128] = "", name[128];
    int count = 0;
    for (size_t i = 0; i < dg_weights_count(acts); i++) {
        const char *key = dg_weights_at(acts, i)->name;
        int64_t n, m;
        if (strncmp(key, prefix, strlen(prefix)) != 0 || (!prefix[0] && !strstr(key, "::sample"))) continue;
        snprintf(name, sizeof name, "%s", key + strlen(prefix));
        char *sample = strstr(name, "::");
        if (sample) *sample = 0;
        const float *want = ref_tensor(r, acts, key, &m), *have = session_output(s, name, &n);
        dg_error err = DG_ERROR_INIT;
        if (!have || !want) {
            dg_fail(&err, DG_ERR_NOT_FOUND, "the program has no tap of that name");
            ref_broken(r, key, &err);
            continue;
        }
        double difference = 0, most = 0;
        for (int64_t k = 0; k < m; k++) {
            double a = have[sample ? ref_sample_index(k, n) : k], b = want[k];
            if (!(fabs(a - b) <= difference)) difference = fabs(a - b);
            if (fabs(b) > most) most = fabs(b);
        }
        if (!(difference / most <= worst)) {
            worst = difference / most;
            snprintf(worst_name, sizeof worst_name, "%s", name);
        }
        count++;
    }
    snprintf(title, sizeof title, "%s activations (%d, worst %s)", fixture, count, worst_name);
    ref_verdict(r, title, count ? worst : 1, tol);
}
