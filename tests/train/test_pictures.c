/* Pictures of what a model sees: colours, digits, where predictions belong, galleries, and a run's own
 * pictures. */
#include "train_support.h"

#include "train/gallery.h"
#include "train/look.h"
#include "train/pca.h"
#include "train/pictures.h"
#include "train/report.h"
#include "train/visualize.h"

/* ---- colours */

/* Vectors of length 1 on three orthogonal directions with different spreads. */
static void components_are_found_in_the_order_of_their_variance(void **state)
{
    (void)state;
    enum { N = 300, WIDTH = 6 };
    static float x[N * WIDTH];
    dg_pca p = {0};
    dg_error err = DG_ERROR_INIT;
    for (int i = 0; i < N; i++) { /* around direction 5; 2 spreads most, then 0, then 4 */
        const double a[3] = {0.30 * sin(1.3 * i), 0.20 * sin(2.7 * i + 1), 0.10 * sin(0.9 * i + 2)};
        x[i * WIDTH + 2] = (float)a[0];
        x[i * WIDTH + 0] = (float)a[1];
        x[i * WIDTH + 4] = (float)a[2];
        x[i * WIDTH + 5] = (float)sqrt(1 - a[0] * a[0] - a[1] * a[1] - a[2] * a[2]);
    }
    ASSERT_OK(dg_pca_fit(x, N, WIDTH, &p, &err));
    const int main_direction[3] = {2, 0, 4};
    for (int k = 0; k < 3; k++) {
        assert_true(p.axes[k * WIDTH + main_direction[k]] > 0.98); /* and the sign is always this one */
        for (int j = 0; j <= k; j++) {
            double dot = 0;
            for (int i = 0; i < WIDTH; i++) dot += p.axes[k * WIDTH + i] * p.axes[j * WIDTH + i];
            assert_true(fabs(dot - (j == k)) < 1e-9);
        }
    }
    dg_pca_free(&p);
}

static void the_length_of_a_vector_does_not_change_its_colour(void **state)
{
    (void)state;
    const float x[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0}, longer[] = {0, 7, 0};
    dg_pca p = {0};
    dg_error err = DG_ERROR_INIT;
    ASSERT_OK(dg_pca_fit(x, 4, 3, &p, &err));
    dg_colour a = dg_pca_colour(&p, x + 3), b = dg_pca_colour(&p, longer), c = dg_pca_colour(&p, x);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    dg_pca_free(&p);
}

static void tokens_that_are_all_alike_get_one_colour(void **state)
{
    (void)state;
    const float x[] = {3, 4, 3, 4, 3, 4};
    dg_pca p = {0};
    dg_error err = DG_ERROR_INIT;
    ASSERT_OK(dg_pca_fit(x, 3, 2, &p, &err));
    dg_colour a = dg_pca_colour(&p, x), b = dg_pca_colour(&p, x + 4);
    assert_memory_equal(&a, &b, sizeof a);
    dg_pca_free(&p);
}

static void the_heat_scale_rises_in_brightness_from_end_to_end(void **state)
{
    (void)state;
    double before = -1;
    for (int i = 0; i <= 64; i++) {
        dg_colour c = dg_heat(i / 64.0);
        double light = 0.2126 * c.r + 0.7152 * c.g + 0.0722 * c.b;
        assert_true(light > before);
        before = light;
    }
    dg_colour first = dg_heat(0), below = dg_heat(-3), nan = dg_heat(NAN);
    assert_memory_equal(&first, &below, sizeof first);
    assert_memory_equal(&first, &nan, sizeof first);
}

/* ---- canvases */

