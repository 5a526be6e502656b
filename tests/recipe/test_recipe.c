/* test_recipe.c - one recipe: values, every class of error with its place, references, origins, printing,
 * diff. */
#include "recipe_support.h"

#include <errno.h>
#include <sys/stat.h>

static void defaults_and_given_values_are_typed(void **state)
{
    (void)state;
    write_text("a.yaml", base_text);
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    int64_t h, w;
    size_t n;
    assert_string_equal(dg_recipe_string(r, "task"), "pretrain");
    assert_string_equal(dg_recipe_string(r, "name"), "a");
    assert_int_equal(dg_recipe_int(r, "seed"), 0);
    assert_int_equal(dg_recipe_choice(r, "data.source"), 3);
    assert_true(dg_recipe_bool(r, "data.shuffle"));
    assert_true(dg_recipe_float(r, "optimizer.base_lr") == 1.5e-4);
    assert_false(dg_recipe_is_set(r, "optimizer.lr"));
    assert_true(dg_recipe_is_given(r, "data.source"));
    assert_false(dg_recipe_is_given(r, "data.flip"));
    assert_true(dg_recipe_floats(r, "optimizer.betas", &n)[1] == 0.95);
    assert_int_equal(n, 2);
    dg_recipe_size(r, "data.image_size", &h, &w);
    assert_true(h == 224 && w == 224);
    assert_int_equal(dg_recipe_int(r, "train.epochs"), 300);
    assert_null(dg_recipe_paths(r, "data.path", &n));
    assert_null(dg_recipe_get(r, "data.nothing"));
    assert_int_equal(dg_recipe_int(r, "data.flip"), 0); /* another type */
    assert_null(dg_recipe_string(r, "seed"));
    dg_recipe_free(r);
}

static void components_get_their_values_in_the_order_of_their_schema(void **state)
{
    (void)state;
    write_text("a.yaml", "data: {source: synthetic}\nmodel: {segments: [3, 4], name: vit}\n"
                         "tokenizer:\n  width: 1024\n  name: clip\n  weights: random\n");
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    const dg_params *p;
    assert_string_equal(dg_recipe_component(r, "tokenizer", &p), "clip");
    assert_int_equal(p->struct_size, sizeof *p);
    assert_int_equal(p->count, 3);
    assert_string_equal(p->values[0].v.s, "random"); /* a special word is no path */
    assert_string_equal(p->values[1].text, "exact");
    assert_int_equal(p->values[2].v.i, 1024);
    assert_string_equal(dg_recipe_component(r, "model", &p), "vit");
    assert_int_equal(p->values[1].v.ints.items[1], 4);
    assert_null(dg_recipe_component(r, "loss", &p));
    assert_null(p);
    assert_string_equal(dg_recipe_component(r, "backend", &p), "cpu"); /* the default */
    assert_int_equal(p->count, 0);
    assert_null(dg_recipe_component(r, "data", NULL));
    assert_int_equal(dg_recipe_int(r, "tokenizer.width"), 1024);
    dg_recipe_free(r);
}

static void every_error_is_listed_at_once_with_its_place(void **state)
{
    (void)state;
    write_text("a.yaml", "sede: 1\n"
                         "batch: 8\n"
                         "zebra: 1\n"
                         "data:\n"
                         "  source: synthetics\n"
                         "  batch: 0\n"
                         "  flip: often\n"
                         "  crop_scale: [0.2]\n"
                         "  workerz: 2\n"
                         "  prefetch:\n"
                         "tokenizer:\n"
                         "  name: clip\n"
                         "  wieghts: x.pth\n"
                         "model: vit\n"
                         "loss:\n"
                         "  scale: 2\n"
                         "backend:\n"
                         "  name: cqu\n"
                         "train: [1]\n"
                         "optimizer:\n"
                         "  lr: -1\n"
                         "  betas: [0.9, x]\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:1: error: unknown key 'sede'; did you mean 'seed'?\n"
             "a.yaml:2:1: error: unknown key 'batch' at the top level; did you mean 'data.batch'?\n"
             "a.yaml:3:1: error: unknown key 'zebra'; known are: extends, data, tokenizer, tokens, model, loss, "
             "backend, train, finetune, knn, probe, "
             "optimizer, task, name, seed, output, plugins\n"
             "a.yaml:5:11: error: data.source: 'synthetics' is not one of: folder, tar, list, synthetic; did "
             "you mean "
             "'synthetic'?\n"
             "a.yaml:6:10: error: data.batch: 0 is out of range, it must be between 1 and 65536 images\n"
             "a.yaml:7:9: error: data.flip: expected a finite number, found the string 'often'\n"
             "a.yaml:8:15: error: data.crop_scale: expected 2 items, found 1\n"
             "a.yaml:9:3: error: unknown key 'workerz' in 'data'; did you mean 'workers'?\n"
             "a.yaml:10:12: error: data.prefetch: it has no value; leave the key out to get the default, 3\n"
             "a.yaml:12:9: error: 'tokenizer.weights' is required (weights file)\n"
             "a.yaml:13:3: error: unknown key 'wieghts' in 'tokenizer: clip'; did you mean 'weights'?\n"
             "a.yaml:14:8: error: 'model' is a map: write 'model: {name: vit}'\n"
             "a.yaml:15:1: error: 'loss' has no 'name', which says what it is\n"
             "a.yaml:18:9: error: backend.name: there is no backend 'cqu'; known are: clip, pixels\n"
             "a.yaml:19:8: error: 'train' is a map of keys, found a list\n"
             "a.yaml:21:7: error: optimizer.lr: -1 is out of range, it must be at least 0\n"
             "a.yaml:22:16: error: optimizer.betas: expected a finite number, found the string 'x'\n");
}

