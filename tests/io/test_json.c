/* The JSON reader: values, limits, and where it says that something is wrong. */
#include "test.h"

#include <math.h>
#include <stdlib.h>

#include "io/json.h"

static dg_error err = DG_ERROR_INIT;
static dg_arena arena;

static dg_status parse(const char *text, const dg_json **root)
{
    dg_arena_free(&arena);
    return dg_json_parse(text, strlen(text), "in.json", &arena, root, &err);
}

static void values_come_back_with_their_types(void **state)
{
    (void)state;
    const dg_json *r, *m;
    ASSERT_OK(
        parse(" {\"a\": [1, -2.5e1, true, null], \"b\\u00e9\": \"x\\n\\ud83d\\ude00\", \"c\": {}} ", &r));
    assert_int_equal(r->count, 3);
    m = dg_json_get(r, "a")->v.first;
    assert_int_equal(m->type, DG_JSON_INT);
    assert_int_equal(m->v.integer, 1);
    assert_true(m->next->v.number == -25.0);
    assert_true(m->next->next->v.boolean);
    assert_int_equal(m->next->next->next->type, DG_JSON_NULL);
    assert_string_equal(dg_json_get(r, "b\xc3\xa9")->v.text, "x\n\xf0\x9f\x98\x80");
    assert_null(dg_json_get(r, "d"));
    assert_null(dg_json_get(NULL, "d"));
    dg_arena_free(&arena);
}

static void integers_of_64_bits_are_exact(void **state)
{
    (void)state;
    const dg_json *r;
    ASSERT_OK(parse("[9223372036854775807, -9223372036854775808, 9223372036854775808]", &r));
    assert_true(r->v.first->v.integer == INT64_MAX);
    assert_true(r->v.first->next->v.integer == INT64_MIN);
    assert_int_equal(r->v.first->next->next->type, DG_JSON_FLOAT);
    dg_arena_free(&arena);
}

static void errors_name_line_and_column(void **state)
{
    (void)state;
    const dg_json *r;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"a\": 1,\n \"a\": 2}", "in.json:2:7: the key \"a\" is there twice"},
        {"{\"a\": 1,\n}", "in.json:2:1: not valid JSON: a key in quotes was expected"},
        {"[1 2]", "',' or ']' was expected"},
        {"[01]", "begins with 0"},
        {"[1.]", "without digits after its point"},
        {"[1e]", "without digits in its exponent"},
        {"[+1]", "a value was expected"},
        {"[nan]", "a value was expected"},
        {"1 1", "something follows"},
        {"", "it ends where a value"},
        {"\"a", "without its closing quote"},
        {"\"\\", "without its closing quote"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\ud800\"", "surrogate"},
        {"\"\\u0000\"", "NUL"},
        {"\"\xff\"", "not UTF-8"},
        {"\"\n\"", "control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_FAILS(parse(cases[i].text, &r), DG_ERR_FORMAT, cases[i].message);
    char deep[200];
    memset(deep, '[', sizeof deep);
    deep[199] = 0;
    ASSERT_FAILS(parse(deep, &r), DG_ERR_FORMAT, "more than 64 levels");
    dg_arena_free(&arena);
}

static void missing_and_mistyped_members_are_explained(void **state)
{
    (void)state;
    const dg_json *r;
    int64_t i;
    double d;
    const char *t;
    ASSERT_OK(parse("{\"n\": 3, \"t\": \"x\"}", &r));
    ASSERT_OK(dg_json_need_int(r, "n", "in.json", &i, &err));
    ASSERT_OK(dg_json_need_number(r, "n", "in.json", &d, &err));
    ASSERT_OK(dg_json_need_text(r, "t", "in.json", &t, &err));
    assert_int_equal(i, 3);
    assert_true(d == 3.0);
    assert_string_equal(t, "x");
    ASSERT_FAILS(dg_json_need_int(r, "t", "in.json", &i, &err), DG_ERR_FORMAT,
                 "in.json:1:15: \"t\" must be an integer, not a string");
    ASSERT_FAILS(dg_json_need_int(r, "u", "in.json", &i, &err), DG_ERR_FORMAT, "the key \"u\" is missing");
    dg_arena_free(&arena);
}

static void numbers_are_written_short_and_read_back_equal(void **state)
{
    (void)state;
    static const double values[] = {
        0, -0.0, 1, 0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789012345678.0, -2.5};
    static const char *const shown[] = {"0", "-0", "1", "0.1"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        dg_str s = {0};
        dg_json_put_number(&s, values[i]);
        if (i < 4) assert_string_equal(s.text, shown[i]);
        assert_true(strtod(s.text, NULL) == values[i]);
        dg_str_free(&s);
    }
    dg_str s = {0};
    dg_json_put_number(&s, NAN);
    dg_json_put_number(&s, -INFINITY);
    assert_string_equal(s.text, "\"nan\"\"-inf\"");
    dg_str_free(&s);
}

static void every_prefix_of_a_document_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,2.5e-3,\"\\u00e9\\\\\",{\"b\":true}],\"c\":null}";
    const dg_json *r;
    for (size_t n = 0; n + 1 < sizeof text; n++) {
        dg_arena_free(&arena);
        char *exact = malloc(n ? n : 1); /* exact, so that a sanitizer sees one byte too far */
        memcpy(exact, text, n);
        assert_int_equal(dg_json_parse(exact, n, "in", &arena, &r, &err), DG_ERR_FORMAT);
        free(exact);
    }
    dg_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_with_their_types),
        cmocka_unit_test(integers_of_64_bits_are_exact),
        cmocka_unit_test(errors_name_line_and_column),
        cmocka_unit_test(missing_and_mistyped_members_are_explained),
        cmocka_unit_test(numbers_are_written_short_and_read_back_equal),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