static void every_digit_looks_different_and_stays_on_its_canvas(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    dg_canvas c[10] = {{0}};
    for (int d = 0; d < 10; d++) {
        ASSERT_OK(dg_canvas_make(30, 40, (dg_colour){255, 255, 255}, &c[d], &err));
        dg_canvas_number(&c[d], 15, 20, 24, d, (dg_colour){0, 0, 0}, (dg_colour){255, 255, 255});
        for (int e = 0; e < d; e++) {
            int64_t apart = 0;
            for (int i = 0; i < 30 * 40 * 3; i++) apart += abs(c[d].pixels[i] - c[e].pixels[i]) > 100;
            assert_true(apart > 40);
        }
    }
    dg_canvas_number(&c[0], 29, 39, 24, 1234567890, (dg_colour){0, 0, 0},
                     (dg_colour){9, 9, 9}); /* over the edge */
    dg_canvas_fill(&c[0], -50, -50, 500, 500, (dg_colour){1, 2, 3}, 1);
    assert_int_equal(c[0].pixels[0], 1);
    for (int d = 0; d < 10; d++) dg_canvas_free(&c[d]);
}

static void cells_tile_a_length_that_they_do_not_divide(void **state)
{
    (void)state;
    assert_int_equal(dg_cell_edge(0, 7, 100), 0);
    assert_int_equal(dg_cell_edge(7, 7, 100), 100);
    for (int i = 0; i < 7; i++) {
        int32_t side = dg_cell_edge(i + 1, 7, 100) - dg_cell_edge(i, 7, 100);
        assert_true(side == 14 || side == 15);
    }
}

/* ---- tokens that are pixels */

static void pixels_are_told_from_features_by_their_numbers(void **state)
{
    (void)state;
    enum { SIDE = 8, PATCH = 4, WIDTH = 3 * PATCH * PATCH };
    uint8_t image[SIDE * SIDE * 3];
    float tokens[4 * WIDTH];
    for (int i = 0; i < SIDE * SIDE * 3; i++) image[i] = (uint8_t)(i * 37 % 251);
    for (int cell = 0; cell < 4; cell++)
        for (int i = 0; i < PATCH * PATCH; i++)
            for (int k = 0; k < 3; k++) {
                int y = cell / 2 * PATCH + i / PATCH, x = cell % 2 * PATCH + i % PATCH;
                double p = image[(y * SIDE + x) * 3 + k];
                tokens[cell * WIDTH + i * 3 + k] = (float)((p / 255 - 0.4) / (0.2 + 0.1 * k) / (1 + cell));
            }
    assert_true(dg_tokens_are_pixels(tokens, image, 1, 2, 2, WIDTH, SIDE, SIDE));
    tokens[2 * WIDTH + 5] += 3; /* one number is not the pixel's */
    assert_false(dg_tokens_are_pixels(tokens, image, 1, 2, 2, WIDTH, SIDE, SIDE));
    assert_false(dg_tokens_are_pixels(tokens, image, 1, 2, 2, WIDTH - 1, SIDE, SIDE));
}

/* ---- looks */

typedef struct looked {
    stepper s;
    dg_look look;
} looked;

/* At the first batch of the tiny recipe with overrides, with first values. */
static void take_look(looked *l, const char *overrides)
{
    dg_error err = DG_ERROR_INIT;
    memset(l, 0, sizeof *l);
    open_stepper(&l->s, overrides, false);
    ASSERT_OK(dg_look_open(&l->s.parts, l->s.plan.batch, l->s.plan.compute, &l->look, &err));
    ASSERT_OK(dg_look_run(&l->look, &l->s.state, l->s.batch, &err));
}

static void drop_look(looked *l)
{
    dg_look_close(&l->look);
    close_stepper(&l->s);
}

/* 16 patches, of which the first decoder predicts all but the segment at place 0, the other all but the last.
 */
