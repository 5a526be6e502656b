/* Reading the folders of runs, grouping repeats, figures, differences, and the page of a comparison. */
#include "test.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/chart.h"
#include "train/compare.h"
#include "train/report.h"

static dg_error err = DG_ERROR_INIT;

/* ---- folders of runs, written by hand */

static void write_file(const char *run, const char *file, const char *text)
{
    char path[800];
    snprintf(path, sizeof path, "%s/%s", test_path(run), file);
    test_write(path, text, strlen(text));
}

/* A pretraining run of model `name` with `width`, which ends at `loss`. */
static const char *make_run(const char *run, int seed, const char *model, int width, const char *more,
                            double loss)
{
    static char folders[16][512]; /* they live longer than those of test_path */
    static unsigned next;
    char text[2048], *folder = folders[next++ % 16];
    snprintf(folder, sizeof folders[0], "%s", test_path(run));
    ASSERT_OK(dg_dir_make(folder, &err));
    snprintf(text, sizeof text,
             "task: pretrain\nname: %s\nseed: %d\noutput: /somewhere\ndata:\n  batch: 8\nmodel:\n  name: %s\n"
             "  width: %d\nloss: null\ntrain:\n  accumulate: 2\n%s",
             run, seed, model, width, more);
    write_file(run, "recipe.yaml", text);
    snprintf(text, sizeof text,
             "{\"step\":10,\"epoch\":1,\"loss\":%.6g,\"lr\":0.1}\n{\"step\":20,\"epoch\":2,\"loss\":%.6g,"
             "\"lr\":0.1}\n"
             "{\"step\":20,\"epo",
             loss + 1, loss);
    write_file(run, "metrics.jsonl", text);
    write_file(run, "timings.jsonl",
               "{\"step\":10,\"images_per_second\":16,\"data_wait\":0.25}\n"
               "{\"step\":20,\"images_per_second\":32,\"data_wait\":0.75}\n");
    write_file(run, "run.json", "{\"digpt\":\"0.1.0\",\"seed\":1,\"data\":\"shapes\"}");
    return folder;
}

static double figure(const dg_group *g, const char *title, dg_summary *s)
{
    size_t n;
    const dg_figure *all = dg_figures(&n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(all[i].title, title)) {
            dg_group_figure(g, &all[i], s);
            return s->mean;
        }
    fail_msg("there is no figure '%s'", title);
    return 0;
}

static void open_runs(dg_comparison *c, const char *const *words, size_t n)
{
    memset(c, 0, sizeof *c);
    ASSERT_OK(dg_comparison_open(words, n, c, &err));
}

/* ---- reading */

static void a_folder_is_read_as_keys_facts_and_curves(void **state)
{
    (void)state;
    dg_logbook b = {0};
    ASSERT_OK(dg_logbook_open(make_run("read", 3, "digpt", 16, "tokens: {list: [a, 1]}\n", 0.5), &b, &err));
    assert_string_equal(b.name, "read");
    assert_string_equal(b.task, "pretrain");
    assert_string_equal(b.seed, "3");
    assert_string_equal(dg_logbook_recipe(&b, "model.width"), "16");
    assert_string_equal(dg_logbook_recipe(&b, "tokens.list"), "[a, 1]");
    assert_string_equal(dg_logbook_recipe(&b, "loss.name"), "null");
    assert_string_equal(dg_logbook_fact(&b, "data"), "shapes");
    assert_string_equal(dg_logbook_fact(&b, "seed"), "1");
    const dg_series *s = dg_series_find(&b.metrics, "loss");
    assert_int_equal(s->n, 2); /* the unfinished line is passed over */
    assert_true(s->step[1] == 20 && s->value[1] == 0.5);
    dg_logbook_close(&b);
}

static void numbers_that_json_cannot_write_are_kept(void **state)
{
    (void)state;
    dg_logbook b = {0};
    const char *dir = make_run("infinite", 0, "m", 1, "", 1);
    write_file(
        "infinite", "metrics.jsonl",
        "{\"step\":1,\"loss\":\"nan\"}\n{\"step\":2,\"loss\":\"-inf\"}\n{\"step\":3,\"loss\":\"oops\"}\n");
    ASSERT_OK(dg_logbook_open(dir, &b, &err));
    const dg_series *s = dg_series_find(&b.metrics, "loss");
    assert_int_equal(s->n, 2);
    assert_true(isnan(s->value[0]) && s->value[1] == -INFINITY);
    dg_logbook_close(&b);
    ASSERT_OK(dg_report_write(dir, &err));
}

