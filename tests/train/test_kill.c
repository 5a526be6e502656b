/* test_kill.c - the real program, killed at any instant and resumed, ends with the bytes of a run that was
 * not. */
#include "train_support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "digpt/philox.h"

enum { KILLS = 25, STEPS = 40 };

static bool has_cpu; /* the backend of that name: else the interpreter */

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

/* `digpt run RECIPE --dir DIR --resume` with its output in a file; the process. */
static pid_t start(const char *dir)
{
    const char *recipe = test_path("recipe.yaml"), *log = test_path("log"), *run = test_path(dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execl(DIGPT_BINARY_DIR "/bin/digpt", "digpt", "run", recipe, "--dir", run, "--resume",
          "train={steps: 40, log_every: 3, checkpoint_every: 1, keep_last: 2}",
          has_cpu ? "backend.name=cpu" : "backend.name=reference", (char *)NULL);
    _exit(127);
}

/* Its exit code, or -signal. */
static int finish(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void must_end(pid_t pid, int code)
{
    int got = finish(pid);
    if (got == code) return;
    size_t n;
    char *text = read_file(test_path("log"), &n);
    fail_msg("exit code %d, not %d:\n%s", got, code, text);
}

/* The recipe, and a run of it that nothing disturbed in "straight"; how long that took. */
static double undisturbed(void)
{
    static double seconds;
    if (seconds > 0) return seconds;
    has_cpu = has_backend("cpu");
    test_write(test_path("recipe.yaml"), tiny, strlen(tiny));
    double t = now();
    must_end(start("straight"), 0);
    seconds = now() - t;
    return seconds;
}

/* Waits until a checkpoint is being written, and then up to a few milliseconds more; false when that does not
 * happen, as at the end of the run. */
static bool wait_for_writing(const char *dir, double more)
{
    char path[800];
    snprintf(path, sizeof path, "%s/checkpoints/writing", test_path(dir));
    for (double end = now() + 5; now() < end; pause_for(2e-5))
        if (dg_path_is_dir(path)) {
            pause_for(more);
            return true;
        }
    return false;
}

static void killed_at_any_instant_it_ends_with_the_same_bytes(void **state)
{
    (void)state;
    const double whole = undisturbed();
    dg_rng rng = dg_rng_make(20, 0, 0, 0);
    char dir[32];
    int kills = 0, runs = 0;
    while (kills < KILLS) {
        snprintf(dir, sizeof dir, "killed-%d", runs++);
        for (bool done = false; !done;) {
            pid_t pid = start(dir);
            double share = dg_rng_uniform(&rng);
            if (kills >= KILLS) {
                must_end(pid, 0);
                break;
            }
            if (kills % 3 == 2)
                wait_for_writing(dir, 0.004 * share);
            else
                pause_for(0.4 * whole * share * share); /* start-up more often than the rest */
            kill(pid, SIGKILL);
            int code = finish(pid);
            done = code == 0;
            kills += code == -SIGKILL;
            if (code != 0 && code != -SIGKILL) fail_msg("exit code %d after %d kills", code, kills);
        }
        assert_same_run("straight", dir, STEPS);
    }
}

static void sigterm_writes_a_checkpoint_and_says_continue(void **state)
{
    (void)state;
    undisturbed();
    pid_t pid = start("terminated");
    assert_true(wait_for_writing("terminated", 0));
    kill(pid, SIGTERM);
    must_end(pid, 75);
    must_end(start("terminated"), 0);
    assert_same_run("straight", "terminated", STEPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_instant_it_ends_with_the_same_bytes),
        cmocka_unit_test(sigterm_writes_a_checkpoint_and_says_continue),
    };
    return cmocka_run_group_tests_name("train kill", tests, NULL, NULL);
}
