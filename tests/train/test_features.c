/* Are features those of the encoder, of every image once, and is a file of them used only where it is right?
 */
#include "probe_support.h"

#include "digpt/vit.h"
#include "io/json.h"

enum { WIDTH = 16, IMAGES = 64 };

/* An extractor on random weights over the tiny recipe's training images. */
typedef struct opened_extractor {
    probe_parts p;
    dg_source *source;
    dg_state state;
    dg_extractor e;
} opened_extractor;

static void open_extractor(opened_extractor *x, dg_feature_spec spec, int64_t batch, const char *overrides)
{
    dg_error err;
    memset(x, 0, sizeof *x);
    open_parts(&x->p, overrides);
    ASSERT_OK(dg_dataset_open(x->p.o.recipe, NULL, &x->source, &err));
    ASSERT_OK(dg_extractor_open(&x->p.parts, &spec, batch, DG_F32, &x->e, &err));
    ASSERT_OK(dg_state_open(&x->p.parts, &x->state, &err));
    ASSERT_OK(dg_state_init(&x->state, x->e.graph, x->p.parts.seed, false, &err));
    ASSERT_OK(dg_extractor_bind(&x->e, &x->state, NULL, &err));
}

static void close_extractor(opened_extractor *x)
{
    dg_extractor_close(&x->e);
    dg_state_close(&x->state);
    dg_source_close(x->source);
    close_parts(&x->p);
}

static dg_feature_set features(dg_feature_spec spec, int64_t batch, dg_feature_range range)
{
    opened_extractor x;
    dg_feature_set f;
    dg_error err;
    open_extractor(&x, spec, batch, "");
    ASSERT_OK(dg_features_extract(&x.e, x.source, range, &f, &err));
    close_extractor(&x);
    assert_int_equal(f.width, WIDTH);
    return f;
}

static const dg_feature_range whole = {0, 0};

static double apart(const dg_feature_set *a, const dg_feature_set *b)
{
    double most = 0;
    for (int64_t i = 0; i < a->n * a->width; i++) most = fmax(most, fabs((double)a->x[i] - (double)b->x[i]));
    return most;
}

/* ---- what they are */

static void every_image_is_there_once_in_order_whatever_the_batch(void **state)
{
    (void)state;
    const dg_feature_spec spec = {0, DG_POOL_MEAN, true};
    dg_feature_set a = features(spec, 16, whole), b = features(spec, 7, whole); /* 64 is no multiple of 7 */
    assert_int_equal(a.n, IMAGES);
    assert_int_equal(b.n, IMAGES);
    for (int64_t i = 0; i < IMAGES; i++) {
        assert_int_equal(a.ids[i], i);
        assert_int_equal(b.ids[i], i);
        assert_int_equal(a.labels[i], b.labels[i]);
        assert_in_range(a.labels[i], 0, 9);
    }
    assert_true(apart(&a, &b) < 1e-5);
    for (int64_t i = 1; i < IMAGES; i++) assert_memory_not_equal(a.x, a.x + i * WIDTH, WIDTH * sizeof *a.x);
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
}

static void all_blocks_are_layer_0_or_the_last(void **state)
{
    (void)state;
    dg_feature_set all = features((dg_feature_spec){0, DG_POOL_MEAN, false}, 16, whole);
    dg_feature_set two = features((dg_feature_spec){2, DG_POOL_MEAN, false}, 16, whole);
    dg_feature_set one = features((dg_feature_spec){1, DG_POOL_MEAN, false}, 16, whole);
    assert_true(apart(&all, &two) == 0);
    assert_true(apart(&all, &one) > 1e-3);
    dg_feature_set_free(&all);
    dg_feature_set_free(&two);
    dg_feature_set_free(&one);
}