static void rules_between_keys_are_checked(void **state)
{
    (void)state;
    write_text("a.yaml", "task: segment\nmodel: {name: vit}\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml: error: 'data.path' is required when data.source is 'folder'\n"
             "a.yaml:1:7: error: task: 'segment' is not there yet in this version; pretrain, finetune, probe and knn are\n");
    write_text("a.yaml", "model: {name: vit}\ndata:\n  source: tar\n  crop_ratio: [2, 1]\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:2:1: error: 'data.path' is required when data.source is 'tar'\n"
             "a.yaml:4:15: error: data.crop_ratio: the least comes first, and 2 is more than 1\n");
}

static void a_model_is_required_and_a_name_is_a_word(void **state)
{
    (void)state;
    write_text("a.yaml", "data: {source: synthetic}\ntokenizer: {name: [clip]}\nloss: {name: null}\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml: error: the section 'model' is required (what is trained)\n"
             "a.yaml:2:19: error: tokenizer.name: expected the name of a component, found a list\n"
             "a.yaml:3:14: error: loss.name: expected the name of a component, found nothing\n");
}

static void what_is_no_recipe_is_said_so(void **state)
{
    (void)state;
    write_text("a.yaml", "");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:1: error: a recipe is a map of keys such as 'data:', this one holds nothing\n");
    write_text("a.yaml", "- 1\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:1: error: a recipe is a map of keys such as 'data:', this one holds a list\n");
    load_bad("none.yaml", NULL, 0, "none.yaml: error: cannot open 'none.yaml': No such file or directory\n");
    load_bad(".", NULL, 0, ".: error: cannot read '.': it is a folder\n");
}

static void duplicates_do_not_hide_other_errors(void **state)
{
    (void)state;
    write_text("a.yaml", "data: {source: synthetic}\nseed: 1\nseed: 2\nmodel: {name: vit, depht: 3}\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:3:1: error: duplicate key 'seed'\n"
             "a.yaml:2:1: note: it was first given here\n"
             "a.yaml:4:20: error: unknown key 'depht' in 'model: vit'; did you mean 'depth'?\n");
}

static void plugins_are_announced_before_components_are_asked_for(void **state)
{
    (void)state;
    char expected[1024];
    write_text("a.yaml", base_text);
    static const char *const good[] = {"plugins=[x.so, /abs/y.so]"}, *const bad[] = {"plugins=broken.so"};
    dg_recipe *r = load_good("a.yaml", good, 1);
    snprintf(expected, sizeof expected, "%s/x.so;/abs/y.so;", test_dir());
    assert_string_equal(announced, expected);
    dg_recipe_free(r);
    snprintf(expected, sizeof expected,
             "command line, argument 1: error: plugins: '%s/broken.so' is not a plugin\n", test_dir());
    load_bad("a.yaml", bad, 1, expected);
}

