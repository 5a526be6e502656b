/* test_disk.c - files that fail while the real program trains: it goes on as if nothing had been, or it ends
 * with a message that says why; the last checkpoint can be gone on from, to the bytes of a run that nothing
 * disturbed. */
#include "campaign.h"

enum { STEPS = 9, SHARE = 8 };

typedef struct fault {
    const char *name; /* as in shim.c */
    const char *says; /* what the message of the program must hold */
    int range;        /* of instants that are drawn at random */
} fault;

static const fault faults[] = {
    {"full", "No space left on device", 0 /* bytes: all_bytes */},
    {"read", "Input/output error", 150},
    {"write", "Input/output error", 900},
    {"sync", "Input/output error", 50},
    {"rename", "Input/output error", 20},
};
enum { N_FAULTS = sizeof faults / sizeof faults[0] };

static uint64_t all_bytes; /* that a run writes */

static uint64_t bytes_below(const char *path)
{
    uint64_t sum = 0;
    size_t n;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char full[1024];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        if (dg_path_is_dir(full)) {
            sum += bytes_below(full);
        } else {
            dg_free(read_file(full, &n));
            sum += n;
        }
    }
    closedir(d);
    return sum;
}

/* How often the fault of the last run has struck. */
static int struck(void)
{
    char *text = NULL;
    size_t size = 0;
    int n = 0;
    if (dg_file_read(test_path("faults"), 64 << 20, &text, &size, NULL) == DG_OK)
        for (size_t i = 0; i < size; i++) n += text[i] == '\n';
    dg_free(text);
    unlink(test_path("faults"));
    return n;
}

/* The program's exit code with fault number n. */
static int run_with(const char *dir, const char *name, uint64_t n, bool for_good)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%llu%s", name, (unsigned long long)n, for_good ? "+" : "");
    return campaign_finish(campaign_start(dir, text));
}

/* It ended in order, and said why. */
static void assert_reported(const char *name, uint64_t n, int code, const char *says)
{
    const char *log = campaign_log();
    if (code != 1 || !strstr(log, "error: ") || !strstr(log, says))
        fail_msg("%s:%llu: exit code %d, and this does not say '%s':\n%s", name, (unsigned long long)n, code,
                 says, log);
}

/* Without the fault it goes on from the newest checkpoint. */
static void must_go_on(const char *dir)
{
    char says[64];
    long long newest = campaign_newest(dir);
    campaign_must_end(campaign_start(dir, NULL), 0);
    snprintf(says, sizeof says, ", from step %lld, ", newest > 0 ? newest : 0);
    if (!strstr(campaign_log(), says)) fail_msg("this does not say '%s':\n%s", says, campaign_log());
}

/* A new run for each instant, or one that goes on from step 3, until it ends before the fault strikes. */
static void at_many_instants(const fault *f, bool for_good, bool resuming, uint64_t first, uint64_t step)
{
    int n_unharmed = 0, n_reported = 0;
    for (uint64_t n = first;; n += step) {
        dg_error err;
        ASSERT_OK(dg_dir_remove(test_path("run"), &err));
        if (resuming) {
            campaign_must_end(campaign_start("run", NULL), 0);
            forget_after("run", 3);
        }
        int code = run_with("run", f->name, n, for_good);
        if (!struck()) {
            assert_int_equal(code, 0);
            break;
        }
        if (resuming && campaign_newest("run") < 3)
            fail_msg("%s:%d: the checkpoint was lost", f->name, (int)n);
        if (code != 0) {
            assert_reported(f->name, n, code, f->says);
            must_go_on("run");
            n_reported++;
        } else {
            n_unharmed++;
            if (strcmp(f->name, "read") && !strstr(campaign_log(), f->says)) /* a read may be repeated */
                fail_msg("%s:%d was passed over in silence:\n%s", f->name, (int)n, campaign_log());
        }
        assert_same_run("straight", "run", STEPS);
    }
    print_message("%s%s%s: %d instants, %d unharmed, %d reported and gone on from\n", f->name,
                  for_good ? " from then on" : "", resuming ? ", resuming" : "", n_unharmed + n_reported,
                  n_unharmed, n_reported);
    assert_true(n_reported > 0);
}

/* Every one in a campaign. */
static uint64_t stride(uint64_t otherwise)
{
    return campaign_size(0) ? 1 : otherwise;
}

