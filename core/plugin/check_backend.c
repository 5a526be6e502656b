/* check_backend.c - checks of backends: devices, state, and every op against the interpreter; see checks.h.
 */
#include "checks.h"

#include <math.h>

static const dg_backend_interface *table_of(const dg_component *b)
{
    return b->ref.factory->interface;
}

/* An instance with a device; if there is none here, *verdict says so. */
static bool usable(const dg_checked *c, dg_component *out, dg_verdict *verdict)
{
    dg_check_env env;
    dg_error err = DG_ERROR_INIT;
    uint32_t n = 0;
    if (!dg_check_instance(c, out, &env, verdict)) return false;
    if (table_of(out)->devices(out->self, NULL, 0, &n, &err) == DG_OK && n > 0) return true;
    if (err.message[0]) {
        dg_str_printf(c->detail, "no device here: %s", err.message);
        *verdict = DG_CHECK_SKIP;
    } else
        *verdict = dg_check_fail(c, "it finds no device and does not say why");
    dg_component_destroy(out);
    return false;
}

static dg_verdict devices(const dg_checked *c)
{
    dg_component b;
    dg_verdict verdict;
    dg_error err = DG_ERROR_INIT;
    char print[256] = "";
    if (!usable(c, &b, &verdict)) return verdict;
    dg_device_info d[4] = {{.struct_size = sizeof d[0]},
                           {.struct_size = sizeof d[0]},
                           {.struct_size = sizeof d[0]},
                           {.struct_size = sizeof d[0]}};
    uint32_t n = 0;
    dg_dtype preferred = table_of(&b)->preferred(b.self);
    table_of(&b)->fingerprint(b.self, print, sizeof print);
    verdict = DG_CHECK_PASS;
    if (table_of(&b)->devices(b.self, d, 4, &n, &err) != DG_OK)
        verdict = dg_check_fail(c, "%s", err.message);
    else if (!d[0].name[0] || !memchr(d[0].name, 0, sizeof d[0].name))
        verdict = dg_check_fail(c, "its first device has no name");
    else if (!print[0] || strchr(print, '\n'))
        verdict = dg_check_fail(c, "its fingerprint is not one line");
    else if (preferred != DG_F32 && preferred != DG_BF16)
        verdict = dg_check_fail(c, "it prefers %s; f32 and bf16 are known", dg_dtype_name(preferred));
    else
        dg_str_printf(c->detail, "%u: %s", n, d[0].name);
    dg_component_destroy(&b);
    return verdict;
}

/* ---- state */

static dg_status round_trip(const dg_component *b, dg_backend_store *s, dg_error *err)
{
    const dg_backend_interface *t = table_of(b);
    dg_type type = {DG_F32, 2, {5, 3}}, other = {DG_F32, 1, {15}};
    float in[15], out[15];
    for (int i = 0; i < 15; i++) in[i] = (float)i + 0.5f;
    DG_TRY(t->store_add(s, "a", &type, err));
    DG_TRY(t->store_add(s, "a", &type, err));
    DG_TRY(t->store_read(s, "a", out, 0, sizeof out, err));
    for (int i = 0; i < 15; i++)
        if (out[i] != 0) return dg_fail(err, DG_ERR_INVALID, "a new tensor is not zero");
    DG_TRY(t->store_write(s, "a", in, 0, sizeof in, err));
    DG_TRY(t->store_write(s, "a", in, 8, 4, err));
    DG_TRY(t->store_read(s, "a", out, 0, sizeof out, err));
    in[2] = in[0];
    if (memcmp(in, out, sizeof in))
        return dg_fail(err, DG_ERR_INVALID, "what is read is not what was written");
    dg_error expected = DG_ERROR_INIT;
    if (t->store_add(s, "a", &other, &expected) == DG_OK || !expected.message[0])
        return dg_fail(err, DG_ERR_INVALID, "the same name with another type is not refused with a message");
    expected.message[0] = 0;
    if (t->store_read(s, "b", out, 0, 4, &expected) == DG_OK || !expected.message[0])
        return dg_fail(err, DG_ERR_INVALID, "reading what is not there is not refused with a message");
    expected.message[0] = 0;
    if (t->store_write(s, "a", in, 56, 8, &expected) == DG_OK || !expected.message[0])
        return dg_fail(err, DG_ERR_INVALID, "writing past the end is not refused with a message");
    return DG_OK;
}

static dg_verdict state(const dg_checked *c)
{
    dg_component b;
    dg_verdict verdict;
    dg_error err = DG_ERROR_INIT;
    dg_backend_store *s = NULL;
    if (!usable(c, &b, &verdict)) return verdict;
    dg_status status = table_of(&b)->store_create(b.self, &s, &err);
    if (status == DG_OK) status = round_trip(&b, s, &err);
    verdict = status == DG_OK ? DG_CHECK_PASS : dg_check_fail(c, "%s", err.message);
    if (s) table_of(&b)->store_destroy(s);
    dg_component_destroy(&b);
    return verdict;
}

/* ---- ops: every case of the op table against the interpreter */