static void references_copy_values_and_join_texts(void **state)
{
    (void)state;
    write_text("a.yaml", "name: run-${tokenizer.name}-${tokenizer.patch}-$${x}\n"
                         "seed: ${train.epochs}\n"
                         "data:\n"
                         "  source: synthetic\n"
                         "  image_size: [32, \"${data.batch}\"]\n"
                         "  synthetic_size: ${data.image_size}\n"
                         "  path: sub/x\n"
                         "  val_path: [\"${data.path}/val\", ../y, ./z]\n"
                         "tokenizer: {name: pixels, patch: 4}\n"
                         "model: {name: vit, depth: \"${tokenizer.patch}\"}\n"
                         "train: {steps: \"${optimizer.warmup_steps}\"}\n");
    size_t n;
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    assert_string_equal(dg_recipe_string(r, "name"), "run-pixels-4-${x}");
    assert_int_equal(dg_recipe_int(r, "seed"), 300); /* of a default */
    assert_int_equal(dg_recipe_ints(r, "data.synthetic_size", &n)[1], 64);
    assert_int_equal(dg_recipe_int(r, "model.depth"), 4);
    assert_false(dg_recipe_is_set(r, "train.steps")); /* of a key that is not set */
    const char *const *paths = dg_recipe_paths(r, "data.val_path", &n);
    char expected[512];
    snprintf(expected, sizeof expected, "%s/sub/x/val", test_dir());
    assert_int_equal(n, 3);
    assert_string_equal(paths[0], expected);
    dg_recipe_free(r);
}

static void bad_references_are_explained(void **state)
{
    (void)state;
    write_text("a.yaml", "name: ${optimizer.l_r}\n"
                         "seed: ${seed}\n"
                         "output: x${optimizer.clip_norm}\n"
                         "data:\n"
                         "  source: synthetic\n"
                         "  batch: ${data.workers}\n"
                         "  workers: ${data.prefetch}\n"
                         "  prefetch: ${data.batch}\n"
                         "  decode: ${data.image_size}\n"
                         "  val_path: a${optimizer.betas}\n"
                         "  limit: ${zzzzzzzz}\n"
                         "tokenizer: {name: \"${loss.name}\"}\n"
                         "model: {name: vit}\n"
                         "train: {init_from: \"a${b\", epochs: \"1${data.views}\"}\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:7: error: '${optimizer.l_r}' refers to a key that does not exist; did you mean "
             "'optimizer.lr'?\n"
             "a.yaml:2:7: error: keys refer to each other in a circle: seed -> seed\n"
             "a.yaml:3:9: error: '${optimizer.clip_norm}': 'optimizer.clip_norm' is not set\n"
             "a.yaml:8:13: error: keys refer to each other in a circle: data.batch -> data.workers -> "
             "data.prefetch -> "
             "data.batch\n"
             "a.yaml:9:11: error: data.decode: expected one word, found a list\n"
             "a.yaml:10:13: error: '${optimizer.betas}': 'optimizer.betas' is a list, which can only be "
             "referred to as "
             "the whole value\n"
             "a.yaml:11:10: error: '${zzzzzzzz}' refers to a key that does not exist: it is written "
             "${section.key}\n"
             "a.yaml:12:19: error: tokenizer.name: expected the name of a component, found the string "
             "'${loss.name}'\n"
             "a.yaml:14:20: error: '${' without '}'; a plain '${' is written '$${'\n"
             "a.yaml:14:36: error: train.epochs: expected a 64-bit integer, found the string '10'\n");
}

static void references_that_double_a_text_end_at_its_limit(void **state)
{
    (void)state;
    dg_str text = {0};
    dg_str_puts(&text, "name: ");
    for (int i = 0; i < 2000; i++) dg_str_puts(&text, "0123456789");
    dg_str_puts(&text,
                "\noutput: /${name}${name}${name}${name}\nmodel: {name: vit}\ndata: {source: synthetic}\n");
    write_text("a.yaml", text.text);
    dg_str_free(&text);
    load_bad("a.yaml", NULL, 0, "a.yaml:2:9: error: the text becomes longer than 65536 bytes\n");
}

static void positions_lead_from_a_key_to_its_line(void **state)
{
    (void)state;
    char text[128];
    write_text("a.yaml", base_text);
    static const char *const overrides[] = {"model.depth=3", "train.steps=5"};
    dg_recipe *r = load_good("a.yaml", overrides, 2);
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "tokenizer.patch"), text, sizeof text), "a.yaml:6:10");
    /* a default: the line that brought the component in */
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "tokenizer.eps"), text, sizeof text), "a.yaml:5:9");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "tokenizer"), text, sizeof text), "a.yaml:5:9");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "data.flip"), text, sizeof text), "a.yaml:2:1");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "model.depth"), text, sizeof text),
                        "command line, argument 1");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "model.bias"), text, sizeof text), "a.yaml:7:15");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, "optimizer.lr"), text, sizeof text), "a.yaml");
    assert_string_equal(dg_pos_text(dg_recipe_where(r, ""), text, sizeof text), "a.yaml");
    dg_error err = DG_ERROR_INIT;
    dg_diagnostics d = {0};
    dg_fail_key(&err, DG_ERR_MISMATCH, "tokenizer.patch", "a patch of 4 does not divide 30 pixels");
    dg_recipe_blame(r, &err, &d);
    expect_text(&d, "a.yaml:6:10: error: tokenizer.patch: a patch of 4 does not divide 30 pixels\n");
    dg_diagnostics_free(&d);
    dg_recipe_free(r);
}