/* D-iGPT's encoder has no last norm: it is that of a LayerNorm without weights. */
static void the_norm_without_weights_standardises_each_token(void **state)
{
    (void)state;
    dg_feature_set raw = features((dg_feature_spec){0, DG_POOL_CLASS, false}, 16, whole);
    dg_feature_set normed = features((dg_feature_spec){0, DG_POOL_CLASS, true}, 16, whole);
    dg_feature_set mean = features((dg_feature_spec){0, DG_POOL_MEAN, true}, 16, whole);
    for (int64_t i = 0; i < raw.n; i++) {
        double m = 0, v = 0;
        for (int k = 0; k < WIDTH; k++) m += (double)raw.x[i * WIDTH + k] / WIDTH;
        for (int k = 0; k < WIDTH; k++) v += pow((double)raw.x[i * WIDTH + k] - m, 2) / WIDTH;
        for (int k = 0; k < WIDTH; k++) {
            double expected = ((double)raw.x[i * WIDTH + k] - m) / sqrt(v + 1e-6);
            assert_true(fabs(expected - (double)normed.x[i * WIDTH + k]) < 1e-4);
        }
    }
    assert_true(apart(&normed, &mean) > 1e-2);
    dg_feature_set_free(&raw);
    dg_feature_set_free(&normed);
    dg_feature_set_free(&mean);
}

static void a_part_of_the_images_is_drawn_among_all_without_repetition(void **state)
{
    (void)state;
    enum { PART = 21 };
    const dg_feature_spec spec = {0, DG_POOL_MEAN, true};
    dg_feature_set all = features(spec, 16, whole), a = features(spec, 16, (dg_feature_range){0, PART});
    dg_feature_set b = features(spec, 4, (dg_feature_range){0, PART}),
                   below = features(spec, 4, (dg_feature_range){5, 0});
    bool seen[IMAGES] = {false}, late = false;
    assert_int_equal(a.n, PART);
    for (int64_t i = 0; i < PART; i++) {
        assert_int_equal(a.ids[i], b.ids[i]);
        assert_false(seen[a.ids[i]]);
        seen[a.ids[i]] = true;
        late |= a.ids[i] >= PART;
        for (int k = 0; k < WIDTH; k++)
            assert_true(fabsf(a.x[i * WIDTH + k] - all.x[a.ids[i] * WIDTH + k]) < 1e-5f);
        assert_int_equal(a.labels[i], all.labels[a.ids[i]]);
    }
    assert_true(late);
    assert_int_equal(below.n, 5);
    assert_int_equal(below.ids[4], 4);
    dg_feature_set_free(&all);
    dg_feature_set_free(&a);
    dg_feature_set_free(&b);
    dg_feature_set_free(&below);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    probe_parts p;
    opened_extractor x;
    dg_extractor e = {0};
    dg_feature_set f;
    dg_error err;
    float *pos;
    open_parts(&p, "");
    ASSERT_FAILS(dg_extractor_open(&p.parts, &(dg_feature_spec){3, DG_POOL_MEAN, true}, 4, DG_F32, &e, &err),
                 DG_ERR_INVALID, "the encoder has 2 blocks; features after block 3");
    dg_extractor_close(&e);
    close_parts(&p);
    open_extractor(&x, (dg_feature_spec){0, DG_POOL_MEAN, false}, 16, "");
    dg_type t = dg_type_of(x.e.graph, dg_graph_leaf(x.e.graph, "model.pos_embed"));
    pos = dg_calloc((size_t)dg_type_count(&t), sizeof *pos);
    pos[WIDTH + 2] = NAN;
    ASSERT_OK(dg_state_write_f32(&x.state, "model.pos_embed", &t, pos, &err));
    ASSERT_FAILS(dg_features_extract(&x.e, x.source, whole, &f, &err), DG_ERR_NOT_FINITE, "of sample 0 is ");
    dg_free(pos);
    close_extractor(&x);
}

/* ---- files */

