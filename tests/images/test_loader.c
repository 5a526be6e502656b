/* test_loader.c - a batch depends on the step alone; bad images, padding, closing. */
#include "data/loader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "pictures.h"

enum { COUNT = 37, BATCH = 5 };

static dg_source *shapes(void)
{
    dg_error err;
    dg_source *s;
    const dg_synthetic_config config = {DG_SYNTHETIC_SCENE, .seed = 9, .count = COUNT, .height = 40, .width = 52, .classes = 10};
    ASSERT_OK(dg_source_open_synthetic(&config, &s, &err));
    return s;
}

static dg_loader_config small(void)
{
    dg_loader_config c = DG_LOADER_CONFIG_INIT;
    c.seed = 3;
    c.view_seed = 4;
    c.batch = BATCH;
    c.height = c.width = 16;
    c.second_height = c.second_width = 24;
    c.masks = c.captions = true;
    return c;
}

static uint64_t digest(const dg_loader_config *c, const dg_batch *b)
{
    const size_t n = (size_t)b->size, px = (size_t)c->height * (size_t)c->width;
    const size_t second = (size_t)c->second_height * (size_t)c->second_width;
    uint64_t h = XXH3_64bits(b->images, n * px * 3);
    if (b->second) h = XXH3_64bits_withSeed(b->second, n * second * 3, h);
    if (b->masks) h = XXH3_64bits_withSeed(b->masks, n * px, h);
    h = XXH3_64bits_withSeed(b->labels, n * sizeof *b->labels, h);
    h = XXH3_64bits_withSeed(b->ids, n * sizeof *b->ids, h);
    h = XXH3_64bits_withSeed(b->ordinals, n * sizeof *b->ordinals, h);
    h = XXH3_64bits_withSeed(b->valid, n * sizeof *b->valid, h);
    for (size_t i = 0; b->captions && i < n; i++)
        h = XXH3_64bits_withSeed(b->captions[i], strlen(b->captions[i]), h);
    return h;
}

/* The digests of steps first..first+n-1. */
static void run(const dg_loader_config *base, const dg_source *source, int64_t first, int n, int32_t threads,
                int32_t depth, uint64_t *out)
{
    dg_error err;
    dg_loader *l;
    dg_loader_config c = *base;
    c.first_step = first;
    c.threads = threads;
    c.depth = depth;
    ASSERT_OK(dg_loader_open(&c, source, &l, &err));
    for (int i = 0; i < n; i++) {
        const dg_batch *b;
        ASSERT_OK(dg_loader_next(l, &b, &err));
        assert_int_equal(b->step, first + i);
        out[i] = digest(&c, b);
        dg_loader_release(l, b);
    }
    dg_loader_close(l);
}

static void batches_do_not_depend_on_threads_or_where_the_run_began(void **state)
{
    (void)state;
    enum { STEPS = 20 };
    dg_source *s = shapes();
    const dg_loader_config c = small();
    uint64_t want[STEPS], got[STEPS];
    run(&c, s, 0, STEPS, 1, 2, want);
    run(&c, s, 0, STEPS, 2, 3, got);
    assert_memory_equal(want, got, sizeof want);
    run(&c, s, 0, STEPS, 5, 7, got);
    assert_memory_equal(want, got, sizeof want);
    for (int first = 0; first < STEPS; first++) {
        run(&c, s, first, STEPS - first, 3, 2, got);
        assert_memory_equal(want + first, got, (size_t)(STEPS - first) * sizeof *want);
    }
    for (int i = 0; i < STEPS; i++)
        for (int j = 0; j < i; j++) assert_true(want[i] != want[j]);
    dg_source_close(s);
}