static void predictions_are_placed_where_the_order_of_segments_says(void **state)
{
    (void)state;
    looked l;
    dg_type type;
    take_look(&l, "");
    const int32_t *order = dg_look_input(&l.look, "order", &type);
    assert_non_null(order);
    assert_int_equal(type.dims[1], 4);
    assert_int_equal(l.look.n_predictions, 2);
    for (uint32_t k = 0; k < 2; k++) {
        const dg_look_prediction *p = &l.look.predictions[k];
        assert_string_equal(p->name, k ? "visible" : "next");
        assert_true(p->placed);
        assert_int_equal(p->positions, 12);
        for (int64_t i = 0; i < l.look.batch * 12; i++) {
            int32_t y = p->place[i] / 4, x = p->place[i] % 4, segment = y / 2 * 2 + x / 2;
            int32_t want = order[i / 12 * 4 + i % 12 / 4 + (k ? 0 : 1)];
            assert_int_equal(segment, want);
            assert_int_equal(y % 2 * 2 + x % 2, i % 4);
        }
    }
    drop_look(&l);
}

/* The mean over batch and positions is what a training step reports for the same batch. */
static void losses_of_positions_are_those_of_a_training_step(void **state)
{
    (void)state;
    looked l;
    int64_t n;
    take_look(&l, "");
    run_stepper(&l.s, 0);
    for (uint32_t k = 0; k < l.look.n_predictions; k++) {
        const dg_look_prediction *p = &l.look.predictions[k];
        char name[64];
        double sum = 0;
        snprintf(name, sizeof name, "loss.%s", p->name);
        for (int64_t i = 0; i < l.look.batch * p->positions; i++) sum += (double)p->loss[i];
        sum /= (double)(l.look.batch * p->positions);
        assert_true(fabs(sum - (double)output_of(&l.s, name, &n)[0]) < 1e-5);
    }
    drop_look(&l);
}

static void pixel_tokens_of_a_look_are_recognised(void **state)
{
    (void)state;
    looked l;
    take_look(&l, "");
    assert_true(dg_tokens_are_pixels(l.look.tokens, l.s.batch->images, l.look.batch, 4, 4, 192, 32, 32));
    drop_look(&l);
}

/* MAE counts the loss of hidden patches only. */
static void hidden_patches_have_weight_and_all_are_placed(void **state)
{
    (void)state;
    looked l;
    take_look(
        &l, "~model.segments ~model.taps model.name=mae model.size=free model.width=16 model.depth=2 "
            "model.heads=2 model.patch=8 model.decoder_width=16 model.decoder_depth=1 model.decoder_heads=2");
    assert_int_equal(l.look.n_predictions, 1);
    const dg_look_prediction *p = &l.look.predictions[0];
    assert_true(p->placed);
    assert_non_null(p->weight);
    for (int64_t i = 0; i < l.look.batch; i++) {
        double hidden = 0;
        for (int64_t k = 0; k < 16; k++) {
            hidden += (double)p->weight[i * 16 + k];
            assert_int_equal(p->place[i * 16 + k], k);
        }
        assert_true(hidden == 12);
    }
    drop_look(&l);
}

/* ---- galleries */

static const dg_panel panel = {.section = "A <section>",
                               .about = "about",
                               .row = 0,
                               .column = "crop",
                               .title = "crop",
                               .note = "a & b\nsecond"};

static void write_gallery(const char *dir, int n)
{
    dg_error err = DG_ERROR_INIT;
    dg_canvas c = {0};
    dg_gallery g = {.dir = dir};
    ASSERT_OK(dg_canvas_make(8, 6, (dg_colour){10, 200, 30}, &c, &err));
    ASSERT_OK(dg_gallery_begin(&g, &err));
    for (int i = 0; i < n; i++) {
        dg_panel p = panel;
        p.row = i;
        ASSERT_OK(dg_gallery_add(&g, &p, &c, &err));
    }
    ASSERT_OK(dg_gallery_end(&g, &err));
    dg_gallery_close(&g);
    dg_canvas_free(&c);
}

