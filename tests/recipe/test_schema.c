/* test_schema.c - single values by their rows, parameters without a recipe, the schema as text. */
#include "recipe/schema.h"
#include "test.h"

static const char *const words[] = {"exact", "quick", NULL};
static const char *const special[] = {"random", NULL};
static const dg_param_spec rows[] = {
    DG_PARAM(BOOL, "bias", "true", "", "a switch", 0, 0, NULL),
    DG_PARAM(INT, "depth", "12", "blocks", "number of blocks", 1, 64, NULL),
    DG_PARAM(FLOAT, "eps", "1e-6", "", "of the norms", 0, 1, NULL),
    DG_PARAM(STRING, "label", "", "", "any text", 0, 0, NULL),
    DG_PARAM(CHOICE, "gelu", "exact", "", "which one", 0, 0, words),
    DG_PARAM(PATH, "weights", "random", "", "file, a|b", 0, 0, special),
    DG_PARAM_LIST(INTS, "grid", "[2, 2]", "tokens", "segments", 1, 32, 1, 2),
    DG_PARAM(FLOATS, "scales", "[]", "", "any number of them", 0, 0, NULL),
    DG_PARAM(PATHS, "files", "", "", "some files", 0, 0, NULL),
};
enum { N = sizeof rows / sizeof rows[0] };

static const dg_param_value *value(const dg_params *p, const char *key)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (strcmp(rows[i].key, key) == 0) return &p->values[i];
    return NULL;
}

static void defaults_come_in_the_order_of_the_schema(void **state)
{
    (void)state;
    dg_arena a = {0};
    dg_error err;
    const dg_params *p;
    ASSERT_OK(dg_params_from_text(rows, N, NULL, 0, &a, &p, &err));
    assert_int_equal(p->count, N);
    for (size_t i = 0; i < N; i++) assert_int_equal(p->values[i].type, rows[i].type);
    assert_int_equal(p->values[0].v.i, 1);
    assert_int_equal(p->values[1].v.i, 12);
    assert_true(p->values[2].v.f == 1e-6);
    assert_string_equal(p->values[2].text, "1e-6");
    assert_int_equal(p->values[3].is_set, 0);
    assert_int_equal(p->values[4].v.i, 0);
    assert_string_equal(p->values[5].v.s, "random");
    assert_int_equal(p->values[6].v.ints.n, 2);
    assert_int_equal(p->values[7].is_set, 1);
    assert_int_equal(p->values[7].v.floats.n, 0);
    assert_int_equal(p->values[8].is_set, 0);
    dg_arena_free(&a);
}

static void assignments_set_typed_values(void **state)
{
    (void)state;
    static const char *const given[] = {"bias=false", "depth=0x10",        "eps=1",  "label=no",
                                        "gelu=quick", "weights=a/b.pth",   "grid=7", "scales=[1, .5]",
                                        "files=x",    "files=[x, \"y z\"]"};
    dg_arena a = {0};
    dg_error err;
    const dg_params *p;
    ASSERT_OK(dg_params_from_text(rows, N, given, sizeof given / sizeof given[0], &a, &p, &err));
    assert_int_equal(value(p, "bias")->v.i, 0);
    assert_int_equal(value(p, "depth")->v.i, 16);
    assert_true(value(p, "eps")->v.f == 1);
    assert_string_equal(value(p, "label")->v.s, "no");
    assert_int_equal(value(p, "gelu")->v.i, 1);
    assert_string_equal(value(p, "gelu")->text, "quick");
    assert_string_equal(value(p, "weights")->v.s, "a/b.pth");
    assert_int_equal(value(p, "grid")->v.ints.n, 1); /* one number is a list of one */
    assert_int_equal(value(p, "grid")->v.ints.items[0], 7);
    assert_true(value(p, "scales")->v.floats.items[1] == .5);
    assert_int_equal(value(p, "files")->v.paths.n, 2);
    assert_string_equal(value(p, "files")->v.paths.items[1], "y z");
    dg_arena_free(&a);
}

static void everything_that_is_wrong_with_parameters_is_in_one_message(void **state)
{
    (void)state;
    static const char *const given[] = {"bias=yes",  "depth=65",  "epz=1",   "label=[a]",
                                        "no equals", "gelu=quik", "weights="};
    dg_arena a = {0};
    dg_error err;
    const dg_params *p;
    ASSERT_FAILS(dg_params_from_text(rows, N, given, sizeof given / sizeof given[0], &a, &p, &err),
                 DG_ERR_INVALID, "no equals: expected key=value");
    assert_non_null(strstr(err.message, "epz=1: unknown key 'epz'; did you mean 'eps'?"));
    assert_non_null(strstr(err.message, "bias=yes: bias: expected true or false, found the string 'yes'"));
    assert_non_null(
        strstr(err.message, "depth=65: depth: 65 is out of range, it must be between 1 and 64 blocks"));
    assert_non_null(strstr(err.message, "label=[a]: label: expected a string, found a list"));
    assert_non_null(strstr(err.message, "gelu: 'quik' is not one of: exact, quick; did you mean 'quick'?"));
    assert_non_null(
        strstr(err.message, "weights: it has no value; leave the key out to get the default, random"));
    dg_arena_free(&a);
}

