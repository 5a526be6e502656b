/* test_ops.c - every op of the table: cases, lowerings, gradients by finite differences, shape errors; and
 * the composites against formulas written down again here. */
#include "run.h"

#include <math.h>

#define COUNT(A) (sizeof(A) / sizeof(A)[0])

static const char *text_of(const dg_case *c)
{
    static char text[512];
    snprintf(text, sizeof text, "%s(%s | %s | %s)", c->op, c->types, c->attrs, c->data);
    return text;
}

/* ---- the table and its cases */

static void every_op_has_a_meaning_and_a_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_op_count(); i++) {
        const dg_op *op = dg_op_at(i);
        bool found = false;
        for (size_t k = 0; k < dg_case_count(); k++) found |= strcmp(dg_case_at(k)->op, op->name) == 0;
        if (!found) fail_msg("%s has no case", op->name);
        if (!op->doc[0]) fail_msg("%s has no meaning", op->name);
        assert_true((op->lower != NULL) == (op->cls == DG_COMP));
        assert_ptr_equal(dg_op_find(op->name), op);
    }
    assert_null(dg_op_find("no_such_op"));
}

static void a_case_gives_the_same_values_for_the_same_seed(void **state)
{
    (void)state;
    const dg_case c = {"add", "f32[17] f32[17]", "", ""};
    const dg_type t = {DG_F32, 1, {17}};
    double a[17], b[17];
    dg_case_fill(&c, 0, &t, 7, a);
    dg_case_fill(&c, 0, &t, 7, b);
    assert_memory_equal(a, b, sizeof a);
    dg_case_fill(&c, 0, &t, 8, b);
    assert_memory_not_equal(a, b, sizeof a);
    dg_case_fill(&c, 1, &t, 7, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* Ops whose cases hold values that are not finite on purpose. */
static bool may_be_infinite(const dg_case *c, int32_t output)
{
    return strcmp(c->op, "attention") == 0 && output == 1; /* a row that sees nothing */
}

/* Runs one case lowered: output types as before, values those of its dtype, and finite. */
static void check_lowering(const dg_case *c)
{
    dg_error err = DG_ERROR_INIT;
    dg_value in[DG_OP_MAX_IN], y;
    size_t n_in;
    dg_graph *g = test_case_graph(c, in, &n_in, &y), *low;
    ASSERT_OK(dg_pass_lower(g, NULL, NULL, &low, &err));
    for (int32_t i = 0; i < dg_graph_count(low); i++) {
        const dg_op *op = dg_graph_node(low, i)->op;
        if (op && op->cls != DG_PRIM) fail_msg("%s: %s is left after lowering", text_of(c), op->name);
    }
    dg_graph_destroy(low);
    test_run r = test_run_make(g, true, text_of(c));
    test_run_fill(&r, c, 1);
    test_run_go(&r);
    for (int32_t k = 0; k < dg_op_find(c->op)->n_out; k++) {
        char name[32], a[96], b[96];
        dg_type want = dg_type_of(g, dg_output(y, k)), is = {0};
        snprintf(name, sizeof name, "y%d", k);
        const double *v = test_run_output(&r, name, &is);
        if (is.dtype != want.dtype || !dg_same_dims(&is, &want))
            fail_msg("%s: output %d is %s after lowering, not %s", text_of(c), k,
                     dg_type_text(&is, a, sizeof a), dg_type_text(&want, b, sizeof b));
        for (int64_t i = 0; i < dg_type_count(&is); i++) {
            double rounded = v[i];
            dg_round_doubles((dg_dtype)is.dtype, &rounded, 1);
            if (!isfinite(v[i]) && !may_be_infinite(c, k))
                fail_msg("%s: output %d[%d] is %g", text_of(c), k, (int)i, v[i]);
            if (!(rounded == v[i]))
                fail_msg("%s: output %d[%d] = %.17g is no %s", text_of(c), k, (int)i, v[i],
                         dg_dtype_name((dg_dtype)is.dtype));
        }
    }
    test_run_free(&r);
    dg_graph_destroy(g);
}

static void every_case_lowers_to_primitives_with_the_types_of_its_shape_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_case_count(); i++) check_lowering(dg_case_at(i));
}

/* Rounding at every value changes a result by no more than its dtype explains. */
static void rounded_results_stay_near_the_exact_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_case_count(); i++) {
        const dg_case *c = dg_case_at(i);
        test_run exact = test_case_run(c, false), rounded = test_case_run(c, true);
        bool narrow = strstr(c->types, "bf16") || strstr(c->attrs, "bf16") || strstr(c->attrs, "f16");
        test_run_fill(&exact, c, 2);
        test_run_fill(&rounded, c, 2);
        test_run_go(&exact);
        test_run_go(&rounded);
        for (int32_t k = 0; k < dg_op_find(c->op)->n_out; k++) {
            char name[32];
            dg_type t = {0};
            double most = 0, worst = 0;
            snprintf(name, sizeof name, "y%d", k);
            const double *a = test_run_output(&exact, name, &t), *b = test_run_output(&rounded, name, &t);
            for (int64_t j = 0; j < dg_type_count(&t); j++) {
                if (a[j] == b[j]) continue;
                most = fmax(most, fabs(a[j]));
                worst = fmax(worst, fabs(a[j] - b[j]));
            }
            if (!(worst <= (narrow ? 2e-2 : 1e-5) * (1 + most)))
                fail_msg("%s: output %d differs by %g of %g", text_of(c), k, worst, most);
        }
        test_run_free(&exact);
        test_run_free(&rounded);
    }
}