static void a_printed_recipe_says_every_value_and_its_origin(void **state)
{
    (void)state;
    write_text("a.yaml", base_text);
    static const char *const overrides[] = {"model.depth=3"};
    dg_recipe *r = load_good("a.yaml", overrides, 1);
    dg_str out = {0};
    dg_recipe_print(r, true, &out);
    assert_non_null(strstr(out.text, "task: pretrain                               # default\n"));
    assert_non_null(strstr(out.text, "\ntokenizer:\n"
                                     "  name: pixels                               # a.yaml:5:3\n"
                                     "  patch: 4                                   # a.yaml:6:3\n"
                                     "  eps: 1e-6                                  # default\n"));
    assert_non_null(
        strstr(out.text, "  depth: 3                                   # command line, argument 1\n"));
    assert_non_null(strstr(out.text, "  lr: null                                   # default\n"));
    dg_str_free(&out);
    dg_recipe_free(r);
}

/* Prints, loads what was printed, and compares. */
static void round_trip(const char *path, const char *const *overrides, size_t n, bool origins)
{
    dg_recipe *r = load_good(path, overrides, n);
    dg_str first = {0}, second = {0};
    dg_arena arena = {0};
    dg_error err;
    dg_recipe_print(r, origins, &first);
    assert_int_equal(mkdir("elsewhere", 0777) == 0 || errno == EEXIST, 1);
    test_write("elsewhere/again.yaml", first.text, first.length);
    dg_recipe *again = load_good("elsewhere/again.yaml", NULL, 0);
    dg_recipe_difference *items;
    size_t n_items;
    ASSERT_OK(dg_recipe_diff(r, again, &arena, &items, &n_items, &err));
    if (n_items) fail_msg("%s: %s became %s", items[0].key, items[0].a, items[0].b);
    dg_str_free(&first);
    dg_recipe_print(r, false, &first);
    dg_recipe_print(again, false, &second);
    assert_string_equal(first.text, second.text);
    dg_str_free(&first);
    dg_str_free(&second);
    dg_arena_free(&arena);
    dg_recipe_free(r);
    dg_recipe_free(again);
}

static void a_printed_recipe_loads_to_the_same_values(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "name=\"null # $${x} \\\"q\\\" \\n\\u2028\"",
        "data.path=[\"a b\", \"c,d\", '#e']",
        "optimizer.lr=1e-3",
        "tokenizer={name: clip, weights: random}",
        "data.image_size=32",
        "train.init_from=\"null\"",
        "optimizer.clip_norm=0x1",
        "model.bias=False",
        "train.time_limit=.5",
    };
    write_text("a.yaml", base_text);
    round_trip("a.yaml", NULL, 0, false);
    round_trip("a.yaml", NULL, 0, true);
    round_trip("a.yaml", overrides, COUNT(overrides), true);
    static const char *const without[] = {"~loss", "tokenizer=null"};
    round_trip("a.yaml", without, 2, false);
}

static void a_diff_lists_what_differs_in_the_order_of_the_schema(void **state)
{
    (void)state;
    write_text("a.yaml", base_text);
    static const char *const overrides[] = {"tokenizer={name: clip, weights: random}",
                                            "seed=0x0",
                                            "optimizer.lr=1e-3",
                                            "~loss",
                                            "name=a",
                                            "data.flip=0.50"};
    dg_recipe *a = load_good("a.yaml", NULL, 0), *b = load_good("a.yaml", overrides, COUNT(overrides));
    dg_arena arena = {0};
    dg_error err;
    dg_recipe_difference *items;
    size_t n;
    ASSERT_OK(dg_recipe_diff(a, b, &arena, &items, &n, &err));
    dg_str out = {0};
    for (size_t i = 0; i < n; i++) {
        char pa[64], pb[64];
        dg_str_printf(&out, "%s %s (%s) %s (%s)\n", items[i].key, items[i].a ? items[i].a : "-",
                      dg_pos_text(items[i].a_pos, pa, sizeof pa), items[i].b ? items[i].b : "-",
                      dg_pos_text(items[i].b_pos, pb, sizeof pb));
    }
    assert_string_equal(out.text, "tokenizer.name pixels (a.yaml:5:3) clip (command line, argument 1)\n"
                                  "tokenizer.patch 4 (a.yaml:6:3) - (default)\n"
                                  "tokenizer.eps 1e-6 (default) - (default)\n"
                                  "tokenizer.weights - (default) random (command line, argument 1)\n"
                                  "tokenizer.activation - (default) exact (default)\n"
                                  "tokenizer.width - (default) 1280 (default)\n"
                                  "loss.name cosine (a.yaml:9:3) - (default)\n"
                                  "loss.scale 2 (default) - (default)\n"
                                  "optimizer.lr null (default) 1e-3 (command line, argument 3)\n");
    dg_str_free(&out);
    dg_arena_free(&arena);
    dg_recipe_free(a);
    dg_recipe_free(b);
}

