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
    dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .seed = 5,   .count = 1000,
                                  .height = 48,       .width = 64, .classes = 10};
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
    const dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .seed = 1,   .count = 2000,
                                        .height = 32,       .width = 32, .classes = 20};
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
    const dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .seed = 1,   .count = N,
                                        .height = 24,       .width = 24, .classes = CLASSES};
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
    dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .count = 10, .height = 32, .width = 32, .classes = 81};
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "1 to 80");
    config.classes = 1;
    config.width = 7;
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "8 to 4096");
    config.width = 32;
    config.clutter = 1.5;
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "clutter of 1.5: it is 0 to 1");
    config.clutter = 0;
    config.turn = -1;
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "up to -1 degrees: 0 to 180");
    config.turn = 0;
    config.radius[0] = .45;
    ASSERT_FAILS(dg_source_open_synthetic(&config, &s, &err), DG_ERR_INVALID, "radius 0.45 to 0.42");
}

/* Without clutter a picture is one object, whole, and a background of one colour; radius and turn bound the
 * object. */
static void a_scene_without_clutter_is_one_whole_object(void **state)
{
    (void)state;
    enum { SIDE = 40 };
    dg_error err;
    dg_source *s;
    dg_sample a = {0};
    dg_synthetic_config config = {
        DG_SYNTHETIC_SCENE, .seed = 2,   .count = 300, .height = SIDE,
        .width = SIDE,      .classes = 2}; /* circles and squares: at most a radius across, either way */
    config.clutter = 0;
    config.turn = 0;
    config.radius[0] = config.radius[1] = .25;
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    for (int64_t id = 0; id < config.count; id++) {
        int area = 0, at_border = 0;
        double inside = 0, outside = 0; /* sums of the brightest channel */
        ASSERT_OK(dg_source_read_image(s, id, 0, &a, &err));
        assert_null(strstr(a.caption, "with a smaller"));
        for (int i = 0; i < SIDE * SIDE; i++) {
            const int y = i / SIDE, x = i % SIDE;
            assert_true(a.mask[i] == 0 || a.mask[i] == 1 + a.label);
            area += a.mask[i] != 0;
            const uint8_t *p = &a.image.pixels[3 * i];
            *(a.mask[i] ? &inside : &outside) += p[0] > p[1]   ? (p[0] > p[2] ? p[0] : p[2])
                                                 : p[1] > p[2] ? p[1]
                                                               : p[2];
            at_border += a.mask[i] && (x == 0 || y == 0 || x == SIDE - 1 || y == SIDE - 1);
        }
        /* pi .9^2 r^2 and 1.4^2 r^2 with r of 10 pixels: squeezing and shearing keep the area */
        assert_in_range(area, a.label == 0 ? 225 : 165, a.label == 0 ? 285 : 235);
        assert_true(at_border <= 8); /* squeezed ones may reach out by a little */
        assert_true(inside / area > 1.3 * outside / (SIDE * SIDE - area)); /* brighter than what is behind */
    }
    dg_sample_free(&a);
    dg_source_close(s);
}

static void every_setting_of_synthetic_scenes_changes_the_fingerprint(void **state)
{
    (void)state;
    dg_error err;
    uint64_t seen[6];
    const dg_synthetic_config usual = {DG_SYNTHETIC_SCENE, .seed = 1,   .count = 9,
                                       .height = 32,       .width = 32, .classes = 10};
    for (int i = 0; i < 6; i++) {
        dg_synthetic_config c = usual;
        dg_source *s;
        if (i == 1) c.clutter = .5;
        if (i == 2) c.turn = 90;
        if (i == 3) c.radius[0] = .2;
        if (i == 4) c.radius[1] = .3;
        if (i == 5) c.classes = 9;
        ASSERT_OK(dg_source_open_synthetic(&c, &s, &err));
        seen[i] = dg_source_fingerprint(s);
        dg_source_close(s);
        for (int k = 0; k < i; k++) assert_true(seen[i] != seen[k]);
    }
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
        cmocka_unit_test(a_scene_without_clutter_is_one_whole_object),
        cmocka_unit_test(every_setting_of_synthetic_scenes_changes_the_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