static void ranks_together_make_the_batch_of_one_rank(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader_config c = small();
    dg_loader *one, *ranks[2];
    c.batch = 6;
    ASSERT_OK(dg_loader_open(&c, s, &one, &err));
    c.batch = 3;
    c.world = 2;
    for (c.rank = 0; c.rank < 2; c.rank++) ASSERT_OK(dg_loader_open(&c, s, &ranks[c.rank], &err));
    for (int step = 0; step < 9; step++) {
        const dg_batch *whole, *part;
        ASSERT_OK(dg_loader_next(one, &whole, &err));
        for (int r = 0; r < 2; r++) {
            ASSERT_OK(dg_loader_next(ranks[r], &part, &err));
            assert_memory_equal(part->images, whole->images + r * 3 * 16 * 16 * 3, 3 * 16 * 16 * 3);
            assert_memory_equal(part->ids, whole->ids + r * 3, 3 * sizeof *part->ids);
            assert_memory_equal(part->ordinals, whole->ordinals + r * 3, 3 * sizeof *part->ordinals);
            dg_loader_release(ranks[r], part);
        }
        dg_loader_release(one, whole);
    }
    dg_loader_close(one);
    dg_loader_close(ranks[0]);
    dg_loader_close(ranks[1]);
    dg_source_close(s);
}

/* Collects the images of `epochs` epochs by sample id; pictures of later epochs under id + COUNT * epoch. */
static void by_id(const dg_loader_config *c, const dg_source *s, int epochs, uint8_t *images, bool *seen)
{
    dg_error err;
    dg_loader *l;
    const size_t px = (size_t)c->height * (size_t)c->width * 3;
    ASSERT_OK(dg_loader_open(c, s, &l, &err));
    const int64_t steps = dg_loader_steps_per_epoch(l);
    assert_int_equal(steps, COUNT / BATCH);
    for (int64_t i = 0; i < steps * epochs; i++) {
        const dg_batch *b;
        ASSERT_OK(dg_loader_next(l, &b, &err));
        assert_int_equal(b->epoch, i / steps);
        for (int k = 0; k < b->size; k++) {
            const size_t at = (size_t)b->ids[k] + (size_t)(COUNT * b->epoch);
            assert_false(seen[at]);
            seen[at] = true;
            memcpy(images + at * px, b->images + (size_t)k * px, px);
        }
        dg_loader_release(l, b);
    }
    dg_loader_close(l);
}

static void views_come_round_again(void **state)
{
    (void)state;
    enum { EPOCHS = 3, PX = 16 * 16 * 3 };
    dg_source *s = shapes();
    static uint8_t images[EPOCHS * COUNT * PX];
    for (int live = 0; live < 2; live++) {
        bool seen[EPOCHS * COUNT] = {false};
        dg_loader_config c = small();
        c.views = live ? 0 : 2;
        by_id(&c, s, EPOCHS, images, seen);
        int same_02 = 0, same_01 = 0, both_02 = 0;
        for (int id = 0; id < COUNT; id++) {
            const uint8_t *a = images + (size_t)id * PX, *b = a + COUNT * PX, *d = b + COUNT * PX;
            both_02 += seen[id] && seen[id + 2 * COUNT];
            same_02 += seen[id] && seen[id + 2 * COUNT] && !memcmp(a, d, PX);
            same_01 += seen[id] && seen[id + COUNT] && !memcmp(a, b, PX);
        }
        assert_true(both_02 > COUNT / 2);
        assert_int_equal(same_02, live ? 0 : both_02);
        assert_int_equal(same_01, 0);
    }
    dg_source_close(s);
}

static void both_sizes_show_the_same_crop(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader *l;
    dg_loader_config c = small();
    const dg_batch *b;
    c.second_height = c.second_width = 16;
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    ASSERT_OK(dg_loader_next(l, &b, &err));
    assert_memory_equal(b->images, b->second, BATCH * 16 * 16 * 3);
    dg_loader_close(l);
    dg_source_close(s);
}