static int64_t files_in(const char *dir)
{
    int64_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Features through the cache; whether they were there. */
static bool cached(opened_extractor *x, dg_feature_range range, const char *dir, dg_feature_set *f)
{
    bool hit;
    dg_error err;
    ASSERT_OK(dg_features_cached(&x->e, x->source, range, dir, f, &hit, &err));
    return hit;
}

static void a_cache_is_used_for_the_same_and_for_nothing_else(void **state)
{
    (void)state;
    const dg_feature_spec spec = {0, DG_POOL_MEAN, true}, other = {1, DG_POOL_MEAN, true};
    const char *dir = test_path("cache");
    opened_extractor x;
    dg_feature_set a, b, c;
    dg_error err;
    open_extractor(&x, spec, 16, "");
    assert_false(cached(&x, whole, dir, &a));
    assert_true(cached(&x, whole, dir, &b));
    assert_int_equal(b.n, IMAGES);
    assert_true(apart(&a, &b) == 0);
    assert_memory_equal(a.labels, b.labels, IMAGES * sizeof *a.labels);
    assert_memory_equal(a.ids, b.ids, IMAGES * sizeof *a.ids);
    dg_feature_set_free(&b);
    assert_false(cached(&x, (dg_feature_range){10, 0}, dir, &b));
    dg_feature_set_free(&b);
    /* Other weights: the cache is stale. */
    dg_type t = dg_type_of(x.e.graph, dg_graph_leaf(x.e.graph, "model.blocks.1.mlp.fc2.bias"));
    float bias[WIDTH] = {0.5f};
    ASSERT_OK(dg_state_write_f32(&x.state, "model.blocks.1.mlp.fc2.bias", &t, bias, &err));
    assert_false(cached(&x, whole, dir, &c));
    assert_true(apart(&a, &c) > 1e-3);
    dg_feature_set_free(&a);
    dg_feature_set_free(&c);
    close_extractor(&x);
    static const char *const changes[] = {"", "data.synthetic_classes=5", "data.eval_crop=1"};
    for (int i = 0; i < 3; i++) { /* another layer; other data; another crop */
        open_extractor(&x, i ? spec : other, 16, changes[i]);
        assert_false(cached(&x, whole, dir, &a));
        dg_feature_set_free(&a);
        close_extractor(&x);
    }
    assert_int_equal(files_in(dir), 6);
}

static void a_broken_cache_is_made_anew(void **state)
{
    (void)state;
    const char *dir = test_path("broken");
    opened_extractor x;
    dg_feature_set a, b;
    char path[800] = "";
    size_t n;
    open_extractor(&x, (dg_feature_spec){0, DG_POOL_MEAN, true}, 16, "");
    assert_false(cached(&x, whole, dir, &a));
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    closedir(d);
    char *bytes = read_file(path, &n);
    for (int i = 0; i < 3; i++) {
        char *spoilt = dg_calloc(n, 1);
        memcpy(spoilt, bytes, n);
        log_text[0] = 0;
        if (i == 2) memcpy(strstr(spoilt + 8, "weights "), "weights_", 8); /* somebody else's key */
        test_write(path, spoilt, i == 0 ? n - 100 : i == 1 ? 5 : n);
        assert_false(cached(&x, whole, dir, &b));
        assert_non_null(strstr(log_text, "features are made anew: "));
        assert_true(apart(&a, &b) == 0);
        dg_feature_set_free(&b);
        assert_true(cached(&x, whole, dir, &b));
        dg_feature_set_free(&b);
        dg_free(spoilt);
    }
    dg_free(bytes);
    dg_feature_set_free(&a);
    close_extractor(&x);
}

static void an_npy_file_is_what_numpy_reads(void **state)
{
    (void)state;
    dg_feature_set f = planted(3, 5, 2, 1, 1);
    dg_error err;
    size_t n;
    ASSERT_OK(dg_features_write_npy(test_path("f.npy"), &f, &err));
    char *bytes = read_file(test_path("f.npy"), &n);
    assert_memory_equal(bytes, "\x93NUMPY\x01\x00", 8);
    size_t header = 10 + (size_t)(unsigned char)bytes[8] + 256 * (size_t)(unsigned char)bytes[9];
    assert_int_equal(header % 64, 0);
    assert_int_equal(n, header + 3 * 5 * sizeof(float));
    assert_int_equal(bytes[header - 1], '\n');
    assert_non_null(strstr(bytes + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }"));
    assert_memory_equal(bytes + header, f.x, 3 * 5 * sizeof(float));
    dg_free(bytes);
    dg_feature_set_free(&f);
}

/* ---- during pretraining */

static const char watched[] = "train.probe_every=1 data.synthetic_val_images=24 train.epochs=2 ~train.steps "
                              "knn.k=[3,7] train.log_every=3";

/* The number that the last row of metrics.jsonl with `key` has there. */
static double last_number(const char *run, const char *key)
{
    char path[800], quoted[64];
    double value = NAN;
    size_t n;
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path(run));
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    char *text = read_file(path, &n);
    for (char *at = text; (at = strstr(at, quoted)); at++) value = atof(at + strlen(quoted));
    dg_free(text);
    return value;
}

static void probes_change_nothing_in_the_training_and_equal_the_task(void **state)
{
    (void)state;
    char overrides[1024], a[33], b[33], path[800];
    dg_error err;
    dg_run_result result;
    dg_weights *w;
    const char *runs[] = {"watched", "unwatched"};
    must_train("watched", 0, watched);
    must_train("unwatched", 0, "train.epochs=2 ~train.steps train.log_every=3");
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-0000000032/model.safetensors", test_path(runs[i]));
        ASSERT_OK(dg_weights_open(path, &w, &err));
        ASSERT_OK(dg_weights_fingerprint(w, i ? b : a, &err));
        dg_weights_close(w);
    }
    assert_string_equal(a, b);
    snprintf(
        overrides, sizeof overrides,
        "task=knn data.synthetic_val_images=24 knn.k=[3,7] train.init_from=%s/checkpoints/step-0000000032",
        test_path("watched"));
    ASSERT_OK(train("task", 0, overrides, &result, &err));
    assert_non_null(strstr(result.summary, "3 nearest neighbours: top-1 "));
    assert_true(last_number("watched", "knn7_top1") == last_number("task", "knn_top1"));
    assert_true(last_number("watched", "effective_rank") == last_number("task", "effective_rank"));
    assert_true(last_number("watched", "spread") == last_number("task", "spread"));
    assert_true(last_number("watched", "effective_rank") > 1 &&
                last_number("watched", "effective_rank") < 16);
    log_text[0] = 0;
    ASSERT_OK(train("task", 0, overrides, &result, &err));
    assert_non_null(strstr(log_text, "features of 64 images from"));
    assert_non_null(strstr(log_text, "features of 24 images from"));
}

