/* test_tar.c - shards: layouts, long names, the index file, and damage. */
#include "data/source.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "pictures.h"

static dg_status open_one(const char *name, const char *cache, dg_source **s, dg_error *err)
{
    const char *path = test_path(name);
    return dg_source_open_tar(&path, 1, cache, s, err);
}

static void class_members_are_numbered_over_all_shards(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    char buffer[32];
    dg_str t = {0};
    tar_member(&t, '5', "./zebra/", "", 0);
    tar_picture(&t, "./zebra/1.jpg", 0);
    tar_text(&t, "./zebra/readme", "x");
    tar_picture(&t, "train/cat/2.JPEG", 1);
    tar_end(&t);
    tar_write(&t, "s/a-000.tar");
    tar_picture(&t, "ant/1.jpg", 2);
    tar_picture(&t, "ant/my.photo.2.jpg", 3);
    tar_picture(&t, "cat/1.jpg", 4);
    tar_end(&t);
    tar_write(&t, "s/a-001.tar");
    ASSERT_OK(open_one("s/a-{000..001}.tar", NULL, &s, &err));
    assert_string_equal(dg_source_describe(s), "tar, 2 shards, 5 images, 3 classes");
    static const int32_t labels[] = {2, 1, 0, 0, 1};
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(dg_source_read_image(s, i, 0, &a, &err));
        assert_int_equal(a.label, labels[i]);
        assert_int_equal(a.image.height, 16 + i);
    }
    assert_string_equal(a.name, "cat/1.jpg");
    assert_string_equal(dg_source_class_name(s, 2, buffer, sizeof buffer), "zebra");
    dg_source_close(s);
    ASSERT_OK(open_one("s/*.tar", NULL, &s, &err));
    assert_int_equal(dg_source_count(s), 5);
    dg_source_close(s);
    ASSERT_OK(open_one("s/a-00{1,0,1}.tar", NULL, &s, &err));
    assert_int_equal(dg_source_count(s), 8);
    dg_source_close(s);
    dg_sample_free(&a);
}

static void webdataset_groups_have_label_and_caption(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_str t = {0};
    tar_text(&t, "000.cls", "5\n");
    tar_picture(&t, "000.jpg", 0);
    tar_text(&t, "000.txt", "a dog");
    tar_text(&t, "001.json", "{}");
    tar_picture(&t, "001.jpg", 1);
    tar_text(&t, "001.cls", "0");
    tar_text(&t, "002.cls", "3");
    tar_picture(&t, "003.png", 2);
    tar_end(&t);
    tar_write(&t, "w.tar");
    ASSERT_OK(open_one("w.tar", NULL, &s, &err));
    assert_int_equal(dg_source_count(s), 3);
    assert_int_equal(dg_source_classes(s), 6);
    assert_true(dg_source_has_captions(s));
    static const int32_t labels[] = {5, 0, -1};
    static const char *const captions[] = {"a dog", "", ""};
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(dg_source_read_image(s, i, 0, &a, &err));
        assert_int_equal(a.label, labels[i]);
        assert_string_equal(a.caption, captions[i]);
        assert_int_equal(a.image.height, 16 + i);
    }
    dg_sample_free(&a);
    dg_source_close(s);
}

static void long_names_of_all_kinds_are_read(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_str t = {0};
    char name[400], prefixed[512];
    unsigned char h[512] = {0};
    memset(name, 'n', sizeof name);
    memcpy(name, "class/", 6);
    strcpy(name + 390, ".jpg");
    tar_pax(&t, "mtime", "123.4");
    tar_pax(&t, "path", name);
    tar_picture(&t, "short.jpg", 0);
    tar_member(&t, 'L', "././@LongLink", name, strlen(name) + 1);
    tar_picture(&t, "short.jpg", 1);
    tar_member(&t, 'g', "global", "17 comment=hello\n", 17);
    const size_t at = t.length; /* a USTAR prefix */
    tar_picture(&t, "end.jpg", 2);
    memcpy(h, t.text + at, 512);
    memset(h + 345, 'p', 150);
    tar_seal(h);
    memcpy(t.text + at, h, 512);
    tar_end(&t);
    tar_write(&t, "long.tar");
    ASSERT_OK(open_one("long.tar", NULL, &s, &err));
    assert_int_equal(dg_source_count(s), 3);
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(dg_source_read_image(s, i, 0, &a, &err));
        assert_string_equal(a.name, name);
        assert_int_equal(a.image.height, 16 + i);
    }
    ASSERT_OK(dg_source_read_image(s, 2, 0, &a, &err));
    memset(prefixed, 'p', 150);
    strcpy(prefixed + 150, "/end.jpg");
    assert_string_equal(a.name, prefixed);
    dg_sample_free(&a);
    dg_source_close(s);
}