static void a_page_holds_the_bytes_of_its_pictures_and_escapes_texts(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    dg_str out = {0};
    int64_t n;
    const char *dir = test_path("gallery");
    write_gallery(dir, 2);
    ASSERT_OK(dg_gallery_put(&out, dir, 0, &n, &err));
    assert_int_equal(n, 2);
    assert_non_null(strstr(out.text, "<h3>A &lt;section&gt;</h3>"));
    assert_non_null(strstr(out.text, "a &amp; b<br>second"));
    assert_non_null(
        strstr(out.text, "<img width=\"8\" height=\"6\" alt=\"crop\" src=\"data:image/png;base64,iVBORw0K"));
    dg_str_free(&out);
    ASSERT_OK(dg_gallery_put(&out, dir, 1, &n, &err)); /* of a table the first row */
    char *first = strstr(out.text, "<img");
    assert_non_null(first);
    assert_null(strstr(first + 1, "<img"));
    dg_str_free(&out);
}

static void a_new_gallery_takes_the_old_ones_pictures_away_and_nothing_else(void **state)
{
    (void)state;
    char path[800];
    const char *dir = test_path("again");
    write_gallery(dir, 3);
    snprintf(path, sizeof path, "%s/mine.png", dir);
    test_write(path, "x", 1);
    write_gallery(dir, 1);
    assert_true(dg_path_is_file(path));
    snprintf(path, sizeof path, "%s/000-crop.png", dir);
    assert_true(dg_path_is_file(path));
    snprintf(path, sizeof path, "%s/002-crop.png", dir);
    assert_false(dg_path_is_file(path));
}

static void a_gallery_that_names_files_of_other_folders_is_refused(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    dg_str out = {0};
    int64_t n;
    char path[800];
    const char *dir = test_path("hostile");
    static const char row[] =
        "{\"section\":\"s\",\"about\":\"\",\"row\":0,\"column\":\"c\",\"title\":\"\",\"note\":\"\","
        "\"verdict\":0,\"low\":0,\"high\":0,\"file\":\"../secret.png\"}\n";
    ASSERT_OK(dg_dir_make(dir, &err));
    snprintf(path, sizeof path, "%s/pictures.jsonl", dir);
    test_write(path, row, sizeof row - 1);
    ASSERT_FAILS(dg_gallery_put(&out, dir, 0, &n, &err), DG_ERR_FORMAT,
                 "'../secret.png' is no file of this folder");
    dg_str_free(&out);
}

/* ---- runs */

static bool run_has(const char *run, const char *file)
{
    char path[800];
    snprintf(path, sizeof path, "%s/%s", test_path(run), file);
    return dg_path_is_file(path);
}

static void a_run_ends_with_its_pictures_in_its_report(void **state)
{
    (void)state;
    size_t size;
    char path[800];
    must_train("pictured", 0, "train.steps=2 train.pictures=2");
    assert_true(run_has("pictured", "pictures/000-order.png"));
    assert_true(run_has("pictured", "pictures/001-next-loss.png"));
    assert_true(run_has("pictured", "pictures/001-visible.png"));
    assert_false(run_has("pictured", "pictures/002-crop.png"));
    snprintf(path, sizeof path, "%s/report.html", test_path("pictured"));
    char *page = read_file(path, &size);
    int pictures = 0;
    for (char *at = page; (at = strstr(at, "src=\"data:image/png;base64,")); at++) pictures++;
    assert_int_equal(pictures, 2 * 6); /* crop, order, and for both decoders prediction and loss */
    assert_null(strstr(page, "http"));
    dg_free(page);
}

static void no_pictures_are_made_where_none_are_asked_for(void **state)
{
    (void)state;
    must_train("plain", 0, "train.steps=2 train.pictures=0");
    assert_true(run_has("plain", "report.html"));
    assert_false(run_has("plain", "pictures/pictures.jsonl"));
}