static void evaluation_is_the_centre_and_the_last_batch_is_padded(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader *l;
    dg_loader_config c = small();
    dg_sample a = {0};
    dg_resampler r = {0};
    uint8_t want[16 * 16 * 3];
    c.augment = DG_AUGMENT_CENTRE;
    c.shuffle = c.drop_last = false;
    c.last_step = (COUNT + BATCH - 1) / BATCH;
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    assert_int_equal(dg_loader_steps_per_epoch(l), c.last_step);
    int64_t id = 0;
    for (;;) {
        const dg_batch *b;
        ASSERT_OK(dg_loader_next(l, &b, &err));
        if (!b) break;
        for (int k = 0; k < BATCH; k++, id++) {
            if (id >= COUNT) {
                assert_int_equal(b->ids[k], -1);
                assert_true(b->valid[k] == 0);
                assert_string_equal(b->captions[k], "");
                continue;
            }
            ASSERT_OK(dg_source_read_image(s, id, 0, &a, &err));
            const dg_view v = dg_view_of_centre(40, 52, 16, 16, 0.875, DG_FIT_SQUASH);
            ASSERT_OK(dg_resample(&r, a.image.pixels, 40, 52, &v, want, &err));
            assert_memory_equal(want, b->images + k * 16 * 16 * 3, sizeof want);
            assert_int_equal(b->labels[k], a.label);
            assert_string_equal(b->captions[k], a.caption);
            assert_true(b->valid[k] == 1);
        }
        assert_int_equal(b->valid_count, id > COUNT ? COUNT % BATCH : BATCH);
        dg_loader_release(l, b);
    }
    assert_int_equal(id, c.last_step * BATCH);
    const dg_loader_stats stats = dg_loader_get_stats(l);
    assert_int_equal(stats.images, COUNT);
    assert_int_equal(stats.batches, c.last_step);
    assert_true(stats.wait_seconds > 0 && stats.elapsed_seconds >= stats.wait_seconds * 0.99);
    dg_loader_close(l);
    dg_sample_free(&a);
    dg_resampler_free(&r);
    dg_source_close(s);
}

static atomic_int warnings;

static void count_lines(void *user, dg_log_level level, const char *line)
{
    (void)user;
    if (level == DG_LOG_WARNING && strstr(line, "bad image") && strstr(line, "b.jpg"))
        atomic_fetch_add(&warnings, 1);
}

/* A class folder with pictures 0..n-1, of which every `bad`-th is text. */
static dg_source *with_bad_ones(const char *root, int n, int bad)
{
    dg_error err;
    dg_source *s;
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/c/%03d%s.jpg", root, i, i % bad == 0 ? "b" : "");
        if (i % bad == 0)
            write_text(name, "not a picture");
        else
            write_picture(name, i);
    }
    ASSERT_OK(dg_source_open_folder(test_path(root), &s, &err));
    return s;
}

static void a_bad_image_is_counted_named_and_replaced_by_the_next(void **state)
{
    (void)state;
    dg_error err;
    dg_loader *l;
    dg_source *s = with_bad_ones("skip", 9, 4);
    dg_loader_config c = DG_LOADER_CONFIG_INIT;
    static const int64_t want[] = {1, 1, 2, 3, 5,
                                   5, 6, 7, 1}; /* 0, 4 and 8 are bad; after 8 comes 0, then 1 */
    const dg_batch *b;
    c.batch = 9;
    c.height = c.width = 8;
    c.shuffle = false;
    c.last_step = 1;
    dg_log_set_sink(count_lines, NULL);
    atomic_store(&warnings, 0);
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    ASSERT_OK(dg_loader_next(l, &b, &err));
    assert_memory_equal(b->ids, want, sizeof want);
    assert_int_equal(b->valid_count, 9);
    assert_int_equal(dg_loader_get_stats(l).bad_images, 4);
    dg_loader_close(l);
    dg_log_set_sink(NULL, NULL);
    assert_int_equal(atomic_load(&warnings), 4);

    c.on_bad = DG_BAD_FAIL;
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    ASSERT_FAILS(dg_loader_next(l, &b, &err), DG_ERR_FORMAT, "batch of step 0: sample 0, '");
    ASSERT_FAILS(dg_loader_next(l, &b, &err), DG_ERR_FORMAT, "000b.jpg': neither a JPEG nor a PNG");
    assert_null(b);
    dg_loader_close(l);
    dg_source_close(s);
}

