/* Captions as byte pairs: learnt, read and joined as an independent implementation does. tests/data/text was
 * written by one in Python (package regex, and the algorithm of OpenAI's simple tokenizer): captions.txt, the
 * pairs that come at least twice in them, and texts with their ids. */
#include "test.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/text.h"

static dg_error err;

static char *read_data(const char *name, size_t *size)
{
    char path[800], *bytes;
    snprintf(path, sizeof path, "%s/text/%s", DIGPT_TEST_DATA, name);
    ASSERT_OK(dg_file_read(path, 1 << 20, &bytes, size, &err));
    return bytes;
}

static dg_vocabulary *load(void)
{
    char path[800];
    dg_vocabulary *v;
    snprintf(path, sizeof path, "%s/text/pairs.txt", DIGPT_TEST_DATA);
    ASSERT_OK(dg_vocabulary_load(path, &v, &err));
    assert_int_equal(dg_vocabulary_kind(v), DG_TEXT_PAIRS);
    return v;
}

static dg_vocabulary *learnt(int64_t most, int64_t least)
{
    size_t size;
    dg_vocabulary *v;
    char *text = read_data("captions.txt", &size), *save = NULL;
    ASSERT_OK(dg_vocabulary_create(DG_TEXT_PAIRS, &v, &err));
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        ASSERT_OK(dg_vocabulary_add(v, line, &err));
    ASSERT_OK(dg_vocabulary_choose(v, most, least, &err));
    dg_free(text);
    return v;
}

/* The file of `v` is the first `lines` lines of the recorded one. */
static void assert_recorded(const dg_vocabulary *v, int lines)
{
    char *have, *want;
    size_t n, m;
    ASSERT_OK(dg_vocabulary_save(v, test_path("learnt.txt"), &err));
    ASSERT_OK(dg_file_read(test_path("learnt.txt"), 1 << 20, &have, &n, &err));
    want = read_data("pairs.txt", &m);
    char *stop = want;
    for (int i = 0; i < lines; i++) stop = strchr(stop, '\n') + 1;
    *stop = 0;
    assert_string_equal(have, want);
    dg_free(have);
    dg_free(want);
}

static void the_most_frequent_pairs_are_learnt_in_order(void **state)
{
    (void)state;
    dg_vocabulary *v = learnt(4096, 2);
    assert_int_equal(dg_vocabulary_size(v), 512 + 68 + 2);
    assert_recorded(v, 69);
    dg_vocabulary_free(v);
    v = learnt(512 + 2 + 20, 2); /* room for twenty */
    assert_int_equal(dg_vocabulary_size(v), 512 + 20 + 2);
    assert_recorded(v, 21);
    dg_vocabulary_free(v);
    v = learnt(514, 2);
    assert_int_equal(dg_vocabulary_size(v), 514);
    dg_vocabulary_free(v);
}

static void too_little_room_is_an_error(void **state)
{
    (void)state;
    dg_vocabulary *v;
    ASSERT_OK(dg_vocabulary_create(DG_TEXT_PAIRS, &v, &err));
    ASSERT_OK(dg_vocabulary_add(v, "a word", &err));
    ASSERT_FAILS(dg_vocabulary_choose(v, 513, 2, &err), DG_ERR_INVALID, "needs room for 514 ids at least");
    dg_vocabulary_free(v);
}

static void check_text(const dg_vocabulary *v, const char *text, char *want)
{
    int32_t ids[256], n = 0;
    char *save = NULL;
    ASSERT_OK(dg_vocabulary_encode(v, text, ids, 256, &err));
    for (char *id = strtok_r(want, " ", &save); id; id = strtok_r(NULL, " ", &save), n++)
        if (ids[n] != atoi(id)) fail_msg("'%s': id %d is %d, not %s", text, n, ids[n], id);
    while (n < 256) assert_int_equal(ids[n++], DG_TEXT_PAD);
}

static void texts_have_the_recorded_ids(void **state)
{
    (void)state;
    size_t size;
    int lines = 0;
    dg_vocabulary *v = load();
    char *text = read_data("encoded.txt", &size), *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
        char *ids = strchr(line, '\t');
        *ids++ = 0;
        check_text(v, line, ids);
    }
    assert_int_equal(lines, 14);
    dg_free(text);
    dg_vocabulary_free(v);
}

