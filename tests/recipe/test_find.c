/* test_find.c - recipes by bare names and by paths. */
#include "recipe_support.h"

#include <stdlib.h>
#include <sys/stat.h>

static int make_folders(void **state)
{
    if (enter_folder(state) != 0) return -1;
    mkdir("recipes", 0777);
    mkdir("mine", 0777);
    mkdir("recipes/folder.yaml", 0777);
    write_text("recipes/digpt-b.yaml", "# D-iGPT, base size \nseed: 1\n");
    write_text("recipes/both.yaml", "# The first.\n");
    write_text("recipes/notes.txt", "no recipe");
    write_text("mine/both.yaml", "# The second.\n");
    write_text("mine/own.yaml", base_text);
    return setenv("DIGPT_RECIPE_PATH", ":nowhere:mine", 1);
}

static void a_bare_name_is_looked_up_in_order(void **state)
{
    (void)state;
    dg_error err;
    char *path;
    ASSERT_OK(dg_recipe_find("both", &path, &err));
    assert_string_equal(path, "recipes/both.yaml");
    dg_free(path);
    ASSERT_OK(dg_recipe_find("own", &path, &err));
    assert_string_equal(path, "mine/own.yaml");
    dg_free(path);
}

static void a_path_is_taken_as_it_is(void **state)
{
    (void)state;
    dg_error err;
    char *path;
    ASSERT_OK(dg_recipe_find("mine/both.yaml", &path, &err));
    assert_string_equal(path, "mine/both.yaml");
    dg_free(path);
    ASSERT_FAILS(dg_recipe_find("mine/none", &path, &err), DG_ERR_NOT_FOUND,
                 "there is no recipe file 'mine/none'");
    ASSERT_FAILS(dg_recipe_find("own.yaml", &path, &err), DG_ERR_NOT_FOUND,
                 "there is no recipe file 'own.yaml'");
    assert_null(path);
}

static void an_unknown_name_gets_the_nearest_or_the_folders(void **state)
{
    (void)state;
    dg_error err;
    char *path;
    ASSERT_FAILS(dg_recipe_find("digtp-b", &path, &err), DG_ERR_NOT_FOUND, "did you mean 'digpt-b'?");
    ASSERT_FAILS(dg_recipe_find("something-else", &path, &err), DG_ERR_NOT_FOUND,
                 "in: recipes, nowhere, mine, /");
    ASSERT_FAILS(dg_recipe_find("folder", &path, &err), DG_ERR_NOT_FOUND, "there is no recipe 'folder'");
    ASSERT_FAILS(dg_recipe_find("", &path, &err), DG_ERR_NOT_FOUND, "there is no recipe ''");
}

static void the_listing_is_sorted_and_says_the_first_comment(void **state)
{
    (void)state;
    dg_arena a = {0};
    dg_error err;
    dg_recipe_entry *entries;
    size_t n;
    ASSERT_OK(dg_recipe_list(&a, &entries, &n, &err));
    assert_int_equal(n, 3);
    assert_string_equal(entries[0].name, "both");
    assert_string_equal(entries[0].help, "The first.");
    assert_string_equal(entries[0].path, "recipes/both.yaml");
    assert_string_equal(entries[1].name, "digpt-b");
    assert_string_equal(entries[2].help, "The smallest of all.");
    dg_arena_free(&a);
}

static void a_recipe_can_extend_a_known_one_by_name(void **state)
{
    (void)state;
    write_text("mine/child.yaml", "extends: digpt-b\ndata: {source: synthetic}\nmodel: {name: vit}\n");
    dg_recipe *r = load_good("mine/child.yaml", NULL, 0);
    assert_int_equal(dg_recipe_int(r, "seed"), 1);
    dg_recipe_free(r);
    write_text("mine/child.yaml", "extends: [own.yaml, digpt-b.yaml]\n"); /* beside it, and known */
    r = load_good("mine/child.yaml", NULL, 0);
    assert_int_equal(dg_recipe_int(r, "seed"), 1);
    dg_recipe_free(r);
    unlink("mine/child.yaml");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bare_name_is_looked_up_in_order),
        cmocka_unit_test(a_path_is_taken_as_it_is),
        cmocka_unit_test(an_unknown_name_gets_the_nearest_or_the_folders),
        cmocka_unit_test(the_listing_is_sorted_and_says_the_first_comment),
        cmocka_unit_test(a_recipe_can_extend_a_known_one_by_name),
    };
    return cmocka_run_group_tests(tests, make_folders, NULL);
}
