/* test_yaml.c - the strict YAML reader: positions, scalars, refusals, hostile bytes. */
#include "recipe/yaml.h"
#include "test.h"

/* Parses, and compares the complaints with `expected` ("" for none). Returns the tree, which may be NULL. */
static dg_yaml_node *parse_n(const char *text, size_t n, dg_arena *arena, const char *expected)
{
    dg_diagnostics d = {0};
    dg_yaml_node *root;
    dg_str said = {0};
    dg_status s = dg_yaml_parse(text, n, "f", arena, &root, &d);
    dg_diagnostics_print(&d, &said);
    assert_string_equal(said.text ? said.text : "", expected);
    assert_int_equal(s, expected[0] ? DG_ERR_FORMAT : DG_OK);
    dg_str_free(&said);
    dg_diagnostics_free(&d);
    return root;
}

static dg_yaml_node *parse(const char *text, dg_arena *arena, const char *expected)
{
    return parse_n(text, strlen(text), arena, expected);
}

static void bad(const char *text, const char *expected)
{
    dg_arena arena = {0};
    parse(text, &arena, expected);
    dg_arena_free(&arena);
}

static void every_node_knows_its_place(void **state)
{
    (void)state;
    dg_arena a = {0};
    dg_yaml_node *root = parse("a: 1\nmap:\n  k\xc3\xa4y: [x, \"y\"]\n", &a, "");
    assert_int_equal(root->kind, DG_YAML_MAP);
    assert_int_equal(root->n, 2);
    dg_yaml_item *item = dg_yaml_find(dg_yaml_get(root, "map"), "k\xc3\xa4y");
    assert_non_null(item);
    assert_int_equal(item->key_pos.line, 3);
    assert_int_equal(item->key_pos.col, 3);
    assert_int_equal(item->value->pos.col, 8); /* in characters: the umlaut is one */
    assert_int_equal(item->value->kind, DG_YAML_LIST);
    const dg_yaml_node *y = item->value->items[1].value;
    assert_int_equal(y->pos.col, 12);
    assert_false(y->plain);
    assert_string_equal(y->text, "y");
    assert_true(item->value->items[0].value->plain);
    dg_arena_free(&a);
}

static void scalars_follow_the_core_schema(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        char kind; /* n null, b boolean, i integer, f float, s string */
        double value;
    } cases[] = {
        {"1e-4", 'f', 1e-4},
        {"1.5e-4", 'f', 1.5e-4},
        {".5", 'f', .5},
        {"5.", 'f', 5},
        {"0x10", 'i', 16},
        {"0o17", 'i', 15},
        {"010", 'i', 10},
        {"-3", 'i', -3},
        {"+3", 'i', 3},
        {"true", 'b', 1},
        {"False", 'b', 0},
        {"no", 's', 0},
        {"yes", 's', 0},
        {"on", 's', 0},
        {"off", 's', 0},
        {"y", 's', 0},
        {"null", 'n', 0},
        {"~", 'n', 0},
        {"", 'n', 0},
        {"'1'", 's', 0},
        {"\"null\"", 's', 0},
        {"1_000", 's', 0},
        {"12:30", 's', 0},
        {".inf", 's', 0},
        {".nan", 's', 0},
        {"1e999", 's', 0},
        {"0x", 's', 0},
        {"-0x1", 's', 0},
        {"9223372036854775807", 'i', 9223372036854775807.0},
        {"-9223372036854775808", 'i', -9223372036854775808.0},
        {"9223372036854775808", 'f', 9223372036854775808.0},
        {"nan", 's', 0},
        {"inf", 's', 0},
        {"1e", 's', 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dg_arena a = {0};
        char text[64];
        snprintf(text, sizeof text, "[%s]", cases[i].text);
        if (!cases[i].text[0]) snprintf(text, sizeof text, "k:");
        const dg_yaml_node *node = parse(text, &a, "")->items[0].value;
        bool truth = false;
        int64_t whole = 0;
        double number = 0;
        bool is_int = dg_yaml_int(node, &whole), is_float = dg_yaml_float(node, &number);
        char kind = dg_yaml_is_null(node)        ? 'n'
                    : dg_yaml_bool(node, &truth) ? 'b'
                    : is_int                     ? 'i'
                    : is_float                   ? 'f'
                                                 : 's';
        if (kind != cases[i].kind) fail_msg("'%s' is %c, not %c", cases[i].text, kind, cases[i].kind);
        if (kind == 'i') assert_true((double)whole == cases[i].value && number == cases[i].value);
        if (kind == 'f') assert_true(number == cases[i].value);
        if (kind == 'b') assert_true(truth == (cases[i].value != 0));
        dg_arena_free(&a);
    }
}