/* The same weights and images give the same bytes, in the run or afterwards. */
static void pictures_drawn_again_are_the_same(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    opened o;
    char weights[800];
    int64_t n;
    must_train("again-a", 0, "train.steps=2 train.pictures=2");
    open_recipe(&o, "train.steps=2 train.pictures=2");
    snprintf(weights, sizeof weights, "%s/checkpoints/step-0000000002/model.safetensors",
             test_path("again-a"));
    const dg_visualize_options options = {
        .weights = weights, .run_dir = test_path("again-a"), .out = test_path("again-b")};
    ASSERT_OK(dg_visualize(o.recipe, o.plugins.registry, &options, &n, &err));
    assert_int_equal(n, 12);
    close_recipe(&o);
    static const char *const files[] = {"000-crop.png", "000-next.png", "001-visible-loss.png",
                                        "pictures.jsonl"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char a[800], b[800];
        size_t na, nb;
        snprintf(a, sizeof a, "%s/pictures/%s", test_path("again-a"), files[i]);
        snprintf(b, sizeof b, "%s/%s", test_path("again-b"), files[i]);
        char *x = read_file(a, &na), *y = read_file(b, &nb);
        assert_int_equal(na, nb);
        assert_memory_equal(x, y, na);
        dg_free(x);
        dg_free(y);
    }
}

static void a_classifier_is_shown_with_its_greatest_losses(void **state)
{
    (void)state;
    size_t size;
    char path[800];
    must_train("classifier", 0,
               "task=finetune ~tokenizer ~loss train.steps=2 train.pictures=1 "
               "data.synthetic_val_images=12");
    snprintf(path, sizeof path, "%s/report.html", test_path("classifier"));
    char *page = read_file(path, &size);
    assert_non_null(strstr(page, "What the classifier says"));
    assert_non_null(strstr(page, "Of 12 images of the same data."));
    assert_true(run_has("classifier", "pictures/picture-007.png")); /* four and four */
    dg_free(page);
}

/* A list of pictures that is broken costs the report its pictures only. */
static void a_report_survives_a_broken_gallery(void **state)
{
    (void)state;
    dg_error err = DG_ERROR_INIT;
    size_t size;
    char path[800];
    must_train("broken", 0, "train.steps=2 train.pictures=1");
    snprintf(path, sizeof path, "%s/pictures/000-crop.png", test_path("broken"));
    test_write(path, "no png", 6);
    ASSERT_OK(dg_report_write(test_path("broken"), &err));
    snprintf(path, sizeof path, "%s/report.html", test_path("broken"));
    char *page = read_file(path, &size);
    assert_non_null(strstr(page, "They cannot be shown: "));
    assert_non_null(strstr(page, "000-crop.png"));
    assert_non_null(strstr(page, "Recipe"));
    dg_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(components_are_found_in_the_order_of_their_variance),
        cmocka_unit_test(the_length_of_a_vector_does_not_change_its_colour),
        cmocka_unit_test(tokens_that_are_all_alike_get_one_colour),
        cmocka_unit_test(the_heat_scale_rises_in_brightness_from_end_to_end),
        cmocka_unit_test(every_digit_looks_different_and_stays_on_its_canvas),
        cmocka_unit_test(cells_tile_a_length_that_they_do_not_divide),
        cmocka_unit_test(pixels_are_told_from_features_by_their_numbers),
        cmocka_unit_test(predictions_are_placed_where_the_order_of_segments_says),
        cmocka_unit_test(losses_of_positions_are_those_of_a_training_step),
        cmocka_unit_test(pixel_tokens_of_a_look_are_recognised),
        cmocka_unit_test(hidden_patches_have_weight_and_all_are_placed),
        cmocka_unit_test(a_page_holds_the_bytes_of_its_pictures_and_escapes_texts),
        cmocka_unit_test(a_new_gallery_takes_the_old_ones_pictures_away_and_nothing_else),
        cmocka_unit_test(a_gallery_that_names_files_of_other_folders_is_refused),
        cmocka_unit_test(a_run_ends_with_its_pictures_in_its_report),
        cmocka_unit_test(no_pictures_are_made_where_none_are_asked_for),
        cmocka_unit_test(pictures_drawn_again_are_the_same),
        cmocka_unit_test(a_classifier_is_shown_with_its_greatest_losses),
        cmocka_unit_test(a_report_survives_a_broken_gallery),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
