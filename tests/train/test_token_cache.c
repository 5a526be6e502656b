/* test_token_cache.c - a run from cached tokens equals the run with the live teacher on the same views. */
#include "program.h"
#include "train_support.h"

#include "io/json.h"
#include "train/token_cache.h"

static dg_error err = DG_ERROR_INIT;

/* 64 images, two views, 16 steps an epoch. */
static const char views[] = "data.views=2 train.steps=40";
enum { IMAGES = 64, TOKENS = 16, WIDTH = 192, BATCH = 4 };

static dg_status make(const char *name, bool int8, const char *overrides)
{
    opened o;
    dg_parts parts = {0};
    open_recipe(&o, overrides);
    ASSERT_OK(dg_parts_open(o.recipe, o.plugins.registry, true, &parts, &err));
    dg_status s = dg_token_cache_make(&parts, test_path(name), int8, NULL, NULL, &err);
    dg_parts_close(&parts);
    close_recipe(&o);
    return s;
}

/* The overrides, with the cache `name`. */
static const char *cached(const char *name, const char *overrides)
{
    static char all[1024];
    snprintf(all, sizeof all, "%s tokens.cache=%s", overrides, test_path(name));
    return all;
}

static int make_caches(void **state)
{
    quiet(state);
    ASSERT_OK(make("cache", false, views));
    ASSERT_OK(make("cache8", true, views));
    return 0;
}

/* ---- the tokens */

typedef struct live {
    dg_parts parts;
    opened o;
    dg_source *source;
    dg_graph *graph;
    dg_program *program;
    dg_state state;
    dg_inputs inputs;
    dg_backend_exe *exe;
    float tokens[BATCH * TOKENS * WIDTH];
} live;

/* The forward pass of the recipe, of which the tap "tokens" is read. */
static void open_live(live *l)
{
    dg_step names = {0};
    dg_graph *g;
    memset(l, 0, sizeof *l);
    open_recipe(&l->o, views);
    ASSERT_OK(dg_parts_open(l->o.recipe, l->o.plugins.registry, true, &l->parts, &err));
    const dg_step_spec spec = {.batch = BATCH, .accumulate = 1, .compute = DG_F32};
    ASSERT_OK(dg_step_forward(&l->parts, &spec, &g, &names, &err));
    ASSERT_OK(dg_dataset_open(l->o.recipe, NULL, &l->source, &err));
    dg_graph_output(g, dg_graph_tap(g, "tokens"), "tokens");
    l->graph = g;
    ASSERT_OK(dg_finish_program(g, &l->parts, "live", false, &l->program, &err));
    ASSERT_OK(dg_state_open(&l->parts, &l->state, &err));
    ASSERT_OK(dg_state_init(&l->state, g, l->parts.seed, false, &err));
    ASSERT_OK(dg_inputs_open(&l->parts, l->program, &l->inputs, &err));
    ASSERT_OK(
        dg_backend_of(&l->parts)->compile(l->parts.backend.self, l->program, l->state.store, &l->exe, &err));
}

static void run_live(live *l, const dg_batch *batch)
{
    void *outputs[16] = {0};
    for (uint32_t i = 0; i < l->program->n_outputs; i++)
        if (!strcmp(l->program->outputs[i].name, "tokens")) outputs[i] = l->tokens;
    ASSERT_OK(dg_inputs_fill(&l->inputs, batch, NULL, &err));
    const dg_run io = {(uint32_t)sizeof io, l->inputs.n, l->inputs.data, l->program->n_outputs, 0, outputs};
    ASSERT_OK(dg_backend_of(&l->parts)->run(l->exe, &io, &err));
}

static void close_live(live *l)
{
    dg_backend_of(&l->parts)->release(l->exe);
    dg_inputs_close(&l->inputs);
    dg_state_close(&l->state);
    dg_program_destroy(l->program);
    dg_graph_destroy(l->graph);
    dg_source_close(l->source);
    dg_parts_close(&l->parts);
    close_recipe(&l->o);
}

/* The greatest of |cached - live| over what rounding allows: half a unit of 8 bits of |live| for bf16; half
 * of a 127th of the token's largest number for int8. */