/* What a piece is made of, written with bars between symbols. */
static void check_symbols(const dg_vocabulary *v, const char *text, const char *want)
{
    int32_t ids[64];
    char have[512] = "";
    ASSERT_OK(dg_vocabulary_encode(v, text, ids, 64, &err));
    for (int i = 1; i < 64 && dg_vocabulary_word(v, ids[i]); i++)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%s", i > 1 ? "|" : "",
                 dg_vocabulary_word(v, ids[i]));
    assert_string_equal(have, want);
}

static void pieces_are_cut_as_clip_cuts_them(void **state)
{
    (void)state;
    dg_vocabulary *v = load();
    check_symbols(v, "  A \t\n", "a</w>");
    check_symbols(v, "It'LL", "i|t</w>|'|l|l</w>");
    check_symbols(v, "12", "1</w>|2</w>");
    check_symbols(v, "?!x", "?|!</w>|x</w>");
    check_symbols(v, "\xc3\x9c", "\xc3\x83|\xc2\xbc</w>");  /* a capital umlaut: the small one's bytes */
    check_symbols(v, "u\xcc\x88", "\xc3\x83|\xc2\xbc</w>"); /* the same, composed */
    check_symbols(v, "a\xe2\x80\xa8z", "a</w>|z</w>");      /* a line separator */
    check_symbols(v, "a\xff\xfez", "a</w>|\xc3\xbf|\xc3\xbe</w>|z</w>"); /* no UTF-8 */
    check_symbols(v, "", "");
    dg_vocabulary_free(v);
}

static void a_caption_that_is_too_long_keeps_its_end(void **state)
{
    (void)state;
    int32_t ids[8];
    dg_vocabulary *v = load();
    const int32_t start = 512 + 68, end = start + 1;
    memset(ids, 0x7f, sizeof ids);
    ASSERT_OK(dg_vocabulary_encode(v, "z z z z z z z", ids, 5, &err));
    const int32_t z = 256 + 'z' - '!', want[] = {start, z, z, z, end, 0x7f7f7f7f};
    assert_memory_equal(ids, want, sizeof want);
    dg_vocabulary_free(v);
}

/* A piece of a megabyte takes no time to speak of: it is joined in parts. */
static void a_very_long_word_is_read_in_parts(void **state)
{
    (void)state;
    enum { LENGTH = 1 << 20 };
    char *text = dg_calloc(LENGTH + 1, 1);
    int32_t *ids = dg_calloc(LENGTH, sizeof *ids);
    dg_vocabulary *v = load();
    memset(text, 'z', LENGTH);
    ASSERT_OK(dg_vocabulary_encode(v, text, ids, LENGTH, &err));
    assert_int_equal(ids[512], 256 + 'z' - '!'); /* behind the start: the last byte of the first part */
    assert_int_equal(ids[513], 'z' - '!');
    dg_vocabulary_free(v);
    dg_free(ids);
    dg_free(text);
}

static void write_gzip(const char *path, const char *text, size_t size)
{
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)size), size);
    assert_int_equal(gzclose(f), Z_OK);
}

static void a_packed_file_is_the_same_and_a_damaged_one_is_told(void **state)
{
    (void)state;
    char *text, *packed;
    size_t size, n;
    dg_vocabulary *v;
    text = read_data("pairs.txt", &size);
    write_gzip(test_path("pairs.txt.gz"), text, size);
    ASSERT_OK(dg_vocabulary_load(test_path("pairs.txt.gz"), &v, &err));
    assert_recorded(v, 69);
    dg_vocabulary_free(v);
    ASSERT_OK(dg_file_read(test_path("pairs.txt.gz"), 1 << 20, &packed, &n, &err));
    test_write(test_path("cut.gz"), packed, n / 2);
    ASSERT_FAILS(dg_vocabulary_load(test_path("cut.gz"), &v, &err), DG_ERR_FORMAT, "is damaged or cut");
    packed[n / 2] ^= 0x55;
    test_write(test_path("wrong.gz"), packed, n);
    ASSERT_FAILS(dg_vocabulary_load(test_path("wrong.gz"), &v, &err), DG_ERR_FORMAT, "wrong.gz");
    write_gzip(test_path("words.gz"), "a\nred\n", 6);
    ASSERT_OK(dg_vocabulary_load(test_path("words.gz"), &v, &err));
    assert_int_equal(dg_vocabulary_kind(v), DG_TEXT_WORDS);
    dg_vocabulary_free(v);
    write_gzip(test_path("empty.gz"), "", 0);
    ASSERT_FAILS(dg_vocabulary_load(test_path("empty.gz"), &v, &err), DG_ERR_FORMAT, "empty");
    dg_free(packed);
    dg_free(text);
}

