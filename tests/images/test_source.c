/* test_source.c - class folders, list files, the synthetic source. */
#include "data/source.h"

#include <math.h>
#include <unistd.h>

#include "pictures.h"

static void class_folders_are_numbered_and_sorted_by_name(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    char buffer[32];
    write_picture("f/dog/b.JPEG", 3);
    write_picture("f/dog/a.png.jpg", 2);
    write_picture("f/cat/deep/z.jpg", 1);
    write_picture("f/cat/y.PNG", 0); /* JPEG bytes under a PNG's name: the bytes decide */
    write_text("f/cat/notes.txt", "no image");
    write_text("f/.hidden/x.jpg", "not looked at");
    write_text("f/dog/._b.jpg", "not looked at");
    ASSERT_OK(dg_source_open_folder(test_path("f"), &s, &err));
    assert_int_equal(dg_source_count(s), 4);
    assert_int_equal(dg_source_classes(s), 2);
    assert_string_equal(dg_source_class_name(s, 0, buffer, sizeof buffer), "cat");
    assert_string_equal(dg_source_describe(s), "folder, 4 images, 2 classes");
    static const char *const ends[] = {"/cat/y.PNG", "/cat/deep/z.jpg", "/dog/a.png.jpg", "/dog/b.JPEG"};
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(dg_source_read_image(s, i, 0, &a, &err));
        assert_non_null(strstr(a.name, ends[i]));
        assert_int_equal(a.label, i / 2);
        assert_int_equal(a.image.height, 16 + i);
        assert_string_equal(a.caption, "");
    }
    ASSERT_FAILS(dg_source_read(s, 4, &a, &err), DG_ERR_INVALID, "sample 4 of 4");
    dg_sample_free(&a);
    dg_source_close(s);
}

static void folders_without_images_are_explained(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    ASSERT_FAILS(dg_source_open_folder(test_path("none"), &s, &err), DG_ERR_NOT_FOUND, "No such file");
    write_text("file", "x");
    ASSERT_FAILS(dg_source_open_folder(test_path("file"), &s, &err), DG_ERR_INVALID, "is not a folder");
    ASSERT_OK(dg_dir_make(test_path("empty"), &err));
    ASSERT_FAILS(dg_source_open_folder(test_path("empty"), &s, &err), DG_ERR_FORMAT, "no class folders");
    write_picture("flat/a.jpg", 0);
    ASSERT_FAILS(dg_source_open_folder(test_path("flat"), &s, &err), DG_ERR_FORMAT, "directly in it");
    write_text("texts/a/b.txt", "x");
    ASSERT_FAILS(dg_source_open_folder(test_path("texts"), &s, &err), DG_ERR_FORMAT, "not one .jpg");
    ASSERT_OK(dg_dir_make(test_path("loop/a"), &err));
    assert_int_equal(symlink(test_path("loop/a"), test_path("loop/a/b")), 0);
    ASSERT_FAILS(dg_source_open_folder(test_path("loop"), &s, &err), DG_ERR_FORMAT, "leads back");
}

static void a_bad_sample_is_named(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    write_text("bad/c/a.jpg", "");
    write_picture("bad/c/b.jpg", 0);
    ASSERT_OK(dg_source_open_folder(test_path("bad"), &s, &err));
    ASSERT_FAILS(dg_source_read_image(s, 0, 0, &a, &err), DG_ERR_FORMAT, "/bad/c/a.jpg': the file is empty");
    unlink(test_path("bad/c/b.jpg"));
    ASSERT_FAILS(dg_source_read_image(s, 1, 0, &a, &err), DG_ERR_NOT_FOUND, "/bad/c/b.jpg': cannot open");
    assert_int_equal(dg_source_read_image(s, 1, 0, &a, NULL), DG_ERR_NOT_FOUND);
    dg_sample_free(&a);
    dg_source_close(s);
}