static double worst_rounding(const float *cache, const float *tokens, bool int8)
{
    double worst = 0;
    for (int t = 0; t < BATCH * TOKENS; t++) {
        double most = 0;
        for (int i = t * WIDTH; i < (t + 1) * WIDTH; i++) most = fmax(most, fabs((double)tokens[i]));
        for (int i = t * WIDTH; i < (t + 1) * WIDTH; i++) {
            double allowed = int8 ? most / 254 * 1.0001 : fabs((double)tokens[i]) / 256;
            worst = fmax(worst, fabs((double)cache[i] - (double)tokens[i]) - allowed);
        }
    }
    return worst;
}

static void cached_tokens_are_the_teachers_within_rounding(void **state)
{
    (void)state;
    static live l;
    static float cache[BATCH * TOKENS * WIDTH], first[BATCH * TOKENS * WIDTH];
    dg_token_cache *c[2];
    dg_tokenizer_info info;
    dg_loader *loader;
    open_live(&l);
    ASSERT_OK(dg_token_cache_open(test_path("cache"), l.o.recipe, &c[0], &info, &err));
    assert_int_equal(dg_token_count(&info), TOKENS);
    assert_int_equal(info.width, WIDTH);
    ASSERT_OK(dg_token_cache_open(test_path("cache8"), l.o.recipe, &c[1], &info, &err));
    const dg_loader_config config = dg_dataset_config(&l.parts, 0, 40); /* views 0, 1, 0 */
    ASSERT_OK(dg_loader_open(&config, l.source, &loader, &err));
    for (int step = 0; step < 40; step++) {
        const dg_batch *batch;
        ASSERT_OK(dg_loader_next(loader, &batch, &err));
        assert_int_equal(batch->epoch, step / 16);
        run_live(&l, batch);
        for (int k = 0; k < 2; k++) {
            ASSERT_OK(dg_token_cache_fill(c[k], batch, cache, &err));
            double worst = worst_rounding(cache, l.tokens, k == 1);
            if (worst > 0) fail_msg("step %d: %g beyond rounding", step, worst);
        }
        if (step == 0) memcpy(first, cache, sizeof first);
        assert_int_equal(memcmp(first, cache, sizeof first) == 0, step == 0); /* another batch, others */
        dg_loader_release(loader, batch);
    }
    dg_loader_close(loader);
    dg_token_cache_close(c[0]);
    dg_token_cache_close(c[1]);
    close_live(&l);
}

/* ---- runs */

/* The losses of a run, one a step. */
static int losses_of(const char *run, double *loss, int most)
{
    char path[800];
    size_t n;
    int rows = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_path(run));
    char *text = read_file(path, &n);
    for (char *at = text, *end; (end = strchr(at, '\n')) && rows < most; at = end + 1) {
        dg_arena arena = {0};
        const dg_json *row;
        double value;
        ASSERT_OK(dg_json_parse(at, (size_t)(end - at), path, &arena, &row, &err));
        if (dg_json_get(row, "loss")) {
            ASSERT_OK(dg_json_need_number(row, "loss", path, &value, &err));
            loss[rows++] = value;
        }
        dg_arena_free(&arena);
    }
    dg_free(text);
    return rows;
}

static double losses_apart(const char *a, const char *b)
{
    double x[64], y[64], apart = 0;
    int n = losses_of(a, x, 64);
    assert_int_equal(n, 40);
    assert_int_equal(losses_of(b, y, 64), n);
    for (int i = 0; i < n; i++) apart = fmax(apart, fabs(x[i] - y[i]) / y[i]);
    return apart;
}

static void a_run_from_the_cache_is_the_run_with_the_teacher_within_bf16(void **state)
{
    (void)state;
    must_train("live", 0, views);
    must_train("cached", 0, cached("cache", views));
    double apart = losses_apart("cached", "live");
    if (!(apart > 0 && apart < 1.0 / 256)) fail_msg("the losses are %g apart", apart);
    must_train("cached8", 0, cached("cache8", views));
    apart = losses_apart("cached8", "live");
    if (!(apart > 0 && apart < 0.02)) fail_msg("the losses from 8 bits are %g apart", apart);
}

/* Other views make another run: the test above would notice if the crops were not the same. */
static void with_other_views_it_would_not_be_the_same_run(void **state)
{
    (void)state;
    must_train("other-live", 0, "data.views=3 train.steps=40");
    must_train("cached-2", 0, cached("cache", views));
    assert_true(losses_apart("cached-2", "other-live") > 1.0 / 256); /* from the third epoch on */
}