static void sizes_in_pax_and_base_256_are_read(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_str t = {0};
    size_t size;
    void *bytes = picture(0, &size);
    char digits[32];
    snprintf(digits, sizeof digits, "%zu", size);
    tar_pax(&t, "size", digits);
    size_t at = t.length;
    tar_member(&t, '0', "a.jpg", bytes, size);
    memset(t.text + at + 124, '0', 11); /* the header says 0, the record the truth */
    tar_seal((unsigned char *)t.text + at);
    at = t.length;
    tar_member(&t, '0', "b.jpg", bytes, size);
    memset(t.text + at + 124, 0, 12);
    t.text[at + 124] = (char)0x80;
    t.text[at + 134] = (char)(size >> 8);
    t.text[at + 135] = (char)size;
    tar_seal((unsigned char *)t.text + at);
    tar_end(&t);
    tar_write(&t, "sizes.tar");
    ASSERT_OK(open_one("sizes.tar", NULL, &s, &err));
    assert_int_equal(dg_source_count(s), 2);
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(dg_source_read_image(s, i, 0, &a, &err));
        assert_int_equal(a.size, size);
    }
    dg_free(bytes);
    dg_sample_free(&a);
    dg_source_close(s);
}

static void an_index_is_kept_and_made_again_when_the_tar_changes(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_str t = {0};
    char *list = NULL, command[2048], cache[512];
    size_t n;
    tar_picture(&t, "a/1.jpg", 0);
    tar_end(&t);
    tar_write(&t, "i.tar");
    snprintf(cache, sizeof cache, "%s", test_path("cache/deep"));
    ASSERT_OK(open_one("i.tar", cache, &s, &err));
    const uint64_t first = dg_source_fingerprint(s);
    dg_source_close(s);
    snprintf(command, sizeof command, "ls %s > %s && cp %s/*.dgidx %s", cache, test_path("ls"), cache,
             test_path("kept"));
    assert_int_equal(system(command), 0);
    ASSERT_OK(dg_file_read(test_path("ls"), 4096, &list, &n, &err));
    assert_non_null(strstr(list, "i.tar-"));
    assert_ptr_equal(strstr(list, ".dgidx") + 7, list + n); /* one file, and nothing else left behind */
    ASSERT_OK(open_one("i.tar", cache, &s, &err));
    assert_true(first == dg_source_fingerprint(s));
    dg_source_close(s);

    tar_picture(&t, "a/1.jpg", 0);
    tar_picture(&t, "b/1.jpg", 1);
    tar_end(&t);
    tar_write(&t, "i.tar");
    ASSERT_OK(open_one("i.tar", cache, &s, &err));
    assert_int_equal(dg_source_count(s), 2);
    dg_source_close(s);

    char index[1024];
    snprintf(index, sizeof index, "%s/%.*s", cache, (int)(n - 1), list);
    char *bytes;
    dg_free(list);
    ASSERT_OK(dg_file_read(index, 1 << 20, &bytes, &n, &err));
    for (size_t i = 0; i < n; i += 23) { /* a damaged index is thrown away, never believed */
        bytes[i] ^= 0x55;
        test_write(index, bytes, n);
        bytes[i] ^= 0x55;
        ASSERT_OK(open_one("i.tar", cache, &s, &err));
        assert_int_equal(dg_source_count(s), 2);
        dg_source_close(s);
    }
    test_write(index, bytes, n / 2);
    ASSERT_OK(open_one("i.tar", cache, &s, &err));
    assert_int_equal(dg_source_count(s), 2);
    dg_source_close(s);
    dg_free(bytes);
}

static void keep_line(void *user, dg_log_level level, const char *line)
{
    if (level >= DG_LOG_WARNING) snprintf(user, 512, "%s", line);
}

static void a_cache_that_cannot_be_written_is_only_a_warning(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_str t = {0};
    char line[512] = "";
    tar_picture(&t, "a/1.jpg", 0);
    tar_end(&t);
    tar_write(&t, "c.tar");
    dg_log_set_sink(keep_line, line);
    ASSERT_OK(open_one("c.tar", test_path("c.tar"), &s, &err));
    dg_log_set_sink(NULL, NULL);
    assert_int_equal(dg_source_count(s), 1);
    assert_non_null(strstr(line, "index of a tar is not kept"));
    dg_source_close(s);
}