/* ---- gradients */

/* What has no gradient though its input is a float: reasons beside it. */
static const struct {
    const char *op, *attrs; /* NULL: any */
    size_t input;
} no_gradient[] = {
    {"cross_entropy", NULL, 1}, /* targets are data */
};

static bool has_gradient(const dg_case *c, size_t input)
{
    for (size_t i = 0; i < COUNT(no_gradient); i++)
        if (strcmp(no_gradient[i].op, c->op) == 0 && no_gradient[i].input == input &&
            (!no_gradient[i].attrs || strcmp(no_gradient[i].attrs, c->attrs) == 0))
            return false;
    return true;
}

/* sum(w y) with the leaf "w" for w: a scalar. */
static dg_value weighted_sum(dg_graph *g, dg_value y)
{
    dg_type t = dg_type_of(g, y);
    dg_value w = dg_input(g, "w", DG_F32, t.dims, (size_t)t.rank, DG_PER_BATCH);
    dg_value terms = dg_reshape(g, dg_mul(g, dg_convert(g, y, DG_F32), w), DG_LIST(-1));
    return dg_reduce_sum(g, terms, DG_LIST(0), false, DG_NONE);
}

static bool is_finite(const double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Compares d[k], the gradient in input k, with central differences of the loss. */
static void check_input(test_run *r, const dg_case *c, size_t k, int32_t output)
{
    char leaf[32], name[32];
    dg_type t = {0}, td = {0}, tl = {0};
    snprintf(leaf, sizeof leaf, "in%zu", k);
    snprintf(name, sizeof name, "d%zu", k);
    double *x = test_run_leaf(r, leaf, &t);
    if (!x) return;
    const double *d = test_run_output(r, name, &td), *loss = test_run_output(r, "loss", &tl), h = 1e-5;
    int64_t n = dg_type_count(&t);
    double *analytic = dg_calloc((size_t)n, sizeof *analytic);
    assert_non_null(analytic);
    test_run_go(r);
    memcpy(analytic, d, (size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) {
        double keep = x[i], up, down;
        x[i] = keep + h;
        test_run_go(r);
        up = *loss;
        x[i] = keep - h;
        test_run_go(r);
        down = *loss;
        x[i] = keep;
        double numeric = (up - down) / (2 * h);
        if (!(fabs(numeric - analytic[i]) <= 2e-6 * (1 + fabs(numeric))))
            fail_msg("%s: d y%d / d in%zu[%d] is %.10g, by differences %.10g", text_of(c), output, k, (int)i,
                     analytic[i], numeric);
    }
    dg_free(analytic);
}

/* `lowered`: differentiates the lowering instead of using the op's own rule. False when the output has no
 * gradient. */
static bool check_gradient(const dg_case *c, int32_t output, bool lowered)
{
    dg_error err = DG_ERROR_INIT;
    dg_value in[DG_OP_MAX_IN], y, wrt[DG_OP_MAX_IN], grads[DG_OP_MAX_IN];
    size_t n_in, n = 0, which[DG_OP_MAX_IN];
    dg_graph *g = test_case_graph(c, in, &n_in, &y);
    char name[32];
    if (!dg_dtype_is_float((dg_dtype)dg_type_of(g, dg_output(y, output)).dtype)) {
        dg_graph_destroy(g);
        return false;
    }
    dg_value loss = weighted_sum(g, dg_output(y, output));
    dg_graph_output(g, loss, "loss");
    if (lowered) {
        dg_graph *low;
        const dg_named_value *outputs;
        ASSERT_OK(dg_pass_lower(g, NULL, NULL, &low, &err));
        dg_graph_destroy(g);
        g = low;
        size_t n_outputs = dg_graph_outputs(g, &outputs);
        loss = outputs[n_outputs - 1].value;
    }
    for (size_t k = 0; k < n_in; k++) {
        snprintf(name, sizeof name, "in%zu", k);
        dg_value leaf = dg_graph_leaf(g, name);
        if (!dg_is_value(leaf) || !dg_dtype_is_float((dg_dtype)dg_type_of(g, leaf).dtype)) continue;
        if (!lowered && !has_gradient(c, k)) continue;
        wrt[n] = leaf;
        which[n++] = k;
    }
    if (dg_gradient(g, loss, wrt, n, grads, &err) != DG_OK) fail_msg("%s: %s", text_of(c), err.message);
    for (size_t i = 0; i < n; i++) {
        dg_type a = dg_type_of(g, wrt[i]), b = dg_type_of(g, grads[i]);
        assert_true(b.dtype == DG_F32 && dg_same_dims(&a, &b));
        snprintf(name, sizeof name, "d%zu", which[i]);
        dg_graph_output(g, grads[i], name);
    }
    test_run r = test_run_make(g, false, text_of(c));
    dg_graph_destroy(g);
    dg_type t = {0};
    const dg_case weights = {"", "", "", "unit"};
    test_run_fill(&r, c, 3);
    double *w = test_run_leaf(&r, "w", &t);
    dg_case_fill(&weights, DG_OP_MAX_IN, &t, 3, w);
    test_run_go(&r);
    snprintf(name, sizeof name, "y%d", output);
    const double *value = test_run_output(&r, name, &t);
    bool finite = is_finite(value, dg_type_count(&t));
    for (size_t i = 0; i < n && finite; i++) check_input(&r, c, which[i], output);
    test_run_free(&r);
    return finite && n > 0;
}

static void gradient_rules_agree_with_finite_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_op_count(); i++) {
        const dg_op *op = dg_op_at(i);
        int checked = 0;
        for (size_t k = 0; k < dg_case_count() && op->grad; k++)
            if (strcmp(dg_case_at(k)->op, op->name) == 0) checked += check_gradient(dg_case_at(k), 0, false);
        if (op->grad && !checked) fail_msg("the gradient of %s was checked with no case", op->name);
    }
}