static void a_resumed_run_from_the_cache_is_exact(void **state)
{
    (void)state;
    static const char some[] = "data.views=2";
    must_train("straight", 0, cached("cache", some));
    must_train("resumed", 0, cached("cache", some));
    forget_after("resumed", 4);
    must_train("resumed", RESUME, cached("cache", some));
    assert_same_run("straight", "resumed", 10);
}

/* ---- making one again, and refusals */

static void a_cache_that_was_cut_short_is_gone_on_with(void **state)
{
    (void)state;
    char path[600], *a, *b;
    size_t n, m;
    dg_run_result result;
    ASSERT_OK(make("again", false, views));
    snprintf(path, sizeof path, "%s/tokens-00000.safetensors", test_path("again"));
    a = read_file(path, &n);
    assert_int_equal(remove(path), 0);
    ASSERT_FAILS(
        train("unfinished", 0, cached("again", views), &result, &err), DG_ERR_NOT_FOUND,
        "tokens-00000.safetensors' is not there: the cache is not finished; `digpt tokenize` goes on");
    ASSERT_OK(make("again", false, views));
    b = read_file(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    dg_free(a);
    dg_free(b);
}

static void a_truncated_shard_is_named_with_what_to_do(void **state)
{
    (void)state;
    char path[600], *bytes;
    size_t n;
    dg_run_result result;
    ASSERT_OK(make("short", false, views));
    snprintf(path, sizeof path, "%s/tokens-00000.safetensors", test_path("short"));
    bytes = read_file(path, &n);
    test_write(path, bytes, n - 1);
    dg_status s = train("short-run", 0, cached("short", views), &result, &err);
    assert_int_equal(s, DG_ERR_FORMAT);
    if (!strstr(err.message, "a shard is damaged; delete it, and `digpt tokenize` makes it again: ") ||
        !strstr(err.message, "tokens-00000.safetensors"))
        fail_msg("%s", err.message);
    assert_string_equal(err.key, "tokens.cache");
    test_write(path, bytes, 5);
    assert_int_equal(train("short-run", 0, cached("short", views), &result, &err), DG_ERR_FORMAT);
    dg_free(bytes);
}

static void refuse(const char *overrides, const char *message)
{
    opened o;
    dg_token_cache *c;
    dg_tokenizer_info info;
    open_recipe(&o, overrides);
    ASSERT_FAILS(dg_token_cache_open(test_path("cache"), o.recipe, &c, &info, &err), DG_ERR_MISMATCH,
                 message);
    assert_null(c);
    close_recipe(&o);
}

static void a_cache_of_another_recipe_is_refused_with_what_differs(void **state)
{
    (void)state;
    refuse("data.views=3", "was made for another recipe: 'data.views: 2' then, 'data.views: 3' now");
    refuse("data.views=2 seed=6", "'seed: 5' then, 'seed: 6' now");
    refuse("data.views=2 data.image_size=48",
           "'data.image_size: [32, 32]' then, 'data.image_size: [48, 48]' now");
    refuse("data.views=2 data.crop_scale=[0.5,1]",
           "'data.crop_scale: [0.2, 1.0]' then, 'data.crop_scale: [0.5,");
    refuse("data.views=2 tokenizer.patch=4", "'tokenizer.patch: [8]' then, 'tokenizer.patch: [4]' now");
    refuse("data.views=2 tokenizer.normalise=false", "'tokenizer.normalise: true' then,");
    refuse("data.views=2 data.synthetic_images=63", "'data.synthetic_images: 64' then");
}

static void what_a_run_does_not_depend_on_may_change(void **state)
{
    (void)state;
    opened o;
    dg_token_cache *c;
    dg_tokenizer_info info;
    open_recipe(&o, "data.views=2 data.batch=8 optimizer.lr=1 train.steps=3 name=other model.width=32 "
                    "data.image_size=[32,32]");
    ASSERT_OK(dg_token_cache_open(test_path("cache"), o.recipe, &c, &info, &err));
    dg_token_cache_close(c);
    close_recipe(&o);
}

static void a_folder_with_another_cache_is_not_mixed_with(void **state)
{
    (void)state;
    ASSERT_OK(make("mixed", false, views));
    assert_int_equal(make("mixed", true, views), DG_ERR_MISMATCH);
    assert_non_null(
        strstr(err.message, "its tokens have 16 bits, with --int8 they have 8. Take another folder"));
    assert_int_equal(make("mixed", false, "data.views=1"), DG_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "'data.views: 2' then, 'data.views: 1' now"));
}