static void a_folder_that_is_no_run_is_refused_with_what_is_missing(void **state)
{
    (void)state;
    dg_logbook b = {0};
    ASSERT_FAILS(dg_logbook_open(test_path("nowhere"), &b, &err), DG_ERR_NOT_FOUND, "there is no folder '");
    dg_logbook_close(&b);
    ASSERT_OK(dg_dir_make(test_path("empty"), &err));
    ASSERT_FAILS(dg_logbook_open(test_path("empty"), &b, &err), DG_ERR_NOT_FOUND,
                 "is no run: it has no recipe.yaml, which `digpt run` writes");
    dg_logbook_close(&b);
}

static void broken_files_of_a_run_are_named_with_their_place(void **state)
{
    (void)state;
    dg_logbook b = {0};
    const char *dir = make_run("broken", 0, "m", 1, "", 1);
    write_file("broken", "metrics.jsonl", "{\"step\":1,\"loss\":}\n");
    ASSERT_FAILS(dg_logbook_open(dir, &b, &err), DG_ERR_FORMAT, "broken/metrics.jsonl:1:");
    dg_logbook_close(&b);
    write_file("broken", "metrics.jsonl", "[1]\n");
    ASSERT_FAILS(dg_logbook_open(dir, &b, &err), DG_ERR_FORMAT, "a line is no object");
    dg_logbook_close(&b);
    write_file("broken", "recipe.yaml", "a: [1\n");
    ASSERT_FAILS(dg_logbook_open(dir, &b, &err), DG_ERR_FORMAT, "broken/recipe.yaml:");
    dg_logbook_close(&b);
    write_file("broken", "recipe.yaml", "just words\n");
    ASSERT_FAILS(dg_logbook_open(dir, &b, &err), DG_ERR_FORMAT, "it is no map of keys");
    dg_logbook_close(&b);
}

/* Unknown sections and keys are what another version wrote; nothing checks them. */
static void a_run_of_another_version_is_read_all_the_same(void **state)
{
    (void)state;
    dg_logbook b = {0};
    const char *dir = make_run("other", 0, "gone", 1, "future:\n  key: 1\n  list: []\n", 1);
    write_file("other", "run.json", "{\"digpt\":\"9.0.0\",\"new\":{\"a\":1}}");
    ASSERT_OK(dg_logbook_open(dir, &b, &err));
    assert_string_equal(dg_logbook_recipe(&b, "future.key"), "1");
    assert_string_equal(dg_logbook_fact(&b, "digpt"), "9.0.0");
    assert_null(dg_logbook_fact(&b, "new"));
    dg_logbook_close(&b);
}

/* ---- grouping */

static void repeats_are_one_group_with_mean_and_spread(void **state)
{
    (void)state;
    dg_comparison c;
    dg_summary s;
    char text[80];
    const char *words[] = {make_run("digpt-seed0", 0, "digpt", 16, "", 0.5),
                           make_run("mae", 0, "mae", 16, "", 2),
                           make_run("digpt-seed1", 1, "digpt", 16, "", 0.7)};
    open_runs(&c, words, 3);
    assert_int_equal(c.n_groups, 2);
    assert_string_equal(c.groups[0].label, "digpt");
    assert_int_equal(c.groups[0].n, 2);
    assert_string_equal(c.groups[1].label, "mae");
    assert_true(fabs(figure(&c.groups[0], "loss", &s) - 0.6) < 1e-12);
    assert_true(fabs(s.spread - sqrt(0.02)) < 1e-12); /* of 0.5 and 0.7, divided by n - 1 */
    assert_string_equal(dg_summary_text(&s, false, text, sizeof text), "0.60 ± 0.14");
    assert_string_equal(dg_summary_text(&s, true, text, sizeof text), "60 ± 14 %");
    figure(&c.groups[1], "loss", &s);
    assert_string_equal(dg_summary_text(&s, false, text, sizeof text), "2");
    figure(&c.groups[1], "top-1", &s);
    assert_string_equal(dg_summary_text(&s, false, text, sizeof text), "");
    dg_comparison_close(&c);
}

static void figures_are_worked_out_from_the_logs(void **state)
{
    (void)state;
    dg_comparison c;
    dg_summary s;
    const char *dir = make_run("figures", 0, "m", 1, "", 1), *words[] = {dir};
    write_file("figures", "metrics.jsonl",
               "{\"step\":10,\"loss\":3,\"lr\":1}\n{\"step\":20,\"loss\":1,\"lr\":1}\n"
               "{\"step\":20,\"val_top1_lr0.1\":0.25,\"val_top1_lr0.2\":0.5,\"val_top5_lr0.1\":0.75}\n"
               "{\"k\":5,\"knn_top1\":0.125}\n{\"k\":20,\"knn_top1\":0.5}\n{\"effective_rank\":7}\n");
    open_runs(&c, words, 1);
    assert_true(figure(&c.groups[0], "steps", &s) == 20);
    assert_true(figure(&c.groups[0], "loss", &s) == 1);
    assert_true(figure(&c.groups[0], "top-1", &s) == 0.5);
    assert_true(figure(&c.groups[0], "top-5", &s) == 0.75);
    assert_true(figure(&c.groups[0], "kNN", &s) == 0.5);
    assert_true(figure(&c.groups[0], "eff. rank", &s) == 7);
    assert_true(figure(&c.groups[0], "data wait", &s) == 0.5);
    /* 10 steps of 16 images at 16 images a second, and 10 at 32: 10 and 5 seconds */
    assert_true(fabs(figure(&c.groups[0], "minutes", &s) - 0.25) < 1e-12);
    dg_comparison_close(&c);
}

