/* test_base.c - memory, strings, errors, files. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

static void allocation_fails_when_told_to(void **state)
{
    (void)state;
    dg_alloc_fail_at(2);
    void *a = dg_calloc(1, 8), *b = dg_calloc(1, 8);
    dg_alloc_fail_at(0);
    assert_non_null(a);
    assert_null(b);
    dg_free(a);
    assert_null(dg_calloc(SIZE_MAX / 2, 4));
}

static void an_arena_holds_small_and_large_blocks(void **state)
{
    (void)state;
    dg_arena a = {0};
    for (int i = 0; i < 1000; i++) {
        unsigned char *p = dg_arena_alloc(&a, (size_t)i * 37);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (int k = 0; k < i * 37; k++) assert_int_equal(p[k], 0);
        memset(p, 0xff, (size_t)i * 37);
    }
    dg_arena_free(&a);
    assert_null(a.head);
}

static void strings_grow_and_remember_a_failure(void **state)
{
    (void)state;
    dg_error err;
    dg_str s = {0};
    for (int i = 0; i < 200; i++) dg_str_printf(&s, "%d,", i);
    ASSERT_OK(dg_str_check(&s, &err));
    assert_int_equal(s.length, strlen(s.text));
    dg_str_free(&s);
    dg_alloc_fail_at(1);
    dg_str_puts(&s, "x");
    dg_alloc_fail_at(0);
    dg_str_puts(&s, "y");
    ASSERT_FAILS(dg_str_check(&s, &err), DG_ERR_NOMEM, "out of memory");
    dg_str_free(&s);
}

static void json_strings_are_escaped_and_valid(void **state)
{
    (void)state;
    dg_str s = {0};
    dg_str_json(&s, "a\"\\\n\x01\xc3\xa9\xff\xed\xa0\x80");
    assert_string_equal(s.text, "\"a\\\"\\\\\\u000a\\u0001\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\"");
    dg_str_free(&s);
}

static void the_nearest_name_is_found_within_reason(void **state)
{
    (void)state;
    static const char *const names[] = {"weights", "width", "layer"};
    assert_string_equal(dg_nearest("wieghts", names, 3), "weights");
    assert_string_equal(dg_nearest("with", names, 3), "width");
    assert_null(dg_nearest("zebra", names, 3));
}

static void errors_gain_context_in_front(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    assert_int_equal(dg_fail(&err, DG_ERR_IO, "cannot read '%s'", "x"), DG_ERR_IO);
    assert_int_equal(dg_fail_in(&err, "shard %d", 3), DG_ERR_IO);
    assert_string_equal(err.message, "shard 3: cannot read 'x'");
    assert_int_equal(dg_fail(NULL, DG_ERR_IO, "nobody listens"), DG_ERR_IO);
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(dg_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(dg_f32_to_bf16(1.00390625f), 0x3f80); /* half way, to even */
    assert_int_equal(dg_f32_to_bf16(1.01171875f), 0x3f82);
    uint16_t nan = dg_f32_to_bf16(NAN);
    assert_true(isnan(dg_bf16_to_f32(nan)));
    assert_true(isinf(dg_bf16_to_f32(dg_f32_to_bf16(3.4e38f))));
}

static void files_are_read_whole_and_limits_are_kept(void **state)
{
    (void)state;
    dg_error err;
    char *bytes;
    size_t size;
    test_write(test_path("a"), "hello", 5);
    ASSERT_OK(dg_file_read(test_path("a"), 100, &bytes, &size, &err));
    assert_int_equal(size, 5);
    assert_string_equal(bytes, "hello");
    dg_free(bytes);
    ASSERT_FAILS(dg_file_read(test_path("a"), 4, &bytes, &size, &err), DG_ERR_FORMAT, "more than the 4 allowed");
    ASSERT_FAILS(dg_file_read(test_path("none"), 4, &bytes, &size, &err), DG_ERR_NOT_FOUND, "No such file");
    ASSERT_FAILS(dg_file_read(test_dir(), 4, &bytes, &size, &err), DG_ERR_IO, "folder");
}

static void an_atomic_write_replaces_or_leaves_alone(void **state)
{
    (void)state;
    dg_error err;
    char *bytes;
    size_t size;
    ASSERT_OK(dg_file_write_atomic(test_path("b"), "one", 3, &err));
    ASSERT_OK(dg_file_write_atomic(test_path("b"), "three", 5, &err));
    ASSERT_OK(dg_file_read(test_path("b"), 100, &bytes, &size, &err));
    assert_string_equal(bytes, "three");
    dg_free(bytes);
    assert_false(dg_path_is_file(test_path("b.tmp")));
    ASSERT_FAILS(dg_file_write_atomic(test_path("no/such/folder/b"), "x", 1, &err), DG_ERR_NOT_FOUND, "no/such/folder");
}

static void folders_are_made_and_removed_without_following_links(void **state)
{
    (void)state;
    dg_error err;
    ASSERT_OK(dg_dir_make(test_path("d/e/f"), &err));
    ASSERT_OK(dg_dir_make(test_path("d/e/f"), &err));
    test_write(test_path("outside"), "keep", 4);
    assert_int_equal(mkdir(test_path("kept"), 0777), 0);
    test_write(test_path("kept/file"), "keep", 4);
    assert_int_equal(symlink(test_path("kept"), test_path("d/e/link")), 0);
    ASSERT_OK(dg_dir_remove(test_path("d"), &err));
    assert_false(dg_path_is_dir(test_path("d")));
    assert_true(dg_path_is_file(test_path("kept/file")));
    ASSERT_OK(dg_dir_remove(test_path("d"), &err));
    ASSERT_FAILS(dg_dir_make(test_path("outside/x"), &err), DG_ERR_IO, "outside");
}

static void paths_are_joined_and_split(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *want;
    } rows[] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *p = dg_path_join(rows[i].dir, rows[i].name);
        assert_string_equal(p, rows[i].want);
        dg_free(p);
    }
    char *d = dg_path_dir("/x");
    assert_string_equal(d, "/");
    dg_free(d);
    d = dg_path_dir("x");
    assert_string_equal(d, ".");
    dg_free(d);
}

static void collect(void *user, dg_log_level level, const char *line) { snprintf(user, 64, "%d %s", (int)level, line); }

static void log_lines_go_to_the_sink(void **state)
{
    (void)state;
    char line[64] = "";
    dg_log_set_sink(collect, line);
    dg_logf(DG_LOG_DEBUG, "hidden");
    assert_string_equal(line, "");
    dg_logf(DG_LOG_WARNING, "seen %d", 1);
    assert_string_equal(line, "2 seen 1");
    dg_log_set_sink(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_fails_when_told_to),
        cmocka_unit_test(an_arena_holds_small_and_large_blocks),
        cmocka_unit_test(strings_grow_and_remember_a_failure),
        cmocka_unit_test(json_strings_are_escaped_and_valid),
        cmocka_unit_test(the_nearest_name_is_found_within_reason),
        cmocka_unit_test(errors_gain_context_in_front),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(files_are_read_whole_and_limits_are_kept),
        cmocka_unit_test(an_atomic_write_replaces_or_leaves_alone),
        cmocka_unit_test(folders_are_made_and_removed_without_following_links),
        cmocka_unit_test(paths_are_joined_and_split),
        cmocka_unit_test(log_lines_go_to_the_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
