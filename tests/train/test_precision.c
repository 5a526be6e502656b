/* test_precision.c - one training step on each backend: bf16 against f32, and every backend against the
 * interpreter. */
#include "train_support.h"

static const char *const backends[] = {"reference", "cpu"};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

/* Compares all gradients of two steppers that have run: the cosine of the whole, and the worst difference of
 * a tensor in units of its largest element. */
static void compare(const stepper *a, const stepper *b, double *cosine, double *worst)
{
    double dot = 0, aa = 0, bb = 0;
    *worst = 0;
    for (uint32_t i = 0; i < a->step.train->n_outputs; i++) {
        const char *name = a->step.train->outputs[i].name;
        if (strncmp(name, "grad.", 5)) continue;
        int64_t n, m;
        const float *x = output_of(a, name, &n), *y = output_of(b, name, &m);
        double most = 0, apart = 0;
        assert_int_equal(n, m);
        for (int64_t k = 0; k < n; k++) {
            dot += (double)x[k] * (double)y[k];
            aa += (double)x[k] * (double)x[k];
            bb += (double)y[k] * (double)y[k];
            most = fmax(most, fabs((double)y[k]));
            apart = fmax(apart, fabs((double)x[k] - (double)y[k]));
        }
        *worst = fmax(*worst, apart / most);
    }
    *cosine = dot / sqrt(aa * bb);
}

static double loss_of(const stepper *s)
{
    int64_t n;
    return (double)output_of(s, "loss", &n)[0];
}

/* A step wide enough to be typical. */
static void open_step(stepper *s, const char *backend, const char *precision)
{
    char words[256];
    snprintf(words, sizeof words,
             "backend.name=%s train.precision=%s model.width=48 model.depth=3 model.taps=[1,3] data.batch=8",
             backend, precision);
    open_stepper(s, words, true);
    run_stepper(s, 1e-3);
}

static void bf16_has_the_loss_and_the_gradients_of_f32(void **state)
{
    (void)state;
    for (int i = 0; i < N_BACKENDS; i++) {
        if (!has_backend(backends[i])) continue;
        stepper a, b;
        double cosine, worst;
        open_step(&a, backends[i], "bf16");
        open_step(&b, backends[i], "f32");
        assert_int_equal(a.plan.compute, DG_BF16);
        compare(&a, &b, &cosine, &worst);
        if (!(fabs(loss_of(&a) - loss_of(&b)) < 0.01 * loss_of(&b)))
            fail_msg("%s: the loss is %g, not %g", backends[i], loss_of(&a), loss_of(&b));
        if (!(cosine > 0.99)) fail_msg("%s: the cosine is %g", backends[i], cosine);
        assert_true(worst > 1e-5); /* it was another precision */
        close_stepper(&a);
        close_stepper(&b);
    }
}

static void a_step_on_the_cpu_is_that_of_the_interpreter(void **state)
{
    (void)state;
    if (!has_backend("cpu")) skip();
    stepper a, b;
    double cosine, worst;
    open_step(&a, "cpu", "f32");
    open_step(&b, "reference", "f32");
    compare(&a, &b, &cosine, &worst);
    assert_true(fabs(loss_of(&a) - loss_of(&b)) < 1e-6 * loss_of(&b));
    if (!(cosine > 1 - 1e-9)) fail_msg("the cosine is 1 - %g", 1 - cosine);
    close_stepper(&a);
    close_stepper(&b);
}

static void the_number_of_threads_changes_no_bit(void **state)
{
    (void)state;
    if (!has_backend("cpu")) skip();
    static const char *const precisions[] = {"f32", "bf16"};
    for (int i = 0; i < 2; i++) {
        char name[2][32], words[128];
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "%s-%d", precisions[i], 1 + 2 * k);
            snprintf(words, sizeof words, "backend.name=cpu backend.threads=%d train.precision=%s", 1 + 2 * k,
                     precisions[i]);
            must_train(name[k], 0, words);
        }
        assert_same_file(name[0], name[1], "metrics.jsonl");
        assert_same_file(name[0], name[1], "checkpoints/step-0000000010/optimizer.safetensors");
    }
}

static void a_run_on_the_cpu_resumes_bit_for_bit(void **state)
{
    (void)state;
    if (!has_backend("cpu")) skip();
    const char *words = "backend.name=cpu train.precision=auto train.log_every=3";
    must_train("cpu-straight", 0, words);
    must_train("cpu-resumed", 0, words);
    forget_after("cpu-resumed", 4);
    must_train("cpu-resumed", RESUME, words);
    assert_same_run("cpu-straight", "cpu-resumed", 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_has_the_loss_and_the_gradients_of_f32),
        cmocka_unit_test(a_step_on_the_cpu_is_that_of_the_interpreter),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(a_run_on_the_cpu_resumes_bit_for_bit),
    };
    return cmocka_run_group_tests_name("train precision", tests, quiet, NULL);
}