/* The weights of a run count as its recipe: fine-tuning from the other seed's weights is a repeat. */
static void a_chain_of_runs_repeats_with_another_seed(void **state)
{
    (void)state;
    dg_comparison c;
    dg_difference *items;
    size_t n;
    char from[3][900];
    const char *words[3],
        *before[] = {make_run("pre-0", 0, "digpt", 16, "", 1), make_run("pre-1", 1, "digpt", 16, "", 1),
                     make_run("pre-wide", 0, "digpt", 32, "", 1)};
    static const char *const names[] = {"tune-0", "tune-1", "tune-wide"};
    for (int i = 0; i < 3; i++) {
        snprintf(from[i], sizeof from[i], "  init_from: %s/checkpoints/step-0000000020/model.safetensors\n",
                 before[i]);
        words[i] = make_run(names[i], i == 1, "digpt", 16, from[i], 1);
    }
    open_runs(&c, words, 3);
    assert_int_equal(c.n_groups, 2);
    assert_int_equal(c.groups[0].n, 2);
    ASSERT_OK(dg_comparison_differences(&c, "pretrain", &items, &n, &err));
    assert_int_equal(n, 1);
    assert_string_equal(items[0].key, "train.init_from");
    assert_string_equal(items[0].values[0], "pre-0/checkpoints/step-0000000020/model.safetensors");
    assert_string_equal(items[0].values[1], "pre-wide/checkpoints/step-0000000020/model.safetensors");
    dg_comparison_close(&c);
}

static void only_what_differs_is_listed_and_within_a_task(void **state)
{
    (void)state;
    dg_comparison c;
    dg_difference *items;
    size_t n;
    const char *words[] = {make_run("a", 0, "digpt", 16, "", 1),
                           make_run("b", 7, "mae", 16, "extra: {ratio: 0.75}\n", 1),
                           make_run("t", 0, "digpt", 99, "", 1)};
    char recipe[256];
    snprintf(recipe, sizeof recipe, "task: finetune\nname: t\nseed: 0\nmodel: {name: digpt, width: 99}\n");
    write_file("t", "recipe.yaml", recipe);
    open_runs(&c, words, 3);
    assert_int_equal(c.n_groups, 3);
    assert_string_equal(dg_comparison_task(&c, 0), "pretrain");
    assert_null(dg_comparison_task(&c, 1));
    assert_string_equal(dg_comparison_task(&c, 2), "finetune");
    ASSERT_OK(dg_comparison_differences(&c, "pretrain", &items, &n, &err));
    assert_int_equal(n, 2);
    assert_string_equal(items[0].key, "model.name");
    assert_string_equal(items[0].values[1], "mae");
    assert_string_equal(items[1].key, "extra.ratio");
    assert_null(items[1].values[0]);
    assert_string_equal(items[1].values[1], "0.75");
    ASSERT_OK(dg_comparison_differences(&c, "finetune", &items, &n, &err));
    assert_int_equal(n, 0);
    dg_comparison_close(&c);
}

static void labels_name_runs_and_keep_them_apart(void **state)
{
    (void)state;
    dg_comparison c;
    char first[900], second[900];
    snprintf(first, sizeof first, "D-iGPT=%s", make_run("labelled", 0, "digpt", 16, "", 1));
    snprintf(second, sizeof second, "again=%s", test_path("labelled"));
    const char *words[] = {first, second};
    open_runs(&c, words, 2);
    assert_int_equal(c.n_groups, 2);
    assert_string_equal(c.groups[0].label, "D-iGPT");
    assert_string_equal(c.groups[1].label, "again");
    dg_comparison_close(&c);
}

static void groups_of_one_name_get_their_folders(void **state)
{
    (void)state;
    dg_comparison c;
    ASSERT_OK(dg_dir_make(test_path("x"), &err));
    ASSERT_OK(dg_dir_make(test_path("y"), &err));
    const char *words[] = {make_run("x/run", 0, "digpt", 16, "", 1),
                           make_run("y/run", 0, "digpt", 17, "", 1)};
    open_runs(&c, words, 2);
    assert_int_equal(c.n_groups, 2);
    assert_non_null(strstr(c.groups[0].label, "/x/run)"));
    assert_non_null(strstr(c.groups[1].label, "/y/run)"));
    dg_comparison_close(&c);
}