static void fill_case(void *user, const char *name, const dg_type *type, double *out)
{
    dg_case_fill(user, (size_t)(name[2] - '0'), type, 11, out); /* inputs are named in0, in1, ... */
}

/* Largest difference that rounding explains, relative to the largest value, for the coarsest dtype that takes
 * part. */
static double tolerance(const dg_graph *g, int32_t node)
{
    static const double of[DG_DTYPE_COUNT] = {
        [DG_F32] = 5e-5, [DG_BF16] = 2e-2, [DG_F16] = 4e-3, [DG_F8E4M3] = 0.15};
    double most = 0;
    const dg_node *n = dg_graph_node(g, node);
    for (int32_t i = 0; i < n->n_in; i++)
        if (dg_is_value(n->in[i])) most = fmax(most, of[dg_type_of(g, n->in[i]).dtype]);
    for (int32_t i = 0; i < n->n_out; i++) most = fmax(most, of[n->out[i].dtype]);
    return most;
}

static dg_status compare(const dg_graph *g, int32_t node, const double *want, const double *got,
                         dg_error *err)
{
    const dg_node *n = dg_graph_node(g, node);
    size_t at = 0;
    for (int32_t k = 0; k < n->n_out; k++) {
        double largest = 1e-3, tol = dg_dtype_is_float((dg_dtype)n->out[k].dtype) ? tolerance(g, node) : 0;
        size_t count = (size_t)dg_type_count(&n->out[k]);
        for (size_t i = at; i < at + count; i++)
            if (isfinite(want[i])) largest = fmax(largest, fabs(want[i]));
        for (size_t i = at; i < at + count; i++) {
            bool same = isfinite(want[i]) ? fabs(want[i] - got[i]) <= tol * largest
                                          : (isnan(want[i]) ? isnan(got[i]) : want[i] == got[i]);
            if (!same)
                return dg_fail(err, DG_ERR_MISMATCH,
                               "element %zu of output %d is %.9g, the reference says %.9g", i - at, k, got[i],
                               want[i]);
        }
        at += count;
    }
    return DG_OK;
}

static dg_status one_case(const dg_component *b, const dg_component *reference, const dg_case *k,
                          dg_error *err)
{
    dg_value in[DG_OP_MAX_IN], y = DG_NO_VALUE;
    size_t n_in, n;
    double *want = NULL, *got = NULL;
    dg_graph *g = dg_graph_create();
    dg_status s = g ? dg_case_build(k, g, in, &n_in, &y, err) : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int32_t i = 0; s == DG_OK && i < dg_graph_node(g, y.node)->n_out; i++) {
        char name[16];
        snprintf(name, sizeof name, "out%d", (int)i);
        dg_graph_output(g, (dg_value){y.node, i}, name);
    }
    void *user = (void *)(uintptr_t)k;
    if (s == DG_OK) s = dg_graph_error(g, err);
    if (s == DG_OK) s = dg_check_run(reference, g, fill_case, user, &want, &n, err);
    if (s == DG_OK) s = dg_check_run(b, g, fill_case, user, &got, &n, err);
    if (s == DG_OK) s = compare(g, y.node, want, got, err);
    dg_free(want);
    dg_free(got);
    dg_graph_destroy(g);
    return s;
}

static dg_verdict every_op(const dg_checked *c)
{
    dg_component b, reference = {0};
    dg_verdict verdict;
    const dg_search nothing = {.only_these = true};
    dg_registry *r = NULL;
    dg_error err = DG_ERROR_INIT;
    size_t refused = 0, n = dg_case_count();
    char reason[256] = "";
    if (!usable(c, &b, &verdict)) return verdict;
    dg_status s = dg_registry_create(&nothing, &r, &err);
    if (s == DG_OK) s = dg_component_make(r, "backend", "reference", NULL, 0, NULL, &reference, &err);
    verdict = s == DG_OK ? DG_CHECK_PASS : dg_check_fail(c, "%s", err.message);
    for (size_t i = 0; i < n && verdict == DG_CHECK_PASS; i++) {
        const dg_case *k = dg_case_at(i);
        err = (dg_error)DG_ERROR_INIT;
        s = one_case(&b, &reference, k, &err);
        if (s == DG_ERR_UNSUPPORTED) {
            refused++;
            snprintf(reason, sizeof reason, "%.255s", err.message);
        } else if (s != DG_OK)
            verdict = dg_check_fail(c, "%s of %s%s%s: %s", k->op, k->types, k->attrs[0] ? " with " : "",
                                    k->attrs, err.message);
    }
    if (verdict == DG_CHECK_PASS) {
        dg_str_printf(c->detail, "%zu cases agree with the reference", n - refused);
        if (refused) dg_str_printf(c->detail, ", %zu are refused, such as %s", refused, reason);
    }
    dg_component_destroy(&reference);
    dg_registry_destroy(r);
    dg_component_destroy(&b);
    return verdict;
}

const dg_check dg_backend_checks[] = {{"devices", DG_BACKEND_INTERFACE, devices},
                                      {"state", DG_BACKEND_INTERFACE, state},
                                      {"every op against the reference", DG_BACKEND_INTERFACE, every_op},
                                      {NULL, NULL, NULL}};