static void damage_is_named_with_its_place(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_str t = {0};
    const char *none = NULL;
    ASSERT_FAILS(dg_source_open_tar(&none, 0, NULL, &s, &err), DG_ERR_INVALID, "no tar shards");
    ASSERT_FAILS(open_one("missing.tar", NULL, &s, &err), DG_ERR_NOT_FOUND, "missing.tar");
    ASSERT_FAILS(open_one("missing*.tar", NULL, &s, &err), DG_ERR_NOT_FOUND, "no file matches");
    ASSERT_FAILS(open_one("x{5..1}.tar", NULL, &s, &err), DG_ERR_INVALID, "is not a range");
    write_text("d0.tar", "");
    ASSERT_FAILS(open_one("d0.tar", NULL, &s, &err), DG_ERR_FORMAT, "0 bytes");
    ASSERT_FAILS(open_one("", NULL, &s, &err), DG_ERR_INVALID, "is not a file");

    tar_picture(&t, "a/1.jpg", 0);
    const size_t second = t.length;
    tar_picture(&t, "a/2.jpg", 1);
    tar_end(&t);
    write_file("cut.tar", t.text, second + 700);
    char place[32];
    snprintf(place, sizeof place, "byte %zu: 'a/2.jpg'", second);
    ASSERT_FAILS(open_one("cut.tar", NULL, &s, &err), DG_ERR_FORMAT, place);
    ASSERT_FAILS(open_one("cut.tar", NULL, &s, &err), DG_ERR_FORMAT, "truncated");
    write_file("cut.tar", t.text, second + 100);
    ASSERT_FAILS(open_one("cut.tar", NULL, &s, &err), DG_ERR_FORMAT, "ends inside a header");
    t.text[second] = 'b';
    snprintf(place, sizeof place, "byte %zu: ", second);
    write_file("sum.tar", t.text, t.length);
    ASSERT_FAILS(open_one("sum.tar", NULL, &s, &err), DG_ERR_FORMAT, place);
    ASSERT_FAILS(open_one("sum.tar", NULL, &s, &err), DG_ERR_FORMAT, "checksum");
    dg_str_free(&t);

    tar_text(&t, "a.cls", "minus one");
    tar_end(&t);
    tar_write(&t, "cls.tar");
    ASSERT_FAILS(open_one("cls.tar", NULL, &s, &err), DG_ERR_FORMAT, "'a.cls' does not hold an integer");
    tar_text(&t, "a/b.c", "x");
    tar_end(&t);
    tar_write(&t, "noimage.tar");
    ASSERT_FAILS(open_one("noimage.tar", NULL, &s, &err), DG_ERR_FORMAT, "no .jpg");
    unsigned char gz[1024] = {0x1f, 0x8b, 8};
    write_file("z.tar.gz", gz, sizeof gz);
    ASSERT_FAILS(open_one("z.tar.gz", NULL, &s, &err), DG_ERR_UNSUPPORTED, "gzip");
}