static void a_duplicate_key_names_both_places_and_the_rest_is_still_read(void **state)
{
    (void)state;
    dg_arena a = {0};
    dg_yaml_node *root = parse("a: 1\nb:\n  c: 2\n  c: 3\na: 4\nd: 5\n", &a,
                               "f:4:3: error: duplicate key 'c'\n"
                               "f:3:3: note: it was first given here\n"
                               "f:5:1: error: duplicate key 'a'\n"
                               "f:1:1: note: it was first given here\n");
    assert_string_equal(dg_yaml_get(root, "a")->text, "1");
    assert_string_equal(dg_yaml_get(root, "d")->text, "5");
    dg_arena_free(&a);
}

static void anchors_aliases_tags_and_merge_keys_are_refused_in_one_go(void **state)
{
    (void)state;
    bad("a: &x 1\nb: *x\nc: !!int 3\n",
        "f:1:4: error: the anchor '&x' is not used in recipes: use 'extends', or '${section.key}' for one "
        "value\n"
        "f:2:4: error: the alias '*x' is not used in recipes: use 'extends', or '${section.key}' for one "
        "value\n"
        "f:3:4: error: the tag 'tag:yaml.org,2002:int' is not used in recipes: types come from the schema\n");
    bad("a:\n  <<: {b: 1}\n", "f:2:3: error: merge keys ('<<') are not used in recipes: use 'extends'\n");
}

static void a_second_document_is_refused(void **state)
{
    (void)state;
    bad("a: 1\n---\nb: 2\n", "f:2:1: error: a second document starts here: a recipe is one document\n");
}

static void keys_must_be_plain_words(void **state)
{
    (void)state;
    bad("[a, b]: 1\n", "f:1:1: error: a key must be a plain word\n");
    bad("? {a: 1}\n: 2\n", "f:1:3: error: a key must be a plain word\n");
    bad("\"\": 1\n", "f:1:1: error: a key is missing before ':'\n");
}

static void syntax_errors_have_their_place(void **state)
{
    (void)state;
    bad("a: 1\n b: 2\n", "f:2:3: error: not valid YAML: mapping values are not allowed in this context\n");
    bad("a: [1, 2\nb: 3\n", "f:2:2: error: not valid YAML: did not find expected ',' or ']'\n"
                            "f:1:4: note: while parsing a flow sequence that starts here\n");
    bad("a:\n\tb: 1\n", "f:2:1: error: a tab cannot indent YAML: use spaces\n");
    bad("a: \"x\n", "f:2:1: error: not valid YAML: found unexpected end of stream\n"
                    "f:1:4: note: while scanning a quoted scalar that starts here\n");
}

static void bytes_that_are_not_text_have_their_place(void **state)
{
    (void)state;
    bad("a: 1\nb: x\xff\n", "f:2:5: error: byte 9 (0xff) is not UTF-8: save the file in UTF-8\n");
    bad("a: \xed\xa0\x80\n",
        "f:1:4: error: byte 3 (0xed) is not UTF-8: save the file in UTF-8\n"); /* a surrogate */
    bad("\xff\xfe"
        "a\x01",
        "f:1:1: error: byte 0 (0xff) is not UTF-8: save the file in UTF-8\n");
    bad("a: 1\nb: x\x01\n",
        "f:2:5: error: a control character stands in the text: remove it, or write it as an escape "
        "in double quotes\n");
    dg_arena a = {0};
    parse_n(
        "a: b\0c\n", 7, &a,
        "f:1:5: error: a control character stands in the text: remove it, or write it as an escape in double "
        "quotes\n");
    dg_arena_free(&a);
    bad("a: \"x\\0y\"\n", "f:1:4: error: this text holds a NUL character\n");
}

