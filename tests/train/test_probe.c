/* Does the linear probe learn what is linear, by the formulas it names? */
#include "probe_support.h"

#include "io/json.h"
#include "train/probe.h"

static probe_parts p;

static int open_all(void **state)
{
    quiet(state);
    open_parts(&p, "");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    close_parts(&p);
    return 0;
}

static const double one_lr[] = {0.1};

static dg_probe_spec spec_of(int32_t classes, bool lars, const double *lr, size_t n)
{
    return (dg_probe_spec){.classes = classes,
                           .batch = 32,
                           .epochs = 20,
                           .warmup = 2,
                           .momentum = 0.9,
                           .lars = lars,
                           .base_lr = lr,
                           .n = n,
                           .seed = 7};
}

static void train_probe(const dg_probe_spec *spec, const dg_feature_set *a, const dg_feature_set *b,
                        dg_probe_score *score)
{
    dg_error err;
    ASSERT_OK(dg_probe_train(&p.parts, spec, a, b, NULL, NULL, score, &err));
}

static void a_linearly_separable_set_is_learnt(void **state)
{
    (void)state;
    static const double lars_lr[] = {10};
    dg_feature_set a = planted(200, 12, 4, 0.1, 1), b = planted(101, 12, 4, 0.1, 2);
    for (int lars = 0; lars < 2; lars++) {
        dg_probe_spec spec = spec_of(4, lars, lars ? lars_lr : one_lr, 1);
        dg_probe_score score;
        if (lars) spec.epochs = 60;
        train_probe(&spec, &a, &b, &score);
        if (score.val_top1 != 1) fail_msg("lars %d: top-1 %g", lars, score.val_top1);
        assert_true(score.val_top5 == 1);
        assert_true(score.val_loss < (lars ? 1.3 : 0.7));
    }
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

/* Labels that have nothing to do with the features: a probe that did better would have seen the validation
 * data. */
static void noise_is_not_learnt(void **state)
{
    (void)state;
    dg_feature_set a = planted(400, 8, 1, 1, 1), b = planted(400, 8, 1, 1, 2);
    for (int64_t i = 0; i < 400; i++) a.labels[i] = b.labels[i] = (int32_t)(i % 4);
    dg_probe_spec spec = spec_of(4, false, one_lr, 1);
    dg_probe_score score;
    train_probe(&spec, &a, &b, &score);
    assert_true(score.val_top1 > 0.15 && score.val_top1 < 0.35);
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

static void it_repeats_exactly(void **state)
{
    (void)state;
    dg_feature_set a = planted(130, 9, 5, 1, 1), b = planted(77, 9, 5, 1, 2);
    const dg_probe_spec spec = spec_of(5, false, one_lr, 1);
    dg_probe_score x, y;
    train_probe(&spec, &a, &b, &x);
    train_probe(&spec, &a, &b, &y);
    assert_memory_equal(&x, &y, sizeof x);
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

static void heads_side_by_side_do_not_disturb_each_other(void **state)
{
    (void)state;
    static const double lr[] = {0.01, 0.1, 1e300}; /* the last one is sure to leave f32 */
    dg_feature_set a = planted(130, 9, 5, 1, 1), b = planted(77, 9, 5, 1, 2);
    for (int lars = 0; lars < 2; lars++) {
        dg_probe_spec spec = spec_of(5, lars, lr, 3);
        dg_probe_score all[3], alone;
        train_probe(&spec, &a, &b, all);
        assert_true(all[2].val_top1 == 0 && !isfinite(all[2].val_loss));
        for (int h = 0; h < 2; h++) {
            const dg_probe_spec one = spec_of(5, lars, lr + h, 1);
            train_probe(&one, &a, &b, &alone);
            assert_true(fabs(alone.val_loss - all[h].val_loss) < 1e-4 &&
                        fabs(alone.loss - all[h].loss) < 1e-4);
        }
        assert_true(all[0].val_loss != all[1].val_loss);
    }
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

/* ---- one step by hand */

enum { N = 16, WIDTH = 3, CLASSES = 2, M = 8 };

typedef struct by_hand {
    double w[CLASSES][WIDTH], b[CLASSES], mean[WIDTH], variance[WIDTH];
} by_hand;

static void softmax_of(const by_hand *h, const double *x, double *probability)
{
    double sum = 0;
    for (int c = 0; c < CLASSES; c++) {
        double z = h->b[c];
        for (int k = 0; k < WIDTH; k++) z += h->w[c][k] * x[k];
        sum += probability[c] = exp(z);
    }
    for (int c = 0; c < CLASSES; c++) probability[c] /= sum;
}

/* The whole set as one batch: batch-norm by its own statistics, softmax's gradient, SGD or LARS from zero
 * momentum. */
static void step_by_hand(by_hand *h, const dg_feature_set *f, double lr, bool lars)
{
    double gw[CLASSES][WIDTH] = {{0}}, gb[CLASSES] = {0}, mean[WIDTH] = {0}, variance[WIDTH] = {0}, w2 = 0,
           g2 = 0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < WIDTH; k++) mean[k] += (double)f->x[i * WIDTH + k] / N;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < WIDTH; k++) variance[k] += pow((double)f->x[i * WIDTH + k] - mean[k], 2) / N;
    for (int i = 0; i < N; i++) {
        double x[WIDTH], q[CLASSES];
        for (int k = 0; k < WIDTH; k++)
            x[k] = ((double)f->x[i * WIDTH + k] - mean[k]) / sqrt(variance[k] + 1e-6);
        softmax_of(h, x, q);
        for (int c = 0; c < CLASSES; c++) {
            double d = (q[c] - (f->labels[i] == c)) / N;
            gb[c] += d;
            for (int k = 0; k < WIDTH; k++) gw[c][k] += d * x[k];
        }
    }
    for (int c = 0; c < CLASSES; c++)
        for (int k = 0; k < WIDTH; k++) {
            w2 += h->w[c][k] * h->w[c][k];
            g2 += gw[c][k] * gw[c][k];
        }
    double trust = lars ? 0.001 * sqrt(w2) / sqrt(g2) : 1;
    for (int c = 0; c < CLASSES; c++) {
        h->b[c] -= lr * gb[c];
        for (int k = 0; k < WIDTH; k++) h->w[c][k] -= lr * trust * gw[c][k];
    }
    for (int k = 0; k < WIDTH; k++) {
        h->mean[k] = 0.1 * mean[k];
        h->variance[k] = 0.9 + 0.1 * variance[k] * N / (N - 1);
    }
}

static double loss_by_hand(const by_hand *h, const dg_feature_set *f)
{
    double loss = 0;
    for (int64_t i = 0; i < f->n; i++) {
        double x[WIDTH], q[CLASSES];
        for (int k = 0; k < WIDTH; k++)
            x[k] = ((double)f->x[i * WIDTH + k] - h->mean[k]) / sqrt(h->variance[k] + 1e-6);
        softmax_of(h, x, q);
        loss -= log(q[f->labels[i]]) / (double)f->n;
    }
    return loss;
}

static void a_step_is_that_of_the_formulas(void **state)
{
    (void)state;
    dg_feature_set a = planted(N, WIDTH, CLASSES, 0.5, 1), b = planted(M, WIDTH, CLASSES, 0.5, 2);
    for (int lars = 0; lars < 2; lars++) {
        const double lr[] = {lars ? 500 : 20}; /* of a batch of 256; 16 are there */
        const dg_probe_spec spec = {.classes = CLASSES,
                                    .batch = 999,
                                    .epochs = 1,
                                    .momentum = 0.9,
                                    .lars = lars,
                                    .base_lr = lr,
                                    .n = 1,
                                    .seed = 3};
        by_hand h = {{{0}}, {0}, {0}, {0}};
        dg_probe_score score;
        dg_error err;
        float first[CLASSES * WIDTH];
        const dg_leaf leaf = {.struct_size = (uint32_t)sizeof leaf,
                              .kind = DG_LEAF_PARAM,
                              .name = "probe.weight",
                              .type = dg_make_type(DG_F32, DG_LIST(CLASSES, WIDTH)),
                              .init = dg_init_value(DG_INIT_TRUNC_NORMAL, 0.01),
                              .decay = -1,
                              .layer = 0};
        ASSERT_OK(dg_init_values(&leaf, 3, first, &err));
        for (int c = 0; c < CLASSES; c++)
            for (int k = 0; k < WIDTH; k++) h.w[c][k] = (double)first[c * WIDTH + k];
        double before = loss_by_hand(&h, &b);
        step_by_hand(&h, &a, lr[0] * N / 256, lars);
        train_probe(&spec, &a, &b, &score);
        double after = loss_by_hand(&h, &b);
        if (fabs(after - score.val_loss) > 1e-5)
            fail_msg("lars %d: loss %.8g, by hand %.8g", lars, score.val_loss, after);
        assert_true(fabs(after - before) > 1e-3);
    }
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    dg_feature_set a = planted(10, 4, 2, 1, 1), b = planted(5, 4, 2, 1, 2), wide = planted(5, 6, 2, 1, 2);
    dg_probe_spec spec = spec_of(2, false, one_lr, 1);
    dg_probe_score score;
    dg_error err;
    ASSERT_FAILS(dg_probe_train(&p.parts, &spec, &a, &wide, NULL, NULL, &score, &err), DG_ERR_INVALID,
                 "features of one width");
    a.labels[3] = 2;
    ASSERT_FAILS(dg_probe_train(&p.parts, &spec, &a, &b, NULL, NULL, &score, &err), DG_ERR_MISMATCH,
                 "sample 3 of the training data has the label 2");
    a.labels[3] = 0;
    b.labels[4] = -1;
    ASSERT_FAILS(dg_probe_train(&p.parts, &spec, &a, &b, NULL, NULL, &score, &err), DG_ERR_MISMATCH,
                 "sample 4 of the validation data has no label");
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
    dg_feature_set_free(&wide);
}

/* ---- the task */

static const char task[] = "task=probe data.synthetic_val_images=32 probe.epochs=3 probe.warmup_epochs=1";

static void the_task_writes_a_row_an_epoch_and_repeats_exactly(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    size_t n, lines = 0;
    char path[800];
    ASSERT_OK(train("task", 0, task, &result, &err));
    assert_non_null(strstr(result.summary, "linear probe, base_lr 0.1: top-1 "));
    assert_non_null(strstr(log_text, "these are the features of random weights"));
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path("task"));
    char *rows = read_file(path, &n);
    for (size_t i = 0; i < n; i++) lines += rows[i] == '\n';
    assert_int_equal(lines, 3);
    assert_non_null(strstr(rows, "{\"step\":1,\"epoch\":1,\"loss\":"));
    assert_non_null(strstr(rows, "\"val_top1\":"));
    dg_free(rows);
    ASSERT_OK(train("task-again", 0, task, &result, &err));
    assert_same_file("task", "task-again", "metrics.jsonl");
    ASSERT_OK(train("task", 0, task, &result, &err)); /* with the features of the first time */
    assert_same_file("task", "task-again", "metrics.jsonl");
}

static void a_folder_of_a_training_run_is_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    must_train("trained", 0, "train.steps=1");
    ASSERT_FAILS(train("trained", 0, task, &result, &err), DG_ERR_INVALID,
                 "holds a training run: take another folder");
}