static void hostile_sizes_and_names_do_no_harm(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_str t = {0};
    tar_picture(&t, "a/1.jpg", 0);
    memset(t.text + 124, 0xff, 12); /* base 256, negative */
    tar_seal((unsigned char *)t.text);
    write_file("h1.tar", t.text, t.length);
    ASSERT_FAILS(open_one("h1.tar", NULL, &s, &err), DG_ERR_FORMAT, "size field");
    memcpy(t.text + 124, "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
    tar_seal((unsigned char *)t.text);
    write_file("h2.tar", t.text, t.length);
    ASSERT_FAILS(open_one("h2.tar", NULL, &s, &err), DG_ERR_FORMAT, "too large");
    memcpy(t.text + 124, "77777777777", 12);
    tar_seal((unsigned char *)t.text);
    tar_write(&t, "h3.tar");
    ASSERT_FAILS(open_one("h3.tar", NULL, &s, &err), DG_ERR_FORMAT, "truncated");

    tar_pax(&t, "size", "99999999999999999999999999");
    tar_write(&t, "h4.tar");
    ASSERT_FAILS(open_one("h4.tar", NULL, &s, &err), DG_ERR_FORMAT, "PAX record is not a number");
    tar_member(&t, 'x', "p", "999999 path=x\n", 14);
    tar_write(&t, "h5.tar");
    ASSERT_FAILS(open_one("h5.tar", NULL, &s, &err), DG_ERR_FORMAT, "PAX record is malformed");
    tar_member(&t, 'x', "p", "3 x", 3);
    tar_write(&t, "h6.tar");
    ASSERT_FAILS(open_one("h6.tar", NULL, &s, &err), DG_ERR_FORMAT, "PAX");

    tar_picture(&t, "../../etc/\x1b[31mpasswd.jpg", 0);
    tar_picture(&t, "/etc/b.jpg", 1);
    tar_end(&t);
    tar_write(&t, "names.tar");
    ASSERT_OK(open_one("names.tar", NULL, &s, &err));
    ASSERT_OK(dg_source_read_image(s, 0, 0, &a, &err));
    assert_string_equal(a.name, "../../etc/?[31mpasswd.jpg"); /* safe to print; never a path */
    dg_sample_free(&a);
    dg_source_close(s);
}

static void any_flipped_byte_of_a_header_is_an_error_or_harmless(void **state)
{
    (void)state;
    dg_str t = {0};
    tar_pax(&t, "path", "cat/one.jpg");
    tar_picture(&t, "x.jpg", 0);
    tar_text(&t, "x.cls", "3");
    tar_end(&t);
    for (size_t i = 0; i < 512 * 3; i++)
        for (int sealed = 0; sealed < 2; sealed++) {
            dg_error err = DG_ERROR_INIT;
            dg_source *s = NULL;
            unsigned char saved[512 * 3];
            memcpy(saved, t.text, sizeof saved);
            t.text[i] ^= 0x7f;
            if (sealed) tar_seal((unsigned char *)t.text + i / 512 * 512);
            write_file("flip.tar", t.text, t.length);
            memcpy(t.text, saved, sizeof saved);
            if (open_one("flip.tar", NULL, &s, &err) != DG_OK) continue;
            dg_sample a = {0};
            for (int64_t id = 0; id < dg_source_count(s); id++) dg_source_read_image(s, id, 0, &a, &err);
            dg_sample_free(&a);
            dg_source_close(s);
        }
    dg_str_free(&t);
}

static void a_tar_that_shrinks_later_is_an_error_at_the_read(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_str t = {0};
    tar_picture(&t, "a/1.jpg", 0);
    tar_end(&t);
    tar_write(&t, "shrink.tar");
    ASSERT_OK(open_one("shrink.tar", NULL, &s, &err));
    assert_int_equal(truncate(test_path("shrink.tar"), 600), 0);
    ASSERT_FAILS(dg_source_read_image(s, 0, 0, &a, &err), DG_ERR_FORMAT, "the file ends at byte 600");
    ASSERT_FAILS(dg_source_read_image(s, 0, 0, &a, &err), DG_ERR_FORMAT, "shrink.tar");
    dg_sample_free(&a);
    dg_source_close(s);
}

static void an_archive_of_the_systems_tar_is_read(void **state)
{
    static const char *const formats[] = {"ustar", "pax", "gnu", "v7"};
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    char command[2048];
    write_picture("sys/one/a.jpg", 0);
    write_picture("sys/two/b.jpg", 1);
    for (size_t i = 0; i < 4; i++) {
        snprintf(command, sizeof command, "tar --format=%s -C %s -cf %s one two 2>/dev/null", formats[i],
                 test_path("sys"), test_path("sys.tar"));
        if (system(command) != 0) skip();
        ASSERT_OK(open_one("sys.tar", NULL, &s, &err));
        assert_int_equal(dg_source_count(s), 2);
        assert_int_equal(dg_source_classes(s), 2);
        ASSERT_OK(dg_source_read_image(s, 1, 0, &a, &err));
        assert_int_equal(a.image.height, 17);
        dg_source_close(s);
    }
    dg_sample_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_members_are_numbered_over_all_shards),
        cmocka_unit_test(webdataset_groups_have_label_and_caption),
        cmocka_unit_test(long_names_of_all_kinds_are_read),
        cmocka_unit_test(sizes_in_pax_and_base_256_are_read),
        cmocka_unit_test(an_index_is_kept_and_made_again_when_the_tar_changes),
        cmocka_unit_test(a_cache_that_cannot_be_written_is_only_a_warning),
        cmocka_unit_test(damage_is_named_with_its_place),
        cmocka_unit_test(hostile_sizes_and_names_do_no_harm),
        cmocka_unit_test(any_flipped_byte_of_a_header_is_an_error_or_harmless),
        cmocka_unit_test(a_tar_that_shrinks_later_is_an_error_at_the_read),
        cmocka_unit_test(an_archive_of_the_systems_tar_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