/* ---- pages */

static char *read_page(const char *path)
{
    char *text = NULL;
    size_t size;
    ASSERT_OK(dg_file_read(path, 16 << 20, &text, &size, &err));
    return text;
}

static void the_page_has_figures_curves_and_differences_and_needs_no_network(void **state)
{
    (void)state;
    dg_comparison c;
    const char *words[] = {make_run("page-0", 0, "digpt", 16, "", 0.5),
                           make_run("page-1", 1, "digpt", 16, "", 0.7),
                           make_run("<mae>", 0, "mae", 16, "", 2)};
    open_runs(&c, words, 3);
    ASSERT_OK(dg_comparison_page(&c, test_path("page.html"), &err));
    dg_comparison_close(&c);
    char *page = read_page(test_path("page.html"));
    assert_non_null(strstr(page, "0.60 ± 0.14"));
    assert_non_null(strstr(page, "&lt;mae&gt;"));
    assert_null(strstr(page, "<mae>"));
    assert_non_null(strstr(page, "<code>model.name</code>"));
    assert_non_null(strstr(page, "class=\"band\"")); /* of the repeats */
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "nan"));
    dg_free(page);
}

static void the_table_has_a_column_for_each_figure_that_a_run_has(void **state)
{
    (void)state;
    dg_comparison c;
    dg_str rows = {0};
    const char *words[] = {make_run("table-0", 0, "digpt", 16, "", 0.5),
                           make_run("table-1", 1, "digpt", 16, "", 0.7)};
    open_runs(&c, words, 2);
    dg_comparison_table(&c, &rows);
    assert_string_equal(rows.text, "run\ttask\truns\tsteps\tloss\timages/s\tdata wait\tminutes\n"
                                   "table\tpretrain\t2\t20\t0.60 ± 0.14\t32\t50.00 %\t0.25\n");
    dg_str_free(&rows);
    dg_comparison_close(&c);
}

static void a_chart_of_nothing_finite_says_so(void **state)
{
    (void)state;
    dg_str out = {0};
    const double x[] = {1, 2, 3}, y[] = {NAN, INFINITY, NAN};
    const dg_curve curve = {.colour = "#000", .x = x, .y = y, .n = 3};
    const dg_chart chart = {"loss", NULL, "step", false, &curve, 1};
    dg_chart_lines(&out, &chart);
    assert_non_null(strstr(out.text, "no finite number"));
    assert_null(strstr(out.text, "<svg"));
    dg_str_free(&out);
}

static void a_gap_of_a_curve_is_a_gap_and_every_point_is_inside(void **state)
{
    (void)state;
    dg_str out = {0};
    const double x[] = {0, 1, 2, 3, 4}, y[] = {1, 2, NAN, 5, 3};
    const dg_curve curve = {.colour = "#123456", .x = x, .y = y, .n = 5};
    const dg_chart chart = {"loss", NULL, "step", false, &curve, 1};
    dg_chart_lines(&out, &chart);
    char *path = strstr(out.text, "class=\"line\"");
    assert_non_null(path);
    path = strstr(path, "d=\"") + 3;
    int moves = 0, points = 0;
    for (char *at = path; *at != '"'; at++) {
        double px, py;
        if (*at != 'M' && *at != 'L') continue;
        moves += *at == 'M';
        points++;
        assert_int_equal(sscanf(at + 1, "%lf %lf", &px, &py), 2);
        assert_true(px >= 0 && px <= 400 && py >= 0 && py <= 230);
    }
    assert_int_equal(points, 4);
    assert_int_equal(moves, 2);
    dg_str_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_read_as_keys_facts_and_curves),
        cmocka_unit_test(numbers_that_json_cannot_write_are_kept),
        cmocka_unit_test(a_folder_that_is_no_run_is_refused_with_what_is_missing),
        cmocka_unit_test(broken_files_of_a_run_are_named_with_their_place),
        cmocka_unit_test(a_run_of_another_version_is_read_all_the_same),
        cmocka_unit_test(repeats_are_one_group_with_mean_and_spread),
        cmocka_unit_test(figures_are_worked_out_from_the_logs),
        cmocka_unit_test(a_chain_of_runs_repeats_with_another_seed),
        cmocka_unit_test(only_what_differs_is_listed_and_within_a_task),
        cmocka_unit_test(labels_name_runs_and_keep_them_apart),
        cmocka_unit_test(groups_of_one_name_get_their_folders),
        cmocka_unit_test(the_page_has_figures_curves_and_differences_and_needs_no_network),
        cmocka_unit_test(the_table_has_a_column_for_each_figure_that_a_run_has),
        cmocka_unit_test(a_chart_of_nothing_finite_says_so),
        cmocka_unit_test(a_gap_of_a_curve_is_a_gap_and_every_point_is_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
