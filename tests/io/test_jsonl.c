/* JSON lines: equal values give equal bytes, and a resume cuts back to where the checkpoint was. */
#include "test.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/jsonl.h"

static dg_error err = DG_ERROR_INIT;

static void expect_file(const char *path, const char *text)
{
    char *p;
    size_t n;
    ASSERT_OK(dg_file_read(path, 1 << 20, &p, &n, &err));
    assert_string_equal(p, text);
    dg_free(p);
}

static void append_step(dg_jsonl *w, int64_t step)
{
    dg_str row = {0};
    dg_row_int(&row, "step", step);
    ASSERT_OK(dg_jsonl_append(w, &row, &err));
    assert_null(row.text);
}

static void rows_are_written_as_their_values_dictate(void **state)
{
    (void)state;
    const char *path = test_path("rows.jsonl");
    dg_jsonl *w;
    dg_str row = {0};
    ASSERT_OK(dg_jsonl_open(path, 0, &w, &err));
    dg_row_int(&row, "step", -3);
    dg_row_number(&row, "loss", 0.1);
    dg_row_number(&row, "bad", NAN);
    dg_row_text(&row, "tag", "a\"b\n");
    dg_row_bool(&row, "ok", true);
    ASSERT_OK(dg_jsonl_append(w, &row, &err));
    ASSERT_OK(dg_jsonl_append(w, &row, &err)); /* an empty row */
    ASSERT_OK(dg_jsonl_sync(w, &err));
    const char *expected =
        "{\"step\":-3,\"loss\":0.1,\"bad\":\"nan\",\"tag\":\"a\\\"b\\u000a\",\"ok\":true}\n{}\n";
    expect_file(path, expected);
    assert_int_equal(dg_jsonl_length(w), strlen(expected));
    dg_jsonl_close(w);
}

static void a_resume_cuts_to_the_recorded_length(void **state)
{
    (void)state;
    const char *path = test_path("resume.jsonl");
    dg_jsonl *w;
    ASSERT_OK(dg_jsonl_open(path, 0, &w, &err));
    append_step(w, 1);
    uint64_t recorded = dg_jsonl_length(w);
    append_step(w, 2);
    dg_jsonl_close(w);
    ASSERT_OK(dg_jsonl_open(path, recorded, &w, &err));
    append_step(w, 3);
    dg_jsonl_close(w);
    expect_file(path, "{\"step\":1}\n{\"step\":3}\n");
    ASSERT_FAILS(dg_jsonl_open(path, 1000, &w, &err), DG_ERR_MISMATCH,
                 "has 22 bytes, and the checkpoint was written when it had 1000");
    assert_null(w);
    ASSERT_OK(dg_jsonl_open(path, 0, &w, &err));
    dg_jsonl_close(w);
    expect_file(path, "");
}

static void an_unfinished_line_is_dropped(void **state)
{
    (void)state;
    const char *path = test_path("unfinished.jsonl");
    static char text[9001];
    dg_jsonl *w;
    memset(text, 'x', sizeof text);
    memcpy(text, "{}\n{}\n", 6); /* then 8995 bytes without an end: more than one block */
    test_write(path, text, sizeof text);
    ASSERT_OK(dg_jsonl_open(path, DG_JSONL_KEEP_ALL, &w, &err));
    assert_int_equal(dg_jsonl_length(w), 6);
    append_step(w, 1);
    dg_jsonl_close(w);
    expect_file(path, "{}\n{}\n{\"step\":1}\n");
    test_write(path, "abc", 3);
    ASSERT_OK(dg_jsonl_open(path, DG_JSONL_KEEP_ALL, &w, &err));
    assert_int_equal(dg_jsonl_length(w), 0);
    dg_jsonl_close(w);
}

static void a_line_that_does_not_fit_on_the_disk_is_taken_back(void **state)
{
    (void)state;
    const char *path = test_path("full.jsonl");
    struct rlimit old, small;
    dg_jsonl *w;
    dg_str row = {0};
    ASSERT_OK(dg_jsonl_open(path, 0, &w, &err));
    append_step(w, 1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 16; /* a file size limit stands in for a disk that is full */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    dg_row_text(&row, "long", "0123456789");
    dg_status s = dg_jsonl_append(w, &row, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(s, DG_ERR_IO);
    assert_non_null(strstr(err.message, "cannot write"));
    expect_file(path, "{\"step\":1}\n");
    append_step(w, 2);
    dg_jsonl_close(w);
    expect_file(path, "{\"step\":1}\n{\"step\":2}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_written_as_their_values_dictate),
        cmocka_unit_test(a_resume_cuts_to_the_recorded_length),
        cmocka_unit_test(an_unfinished_line_is_dropped),
        cmocka_unit_test(a_line_that_does_not_fit_on_the_disk_is_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