static void a_set_of_bad_images_ends_with_an_error(void **state)
{
    (void)state;
    dg_error err;
    dg_loader *l;
    dg_source *s = with_bad_ones("allbad", 30, 1);
    dg_loader_config c = DG_LOADER_CONFIG_INIT;
    const dg_batch *b;
    c.batch = 4;
    c.height = c.width = 8;
    dg_log_set_sink(count_lines, NULL);
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    ASSERT_FAILS(dg_loader_next(l, &b, &err), DG_ERR_FORMAT, "16 images in a row are bad; the last: sample");
    dg_loader_close(l);
    dg_log_set_sink(NULL, NULL);
    dg_source_close(s);
}

static void closing_is_possible_at_any_moment(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader_config c = small();
    c.threads = 4;
    for (int i = 0; i < 60; i++) {
        dg_loader *l;
        const dg_batch *b[3] = {NULL};
        ASSERT_OK(dg_loader_open(&c, s, &l, &err));
        if (i % 3) usleep((useconds_t)(i * 50));
        for (int k = 0; k < i % 4; k++) ASSERT_OK(dg_loader_next(l, &b[k], &err));
        if (i % 2) dg_loader_release(l, b[0]);
        dg_loader_close(l); /* with batches held, full, or being filled */
    }
    dg_loader_close(NULL);
    dg_source_close(s);
}

static void holding_every_batch_is_an_error_and_not_a_hang(void **state)
{
    (void)state;
    dg_error err;
    dg_source *s = shapes();
    dg_loader *l;
    dg_loader_config c = small();
    const dg_batch *a, *b, *d;
    c.depth = 2;
    ASSERT_OK(dg_loader_open(&c, s, &l, &err));
    ASSERT_OK(dg_loader_next(l, &a, &err));
    ASSERT_OK(dg_loader_next(l, &b, &err));
    ASSERT_FAILS(dg_loader_next(l, &d, &err), DG_ERR_INVALID, "release one first");
    dg_loader_release(l, a);
    ASSERT_OK(dg_loader_next(l, &d, &err));
    assert_int_equal(d->step, 2);
    dg_loader_close(l);
    dg_source_close(s);
}

static void settings_are_checked(void **state)
{
    (void)state;
    dg_error err;
    dg_loader *l;
    dg_source *s = shapes(), *folder = with_bad_ones("nomask", 5, 4);
    dg_loader_config c = small();
    c.batch = COUNT + 1;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "an epoch would have no step");
    c = small();
    c.threads = 0;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "0 loader threads");
    c = small();
    c.width = 0;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "student's image is 16 x 0");
    c = small();
    c.scale[0] = 0;
    ASSERT_FAILS(dg_loader_open(&c, s, &l, &err), DG_ERR_INVALID, "crop scale");
    c = small();
    ASSERT_FAILS(dg_loader_open(&c, folder, &l, &err), DG_ERR_MISMATCH, "masks are asked for");
    dg_source_close(folder);
    dg_source_close(s);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    dg_source *s = shapes();
    const dg_loader_config c = small();
    for (size_t n = 1; n < 200; n++) {
        dg_error err = DG_ERROR_INIT;
        dg_loader *l = NULL;
        const dg_batch *b;
        dg_alloc_fail_at(n);
        dg_status r = dg_loader_open(&c, s, &l, &err);
        if (r == DG_OK) r = dg_loader_next(l, &b, &err);
        dg_loader_close(l);
        dg_alloc_fail_at(0);
        if (r == DG_OK) break;
        assert_int_equal(r, DG_ERR_NOMEM);
        assert_true(n < 199);
    }
    dg_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_do_not_depend_on_threads_or_where_the_run_began),
        cmocka_unit_test(ranks_together_make_the_batch_of_one_rank),
        cmocka_unit_test(views_come_round_again),
        cmocka_unit_test(both_sizes_show_the_same_crop),
        cmocka_unit_test(evaluation_is_the_centre_and_the_last_batch_is_padded),
        cmocka_unit_test(a_bad_image_is_counted_named_and_replaced_by_the_next),
        cmocka_unit_test(a_set_of_bad_images_ends_with_an_error),
        cmocka_unit_test(closing_is_possible_at_any_moment),
        cmocka_unit_test(holding_every_batch_is_an_error_and_not_a_hang),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