static void a_list_gives_labels_and_captions(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    char buffer[32];
    write_picture("l/a.jpg", 0);
    write_picture("l/b.jpg", 1);
    write_text("l/list.tsv", "\xef\xbb\xbf"
                             "a.jpg\t7\ta red dog\r\n\nb.jpg\t2\nb.jpg");
    ASSERT_OK(dg_source_open_list(test_path("l/list.tsv"), &s, &err));
    assert_int_equal(dg_source_count(s), 3);
    assert_int_equal(dg_source_classes(s), 8);
    assert_string_equal(dg_source_class_name(s, 7, buffer, sizeof buffer), "7");
    assert_true(dg_source_has_captions(s));
    ASSERT_OK(dg_source_read_image(s, 0, 0, &a, &err));
    assert_string_equal(a.caption, "a red dog");
    assert_int_equal(a.label, 7);
    ASSERT_OK(dg_source_read_image(s, 2, 0, &a, &err));
    assert_string_equal(a.caption, "");
    assert_int_equal(a.label, -1);
    dg_source_close(s);

    write_text("l/names.tsv", "b.jpg\tzebra\na.jpg\tant\n");
    ASSERT_OK(dg_source_open_list(test_path("l/names.tsv"), &s, &err));
    ASSERT_OK(dg_source_read(s, 0, &a, &err));
    assert_int_equal(a.label, 1);
    assert_string_equal(dg_source_class_name(s, 1, buffer, sizeof buffer), "zebra");
    dg_source_close(s);
    dg_sample_free(&a);
}

static void bad_lists_name_the_line(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    write_text("e.tsv", "\n\n");
    ASSERT_FAILS(dg_source_open_list(test_path("e.tsv"), &s, &err), DG_ERR_FORMAT, "lists no images");
    write_text("n.tsv", "a.jpg\t1\n\t2\n");
    ASSERT_FAILS(dg_source_open_list(test_path("n.tsv"), &s, &err), DG_ERR_FORMAT, "n.tsv:2: no path");
    write_file("z.tsv", "a.jpg\t1\nb\0c\n", 12);
    ASSERT_FAILS(dg_source_open_list(test_path("z.tsv"), &s, &err), DG_ERR_FORMAT, "z.tsv:2: a zero byte");
    ASSERT_FAILS(dg_source_open_list(test_path("no.tsv"), &s, &err), DG_ERR_NOT_FOUND, "no.tsv");
}

static void fingerprints_tell_sets_apart(void **state)
{
    (void)state;
    dg_error err;
    dg_source *a, *b;
    write_text("p1.tsv", "a.jpg\t1\nb.jpg\t2\n");
    write_text("p2.tsv", "a.jpg\t1\nb.jpg\t3\n");
    ASSERT_OK(dg_source_open_list(test_path("p1.tsv"), &a, &err));
    ASSERT_OK(dg_source_open_list(test_path("p2.tsv"), &b, &err));
    assert_true(dg_source_fingerprint(a) != dg_source_fingerprint(b));
    dg_source_close(b);
    ASSERT_OK(dg_source_open_list(test_path("p1.tsv"), &b, &err));
    assert_true(dg_source_fingerprint(a) == dg_source_fingerprint(b));
    dg_source_close(a);
    dg_source_close(b);
}

static void synthetic_samples_are_a_function_of_seed_and_id(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s, *t;
    dg_sample a = {0}, b = {0};
    dg_synthetic_config config = {.seed = 5, .count = 1000, .height = 48, .width = 64, .classes = 10};
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    config.count = 2000;
    ASSERT_OK(dg_source_open_synthetic(&config, &t, &err));
    for (int64_t id = 0; id < 20; id++) {
        ASSERT_OK(dg_source_read_image(s, id, 0, &a, &err));
        ASSERT_OK(
            dg_source_read_image(t, 999 - id, 0, &b, &err)); /* other samples in between leave no trace */
        ASSERT_OK(dg_source_read_image(t, id, 0, &b, &err));
        assert_memory_equal(a.image.pixels, b.image.pixels, 48 * 64 * 3);
        assert_memory_equal(a.mask, b.mask, 48 * 64);
        assert_int_equal(a.label, b.label);
        assert_string_equal(a.caption, b.caption);
    }
    dg_source_close(t);
    config.seed = 6;
    ASSERT_OK(dg_source_open_synthetic(&config, &t, &err));
    ASSERT_OK(dg_source_read_image(t, 19, 0, &b, &err));
    assert_memory_not_equal(a.image.pixels, b.image.pixels, 48 * 64 * 3);
    dg_source_close(s);
    dg_source_close(t);
    dg_sample_free(&a);
    dg_sample_free(&b);
}