static void each_wrong_value_says_what_was_expected(void **state)
{
    (void)state;
    static const struct {
        const char *given, *said;
    } cases[] = {
        {"depth=1.5", "expected a 64-bit integer, found the number 1.5"},
        {"depth=99999999999999999999", "expected a 64-bit integer, found the number 99999999999999999999"},
        {"depth=\"12\"", "expected a 64-bit integer, found the string '12'"},
        {"depth={a: 1}", "expected a 64-bit integer, found a map"},
        {"depth=true", "expected a 64-bit integer, found true"},
        {"eps=abc", "expected a finite number, found the string 'abc'"},
        {"eps=.inf", "expected a finite number, found the string '.inf'"},
        {"eps=-1e-9", "-1e-9 is out of range, it must be between 0 and 1"},
        {"grid=[1, 2, 3]", "grid: expected 1 to 2 items, found 3"},
        {"grid=[]", "grid: expected 1 to 2 items, found 0"},
        {"grid=[1, x]", "expected a 64-bit integer, found the string 'x'"},
        {"grid=[0, 2]", "0 is out of range, it must be between 1 and 32 tokens"},
        {"grid={a: 1}", "grid: expected a list of numbers, found a map"},
        {"scales=[[1]]", "expected a finite number, found a list"},
        {"weights=''", "weights: the path is empty"},
        {"files=[a, null]", "files: expected a path, found nothing"},
        {"gelu=[exact]", "gelu: expected one word, found a list"},
        {"label=[a, &b c]", "the anchor '&b' is not used"},
        {"label=a: b: c", "not valid YAML"},
        {"=3", "expected key=value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dg_arena a = {0};
        dg_error err;
        const dg_params *p;
        ASSERT_FAILS(dg_params_from_text(rows, N, &cases[i].given, 1, &a, &p, &err), DG_ERR_INVALID,
                     cases[i].said);
        dg_arena_free(&a);
    }
}

static void a_required_parameter_must_be_given(void **state)
{
    (void)state;
    static const dg_param_spec need[] = {DG_PARAM(INT, "width", NULL, "", "channels", 1, 64, NULL)};
    dg_arena a = {0};
    dg_error err;
    const dg_params *p;
    ASSERT_FAILS(dg_params_from_text(need, 1, NULL, 0, &a, &p, &err), DG_ERR_INVALID,
                 "'width' is required (channels)");
    const char *given = "width=null";
    ASSERT_FAILS(dg_params_from_text(need, 1, &given, 1, &a, &p, &err), DG_ERR_INVALID,
                 "width: it has no value, and it is required");
    dg_arena_free(&a);
}

static void a_schema_with_a_wrong_default_or_type_is_named(void **state)
{
    (void)state;
    static const dg_param_spec bad[] = {DG_PARAM(INT, "a", "[1", "", "", 0, 0, NULL),
                                        DG_PARAM(INT, "b", "many", "", "", 0, 0, NULL),
                                        {sizeof(dg_param_spec), 77, "c", "1", NULL, NULL, 0, 0, NULL, 0, 0}};
    dg_arena a = {0};
    dg_error err;
    const dg_params *p;
    ASSERT_FAILS(dg_params_from_text(bad, 3, NULL, 0, &a, &p, &err), DG_ERR_INVALID,
                 "a: the schema's own default '[1' is not YAML");
    assert_non_null(strstr(err.message, "b: expected a 64-bit integer, found the string 'many'"));
    assert_non_null(strstr(err.message, "c: its schema says type 77"));
    dg_arena_free(&a);
}

static void rows_of_an_older_schema_are_read_by_their_own_size(void **state)
{
    (void)state;
    /* A table from before min_items and max_items were there, and one from a future with more. */
    struct {
        dg_param_spec row;
        uint64_t more;
    } newer[2] = {{rows[1], 7}, {rows[6], 7}};
    unsigned char older[2][offsetof(dg_param_spec, min_items)];
    for (size_t i = 0; i < 2; i++) {
        newer[i].row.struct_size = sizeof newer[0];
        memcpy(older[i], &newer[i].row, sizeof older[0]);
        uint32_t size = sizeof older[0];
        memcpy(older[i], &size, sizeof size);
    }
    assert_string_equal(dg_spec_at(&newer[0].row, 1).key, "grid");
    assert_int_equal(dg_spec_at(&newer[0].row, 1).max_items, 2);
    _Alignas(dg_param_spec) unsigned char table[sizeof older];
    memcpy(table, older, sizeof older);
    assert_string_equal(dg_spec_at((const dg_param_spec *)(const void *)table, 1).key, "grid");
    assert_int_equal(dg_spec_at((const dg_param_spec *)(const void *)table, 1).max_items, 0);
}

static void values_compare_by_meaning_and_not_by_spelling(void **state)
{
    (void)state;
    static const char *const one[] = {"eps=1e-4", "depth=16", "grid=[2, 0x2]", "scales=[1, 2.50]"};
    static const char *const two[] = {"eps=0.0001", "depth=0x10", "grid=[2, 2]", "scales=[1.0, 2.5]"};
    static const char *const three[] = {"eps=0.0002", "depth=17",   "grid=[2, 3]", "scales=[1.0]", "label=x",
                                        "gelu=quick", "bias=false", "files=[b]",   "weights=z"};
    dg_arena a = {0};
    dg_error err;
    const dg_params *p, *q, *r;
    ASSERT_OK(dg_params_from_text(rows, N, one, 4, &a, &p, &err));
    ASSERT_OK(dg_params_from_text(rows, N, two, 4, &a, &q, &err));
    ASSERT_OK(dg_params_from_text(rows, N, three, 9, &a, &r, &err));
    for (size_t i = 0; i < N; i++) {
        if (!dg_param_same(&p->values[i], &q->values[i])) fail_msg("%s differs", rows[i].key);
        if (dg_param_same(&p->values[i], &r->values[i])) fail_msg("%s does not differ", rows[i].key);
    }
    dg_arena_free(&a);
}

static void help_and_reference_show_every_row(void **state)
{
    (void)state;
    dg_str out = {0};
    dg_schema_help(rows, N, &out);
    assert_non_null(
        strstr(out.text, "  depth    number of blocks\n           integer 1..64, blocks; default: 12\n"));
    assert_non_null(strstr(out.text, "one of: exact, quick; default: exact\n"));
    assert_non_null(strstr(out.text, "path, or: random; default: random\n"));
    assert_non_null(strstr(out.text, "list of integers 1..32, 1 to 2 of them, tokens; default: [2, 2]\n"));
    assert_non_null(strstr(out.text, "string; default: not set\n"));
    dg_str_free(&out);
    dg_schema_markdown(rows, N, &out);
    assert_non_null(strstr(out.text, "| `depth` | integer 1..64, blocks | `12` | number of blocks |\n"));
    assert_non_null(strstr(out.text, "| file, a\\|b |\n"));
    dg_str_free(&out);
    dg_schema_markdown_all(&out);
    size_t n;
    const dg_section *sections = dg_schema_sections(&n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sections[i].n; k++) {
            char cell[96];
            snprintf(cell, sizeof cell, "| `%s` |", sections[i].specs[k].key);
            if (!strstr(out.text, cell)) fail_msg("the reference lacks %s", cell);
        }
    assert_non_null(strstr(out.text, "## `tokenizer`"));
    dg_str_free(&out);
}

static void the_defaults_of_the_fixed_sections_obey_their_own_rows(void **state)
{
    (void)state;
    size_t n;
    const dg_section *sections = dg_schema_sections(&n);
    for (size_t i = 0; i < n; i++) {
        dg_arena a = {0};
        dg_error err;
        const dg_params *p;
        if (sections[i].specs)
            ASSERT_OK(dg_params_from_text(sections[i].specs, sections[i].n, NULL, 0, &a, &p, &err));
        for (size_t k = 0; k < sections[i].n; k++) assert_true(sections[i].specs[k].help[0] != 0);
        dg_arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_in_the_order_of_the_schema),
        cmocka_unit_test(assignments_set_typed_values),
        cmocka_unit_test(everything_that_is_wrong_with_parameters_is_in_one_message),
        cmocka_unit_test(each_wrong_value_says_what_was_expected),
        cmocka_unit_test(a_required_parameter_must_be_given),
        cmocka_unit_test(a_schema_with_a_wrong_default_or_type_is_named),
        cmocka_unit_test(rows_of_an_older_schema_are_read_by_their_own_size),
        cmocka_unit_test(values_compare_by_meaning_and_not_by_spelling),
        cmocka_unit_test(help_and_reference_show_every_row),
        cmocka_unit_test(the_defaults_of_the_fixed_sections_obey_their_own_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
