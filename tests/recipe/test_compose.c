/* test_compose.c - extends, merging, the command line, paths. */
#include "recipe_support.h"

#include <sys/stat.h>

static void expect_pos(const dg_recipe *r, const char *key, const char *expected)
{
    char text[256];
    assert_string_equal(dg_pos_text(dg_recipe_where(r, key), text, sizeof text), expected);
}

static void maps_merge_lists_replace_and_origins_stay(void **state)
{
    (void)state;
    write_text("base.yaml",
               "data: {source: synthetic, path: [a, b, c], flip: 0.1}\nmodel:\n  name: vit\n  depth: 6\n"
               "optimizer:\n  lr: 1e-3\n  betas: [0.8, 0.9]\n");
    write_text(
        "a.yaml",
        "extends: base.yaml\ndata:\n  path: [d]\nmodel: {bias: false}\noptimizer: {lr: null}\ntrain:\n");
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    size_t n;
    const char *const *paths = dg_recipe_paths(r, "data.path", &n);
    assert_int_equal(n, 1);
    assert_non_null(strstr(paths[0], "/d"));
    assert_true(dg_recipe_float(r, "data.flip") == 0.1);
    assert_int_equal(dg_recipe_int(r, "model.depth"), 6);
    assert_false(dg_recipe_bool(r, "model.bias"));
    assert_false(dg_recipe_is_set(r, "optimizer.lr")); /* null takes back what was set */
    assert_true(dg_recipe_floats(r, "optimizer.betas", &n)[0] == 0.8);
    expect_pos(r, "model.depth", "base.yaml:4:10");
    expect_pos(r, "model.bias", "a.yaml:4:15");
    expect_pos(r, "data.flip", "base.yaml:1:50");
    dg_recipe_free(r);
}

static void later_parents_win_and_the_file_itself_over_all(void **state)
{
    (void)state;
    write_text("base.yaml", base_text);
    write_text("one.yaml", "seed: 1\ndata: {batch: 1, workers: 1, prefetch: 2}\n");
    write_text("two.yaml", "extends: [one.yaml]\nseed: 2\ndata: {batch: 2, workers: 2}\n");
    write_text("a.yaml", "extends: [base.yaml, two.yaml]\ndata: {batch: 3}\n");
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    assert_int_equal(dg_recipe_int(r, "seed"), 2);
    assert_int_equal(dg_recipe_int(r, "data.batch"), 3);
    assert_int_equal(dg_recipe_int(r, "data.workers"), 2);
    assert_int_equal(dg_recipe_int(r, "data.prefetch"), 2);
    dg_recipe_free(r);
}

static void a_component_of_another_name_drops_the_old_parameters(void **state)
{
    (void)state;
    write_text("base.yaml", "data: {source: synthetic}\nmodel: {name: vit, depth: 6}\n"
                            "tokenizer: {name: clip, weights: random, width: 64}\n");
    write_text("a.yaml", "extends: base.yaml\ntokenizer:\n  name: pixels\n");
    dg_recipe *r = load_good("a.yaml", NULL, 0);
    assert_string_equal(dg_recipe_component(r, "tokenizer", NULL), "pixels");
    assert_null(dg_recipe_get(r, "tokenizer.width"));
    dg_recipe_free(r);
    write_text("a.yaml", "extends: base.yaml\ntokenizer:\n  name: clip\n  activation: quick\n");
    r = load_good("a.yaml", NULL, 0);
    assert_int_equal(dg_recipe_int(r, "tokenizer.width"), 64); /* the same name: merged */
    dg_recipe_free(r);
    write_text("a.yaml", "extends: base.yaml\ntokenizer: null\n");
    r = load_good("a.yaml", NULL, 0);
    assert_null(dg_recipe_component(r, "tokenizer", NULL));
    dg_recipe_free(r);
    /* the order of arguments does not matter to what is dropped */
    static const char *const overrides[] = {"tokenizer.patch=8", "tokenizer.name=pixels"};
    r = load_good("base.yaml", overrides, 2);
    assert_int_equal(dg_recipe_int(r, "tokenizer.patch"), 8);
    dg_recipe_free(r);
}