static void gradients_of_lowered_composites_agree_with_finite_differences(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_op_count(); i++) {
        const dg_op *op = dg_op_at(i);
        int checked = 0;
        if (strcmp(op->name, "linear_int8") == 0) continue; /* a step function of its inputs */
        for (size_t k = 0; k < dg_case_count() && op->cls == DG_COMP; k++)
            for (int32_t out = 0; out < op->n_out && strcmp(dg_case_at(k)->op, op->name) == 0; out++)
                checked += check_gradient(dg_case_at(k), out, true);
        if (op->cls == DG_COMP && !checked)
            fail_msg("the lowering of %s was differentiated in no case", op->name);
    }
}

static void composites_without_a_rule_say_that_they_must_be_lowered(void **state)
{
    (void)state;
    dg_error err;
    dg_graph *g = dg_graph_create();
    dg_value x = dg_input(g, "x", DG_F32, DG_LIST(1, 2, 2, 1), DG_PER_BATCH), grad;
    dg_value loss = weighted_sum(g, dg_resize(g, x, 3, 3, false));
    ASSERT_FAILS(dg_gradient(g, loss, &x, 1, &grad, &err), DG_ERR_UNSUPPORTED, "resize has no gradient rule");
    dg_graph_destroy(g);
}

/* ---- shape errors */