static void a_byte_order_mark_and_an_empty_text_are_fine(void **state)
{
    (void)state;
    dg_arena a = {0};
    assert_string_equal(dg_yaml_get(parse("\xef\xbb\xbf"
                                          "a: 1\n",
                                          &a, ""),
                                    "a")
                            ->text,
                        "1");
    assert_true(dg_yaml_is_null(parse("", &a, "")));
    assert_true(dg_yaml_is_null(parse("# only a comment\n", &a, "")));
    dg_arena_free(&a);
}

static void deep_nesting_ends_early(void **state)
{
    (void)state;
    static char text[400000];
    memset(text, '[', sizeof text - 1);
    bad(text, "f:1:17: error: lists and maps are nested more than 16 deep\n");
    for (size_t i = 0; i + 1 < sizeof text; i++) text[i] = i % 2 ? ' ' : '-';
    bad(text, "f:1:33: error: lists and maps are nested more than 16 deep\n");
    for (size_t i = 0; i + 4 < sizeof text; i += 4) memcpy(text + i, "{a: ", 4);
    bad(text, "f:1:65: error: lists and maps are nested more than 16 deep\n");
}

static void a_billion_laughs_stay_a_few_complaints(void **state)
{
    (void)state;
    dg_arena a = {0};
    dg_diagnostics d = {0};
    dg_yaml_node *root;
    dg_str text = {0};
    dg_str_puts(&text, "a0: &a0 [lol]\n");
    for (int i = 1; i < 40; i++)
        dg_str_printf(&text, "a%d: &a%d [*a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1);
    assert_int_equal(dg_yaml_parse(text.text, text.length, "f", &a, &root, &d), DG_ERR_FORMAT);
    assert_int_equal(d.n, DG_DIAGNOSTICS_MAX);
    assert_int_equal(d.n_errors, 40 + 39 * 3);
    dg_str_free(&text);
    dg_diagnostics_print(&d, &text);
    assert_non_null(strstr(text.text, "and 57 more errors\n"));
    dg_str_free(&text);
    dg_diagnostics_free(&d);
    dg_arena_free(&a);
}

static void huge_texts_and_scalars_are_refused(void **state)
{
    (void)state;
    dg_arena a = {0};
    size_t n = DG_YAML_MAX_BYTES + 1;
    char *text = test_malloc(n + 1);
    memset(text, ' ', n);
    parse_n(text, n, &a, "f: error: longer than the 1 MiB that a recipe may have\n");
    memset(text, 'x', n);
    memcpy(text, "a: ", 3);
    parse_n(text, n - 1, &a, "f:1:4: error: this text is longer than 65536 bytes\n");
    memset(text, 'k', 200);
    memcpy(text + 200, ": 1", 4);
    parse(text, &a, "f:1:1: error: this key is longer than 128 bytes\n");
    test_free(text);
    dg_str many = {0};
    for (int i = 0; i < 2000; i++) dg_str_printf(&many, "k%d: 1\n", i);
    parse(many.text, &a, "f:1025:1: error: more than 1024 keys in one map\n");
    dg_str_free(&many);
    dg_arena_free(&a);
}

static void messages_hold_no_control_characters_of_the_text(void **state)
{
    (void)state;
    bad("\"a\\e[31m\\n\": 1\n\"a\\e[31m\\n\": 2\n",
        "f:2:1: error: duplicate key 'a?[31m?'\nf:1:1: note: it was first given here\n");
}

static void written_strings_read_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"plain",
                                        "",
                                        "null",
                                        "~",
                                        "true",
                                        "12",
                                        "1e-4",
                                        ".5",
                                        ".inf",
                                        "no",
                                        "a b",
                                        "a: b",
                                        "a #b",
                                        "- x",
                                        "[x]",
                                        "{",
                                        "q\"u'o",
                                        "back\\",
                                        "\n",
                                        "tab\t",
                                        "\x01\x7f",
                                        "/a/b",
                                        "%x",
                                        "@y",
                                        "\xc3\xa4",
                                        "\xe2\x80\xa8",
                                        "\xf0\x9f\x98\x80",
                                        "\xc2\x85",
                                        "...",
                                        "---",
                                        "x,y",
                                        "0x1f",
                                        "*a",
                                        "&a",
                                        "!a",
                                        "1e999",
                                        "\xef\xbb\xbf",
                                        "${a}",
                                        "<<",
                                        "="};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        dg_arena a = {0};
        dg_str out = {0};
        dg_str_puts(&out, "[");
        dg_yaml_write_string(&out, texts[i]);
        dg_str_puts(&out, "]");
        const dg_yaml_node *node = parse(out.text, &a, "")->items[0].value;
        bool truth;
        double number;
        assert_string_equal(node->text, texts[i]);
        assert_false(dg_yaml_is_null(node) || dg_yaml_bool(node, &truth) || dg_yaml_float(node, &number));
        dg_str_free(&out);
        dg_arena_free(&a);
    }
}

