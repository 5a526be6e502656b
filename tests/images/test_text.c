/* Captions as ids: words, vocabularies, files. */
#include "test.h"

#include "base/mem.h"
#include "data/text.h"

static dg_vocabulary *made_of(const char *const *captions, size_t n, int64_t most, int64_t least)
{
    dg_error err;
    dg_vocabulary *v;
    ASSERT_OK(dg_vocabulary_create(DG_TEXT_WORDS, &v, &err));
    for (size_t i = 0; i < n; i++) ASSERT_OK(dg_vocabulary_add(v, captions[i], &err));
    ASSERT_OK(dg_vocabulary_choose(v, most, least, &err));
    return v;
}

static const char *const captions[] = {"A red Circle, on a blue background.", "a RED square",
                                       "a big red circle"};

static void words_are_ordered_by_count_then_by_bytes(void **state)
{
    (void)state;
    static const char *const want[] = {"a", "red", "circle", "background", "big", "blue", "on", "square"};
    dg_vocabulary *v = made_of(captions, 3, 100, 1);
    assert_int_equal(dg_vocabulary_size(v), 8 + 4);
    for (int i = 0; i < 8; i++) assert_string_equal(dg_vocabulary_word(v, i + 1), want[i]);
    assert_null(dg_vocabulary_word(v, 0));
    assert_null(dg_vocabulary_word(v, 9));
    dg_vocabulary_free(v);
}

static void rare_words_and_those_beyond_the_limit_are_left_out(void **state)
{
    (void)state;
    dg_error err;
    dg_vocabulary *v = made_of(captions, 3, 100, 2);
    assert_int_equal(dg_vocabulary_size(v), 3 + 4);
    dg_vocabulary_free(v);
    v = made_of(captions, 3, 6, 1);
    assert_int_equal(dg_vocabulary_size(v), 6);
    assert_string_equal(dg_vocabulary_word(v, 2), "red");
    dg_vocabulary_free(v);
    ASSERT_OK(dg_vocabulary_create(DG_TEXT_WORDS, &v, &err));
    ASSERT_OK(dg_vocabulary_add(v, "... !", &err));
    ASSERT_FAILS(dg_vocabulary_choose(v, 10, 1, &err), DG_ERR_INVALID, "have 0 different ones");
    ASSERT_OK(dg_vocabulary_add(v, "word", &err));
    ASSERT_FAILS(dg_vocabulary_choose(v, 4, 1, &err), DG_ERR_INVALID, "room for 0");
    dg_vocabulary_free(v);
}

static void check_encode(const dg_vocabulary *v, const char *caption, const int32_t *want, int64_t length)
{
    int32_t ids[16];
    memset(ids, 0x7f, sizeof ids);
    dg_error err;
    ASSERT_OK(dg_vocabulary_encode(v, caption, ids, length, &err));
    for (int64_t i = 0; i < length; i++)
        if (ids[i] != want[i]) fail_msg("'%s': id %d is %d, not %d", caption, (int)i, ids[i], want[i]);
    assert_int_equal(ids[length], 0x7f7f7f7f);
}

static void a_caption_becomes_start_words_end_and_padding(void **state)
{
    (void)state;
    enum { UNKNOWN = 9, START, END };
    dg_vocabulary *v = made_of(captions, 3, 100, 1);
    check_encode(v, "a red circle", (int32_t[]){START, 1, 2, 3, END, 0, 0, 0}, 8);
    check_encode(v, "--A--RED--CIRCLE--", (int32_t[]){START, 1, 2, 3, END, 0, 0, 0}, 8);
    check_encode(v, "a green circle", (int32_t[]){START, 1, UNKNOWN, 3, END, 0}, 6);
    check_encode(v, "a red circle on a blue background", (int32_t[]){START, 1, 2, END}, 4);
    check_encode(v, "a red", (int32_t[]){START, 1, 2, END}, 4);
    check_encode(v, "", (int32_t[]){START, END, 0}, 3);
    dg_vocabulary_free(v);
}

static void utf_8_stays_whole_and_long_words_are_unknown(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'x', sizeof text);
    text[64] = ' '; /* 64 letters are too many, 63 are not */
    text[128] = 0;
    const char *const some[] = {"ein gr\xc3\xbc\x6e\x65r Kreis", text};
    text[64 + 1 + 62] = 0;
    dg_vocabulary *v = made_of(some, 2, 100, 1);
    assert_int_equal(dg_vocabulary_size(v), 4 + 4);
    check_encode(v, "gr\xc3\xbc\x6e\x65r", (int32_t[]){6, 2, 7}, 3);
    check_encode(v, text, (int32_t[]){6, 5, 4, 7}, 4);
    dg_vocabulary_free(v);
}