static const struct {
    const char *op, *types, *attrs, *says;
} bad[] = {
    {"constant", "", "dtype=f32 dims=[2] data=[1]", "8 bytes of data, not 4"},
    {"constant", "f32[2]", "dtype=f32 dims=[1] data=[1]", "takes 0 inputs"},
    {"fill", "", "dtype=f32 dims=[2,0] value=1", "dim 1 is 0"},
    {"fill", "", "dtype=none dims=[2] value=1", "no such dtype"},
    {"fill", "", "dtype=f32 dims=[1,1,1,1,1,1,1] value=1", "rank 7"},
    {"fill", "", "dtype=f32 dims=[2]", "'value' is missing"},
    {"fill", "", "dtype=f32 dims=[1099511627776,2] value=1", "larger than any memory"},
    {"iota", "", "dtype=i32 dims=[2] axis=1", "axis 1 of i32[2]"},
    {"neg", "bool[2]", "", "not bool[2]"},
    {"abs", "u8[2]", "", "not u8[2]"},
    {"sign", "bool[2]", "", "not bool[2]"},
    {"floor", "i32[2]", "", "needs floats"},
    {"exp", "i32[2]", "", "needs floats"},
    {"log", "i32[2]", "", "needs floats"},
    {"sqrt", "i32[2]", "", "needs floats"},
    {"rsqrt", "u8[2]", "", "needs floats"},
    {"tanh", "i32[2]", "", "needs floats"},
    {"erf", "i32[2]", "", "needs floats"},
    {"sin", "i32[2]", "", "needs floats"},
    {"cos", "bool[2]", "", "needs floats"},
    {"not", "i32[2]", "", "needs bool"},
    {"is_finite", "i32[2]", "", "needs floats"},
    {"add", "f32[2]", "", "takes 2 inputs (a b), not 1"},
    {"add", "f32[2] f32[3]", "", "f32[2] and f32[3] do not broadcast"},
    {"add", "f32[2] bf16[2]", "", "dtypes differ"},
    {"add", "- f32[2]", "", "input 'a'"},
    {"sub", "bool[2] bool[2]", "", "needs numbers"},
    {"mul", "f32[2,3] f32[2]", "", "do not broadcast"},
    {"div", "f32[2] i32[2]", "", "dtypes differ"},
    {"max", "bool[2] bool[2]", "", "needs numbers"},
    {"min", "f32[2] f32[3]", "", "do not broadcast"},
    {"and", "i32[2] i32[2]", "", "needs bool"},
    {"or", "f32[2] f32[2]", "", "needs bool"},
    {"eq", "f32[2] i32[2]", "", "dtypes differ"},
    {"ne", "f32[2] f32[3]", "", "do not broadcast"},
    {"lt", "f32[2] f32[3]", "", "do not broadcast"},
    {"le", "f32[2] f32[3]", "", "do not broadcast"},
    {"gt", "f32[2] u8[2]", "", "dtypes differ"},
    {"ge", "f32[2] f32[3]", "", "do not broadcast"},
    {"select", "f32[2] f32[2] f32[2]", "", "condition must be bool"},
    {"select", "bool[2] f32[2] i32[2]", "", "dtypes differ"},
    {"select", "bool[3] f32[2] f32[2]", "", "do not broadcast"},
    {"convert", "f32[2]", "dtype=none", "no such dtype"},
    {"reshape", "f32[2,3]", "dims=[4]", "f32[2,3] cannot become f32[4]"},
    {"reshape", "f32[2,3]", "dims=[4,-1]", "cannot become"},
    {"reshape", "f32[2,3]", "dims=[-1,-1]", "dim 1 is -1"},
    {"transpose", "f32[2,3]", "perm=[0]", "1 entries for f32[2,3]"},
    {"transpose", "f32[2,3]", "perm=[1,1]", "not a permutation"},
    {"broadcast", "f32[2]", "dims=[3]", "f32[2] does not stretch to f32[3]"},
    {"broadcast", "f32[2,2]", "dims=[2]", "rank 1"},
    {"slice", "f32[5]", "starts=[3] limits=[6]", "[3, 6) on axis 0 of f32[5]"},
    {"slice", "f32[5]", "starts=[3,0] limits=[4]", "a start and a limit for each axis"},
    {"slice", "f32[5]", "starts=[3] limits=[3]", "[3, 3)"},
    {"pad", "f32[5]", "low=[-1] high=[0]", "negative padding on axis 0"},
    {"pad", "f32[5]", "low=[1,1] high=[0]", "each axis"},
    {"concat", "f32[2,3] f32[3,3]", "axis=1", "f32[3,3] does not join f32[2,3]"},
    {"concat", "f32[2] i32[2]", "axis=0", "does not join"},
    {"concat", "f32[2]", "axis=1", "axis 1 of f32[2]"},
    {"concat", "", "axis=0", "takes 1 or more inputs"},
    {"gather", "f32[2,3] f32[2]", "", "ids must be i32"},
    {"gather", "f32[] i32[2]", "", "no rows"},
    {"gather", "f32[2,3] i32[3,1]", "batch=1", "do not go with the batch"},
    {"scatter_add", "f32[2] f32[2]", "rows=3", "ids must be i32"},
    {"scatter_add", "i32[2] i32[2]", "rows=3", "updates must be floats"},
    {"scatter_add", "i32[2] f32[3]", "rows=3", "do not go with ids"},
    {"scatter_add", "i32[2] f32[2]", "rows=0", "rows is 0"},
    {"reduce_sum", "f32[2,3]", "axes=[2]", "axis 2 of f32[2,3]"},
    {"reduce_sum", "f32[2,3]", "axes=[0,0]", "axis 0"},
    {"reduce_sum", "f32[2,3]", "axes=[]", "no axes"},
    {"reduce_sum", "bool[2]", "axes=[0]", "not bool[2]"},
    {"reduce_sum", "f32[2]", "axes=[0] out=i32", "cannot be i32"},
    {"reduce_max", "bool[2]", "axes=[0]", "needs numbers"},
    {"argmax", "f32[2]", "axis=-1", "axis -1"},
    {"top_k", "f32[2]", "k=3", "k = 3 of f32[2]"},
    {"top_k", "i32[2]", "k=1", "needs floats"},
    {"matmul", "f32[2,3] f32[2,3]", "", "3 is not 2"},
    {"matmul", "f32[2,3] f32[3]", "", "equal ranks"},
    {"matmul", "f32[2,2,3] f32[1,3,2]", "", "leading dims"},
    {"matmul", "f32[2,3] bf16[3,2]", "", "one dtype"},
    {"matmul", "f32[2,3] f32[3,2]", "out=i32", "must be floats"},
    {"all_reduce", "i32[2]", "", "needs floats"},
    {"reduce_scatter", "i32[2]", "ranks=2", "needs floats"},
    {"reduce_scatter", "f32[3]", "ranks=2", "f32[3] cannot be cut into 2 equal parts"},
    {"reduce_scatter", "f32[]", "ranks=2", "a scalar has no parts"},
    {"all_gather", "f32[2]", "ranks=0", "ranks is 0"},
    {"all_gather", "f32[]", "ranks=2", "a scalar has no parts"},
    {"shard", "i32[2,3]", "ranks=3", "i32[2,3] cannot be cut into 3 equal parts"},
    {"linear", "f32[2,3] f32[5,4]", "", "x f32[2,3] does not go with w f32[5,4]"},
    {"linear", "f32[2,3] f32[5,3] f32[3]", "", "bias must be f32[5], not f32[3]"},
    {"linear_int8", "f32[2,3] f32[5,4]", "", "x f32[2,3] does not go with w f32[5,4]"},
    {"linear_int8", "f32[2,3] f32[5,3]", "outlier=0.5", "outlier is 0 or at least 1"},
    {"layer_norm", "i32[2,3]", "", "x must be floats"},
    {"layer_norm", "f32[2,3] f32[2]", "", "gamma must be f32[3], not f32[2]"},
    {"layer_norm", "bf16[2,3] bf16[3]", "", "gamma must be f32[3]"},
    {"layer_norm_grad", "f32[2,3] f32[2,3] f32[3] f32[2]", "", "mean must be f32[2], not f32[3]"},
    {"softmax", "f32[]", "", "scalar"},
    {"gelu", "i32[2]", "", "x must be floats"},
    {"gelu", "f32[2]", "fast=1", "'fast=1'"},
    {"gelu_grad", "f32[2] f32[3]", "", "dy must be f32[3], not f32[2]"},
    {"attention", "f32[2,5,6] f32[2,5,6] f32[2,5,6]", "heads=4", "width 6 cannot be cut into 4 heads"},
    {"attention", "f32[2,5,6] f32[2,5,6] f32[2,4,6]", "heads=2", "do not go together"},
    {"attention", "f32[5,6] f32[5,6] f32[5,6]", "heads=2", "[batch, tokens, width]"},
    {"attention", "f32[2,5,6] f32[2,5,6] f32[2,5,6] i32[1,5]", "heads=2", "come together"},
    {"attention", "f32[2,5,6] f32[2,5,6] f32[2,5,6] i32[1,5] i32[3,5]", "heads=2",
     "group_k must be i32[1 or 2,5], not i32[3,5]"},
    {"attention", "f32[2,5,6] f32[2,5,6] f32[2,5,6] - - f32[1,1,5,5]", "heads=2",
     "bias must be f32[1 or 2,2,5,5]"},
    {"attention_grad", "f32[2,5,6] f32[2,5,6] f32[2,5,6] f32[2,5,6] f32[2,5,6] f32[2,5]", "heads=2",
     "lse must be f32[2,2,5]"},
    {"normalize", "i32[2]", "", "x must be floats"},
    {"normalize_grad", "f32[2,3] f32[2,3] f32[3]", "", "rnorm must be f32[2]"},
    {"cross_entropy", "f32[2,3] i32[3]", "", "target must be i32[2], not i32[3]"},
    {"cross_entropy", "f32[2,3] bf16[2,3]", "", "target must be f32[2,3]"},
    {"cross_entropy_grad", "f32[3] f32[2,3] i32[2] f32[2]", "", "dy must be f32[2], not f32[3]"},
    {"patchify", "f32[1,5,4,3]", "patch_h=2 patch_w=2 scale=[1,1,1] shift=[0,0,0]",
     "cannot be cut into patches of 2 x 2"},
    {"patchify", "f32[1,4,4,3]", "patch_h=2 patch_w=2 scale=[1] shift=[0,0,0]", "each of the 3 channels"},
    {"patchify", "i32[1,4,4,3]", "patch_h=2 patch_w=2 scale=[1,1,1] shift=[0,0,0]",
     "image must be u8 or f32"},
    {"resize", "f32[2,3,3]", "height=2 width=2", "[batch, height, width, channels]"},
    {"resize", "f32[2,3,3,1]", "height=0 width=2", "cannot resize to 0 x 2"},
    {"adamw", "f32[2] f32[3] f32[2] f32[2] f32[3]", "beta1=0.9 beta2=0.9 eps=1e-8",
     "grad must be f32[2], not f32[3]"},
    {"adamw", "f32[2] f32[2] f32[2] f32[2] f32[2]", "beta1=0.9 beta2=0.9 eps=1e-8", "scalars must be f32[3]"},
    {"adamw", "f32[2] f32[2] f32[2] f32[2] f32[3] f32[]", "beta1=0.9 beta2=0.9 eps=1e-8",
     "ok must be bool[]"},
    {"no_such_op", "f32[2]", "", "there is no op"},
};