static void check_file(const char *text, const char *message)
{
    dg_vocabulary *v;
    test_write(test_path("bad.txt"), text, strlen(text));
    ASSERT_FAILS(dg_vocabulary_load(test_path("bad.txt"), &v, &err), DG_ERR_FORMAT, message);
}

static void files_that_hold_no_pairs_are_explained(void **state)
{
    (void)state;
    check_file("#version: 0.2\na b\nac d\n", ":3: 'ac' is neither a byte nor made by a line before");
    check_file("#version: 0.2\na b\na b\n", ":3: 'ab' is there already");
    check_file("#version: 0.2\na b\n\n", ":3: '' is no pair: a line holds two symbols and a blank");
    check_file("#version: 0.2\na b c\n", ":2: 'a b c' is no pair");
    check_file("#version: 0.2\na\n", ":2: 'a' is no pair");
    check_file("#version: 0.2\na \xc4\n", "is neither a byte");
    check_file("a b\n#version\n", ":1: 'a b' is no word");
}

/* CLIP's file has 262144 lines and takes the first 48894 of them. */
static void pairs_beyond_those_of_clip_are_not_read(void **state)
{
    (void)state;
    dg_str text = {0};
    dg_vocabulary *v;
    int lines = 0;
    char have[256][8];
    for (int c = 0; c < 94; c++) snprintf(have[c], sizeof have[c], "%c", '!' + c);
    dg_str_puts(&text, "\"bpe_simple_vocab_16e6.txt#version: 0.2\n");
    for (int a = 0; a < 94; a++)
        for (int b = 0; b < 94; b++, lines++) dg_str_printf(&text, "%s %s\n", have[a], have[b]);
    for (int a = 0; a < 94; a++) /* three, of which the first two were made */
        for (int b = 0; b < 94; b++)
            for (int c = 0; c < 5; c++, lines++) dg_str_printf(&text, "%s%s %s\n", have[a], have[b], have[c]);
    assert_true(lines > DG_TEXT_MOST_PAIRS);
    test_write(test_path("many.txt"), text.text, text.length);
    dg_str_free(&text);
    ASSERT_OK(dg_vocabulary_load(test_path("many.txt"), &v, &err));
    assert_int_equal(dg_vocabulary_size(v), 49408);
    dg_vocabulary_free(v);
}

static void running_out_of_memory_is_an_error_and_leaves_nothing_behind(void **state)
{
    (void)state;
    size_t size, failures = 0;
    char *text = read_data("pairs.txt", &size);
    dg_status s = DG_ERR_NOMEM;
    write_gzip(test_path("few.gz"), text, 40);
    dg_free(text);
    for (size_t n = 1; s != DG_OK; n++, failures += s != DG_OK) {
        dg_vocabulary *v = NULL, *read = NULL;
        int32_t ids[16];
        dg_alloc_fail_at(n);
        s = dg_vocabulary_create(DG_TEXT_PAIRS, &v, &err);
        if (s == DG_OK) s = dg_vocabulary_add(v, "a caption, another caption", &err);
        if (s == DG_OK) s = dg_vocabulary_choose(v, 600, 2, &err);
        if (s == DG_OK) s = dg_vocabulary_encode(v, "a caption", ids, 16, &err);
        if (s == DG_OK) s = dg_vocabulary_load(test_path("few.gz"), &read, &err);
        dg_alloc_fail_at(0);
        dg_vocabulary_free(v);
        dg_vocabulary_free(read);
        if (s != DG_OK) assert_int_equal(s, DG_ERR_NOMEM);
    }
    assert_true(failures > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_frequent_pairs_are_learnt_in_order),
        cmocka_unit_test(too_little_room_is_an_error),
        cmocka_unit_test(texts_have_the_recorded_ids),
        cmocka_unit_test(pieces_are_cut_as_clip_cuts_them),
        cmocka_unit_test(a_caption_that_is_too_long_keeps_its_end),
        cmocka_unit_test(a_very_long_word_is_read_in_parts),
        cmocka_unit_test(a_packed_file_is_the_same_and_a_damaged_one_is_told),
        cmocka_unit_test(files_that_hold_no_pairs_are_explained),
        cmocka_unit_test(pairs_beyond_those_of_clip_are_not_read),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