static void running_out_of_memory_anywhere_is_an_error_and_no_crash(void **state)
{
    (void)state;
    write_text("base.yaml", base_text);
    write_text("a.yaml",
               "extends: base.yaml\nname: x-${tokenizer.name}\nsedd: 1\ndata: {val_path: [a, b]}\n");
    static const char *const overrides[] = {"optimizer.betas=[0.8, 0.9]", "~loss.name"};
    size_t n_failed = 0;
    for (size_t at = 1; at < 500; at++) {
        dg_diagnostics d = {0};
        dg_recipe *r;
        dg_alloc_fail_at(at);
        dg_status s = dg_recipe_load("a.yaml", overrides, 2, &fake_source, &r, &d);
        dg_alloc_fail_at(0);
        dg_diagnostics_free(&d);
        assert_null(r);
        if (s == DG_ERR_INVALID) break; /* enough memory: the mistakes in it are reported */
        assert_int_equal(s, DG_ERR_NOMEM);
        n_failed++;
    }
    assert_true(n_failed > 10 && n_failed < 499);
}

static void any_cut_of_a_recipe_is_refused_or_loaded(void **state)
{
    (void)state;
    static const char text[] =
        "extends: [b.yaml]\nname: \"x ${seed}\"\ndata: {source: synthetic, crop_scale: [0.2, 1]}\n"
        "tokenizer:\n  name: clip\n  weights: ~\nmodel: {name: vit}\n";
    write_text("b.yaml", base_text);
    for (size_t n = 0; n < sizeof text; n++)
        for (int flip = 0; flip < 256; flip += 51) {
            char *bytes = test_malloc(n + 1);
            dg_diagnostics d = {0};
            dg_recipe *r;
            memcpy(bytes, text, n);
            if (n) bytes[n / 2] ^= (char)flip;
            dg_status s = dg_recipe_parse(bytes, n, "a.yaml", NULL, 0, &fake_source, &r, &d);
            assert_true(s == DG_OK ? r && d.n_errors == 0 : s == DG_ERR_INVALID && !r && d.n_errors > 0);
            dg_recipe_free(r);
            dg_diagnostics_free(&d);
            test_free(bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_given_values_are_typed),
        cmocka_unit_test(components_get_their_values_in_the_order_of_their_schema),
        cmocka_unit_test(every_error_is_listed_at_once_with_its_place),
        cmocka_unit_test(rules_between_keys_are_checked),
        cmocka_unit_test(a_model_is_required_and_a_name_is_a_word),
        cmocka_unit_test(what_is_no_recipe_is_said_so),
        cmocka_unit_test(duplicates_do_not_hide_other_errors),
        cmocka_unit_test(plugins_are_announced_before_components_are_asked_for),
        cmocka_unit_test(references_copy_values_and_join_texts),
        cmocka_unit_test(bad_references_are_explained),
        cmocka_unit_test(references_that_double_a_text_end_at_its_limit),
        cmocka_unit_test(positions_lead_from_a_key_to_its_line),
        cmocka_unit_test(a_printed_recipe_says_every_value_and_its_origin),
        cmocka_unit_test(a_printed_recipe_loads_to_the_same_values),
        cmocka_unit_test(a_diff_lists_what_differs_in_the_order_of_the_schema),
        cmocka_unit_test(running_out_of_memory_anywhere_is_an_error_and_no_crash),
        cmocka_unit_test(any_cut_of_a_recipe_is_refused_or_loaded),
    };
    return cmocka_run_group_tests(tests, enter_folder, NULL);
}