static void wrong_inputs_are_refused_with_the_ops_name_and_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        const dg_case c = {bad[i].op, bad[i].types, bad[i].attrs, ""};
        dg_error err = DG_ERROR_INIT;
        dg_value in[DG_OP_MAX_IN], y;
        size_t n_in;
        dg_graph *g = dg_graph_create();
        dg_status s = dg_case_build(&c, g, in, &n_in, &y, &err);
        if (s == DG_OK) fail_msg("%s is not refused", text_of(&c));
        if (!strstr(err.message, c.op) || !strstr(err.message, bad[i].says))
            fail_msg("%s: '%s' does not say '%s'", text_of(&c), err.message, bad[i].says);
        dg_graph_destroy(g);
    }
}

static void every_op_has_a_wrong_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < dg_op_count(); i++) {
        bool found = false;
        for (size_t k = 0; k < COUNT(bad); k++) found |= strcmp(bad[k].op, dg_op_at(i)->name) == 0;
        if (!found) fail_msg("%s has no wrong case", dg_op_at(i)->name);
    }
}

/* ---- composites against formulas written again, in the plainest way */

/* A case that has run in doubles: x[k] its inputs, y[k] its outputs. */
typedef struct done {
    test_run run;
    double *x[DG_OP_MAX_IN];
    const double *y[DG_OP_MAX_OUT];
} done;

static done do_case(const char *op, const char *types, const char *attrs, const char *data)
{
    const dg_case c = {op, types, attrs, data};
    done d = {.run = test_case_run(&c, false)};
    dg_type t;
    char name[32];
    test_run_fill(&d.run, &c, 5);
    for (size_t k = 0; k < DG_OP_MAX_IN; k++) {
        snprintf(name, sizeof name, "in%zu", k);
        d.x[k] = test_run_leaf(&d.run, name, &t);
    }
    for (int32_t k = 0; k < dg_op_find(op)->n_out; k++) {
        snprintf(name, sizeof name, "y%d", k);
        d.y[k] = test_run_output(&d.run, name, &t);
    }
    test_run_go(&d.run);
    return d;
}

