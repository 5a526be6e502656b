/* test_emulator.c - the emulator finds the mistakes that it is there to find, and nothing in a kernel that is
 * right. Each planted mistake (planted.cu) runs in a process of its own, since some end in a signal. */
#include "test.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "planted.h"

static planted_run_function *run; /* NULL: not built */

static int open_module(void **state)
{
    (void)state;
    void *object = dlopen(DIGPT_BINARY_DIR "/tests/reference/module-cuda-planted.so", RTLD_NOW | RTLD_LOCAL);
    if (object) *(void **)&run = dlsym(object, "planted_run");
    return object && !run;
}

/* The outcome, or PLANTED_BROKEN + a signal's number. */
static int outcome(int mistake, uint32_t seed)
{
    int status = 0;
    if (!run) skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE,
                                      SIGILL}; /* cmocka's own handlers would go on */
        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], SIG_DFL);
        int quiet = open("/dev/null", O_WRONLY); /* reports are expected */
        if (quiet >= 0) dup2(quiet, 2);
        _exit(run(mistake, seed));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? PLANTED_BROKEN + WTERMSIG(status) : WEXITSTATUS(status);
}

static void a_right_kernel_gives_the_right_result_in_every_schedule(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 20; seed++) assert_int_equal(outcome(PLANTED_NONE, seed), PLANTED_RIGHT);
}

static void is_reported(int mistake)
{
    for (uint32_t seed = 0; seed < 5; seed++) assert_int_equal(outcome(mistake, seed), PLANTED_REPORTED);
}

static void a_missing_barrier_is_reported(void **state)
{
    (void)state;
    is_reported(PLANTED_NO_BARRIER);
    is_reported(PLANTED_NO_SECOND_BARRIER);
    is_reported(PLANTED_NO_WARP_BARRIER);
}

static void a_missing_wait_for_asynchronous_copies_is_reported(void **state)
{
    (void)state;
    is_reported(PLANTED_NO_COPY_WAIT);
}

/* Past the last page nothing may be touched; before that the watch knows the exact size. */
static void a_global_overrun_ends_the_process_or_is_reported(void **state)
{
    (void)state;
    assert_true(outcome(PLANTED_GLOBAL_OVERRUN, 0) > PLANTED_BROKEN);
    is_reported(PLANTED_GLOBAL_OVERREAD);
}

static void a_shared_overrun_ends_the_process_at_once(void **state)
{
    (void)state;
    assert_true(outcome(PLANTED_SHARED_OVERRUN, 0) > PLANTED_BROKEN);
}

static void shared_memory_that_nobody_wrote_spoils_the_result(void **state)
{
    (void)state;
    int o = outcome(PLANTED_UNINITIALISED, 0);
    assert_true(o == PLANTED_WRONG || o == PLANTED_REPORTED);
}

static void a_misaligned_access_is_reported(void **state)
{
    (void)state;
    int o = outcome(PLANTED_MISALIGNED, 0);
    assert_true(o == PLANTED_REPORTED || o > PLANTED_BROKEN);
}

static void threads_that_part_at_a_barrier_or_collective_are_reported(void **state)
{
    (void)state;
    is_reported(PLANTED_DIVERGENT_BARRIER);
    is_reported(PLANTED_DIVERGENT_COLLECTIVE);
}

static void two_blocks_that_write_one_address_are_reported(void **state)
{
    (void)state;
    is_reported(PLANTED_TWO_BLOCKS);
}

/* The copy's stream was made first, so in order it would win; a random schedule may let the kernel win. */
static void a_missing_wait_between_streams_spoils_the_result(void **state)
{
    (void)state;
    int wrong = 0;
    for (uint32_t seed = 0; seed < 8; seed++) wrong += outcome(PLANTED_NO_STREAM_WAIT, seed) == PLANTED_WRONG;
    assert_true(wrong > 0);
}

static void memory_of_the_host_and_of_the_device_are_told_apart(void **state)
{
    (void)state;
    is_reported(PLANTED_HOST_MEMORY);
    assert_true(outcome(PLANTED_HOST_TOUCHES_DEVICE, 0) > PLANTED_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_kernel_gives_the_right_result_in_every_schedule),
        cmocka_unit_test(a_missing_barrier_is_reported),
        cmocka_unit_test(a_missing_wait_for_asynchronous_copies_is_reported),
        cmocka_unit_test(a_global_overrun_ends_the_process_or_is_reported),
        cmocka_unit_test(a_shared_overrun_ends_the_process_at_once),
        cmocka_unit_test(shared_memory_that_nobody_wrote_spoils_the_result),
        cmocka_unit_test(a_misaligned_access_is_reported),
        cmocka_unit_test(threads_that_part_at_a_barrier_or_collective_are_reported),
        cmocka_unit_test(two_blocks_that_write_one_address_are_reported),
        cmocka_unit_test(a_missing_wait_between_streams_spoils_the_result),
        cmocka_unit_test(memory_of_the_host_and_of_the_device_are_told_apart),
    };
    return cmocka_run_group_tests(tests, open_module, NULL);
}