static void a_full_disk_is_reported_wherever_it_strikes(void **state)
{
    (void)state;
    uint64_t pieces = (uint64_t)campaign_size(SHARE);
    at_many_instants(&faults[0], true, false, 0, all_bytes / pieces);
}

static void a_read_that_fails_once_is_repeated_or_reported(void **state)
{
    (void)state;
    at_many_instants(&faults[1], false, false, 1, stride(9));
}

static void reads_that_fail_from_then_on_are_reported(void **state)
{
    (void)state;
    at_many_instants(&faults[1], true, false, 1, stride(19));
}

static void a_resume_that_cannot_read_loses_nothing(void **state)
{
    (void)state;
    at_many_instants(&faults[1], false, true, 1, stride(11));
    at_many_instants(&faults[1], true, true, 1, stride(23));
}

static void a_write_that_fails_is_reported(void **state)
{
    (void)state;
    at_many_instants(&faults[2], false, false, 1, stride(97));
}

static void a_sync_that_fails_is_reported(void **state)
{
    (void)state;
    at_many_instants(&faults[3], false, false, 1, stride(9));
}

static void a_rename_that_fails_is_reported(void **state)
{
    (void)state;
    at_many_instants(&faults[4], false, false, 1, stride(5));
}

static void reads_and_writes_in_parts_change_nothing(void **state)
{
    (void)state;
    const int seeds = campaign_size(0) ? 20 : 3;
    int parts = 0;
    for (int i = 1; i <= seeds; i++) {
        dg_error err;
        ASSERT_OK(dg_dir_remove(test_path("run"), &err));
        int code = run_with("run", "short", (uint64_t)i, false);
        if (code != 0) fail_msg("seed %d: exit code %d:\n%s", i, code, campaign_log());
        parts += struck();
        assert_same_run("straight", "run", STEPS);
    }
    print_message("short: %d runs with %d partial reads and writes\n", seeds, parts);
    assert_true(parts > 10 * seeds);
}

/* Every process of a run meets another fault: start-up, training and resuming alike. */
static void through_many_faults_it_ends_with_the_same_bytes(void **state)
{
    (void)state;
    const int wanted = campaign_size(12);
    dg_rng rng = dg_rng_make(21, 0, 0, 0);
    char dir[32];
    int n = 0, runs = 0;
    while (n < wanted) {
        snprintf(dir, sizeof dir, "faults-%d", runs++);
        for (int code = -1; code != 0;) {
            const fault *f = &faults[(size_t)(N_FAULTS * dg_rng_uniform(&rng))];
            double range = f->range ? f->range : (double)all_bytes;
            uint64_t instant = 1 + (uint64_t)(range * dg_rng_uniform(&rng) * dg_rng_uniform(&rng));
            long long before = campaign_newest(dir);
            code = run_with(dir, f->name, instant, dg_rng_uniform(&rng) < 0.5);
            n += struck() > 0;
            if (code != 0) assert_reported(f->name, instant, code, f->says);
            if (campaign_newest(dir) < before)
                fail_msg("%s:%llu: the checkpoint of step %lld was lost", f->name,
                         (unsigned long long)instant, before);
        }
        assert_same_run("straight", dir, STEPS);
    }
    print_message("%d faults in %d runs; all runs ended with the same bytes\n", n, runs);
}

static int open_group(void **state)
{
    (void)state;
    campaign_open("train={steps: 9, accumulate: 2, log_every: 2, checkpoint_every: 3, keep_last: 100}");
    all_bytes = bytes_below(test_path("straight"));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_reported_wherever_it_strikes),
        cmocka_unit_test(a_read_that_fails_once_is_repeated_or_reported),
        cmocka_unit_test(reads_that_fail_from_then_on_are_reported),
        cmocka_unit_test(a_resume_that_cannot_read_loses_nothing),
        cmocka_unit_test(a_write_that_fails_is_reported),
        cmocka_unit_test(a_sync_that_fails_is_reported),
        cmocka_unit_test(a_rename_that_fails_is_reported),
        cmocka_unit_test(reads_and_writes_in_parts_change_nothing),
        cmocka_unit_test(through_many_faults_it_ends_with_the_same_bytes),
    };
    return cmocka_run_group_tests_name("faults disk", tests, open_group, NULL);
}