static void diagnostics_are_sorted_with_their_notes(void **state)
{
    (void)state;
    dg_diagnostics d = {0};
    dg_diagnose(&d, DG_SEVERITY_ERROR, (dg_pos){"b", 1, 1}, "four");
    dg_diagnose(&d, DG_SEVERITY_ERROR, (dg_pos){"a", 9, 1}, "three");
    dg_diagnose(&d, DG_SEVERITY_NOTE, (dg_pos){"z", 1, 1}, "of three");
    dg_diagnose(&d, DG_SEVERITY_NOTE, (dg_pos){"a", 1, 1}, "of three, too");
    dg_diagnose(&d, DG_SEVERITY_ERROR, (dg_pos){"a", 2, 7}, "two");
    dg_diagnose(&d, DG_SEVERITY_WARNING, (dg_pos){"a", 2, 3}, "one");
    dg_diagnose(&d, DG_SEVERITY_NOTE, (dg_pos){"a", 99, 3}, "of one");
    dg_diagnostics_sort(&d);
    dg_str text = {0};
    dg_diagnostics_print(&d, &text);
    assert_string_equal(text.text,
                        "a:2:3: warning: one\na:99:3: note: of one\na:2:7: error: two\na:9:1: error: three\n"
                        "z:1:1: note: of three\na:1:1: note: of three, too\nb:1:1: error: four\n");
    assert_int_equal(d.n_errors, 3);
    dg_str_free(&text);
    dg_diagnostics_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_knows_its_place),
        cmocka_unit_test(scalars_follow_the_core_schema),
        cmocka_unit_test(a_duplicate_key_names_both_places_and_the_rest_is_still_read),
        cmocka_unit_test(anchors_aliases_tags_and_merge_keys_are_refused_in_one_go),
        cmocka_unit_test(a_second_document_is_refused),
        cmocka_unit_test(keys_must_be_plain_words),
        cmocka_unit_test(syntax_errors_have_their_place),
        cmocka_unit_test(bytes_that_are_not_text_have_their_place),
        cmocka_unit_test(a_byte_order_mark_and_an_empty_text_are_fine),
        cmocka_unit_test(deep_nesting_ends_early),
        cmocka_unit_test(a_billion_laughs_stay_a_few_complaints),
        cmocka_unit_test(huge_texts_and_scalars_are_refused),
        cmocka_unit_test(messages_hold_no_control_characters_of_the_text),
        cmocka_unit_test(written_strings_read_back),
        cmocka_unit_test(diagnostics_are_sorted_with_their_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