static void near(double is, double want, double tolerance)
{
    if (is != want && !(fabs(is - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%.15g is not %.15g", is, want);
}

/* One query of one head: y [d] and the logsumexp. sees and bias: [nk], NULL when absent. */
static double attend(const double *q, const double *k, const double *v, int nk, int d, int width,
                     double scale, const bool *sees, const double *bias, double *y)
{
    double sum = 0;
    memset(y, 0, (size_t)d * sizeof *y);
    for (int j = 0; j < nk; j++) {
        double s = bias ? bias[j] : 0;
        for (int e = 0; e < d; e++) s += scale * q[e] * k[j * width + e];
        if (sees && !sees[j]) continue;
        sum += exp(s);
        for (int e = 0; e < d; e++) y[e] += exp(s) * v[j * width + e];
    }
    for (int e = 0; e < d && sum > 0; e++) y[e] /= sum;
    return log(sum);
}

enum { B = 2, NQ = 7, NK = 5, H = 2, D = 3, W = H * D };

/* strict: only smaller groups; the bias is [batch or 1, H, NQ, NK]. */
static void compare_attention(const done *c, bool groups, bool strict, int bias_batch, double scale)
{
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < NQ; i++) {
                bool sees[NK];
                double y[D];
                for (int j = 0; j < NK && groups; j++) {
                    double query = c->x[3][b * NQ + i], key = c->x[4][j];
                    sees[j] = strict ? key < query : !(key > query);
                }
                const double *bias = bias_batch ? c->x[5] + ((b % bias_batch * H + h) * NQ + i) * NK : NULL;
                double lse =
                    attend(c->x[0] + (b * NQ + i) * W + h * D, c->x[1] + b * NK * W + h * D,
                           c->x[2] + b * NK * W + h * D, NK, D, W, scale, groups ? sees : NULL, bias, y);
                near(c->y[1][(b * H + h) * NQ + i], lse, 1e-12);
                for (int e = 0; e < D; e++) near(c->y[0][(b * NQ + i) * W + h * D + e], y[e], 1e-12);
            }
}

#define QKV "f32[2,7,6] f32[2,5,6] f32[2,5,6] "

static void attention_is_softmax_of_scores_times_values(void **state)
{
    (void)state;
    static const struct {
        const char *types, *attrs, *data;
        bool groups, strict;
        int bias_batch;
        double scale;
    } rows[] = {
        {QKV, "heads=2", "", false, false, 0, 0},
        {QKV, "heads=2 scale=0.3", "", false, false, 0, 0.3},
        {QKV "i32[2,7] i32[1,5]", "heads=2", "normal normal normal int:-1:2 int:0:2", true, false, 0, 0},
        {QKV "i32[2,7] i32[1,5]", "heads=2 strict=1", "normal normal normal int:0:3 int:0:2", true, true, 0, 0},
        {QKV "- - f32[1,2,7,5]", "heads=2", "", false, false, 1, 0},
        {QKV "i32[2,7] i32[1,5] f32[2,2,7,5]", "heads=2", "normal normal normal int:-1:2 int:0:2 normal",
         true, false, 2, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        done c = do_case("attention", rows[i].types, rows[i].attrs, rows[i].data);
        compare_attention(&c, rows[i].groups, rows[i].strict, rows[i].bias_batch,
                          rows[i].scale != 0 ? rows[i].scale : 1 / sqrt(D));
        test_run_free(&c.run);
    }
}

static void attention_to_nothing_is_zero_and_has_no_gradient(void **state)
{
    (void)state;
    done c = do_case("attention", "f32[1,3,4] f32[1,5,4] f32[1,5,4] i32[1,3] i32[1,5]", "heads=2",
                     "normal normal normal int:0:0 int:1:1");
    for (int i = 0; i < 12; i++) assert_true(c.y[0][i] == 0);
    for (int i = 0; i < 6; i++) assert_true(c.y[1][i] == -INFINITY);
    test_run_free(&c.run);
    c = do_case("attention_grad",
                "f32[1,3,4] f32[1,3,4] f32[1,5,4] f32[1,5,4] f32[1,3,4] f32[1,2,3] i32[1,3] i32[1,5]",
                "heads=2", "normal normal normal normal int:0:0 int:0:0 int:0:0 int:1:1");
    for (int i = 0; i < 6; i++) c.x[5][i] = -INFINITY;
    test_run_go(&c.run);
    for (int i = 0; i < 12; i++) assert_true(c.y[0][i] == 0);
    for (int i = 0; i < 20; i++) assert_true(c.y[1][i] == 0 && c.y[2][i] == 0);
    test_run_free(&c.run);
}

static void attention_stays_finite_with_large_scores(void **state)
{
    (void)state;
    done c = do_case("attention", "f32[1,3,2] f32[1,5,2] f32[1,5,2]", "heads=1",
                     "int:-100:100 int:-100:100 normal");
    assert_true(is_finite(c.y[0], 6) && is_finite(c.y[1], 3));
    test_run_free(&c.run);
}

static void layer_norm_centres_and_scales_rows(void **state)
{
    (void)state;
    enum { R = 3, N = 17 };
    done c = do_case("layer_norm", "f32[3,17] f32[17] f32[17]", "eps=1e-5", "");
    for (int r = 0; r < R; r++) {
        const double *x = c.x[0] + r * N;
        double mean = 0, square = 0;
        for (int i = 0; i < N; i++) {
            mean += x[i] / N;
            square += x[i] * x[i] / N;
        }
        double rstd = 1 / sqrt(square - mean * mean + 1e-5);
        near(c.y[1][r], mean, 1e-12);
        near(c.y[2][r], rstd, 1e-12);
        for (int i = 0; i < N; i++)
            near(c.y[0][r * N + i], (x[i] - mean) * rstd * c.x[1][i] + c.x[2][i], 1e-12);
    }
    test_run_free(&c.run);
}

static void cross_entropy_is_minus_log_of_the_targets_chance(void **state)
{
    (void)state;
    enum { R = 3, N = 7 };
    const double smoothing = 0.1;
    for (int soft = 0; soft < 2; soft++) {
        done c = do_case("cross_entropy", soft ? "f32[3,7] f32[3,7]" : "f32[3,7] i32[3]", "smoothing=0.1",
                         soft ? "normal chance" : "normal int:2:4");
        if (!soft) c.x[1][1] = -1;
        test_run_go(&c.run);
        for (int r = 0; r < R; r++) {
            double sum = 0, loss = 0;
            for (int i = 0; i < N; i++) sum += exp(c.x[0][r * N + i]);
            for (int i = 0; i < N; i++) {
                double t = soft ? c.x[1][r * N + i] : c.x[1][r] == i;
                loss -= ((1 - smoothing) * t + smoothing / N) * log(exp(c.x[0][r * N + i]) / sum);
            }
            near(c.y[0][r], !soft && r == 1 ? 0 : loss, 1e-12);
            near(c.y[1][r], log(sum), 1e-12);
        }
        test_run_free(&c.run);
    }
}

/* A class ruled out by -inf, as masked classes are, costs nothing unless it is the target. */
static void cross_entropy_bears_classes_that_are_ruled_out(void **state)
{
    (void)state;
    done c = do_case("cross_entropy", "f32[1,3] i32[1]", "", "normal int:0:0");
    c.x[0][2] = -INFINITY;
    test_run_go(&c.run);
    near(c.y[0][0], log(1 + exp(c.x[0][1] - c.x[0][0])), 1e-12);
    test_run_free(&c.run);
}

/* torch's upsample_bicubic2d coefficients, a = -0.75, for the fraction t; and bilinear ones in the same four
 * places. */
static void weights_at(double t, bool cubic, double w[4])
{
    const double a = -0.75, u = 1 - t, far = t + 1, further = u + 1;
    w[0] = cubic ? ((a * far - 5 * a) * far + 8 * a) * far - 4 * a : 0;
    w[1] = cubic ? ((a + 2) * t - (a + 3)) * t * t + 1 : u;
    w[2] = cubic ? ((a + 2) * u - (a + 3)) * u * u + 1 : t;
    w[3] = cubic ? ((a * further - 5 * a) * further + 8 * a) * further - 4 * a : 0;
}

static int clamp(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

/* One sample of a plane [h, w, c]. */
static double sample(const double *x, int h, int w, int c, double y_at, double x_at, int channel, bool cubic)
{
    int y0 = (int)floor(y_at), x0 = (int)floor(x_at);
    double wy[4], wx[4], sum = 0;
    weights_at(y_at - y0, cubic, wy);
    weights_at(x_at - x0, cubic, wx);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            sum += wy[i] * wx[j] * x[(clamp(y0 - 1 + i, h) * w + clamp(x0 - 1 + j, w)) * c + channel];
    return sum;
}

static void resize_samples_at_half_pixel_centres(void **state)
{
    (void)state;
    static const struct {
        const char *types, *attrs;
        int h, w, height, width;
        bool cubic;
    } rows[] = {
        {"f32[2,7,7,3]", "height=8 width=8", 7, 7, 8, 8, false},
        {"f32[2,5,3,3]", "height=2 width=7", 5, 3, 2, 7, false},
        {"f32[2,7,5,3]", "height=4 width=9 cubic=1", 7, 5, 4, 9, true},
        {"f32[2,1,4,3]", "height=3 width=4 cubic=1", 1, 4, 3, 4, true},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        done c = do_case("resize", rows[i].types, rows[i].attrs, "");
        int h = rows[i].h, w = rows[i].w, height = rows[i].height, width = rows[i].width;
        for (int at = 0; at < 2 * height * width * 3; at++) {
            int ch = at % 3, col = at / 3 % width, row = at / 3 / width % height, b = at / 3 / width / height;
            double y_at = (row + 0.5) * h / height - 0.5, x_at = (col + 0.5) * w / width - 0.5;
            near(c.y[0][at], sample(c.x[0] + b * h * w * 3, h, w, 3, y_at, x_at, ch, rows[i].cubic), 1e-6);
        }
        test_run_free(&c.run);
    }
}

static void patches_are_channels_then_rows_then_columns(void **state)
{
    (void)state;
    enum { HEIGHT = 4, WIDTH = 6, C = 3, PH = 2, PW = 3 };
    const double scale[C] = {0.5, 2, 1}, shift[C] = {-1, 0, 0.25};
    for (int last = 0; last < 2; last++) {
        done c = do_case("patchify", "u8[2,4,6,3]",
                         last ? "patch_h=2 patch_w=3 scale=[0.5,2,1] shift=[-1,0,0.25] channel_last=1"
                              : "patch_h=2 patch_w=3 scale=[0.5,2,1] shift=[-1,0,0.25]",
                         "");
        for (int b = 0; b < 2; b++)
            for (int y = 0; y < HEIGHT; y++)
                for (int x = 0; x < WIDTH; x++)
                    for (int ch = 0; ch < C; ch++) {
                        int token = y / PH * (WIDTH / PW) + x / PW, py = y % PH, px = x % PW;
                        int inside = last ? (py * PW + px) * C + ch : (ch * PH + py) * PW + px;
                        double want = c.x[0][((b * HEIGHT + y) * WIDTH + x) * C + ch] * scale[ch] + shift[ch];
                        near(c.y[0][(b * 4 + token) * C * PH * PW + inside], want, 1e-12);
                    }
        test_run_free(&c.run);
    }
}

static void adamw_follows_torchs_formula(void **state)
{
    (void)state;
    enum { N = 17 };
    const double beta1 = 0.9, beta2 = 0.95, eps = 1e-6, lr_scale = 0.65, decay = 0.05;
    done c = do_case("adamw", "f32[17] f32[17] f32[17] f32[17] f32[3] bool[]",
                     "beta1=0.9 beta2=0.95 eps=1e-6 lr_scale=0.65 decay=0.05",
                     "normal normal normal positive positive true");
    double lr = c.x[4][0] = 0.01, bias1 = c.x[4][1] = 1 - beta1 * beta1,
           bias2 = c.x[4][2] = 1 - beta2 * beta2;
    for (int ok = 1; ok >= 0; ok--) {
        *c.x[5] = ok;
        test_run_go(&c.run);
        for (int i = 0; i < N; i++) {
            double p = c.x[0][i], g = c.x[1][i], m = c.x[2][i], v = c.x[3][i];
            if (ok) {
                m = beta1 * m + (1 - beta1) * g;
                v = beta2 * v + (1 - beta2) * g * g;
                p -= lr * lr_scale * decay * p;
                p -= lr * lr_scale * (m / bias1) / (sqrt(v / bias2) + eps);
            }
            near(c.y[0][i], p, 1e-12);
            near(c.y[1][i], m, 1e-12);
            near(c.y[2][i], v, 1e-12);
        }
    }
    test_run_free(&c.run);
}

static void gelu_has_its_two_forms(void **state)
{
    (void)state;
    for (int quick = 0; quick < 2; quick++) {
        done c = do_case("gelu", "f32[5]", quick ? "quick=1" : "", "");
        c.x[0][0] = -1000; /* exp overflows on the way */
        test_run_go(&c.run);
        for (int i = 0; i < 5; i++) {
            double x = c.x[0][i];
            near(c.y[0][i], quick ? x / (1 + exp(-1.702 * x)) : x * erfc(-x / sqrt(2)) / 2, 1e-12);
        }
        test_run_free(&c.run);
    }
}

static void linear_softmax_and_normalize_are_what_they_say(void **state)
{
    (void)state;
    done c = do_case("linear", "f32[3,5] f32[7,5] f32[7]", "", "");
    for (int i = 0; i < 21; i++) {
        double sum = c.x[2][i % 7];
        for (int k = 0; k < 5; k++) sum += c.x[0][i / 7 * 5 + k] * c.x[1][i % 7 * 5 + k];
        near(c.y[0][i], sum, 1e-12);
    }
    test_run_free(&c.run);
    c = do_case("softmax", "f32[2,3]", "", "");
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 3; i++) {
            double sum = 0;
            for (int k = 0; k < 3; k++) sum += exp(c.x[0][r * 3 + k] - c.x[0][r * 3 + i]);
            near(c.y[0][r * 3 + i], 1 / sum, 1e-12);
        }
    test_run_free(&c.run);
    for (int eps = 0; eps < 2; eps++) {
        c = do_case("normalize", "f32[1,3]", eps ? "eps=100" : "", "");
        double length =
            eps ? 100 : sqrt(c.x[0][0] * c.x[0][0] + c.x[0][1] * c.x[0][1] + c.x[0][2] * c.x[0][2]);
        for (int i = 0; i < 3; i++) near(c.y[0][i], c.x[0][i] / length, 1e-12);
        near(c.y[1][0], 1 / length, 1e-12);
        test_run_free(&c.run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_a_meaning_and_a_case),
        cmocka_unit_test(a_case_gives_the_same_values_for_the_same_seed),
        cmocka_unit_test(every_case_lowers_to_primitives_with_the_types_of_its_shape_rule),
        cmocka_unit_test(rounded_results_stay_near_the_exact_ones),
        cmocka_unit_test(gradient_rules_agree_with_finite_differences),
        cmocka_unit_test(gradients_of_lowered_composites_agree_with_finite_differences),
        cmocka_unit_test(composites_without_a_rule_say_that_they_must_be_lowered),
        cmocka_unit_test(wrong_inputs_are_refused_with_the_ops_name_and_the_reason),
        cmocka_unit_test(every_op_has_a_wrong_case),
        cmocka_unit_test(attention_is_softmax_of_scores_times_values),
        cmocka_unit_test(attention_to_nothing_is_zero_and_has_no_gradient),
        cmocka_unit_test(attention_stays_finite_with_large_scores),
        cmocka_unit_test(layer_norm_centres_and_scales_rows),
        cmocka_unit_test(cross_entropy_is_minus_log_of_the_targets_chance),
        cmocka_unit_test(cross_entropy_bears_classes_that_are_ruled_out),
        cmocka_unit_test(resize_samples_at_half_pixel_centres),
        cmocka_unit_test(patches_are_channels_then_rows_then_columns),
        cmocka_unit_test(adamw_follows_torchs_formula),
        cmocka_unit_test(gelu_has_its_two_forms),
        cmocka_unit_test(linear_softmax_and_normalize_are_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