static void tokens_of_every_epoch_anew_are_not_cached(void **state)
{
    (void)state;
    assert_int_equal(make("endless", false, "data.views=0"), DG_ERR_INVALID);
    assert_string_equal(err.key, "data.views");
    assert_non_null(strstr(err.message, "must say how many crops"));
}

/* Headers of any content are refused or opened, and never more than the shards have is read. */
static void headers_that_are_wrong_are_explained(void **state)
{
    (void)state;
    char path[600], *text, *at;
    size_t n;
    dg_run_result result;
    static const struct {
        const char *key, *value, *message;
    } rows[] = {{"\"images\":64", "\"images\":99", "has not the shape or type"},
                {"\"images\":64", "\"images\":-1", "images is -1"},
                {"\"images\":64", "\"images\": 0", "holds no tokens"},
                {"\"width\":192", "\"width\":193", "has not the shape or type"},
                {"\"grid_h\":4", "\"grid_h\":5", "has not the shape or type"},
                {"\"int8\":0", "\"int8\":1", "has not the shape or type"},
                {"\"views\":2", "\"views\":3", "view.2"},
                {"\"views\":2", "\"views\":x", "cache.json"}};
    ASSERT_OK(make("header", false, views));
    snprintf(path, sizeof path, "%s/cache.json", test_path("header"));
    text = read_file(path, &n);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *changed = dg_strdup(text);
        at = strstr(changed, rows[i].key);
        assert_non_null(at);
        memcpy(at, rows[i].value, strlen(rows[i].value));
        test_write(path, changed, n);
        dg_free(changed);
        assert_int_not_equal(train("header-run", 0, cached("header", views), &result, &err), DG_OK);
        if (!strstr(err.message, rows[i].message))
            fail_msg("'%s' is not in: %s", rows[i].message, err.message);
    }
    test_write(path, text, n / 2);
    assert_int_equal(train("header-run", 0, cached("header", views), &result, &err), DG_ERR_FORMAT);
    dg_free(text);
}

/* ---- the program */

/* 64 images x 2 views x 16 tokens x 192 numbers of 2 bytes are 768 KiB. */
static void the_program_says_the_size_first_and_makes_what_the_recipe_names(void **state)
{
    (void)state;
    test_write(test_path("r.yaml"), tiny, strlen(tiny));
    expect("recipe check r.yaml data.views=2", 0,
           "token cache  768.0 KiB for 2 views of 64 images, 392.0 KiB with --int8 (digpt tokenize)\n", "");
    expect("recipe check r.yaml data.views=2 data.limit=32", 0, "384.0 KiB for 2 views of 32 images", "");
    expect("tokenize r.yaml data.views=2", 1, "", "--out DIR or the recipe's tokens.cache must say");
    expect("run r.yaml data.views=2 tokens.cache=made", 1, "",
           "cache.json' is not there: make a token cache for this recipe with `digpt tokenize`");
    expect("tokenize r.yaml data.views=2 tokens.cache=made", 0,
           "train from it with: tokens.cache=", "128 views, 768.0 KiB in all, in '");
    expect("tokenize r.yaml data.views=2 tokens.cache=made", 0, "train from it with", "");
    expect("recipe check r.yaml data.views=2 tokens.cache=made", 0, "each normalised, cached\n", "");
    expect("run r.yaml data.views=2 tokens.cache=made train.steps=1", 0, "", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_tokens_are_the_teachers_within_rounding),
        cmocka_unit_test(a_run_from_the_cache_is_the_run_with_the_teacher_within_bf16),
        cmocka_unit_test(with_other_views_it_would_not_be_the_same_run),
        cmocka_unit_test(a_resumed_run_from_the_cache_is_exact),
        cmocka_unit_test(a_cache_that_was_cut_short_is_gone_on_with),
        cmocka_unit_test(a_truncated_shard_is_named_with_what_to_do),
        cmocka_unit_test(a_cache_of_another_recipe_is_refused_with_what_differs),
        cmocka_unit_test(what_a_run_does_not_depend_on_may_change),
        cmocka_unit_test(a_folder_with_another_cache_is_not_mixed_with),
        cmocka_unit_test(tokens_of_every_epoch_anew_are_not_cached),
        cmocka_unit_test(headers_that_are_wrong_are_explained),
        cmocka_unit_test(the_program_says_the_size_first_and_makes_what_the_recipe_names),
    };
    return cmocka_run_group_tests(tests, make_caches, NULL);
}