static void extends_is_three_deep_at_most(void **state)
{
    (void)state;
    write_text("d0.yaml", base_text);
    write_text("d1.yaml", "extends: d0.yaml\n");
    write_text("d2.yaml", "extends: d1.yaml\n");
    write_text("d3.yaml", "extends: d2.yaml\n");
    write_text("d4.yaml", "extends: d3.yaml\n");
    dg_recipe_free(load_good("d3.yaml", NULL, 0));
    load_bad("d4.yaml", NULL, 0,
             "d1.yaml:1:10: error: extends: 'd0.yaml' would be the 4th level; at most 3 are read\n");
}

static void a_circle_of_files_is_named(void **state)
{
    (void)state;
    write_text("a.yaml", "extends: b.yaml\n");
    write_text("b.yaml", "extends:\n  - ./c.yaml\n");
    write_text("c.yaml", "extends: b.yaml\n");
    load_bad("a.yaml", NULL, 0,
             "c.yaml:1:10: error: extends: the files extend each other in a circle: b.yaml -> c.yaml -> "
             "b.yaml\n");
    write_text("a.yaml", "extends: a.yaml\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:10: error: extends: the files extend each other in a circle: a.yaml -> a.yaml\n");
}

static void bad_extends_are_explained(void **state)
{
    (void)state;
    write_text("broken.yaml", "a: [\n");
    write_text("a.yaml", "extends: [gone.yaml, {x: 1}, null, broken.yaml]\n");
    load_bad("a.yaml", NULL, 0,
             "a.yaml:1:11: error: cannot open 'gone.yaml': No such file or directory\n"
             "a.yaml:1:22: error: extends: expected a file or a list of files, found a map\n"
             "a.yaml:1:30: error: extends: expected a file or a list of files, found nothing\n"
             "broken.yaml:2:1: error: not valid YAML: did not find expected node content\n");
    dg_str many = {0};
    dg_str_puts(&many, "extends: [");
    for (int i = 0; i < 40; i++) dg_str_puts(&many, "leaf.yaml, ");
    dg_str_puts(&many, "]\n");
    write_text("leaf.yaml", "seed: 1\n");
    write_text("a.yaml", many.text);
    dg_str_free(&many);
    dg_recipe *r;
    dg_diagnostics d = {0};
    assert_int_equal(dg_recipe_load("a.yaml", NULL, 0, &fake_source, &r, &d), DG_ERR_INVALID);
    assert_string_equal(d.items[0].message, "extends: more than 32 files");
    dg_diagnostics_free(&d);
}

static void relative_paths_start_at_the_file_that_has_them(void **state)
{
    (void)state;
    mkdir("sub", 0777);
    mkdir("sub/deep", 0777);
    write_text("sub/deep/base.yaml",
               "data: {path: imgs, val_path: [../v, ./w/./x, /abs, .]}\nmodel: {name: vit}\n"
               "tokenizer: {name: clip, weights: ../../t.pth}\n");
    write_text("sub/a.yaml",
               "extends: deep/base.yaml\ntrain: {init_from: \"${data.path}/w\"}\noutput: out\n");
    static const char *const overrides[] = {"plugins=[p, ../q]"};
    dg_recipe *r = load_good("sub/a.yaml", overrides, 1);
    const char *root = test_dir();
    char expected[600];
    size_t n, skip = strlen(root);
    const char *const *paths = dg_recipe_paths(r, "data.path", &n);
    assert_string_equal(paths[0] + skip, "/sub/deep/imgs");
    paths = dg_recipe_paths(r, "data.val_path", &n);
    assert_string_equal(paths[0] + skip, "/sub/v");
    assert_string_equal(paths[1] + skip, "/sub/deep/w/./x");
    assert_string_equal(paths[2], "/abs");
    assert_string_equal(paths[3] + skip, "/sub/deep");
    assert_string_equal(dg_recipe_string(r, "tokenizer.weights") + skip, "/t.pth");
    assert_string_equal(dg_recipe_string(r, "train.init_from") + skip, "/sub/deep/imgs/w");
    assert_string_equal(dg_recipe_string(r, "output") + skip, "/sub/out");
    paths = dg_recipe_paths(r, "plugins", &n);
    snprintf(expected, sizeof expected, "%s/p", root); /* the command line: the working folder */
    assert_string_equal(paths[0], expected);
    assert_string_equal(paths[1], "/tmp/q");
    dg_recipe_free(r);
    write_text("a.yaml", base_text);
    r = load_good("sub/../a.yaml", NULL, 0);
    assert_string_equal(dg_recipe_string(r, "output") + skip, "/runs"); /* a default: the working folder */
    dg_recipe_free(r);
}