static void many_words_are_found_again(void **state)
{
    (void)state;
    enum { N = 5000 };
    dg_error err;
    dg_vocabulary *v;
    char text[32];
    ASSERT_OK(dg_vocabulary_create(DG_TEXT_WORDS, &v, &err));
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "w%d w%d", i, i);
        ASSERT_OK(dg_vocabulary_add(v, text, &err));
    }
    ASSERT_OK(dg_vocabulary_choose(v, N + 4, 2, &err));
    assert_int_equal(dg_vocabulary_size(v), N + 4);
    for (int i = 0; i < N; i++) {
        int32_t ids[3];
        snprintf(text, sizeof text, "w%d", i);
        ASSERT_OK(dg_vocabulary_encode(v, text, ids, 3, &err));
        assert_string_equal(dg_vocabulary_word(v, ids[1]), text);
    }
    dg_vocabulary_free(v);
}

static void a_file_gives_the_same_ids(void **state)
{
    (void)state;
    dg_error err;
    dg_vocabulary *v = made_of(captions, 3, 100, 1), *again;
    const char *path = test_path("words.txt");
    ASSERT_OK(dg_vocabulary_save(v, path, &err));
    ASSERT_OK(dg_vocabulary_load(path, &again, &err));
    assert_int_equal(dg_vocabulary_size(again), dg_vocabulary_size(v));
    for (int32_t i = 1; dg_vocabulary_word(v, i); i++)
        assert_string_equal(dg_vocabulary_word(again, i), dg_vocabulary_word(v, i));
    check_encode(again, "a red kite", (int32_t[]){10, 1, 2, 9, 11}, 5);
    dg_vocabulary_free(v);
    dg_vocabulary_free(again);
}

static void check_file(const char *bytes, size_t size, const char *text)
{
    dg_error err;
    dg_vocabulary *v;
    const char *path = test_path("bad.txt");
    test_write(path, bytes, size);
    ASSERT_FAILS(dg_vocabulary_load(path, &v, &err), DG_ERR_FORMAT, text);
}

static void files_that_are_no_vocabulary_are_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_vocabulary *v;
    check_file("", 0, "empty");
    check_file("a\nRed\n", 6, ":2: 'Red' is no word");
    check_file("a\n\nred\n", 7, ":2: '' is no word");
    check_file("a b\n", 4, ":1: 'a b' is no word");
    check_file("a\nred\na\n", 8, ":3: the word 'a' is there twice");
    check_file("a\0b\nred\n", 8, ":1: 'a' is no word");
    ASSERT_FAILS(dg_vocabulary_load("/nowhere/words.txt", &v, &err), DG_ERR_NOT_FOUND, "/nowhere/words.txt");
    test_write(test_path("last.txt"), "a\nred", 5); /* no newline at the end */
    ASSERT_OK(dg_vocabulary_load(test_path("last.txt"), &v, &err));
    assert_int_equal(dg_vocabulary_size(v), 6);
    dg_vocabulary_free(v);
}

static void running_out_of_memory_is_an_error_and_leaves_nothing_behind(void **state)
{
    (void)state;
    dg_status s = DG_ERR_NOMEM;
    test_write(test_path("few.txt"), "a\nred\ncircle\n", 13);
    for (size_t n = 1; s != DG_OK; n++) {
        dg_error err = DG_ERROR_INIT;
        dg_vocabulary *v = NULL;
        dg_alloc_fail_at(n);
        s = dg_vocabulary_load(test_path("few.txt"), &v, &err);
        if (s == DG_OK) s = dg_vocabulary_add(v, "some more words", &err);
        dg_alloc_fail_at(0);
        dg_vocabulary_free(v);
        if (s != DG_OK) assert_int_equal(s, DG_ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_ordered_by_count_then_by_bytes),
        cmocka_unit_test(rare_words_and_those_beyond_the_limit_are_left_out),
        cmocka_unit_test(a_caption_becomes_start_words_end_and_padding),
        cmocka_unit_test(utf_8_stays_whole_and_long_words_are_unknown),
        cmocka_unit_test(many_words_are_found_again),
        cmocka_unit_test(a_file_gives_the_same_ids),
        cmocka_unit_test(files_that_are_no_vocabulary_are_explained),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