static void a_class_without_training_images_is_named(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char overrides[1024];
    snprintf(overrides, sizeof overrides, "%s data.limit=4", task);
    ASSERT_OK(train("few", 0, overrides, &result, &err));
    assert_non_null(strstr(log_text, " of 10 classes have no training image, such as "));
}

static void weights_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    char overrides[1024];
    must_train("other", 0, "train.steps=1 model.width=8 model.decoder_width=8");
    snprintf(overrides, sizeof overrides,
             "%s train.init_from=%s/checkpoints/step-0000000001/model.safetensors", task, test_path("other"));
    ASSERT_FAILS(train("unfit", 0, overrides, &result, &err), DG_ERR_MISMATCH, "does not fit this model");
    assert_string_equal(err.key, "train.init_from");
    must_train("shallow", 0, "train.steps=1 model.depth=1 model.taps=[1]");
    snprintf(overrides, sizeof overrides,
             "%s train.init_from=%s/checkpoints/step-0000000001/model.safetensors", task,
             test_path("shallow"));
    ASSERT_FAILS(train("unfit", 0, overrides, &result, &err), DG_ERR_MISMATCH, "has no tensor 'blocks.1.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_linearly_separable_set_is_learnt),
        cmocka_unit_test(noise_is_not_learnt),
        cmocka_unit_test(it_repeats_exactly),
        cmocka_unit_test(heads_side_by_side_do_not_disturb_each_other),
        cmocka_unit_test(a_step_is_that_of_the_formulas),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(the_task_writes_a_row_an_epoch_and_repeats_exactly),
        cmocka_unit_test(a_folder_of_a_training_run_is_refused),
        cmocka_unit_test(a_class_without_training_images_is_named),
        cmocka_unit_test(weights_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