static void a_resume_writes_the_same_probes(void **state)
{
    (void)state;
    must_train("straight", 0, watched);
    must_train("resumed", 0, watched);
    forget_after("resumed", 12);
    must_train("resumed", RESUME, watched);
    assert_same_run("straight", "resumed", 32);
}

static void too_many_neighbours_are_refused_before_the_first_step(void **state)
{
    (void)state;
    dg_error err;
    dg_run_result result;
    ASSERT_FAILS(train("many", 0, "train.probe_every=1 train.probe_limit=8 knn.k=[9]", &result, &err),
                 DG_ERR_INVALID, "9 neighbours are asked for");
    assert_int_equal(result.step, 0);
    ASSERT_FAILS(train("many-task", 0, "task=knn knn.k=[65]", &result, &err), DG_ERR_INVALID,
                 "65 neighbours are asked for and there are 64 images");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_image_is_there_once_in_order_whatever_the_batch),
        cmocka_unit_test(all_blocks_are_layer_0_or_the_last),
        cmocka_unit_test(the_norm_without_weights_standardises_each_token),
        cmocka_unit_test(a_part_of_the_images_is_drawn_among_all_without_repetition),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_cache_is_used_for_the_same_and_for_nothing_else),
        cmocka_unit_test(a_broken_cache_is_made_anew),
        cmocka_unit_test(an_npy_file_is_what_numpy_reads),
        cmocka_unit_test(probes_change_nothing_in_the_training_and_equal_the_task),
        cmocka_unit_test(a_resume_writes_the_same_probes),
        cmocka_unit_test(too_many_neighbours_are_refused_before_the_first_step),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