static void synthetic_labels_masks_and_captions_agree(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    char buffer[32];
    int counts[20] = {0}, with_label = 0;
    const dg_synthetic_config config = {.seed = 1, .count = 2000, .height = 32, .width = 32, .classes = 20};
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    for (int64_t id = 0; id < 2000; id++) {
        ASSERT_OK(dg_source_read_image(s, id, 0, &a, &err));
        assert_in_range(a.label, 0, 19);
        counts[a.label]++;
        assert_non_null(strstr(a.caption, dg_source_class_name(s, a.label, buffer, sizeof buffer)));
        bool found = false;
        for (int i = 0; i < 32 * 32; i++) {
            assert_in_range(a.mask[i], 0, 20);
            found = found || a.mask[i] == 1 + a.label;
        }
        with_label += found;
    }
    for (int i = 0; i < 20; i++) assert_in_range(counts[i], 60, 140);
    assert_true(with_label > 1960); /* a main object is hidden wholly only now and then */
    dg_sample_free(&a);
    dg_source_close(s);
}

/* Labels must not be readable from mean colours: a linear rule on them stays near chance. */
static void synthetic_colours_do_not_give_the_shape_away(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    enum { N = 3000, CLASSES = 10 };
    double mean[CLASSES][3] = {{0}};
    static double colour[N][3];
    static int label[N];
    int count[CLASSES] = {0}, right = 0;
    const dg_synthetic_config config = {.seed = 1, .count = N, .height = 24, .width = 24, .classes = CLASSES};
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    for (int id = 0; id < N; id++) {
        ASSERT_OK(dg_source_read_image(s, id, 0, &a, &err));
        label[id] = a.label;
        for (int i = 0; i < 24 * 24; i++)
            for (int c = 0; c < 3; c++) colour[id][c] += a.image.pixels[3 * i + c] / (24.0 * 24);
        if (id >= N / 2) continue;
        count[a.label]++;
        for (int c = 0; c < 3; c++) mean[a.label][c] += colour[id][c];
    }
    for (int id = N / 2; id < N; id++) {
        int best = 0;
        double least = 1e30;
        for (int k = 0; k < CLASSES; k++) {
            double d = 0;
            for (int c = 0; c < 3; c++) d += pow(colour[id][c] - mean[k][c] / count[k], 2);
            if (d < least) {
                least = d;
                best = k;
            }
        }
        right += best == label[id];
    }
    assert_true(right < N / 2 * 0.16);
    dg_sample_free(&a);
    dg_source_close(s);
}

static void synthetic_settings_are_checked(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s;
    dg_synthetic_config config = {.count = 10, .height = 32, .width = 32, .classes = 81};
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "1 to 80");
    config.classes = 1;
    config.width = 7;
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "8 to 4096");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_folders_are_numbered_and_sorted_by_name),
        cmocka_unit_test(folders_without_images_are_explained),
        cmocka_unit_test(a_bad_sample_is_named),
        cmocka_unit_test(a_list_gives_labels_and_captions),
        cmocka_unit_test(bad_lists_name_the_line),
        cmocka_unit_test(fingerprints_tell_sets_apart),
        cmocka_unit_test(synthetic_samples_are_a_function_of_seed_and_id),
        cmocka_unit_test(synthetic_labels_masks_and_captions_agree),
        cmocka_unit_test(synthetic_colours_do_not_give_the_shape_away),
        cmocka_unit_test(synthetic_settings_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