static void overrides_are_yaml_and_the_last_one_wins(void **state)
{
    (void)state;
    write_text("a.yaml", base_text);
    static const char *const overrides[] = {
        "seed=7", "optimizer.lr=1e-3",         "optimizer.betas=[0.5, 0.6]", "data={batch: 4, flip: 0}",
        "seed=9", "model.depth=${data.batch}", "train.steps=null",           "name=a=b"};
    dg_recipe *r = load_good("a.yaml", overrides, COUNT(overrides));
    assert_int_equal(dg_recipe_int(r, "seed"), 9);
    assert_true(dg_recipe_float(r, "optimizer.lr") == 1e-3);
    assert_int_equal(dg_recipe_int(r, "data.batch"), 4);
    assert_string_equal(dg_recipe_string(r, "data.source"), "synthetic"); /* a map merges */
    assert_int_equal(dg_recipe_int(r, "model.depth"), 4);
    assert_string_equal(dg_recipe_string(r, "name"), "a=b");
    expect_pos(r, "seed", "command line, argument 5");
    dg_recipe_free(r);
}

static void removal_brings_defaults_back(void **state)
{
    (void)state;
    write_text("base.yaml", base_text);
    write_text("a.yaml", "extends: base.yaml\ntokenizer: {patch: 8}\nseed: 3\n");
    static const char *const overrides[] = {"~tokenizer.patch", "~seed", "~loss", "data.flip=1",
                                            "~data.flip"};
    dg_recipe *r = load_good("a.yaml", overrides, COUNT(overrides));
    assert_int_equal(dg_recipe_int(r, "tokenizer.patch"), 16);
    assert_false(dg_recipe_is_given(r, "tokenizer.patch"));
    assert_int_equal(dg_recipe_int(r, "seed"), 0);
    assert_null(dg_recipe_component(r, "loss", NULL));
    assert_true(dg_recipe_float(r, "data.flip") == 0.5);
    dg_recipe_free(r);
}

static void bad_arguments_are_named_by_their_number(void **state)
{
    (void)state;
    write_text("a.yaml", base_text);
    static const char *const overrides[] = {
        "seed", "a.b.c=1",   "=3",       "optimzer.lr=1", "optimizer.lr=abc", "data.x=[1",    "~data.flip",
        "~",    "extends=b", "loss=mse", "optimizer.l=1", "Seed=1",           "seed=1 # \xff"};
    load_bad(
        "a.yaml", overrides, COUNT(overrides),
        "command line, argument 1: error: 'seed' is neither key=value nor ~key\n"
        "command line, argument 10: error: 'loss' is a map: write 'loss: {name: mse}'\n"
        "command line, argument 11: error: unknown key 'l' in 'optimizer'; did you mean 'lr'?\n"
        "command line, argument 12: error: 'Seed' does not name a key: write section.key=value\n"
        "command line, argument 13: error: byte 4 (0xff) is not UTF-8: save the file in UTF-8\n"
        "command line, argument 2: error: 'a.b.c' does not name a key: write section.key=value\n"
        "command line, argument 3: error: '' does not name a key: write section.key=value\n"
        "command line, argument 4: error: unknown key 'optimzer'; did you mean 'optimizer'?\n"
        "command line, argument 5: error: optimizer.lr: expected a finite number, found the string 'abc'\n"
        "command line, argument 6: error: not valid YAML: did not find expected ',' or ']'\n"
        "command line, argument 6: note: while parsing a flow sequence that starts here\n"
        "command line, argument 7: error: nothing sets 'data.flip', so there is nothing to remove\n"
        "command line, argument 8: error: '~' does not name a key: write ~section.key\n"
        "command line, argument 9: error: extends cannot be given on the command line: write a recipe that "
        "extends both\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_merge_lists_replace_and_origins_stay),
        cmocka_unit_test(later_parents_win_and_the_file_itself_over_all),
        cmocka_unit_test(a_component_of_another_name_drops_the_old_parameters),
        cmocka_unit_test(extends_is_three_deep_at_most),
        cmocka_unit_test(a_circle_of_files_is_named),
        cmocka_unit_test(bad_extends_are_explained),
        cmocka_unit_test(relative_paths_start_at_the_file_that_has_them),
        cmocka_unit_test(overrides_are_yaml_and_the_last_one_wins),
        cmocka_unit_test(removal_brings_defaults_back),
        cmocka_unit_test(bad_arguments_are_named_by_their_number),
    };
    return cmocka_run_group_tests(tests, enter_folder, NULL);
}
