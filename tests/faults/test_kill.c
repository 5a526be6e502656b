/* test_kill.c - the real program, killed at any instant and resumed, ends with the bytes of a run that was
 * not. */
#include "campaign.h"

#include <sys/stat.h>
#include <time.h>

enum { STEPS = 40 };

static double whole, startup; /* seconds of a run, and of it before the first checkpoint */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_for(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
}

/* A number that is another for every checkpoint that is being written; 0: none is. What a killed process left
 * stays until the next is written. */
static int64_t writing(const char *dir)
{
    char path[800];
    struct stat st;
    snprintf(path, sizeof path, "%s/checkpoints/writing", test_path(dir));
    return stat(path, &st) == 0 ? (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec : 0;
}

/* Waits until a checkpoint is being written that is not `old`, and then up to a few milliseconds more; false
 * when that does not happen, as at the end of the run. */
static bool wait_for_writing(const char *dir, int64_t old, double more)
{
    for (double end = now() + 5; now() < end; pause_for(2e-5)) {
        int64_t it = writing(dir);
        if (it == 0 || it == old) continue;
        pause_for(more);
        return true;
    }
    return false;
}

static void killed_at_any_instant_it_ends_with_the_same_bytes(void **state)
{
    (void)state;
    enum { STARTING, RESUMING, TRAINING, WRITING };
    const int wanted = campaign_size(25);
    dg_rng rng = dg_rng_make(20, 0, 0, 0);
    char dir[32];
    int kills = 0, runs = 0, at[4] = {0};
    while (kills < wanted) {
        snprintf(dir, sizeof dir, "killed-%d", runs++);
        for (bool done = false; !done;) {
            const long long before = campaign_newest(dir);
            const int64_t old = writing(dir);
            pid_t pid = campaign_start(dir, NULL);
            double share = dg_rng_uniform(&rng);
            if (kills >= wanted) {
                campaign_must_end(pid, 0);
                break;
            }
            if (kills % 3 == 0)
                pause_for(startup * share);
            else if (kills % 3 == 1)
                pause_for(whole * share);
            else
                wait_for_writing(dir, old, 0.004 * share);
            kill(pid, SIGKILL);
            int code = campaign_finish(pid);
            done = code == 0;
            if (code != 0 && code != -SIGKILL)
                fail_msg("exit code %d after %d kills:\n%s", code, kills, campaign_log());
            if (campaign_newest(dir) < before)
                fail_msg("the checkpoint of step %lld was lost after %d kills", before, kills);
            if (done) continue;
            kills++;
            at[!strstr(campaign_log(), ", from step ")    ? before < 0 ? STARTING : RESUMING
               : writing(dir) != 0 && writing(dir) != old ? WRITING
                                                          : TRAINING]++;
        }
        assert_same_run("straight", dir, STEPS);
    }
    print_message("%d kills in %d runs: %d while starting, %d while resuming, %d while training, %d while "
                  "writing a checkpoint; all runs ended with the same bytes\n",
                  kills, runs, at[STARTING], at[RESUMING], at[TRAINING], at[WRITING]);
}

static void sigterm_writes_a_checkpoint_and_says_continue(void **state)
{
    (void)state;
    pid_t pid = campaign_start("terminated", NULL);
    assert_true(wait_for_writing("terminated", 0, 0));
    kill(pid, SIGTERM);
    campaign_must_end(pid, 75);
    campaign_must_end(campaign_start("terminated", NULL), 0);
    assert_same_run("straight", "terminated", STEPS);
}

static int open_group(void **state)
{
    (void)state;
    double t = now();
    campaign_open("train={steps: 40, accumulate: 2, log_every: 3, checkpoint_every: 1, keep_last: 2}");
    whole = now() - t;
    t = now();
    pid_t pid = campaign_start("begun", NULL);
    assert_true(wait_for_writing("begun", 0, 0));
    startup = now() - t;
    kill(pid, SIGKILL);
    campaign_finish(pid);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_instant_it_ends_with_the_same_bytes),
        cmocka_unit_test(sigterm_writes_a_checkpoint_and_says_continue),
    };
    return cmocka_run_group_tests_name("faults kill", tests, open_group, NULL);
}
