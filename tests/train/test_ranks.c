/* test_ranks.c - runs of several processes: they are one run, they stop together, they fail together. What
 * needs an MPI launcher is skipped where there is none. */
#include "train_support.h"

#include <ctype.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "data/image.h"
#include "train/ranks.h"

static dg_error err = DG_ERROR_INIT;
static char output[1 << 18]; /* of the latest launch, both streams */
static char program[600];    /* this test */

/* ---- launching */

/* Reads what a program says to its end; its exit code, or 128 and the signal. */
static int finish(FILE *f)
{
    size_t n = 0, more;
    if (!f) fail_msg("cannot start a program");
    while (n < sizeof output - 1 && (more = fread(output + n, 1, sizeof output - 1 - n, f)) > 0) n += more;
    output[n] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* mpirun for so many ranks, nothing for 0. */
static void prefix(int ranks, const char *before, char *out, size_t size)
{
    snprintf(out, size, "%s ", before);
    size_t n = strlen(out);
    if (ranks)
        snprintf(out + n, size - n, "mpirun --allow-run-as-root --oversubscribe --bind-to none -n %d ",
                 ranks);
}

static void command_of(int ranks, const char *before, const char *run, const char *overrides, char *out,
                       size_t size)
{
    char tiny_path[600];
    snprintf(tiny_path, sizeof tiny_path, "%s", test_path("tiny.yaml"));
    test_write(tiny_path, tiny, strlen(tiny));
    prefix(ranks, before, out, size);
    size_t n = strlen(out);
    snprintf(out + n, size - n,
             "%s/bin/digpt run %s --dir %s backend.name=cpu data.batch=8 train.pictures=0 %s 2>&1",
             DIGPT_BINARY_DIR, tiny_path, test_path(run), overrides);
}

/* Trains in test_dir()/run with so many ranks, and says the exit code. */
static int launch_with(int ranks, const char *before, const char *run, const char *overrides)
{
    char command[4096];
    command_of(ranks, before, run, overrides, command, sizeof command);
    return finish(popen(command, "r"));
}

static void must_launch(int ranks, const char *run, const char *overrides)
{
    int code = launch_with(ranks, "", run, overrides);
    if (code != 0) fail_msg("%d ranks with '%s' end with %d:\n%s", ranks, overrides, code, output);
}

static void need_mpi(void)
{
    opened o;
    dg_component_ref ref;
    open_recipe(&o, "");
    bool there = dg_registry_find(o.plugins.registry, DG_COLLECTIVE_INTERFACE, "mpi", &ref, NULL) == DG_OK;
    close_recipe(&o);
    if (!there || !has_backend("cpu")) {
        print_message("skipped: this build has no ranks over MPI, or no cpu backend\n");
        skip();
    }
    if (finish(popen("mpirun --version 2>&1", "r")) != 0 || !strstr(output, "Open MPI")) {
        print_message("skipped: there is no mpirun of Open MPI\n");
        skip();
    }
}

static int times_said(const char *text)
{
    int n = 0;
    for (const char *at = output; (at = strstr(at, text)); at += strlen(text)) n++;
    return n;
}

static void assert_said_once(const char *text)
{
    if (times_said(text) != 1)
        fail_msg("said %d times, not once: '%s'. All that was said:\n%s", times_said(text), text, output);
}

/* ---- comparing */

/* The largest difference of a number in the lines of two metrics.jsonl, relative to the first. */
static double metrics_apart(const char *run_a, const char *run_b, const char *key)
{
    char path[800], quoted[64];
    size_t n;
    char *text[2], *at[2];
    double worst = 0;
    int found = 0;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/metrics.jsonl", test_path(i ? run_b : run_a));
        text[i] = at[i] = read_file(path, &n);
    }
    while ((at[0] = strstr(at[0], quoted)) && (at[1] = strstr(at[1], quoted))) {
        double a = strtod(at[0] += strlen(quoted), NULL), b = strtod(at[1] += strlen(quoted), NULL);
        worst = fmax(worst, fabs(a - b) / fmax(fabs(a), 1e-9));
        found++;
    }
    if (!found) fail_msg("%s and %s have no lines with %s", run_a, run_b, key);
    dg_free(text[0]);
    dg_free(text[1]);
    return worst;
}

/* The largest difference of two runs' first moments after step 1, that is of their gradients, each tensor in
 * units of its own largest. */
static double moments_apart(const char *run_a, const char *run_b)
{
    char path[800];
    dg_weights *w[2];
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/checkpoints/step-0000000001/optimizer.safetensors",
                 test_path(i ? run_b : run_a));
        ASSERT_OK(dg_weights_open(path, &w[i], &err));
    }
    for (size_t i = 0; i < dg_weights_count(w[0]); i++) {
        const dg_weight *a = dg_weights_at(w[0], i), *b = dg_weights_find(w[1], a->name);
        /* The true gradient of the keys' biases is zero: only rounding. */
        if (strncmp(a->name, DG_MOMENT_1, strlen(DG_MOMENT_1)) || strstr(a->name, "kv.bias")) continue;
        assert_non_null(b);
        float *x = dg_calloc((size_t)a->count, sizeof *x), *y = dg_calloc((size_t)a->count, sizeof *y);
        double most = 0, apart = 0;
        ASSERT_OK(dg_weight_read_f32(a, x, (size_t)a->count, &err));
        ASSERT_OK(dg_weight_read_f32(b, y, (size_t)a->count, &err));
        for (int64_t k = 0; k < a->count; k++) {
            most = fmax(most, fabs((double)x[k]));
            apart = fmax(apart, fabs((double)x[k] - (double)y[k]));
        }
        worst = fmax(worst, apart / fmax(most, 1e-20));
        dg_free(x);
        dg_free(y);
    }
    dg_weights_close(w[0]);
    dg_weights_close(w[1]);
    return worst;
}

static void assert_near(const char *a, const char *b)
{
    double gradients = moments_apart(a, b), loss = metrics_apart(a, b, "loss");
    if (!(gradients < 1e-5)) fail_msg("gradients of %s and %s are %g apart", a, b, gradients);
    if (!(loss < 1e-4)) fail_msg("losses of %s and %s are %g apart", a, b, loss);
}

/* ---- one run */

static const char each_step[] = "train.checkpoint_every=1 ";

static void ranks_give_the_trajectory_of_one_process(void **state)
{
    (void)state;
    need_mpi();
    must_launch(0, "one", each_step);
    must_launch(2, "two", each_step);
    must_launch(4, "four", each_step);
    assert_near("one", "two");
    assert_near("one", "four");
    must_launch(2, "less",
                "train.checkpoint_every=1 data.batch=4"); /* and a test that could not fail is none */
    assert_true(moments_apart("one", "less") > 1e-2);
}

static void ranks_accumulate_and_clip_as_one_process(void **state)
{
    (void)state;
    static const char both[] =
        "train.checkpoint_every=1 train.accumulate=2 optimizer.clip_norm=0.5 train.ema_decay=0.9";
    need_mpi();
    must_launch(0, "clip-one", both);
    must_launch(2, "clip-two", both);
    assert_near("clip-one", "clip-two");
    assert_true(metrics_apart("clip-one", "clip-two", "grad_norm") < 1e-4);
}

static const char finetuning[] =
    "train.checkpoint_every=1 task=finetune data.synthetic_val_images=37 finetune.mixup=0 finetune.cutmix=0 "
    "finetune.erase=0.25 finetune.drop_path=0.2 finetune.head_std=0.5 finetune.evaluate_every=1 "
    "train.steps=16 ";

static void ranks_fine_tune_as_one_process_and_count_each_image_once(void **state)
{
    (void)state;
    need_mpi();
    must_launch(0, "tuned-one", finetuning);
    must_launch(4, "tuned-four", finetuning);
    assert_near("tuned-one", "tuned-four");
    assert_true(metrics_apart("tuned-one", "tuned-four", "val_top1") == 0);
    assert_true(metrics_apart("tuned-one", "tuned-four", "val_top5") == 0);
    assert_true(metrics_apart("tuned-one", "tuned-four", "val_loss") < 1e-4);
}

static void ranks_mix_within_their_share(void **state)
{
    (void)state;
    need_mpi();
    must_launch(2, "mixed", "task=finetune data.synthetic_val_images=16 train.steps=4");
}

static void resumed_ranks_equal_ranks_that_were_not_stopped(void **state)
{
    (void)state;
    need_mpi();
    must_launch(2, "straight", "");
    must_launch(2, "resumed", "");
    forget_after("resumed", 4);
    must_launch(2, "resumed", "--resume");
    assert_same_run("straight", "resumed", 10);
    must_launch(0, "other-number", "");
    forget_after("other-number", 4);
    must_launch(4, "other-number", "--resume");
    assert_said_once("the checkpoint was written with ranks=1, and this is ranks=4");
    assert_true(metrics_apart("straight", "other-number", "loss") < 1e-4);
}

static void only_the_first_rank_speaks_and_writes(void **state)
{
    (void)state;
    need_mpi();
    must_launch(2, "spoken", "");
    assert_said_once("10 steps done");
    assert_said_once("step 10/10");
    assert_said_once("2 processes share each batch, over mpi");
}

static void a_time_limit_stops_all_ranks(void **state)
{
    (void)state;
    need_mpi();
    int code = launch_with(2, "", "limit",
                           "train.time_limit=0.01 train.checkpoint_every=1000000 train.steps=1000000");
    assert_int_equal(code, 75);
    assert_said_once("stopped at step");
}

/* ---- failing */

static void an_image_that_one_rank_cannot_read_ends_all_with_one_message(void **state)
{
    (void)state;
    char overrides[1024], list_path[800], path[800];
    uint8_t pixels[32 * 32 * 3] = {0};
    void *png;
    size_t size;
    dg_str list = {0};
    need_mpi();
    ASSERT_OK(dg_dir_make(test_path("pictures"), &err));
    ASSERT_OK(dg_image_encode_png(pixels, 32, 32, &png, &size, &err));
    for (int i = 0; i < 16; i++) { /* of the first batch, rank 1 has the pictures 4 to 7 */
        snprintf(path, sizeof path, "%s/%02d.png", test_path("pictures"), i);
        if (i < 6)
            test_write(path, png, size);
        else
            test_write(path, "no picture", 10);
        dg_str_printf(&list, "%02d.png\n", i);
    }
    snprintf(list_path, sizeof list_path, "%s/list", test_path("pictures"));
    test_write(list_path, list.text, list.length);
    dg_str_free(&list);
    dg_free(png);
    snprintf(overrides, sizeof overrides,
             "data.source=list data.path=%s data.on_bad_image=fail data.shuffle=false", list_path);
    int code = launch_with(2, "", "bad-image", overrides);
    assert_int_equal(code, 1);
    assert_said_once("error: rank 1 of 2: ");
    assert_said_once("06.png");
}

static void a_loss_that_is_no_number_is_found_by_all_and_told_once(void **state)
{
    (void)state;
    need_mpi();
    int code = launch_with(2, "", "nan", "optimizer.lr=1e30 optimizer.warmup_steps=0");
    assert_int_equal(code, 1);
    assert_said_once("nothing was updated. First tensor that is not finite");
    const char *samples = strstr(output, "Samples: ");
    assert_non_null(samples);
    int n = 0;
    for (samples += 9; isdigit((unsigned char)*samples); n++) samples += strspn(samples, "0123456789") + 1;
    assert_int_equal(n, 8); /* of both ranks */
}

static void a_full_disk_of_the_first_rank_ends_all_with_one_message(void **state)
{
    (void)state;
    char before[1024];
    need_mpi();
    snprintf(before, sizeof before,
             "DIGPT_FAULT=full:1000 DIGPT_FAULT_PATH='*/checkpoints/*' "
             "ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 LD_PRELOAD=%s/tests/faults/shim.so",
             DIGPT_BINARY_DIR);
    int code = launch_with(2, before, "full", "train.steps=100");
    assert_int_equal(code, 1);
    assert_said_once("No space left on device");
    assert_said_once("the checkpoint of step 4 was not written");
}

/* The process of a rank that trains in test_dir()/run; 0 if there is none. */
static pid_t process_of(const char *run, int rank)
{
    char path[300], bytes[1 << 15], wanted[64], *found;
    pid_t pid = 0;
    DIR *d = opendir("/proc");
    size_t n = (size_t)snprintf(wanted, sizeof wanted, "OMPI_COMM_WORLD_RANK=%d", rank) + 1;
    for (struct dirent *e; !pid && (e = readdir(d));) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        for (int i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "/proc/%s/%s", e->d_name, i ? "environ" : "cmdline");
            FILE *f = fopen(path, "r");
            size_t size = f ? fread(bytes, 1, sizeof bytes, f) : 0;
            if (f) fclose(f);
            const char *text = i ? wanted : test_path(run);
            found = size ? memmem(bytes, size, text, i ? n : strlen(text)) : NULL;
            if (!found) break;
            if (i) pid = (pid_t)atol(e->d_name);
        }
    }
    closedir(d);
    return pid;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Starts a long run of two ranks, sends rank 1 a signal once it trains, and says how all ended and how many
 * seconds after the signal. */
static int signal_rank(const char *run, int number, double *seconds)
{
    char command[4096], metrics[800];
    const struct timespec nap = {0, 20000000};
    command_of(2, "", run, "train.steps=1000000 train.log_every=1000000 train.checkpoint_every=1000000",
               command, sizeof command);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", test_path(run));
    FILE *f = popen(command, "r");
    double begun = now();
    while (!dg_path_is_file(metrics) && now() - begun < 60) nanosleep(&nap, NULL);
    pid_t pid = process_of(run, 1);
    if (pid) kill(pid, number);
    begun = now();
    int code = finish(f);
    *seconds = now() - begun;
    if (!pid) fail_msg("rank 1 was not found:\n%s", output);
    return code;
}

static void a_rank_that_dies_ends_the_others_within_seconds(void **state)
{
    (void)state;
    double seconds;
    need_mpi();
    assert_int_not_equal(signal_rank("killed", SIGKILL, &seconds), 0);
    if (seconds > 20) fail_msg("it took %g seconds", seconds);
    if (!strstr(output, "rank 1")) fail_msg("nobody names rank 1:\n%s", output);
}

static void a_signal_to_one_rank_stops_all_in_order(void **state)
{
    (void)state;
    double seconds;
    need_mpi();
    assert_int_equal(signal_rank("signalled", SIGUSR1, &seconds), 75);
    assert_said_once("stopped at step");
}

/* ---- refusals */

static void a_batch_that_cannot_be_shared_is_refused(void **state)
{
    (void)state;
    need_mpi();
    assert_int_equal(launch_with(3, "", "uneven", ""), 1);
    assert_said_once("8 images cannot be shared by 3 ranks evenly");
}

static void a_backend_of_one_process_is_refused(void **state)
{
    (void)state;
    need_mpi();
    assert_int_equal(launch_with(2, "", "reference", "backend.name=reference"), 1);
    assert_said_once("the backend 'reference' cannot train in several processes, and 2 were started");
}

static void a_task_of_one_process_is_refused(void **state)
{
    (void)state;
    need_mpi();
    assert_int_equal(launch_with(2, "", "knn", "task=knn"), 1);
    assert_said_once("this task runs in one process, and Open MPI started 2");
}

/* As mpirun of another MPI would start it: the library sees a process of its own. */
static void a_launcher_of_another_installation_is_noticed(void **state)
{
    (void)state;
    need_mpi();
    assert_int_equal(launch_with(0, "OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0", "foreign", ""), 1);
    assert_said_once("started process 0 of 2, and the engine 'mpi' sees process 0 of 1");
}

static void ranks_that_no_engine_can_join_are_told_so(void **state)
{
    (void)state;
    dg_run_result result;
    setenv("RANK", "1", 1);
    setenv("WORLD_SIZE", "4", 1);
    ASSERT_FAILS(train("nobody", 0, "", &result, &err), DG_ERR_UNSUPPORTED,
                 "this is process 1 of 4 (RANK and WORLD_SIZE), and no engine of this build can join them");
    setenv("RANK", "4", 1);
    ASSERT_FAILS(train("nobody", 0, "", &result, &err), DG_ERR_INVALID,
                 "the environment has RANK='4', which should be a number from 0 to 3");
    setenv("WORLD_SIZE", "many", 1);
    ASSERT_FAILS(train("nobody", 0, "", &result, &err), DG_ERR_INVALID,
                 "the environment has WORLD_SIZE='many'");
    setenv("RANK", "0", 1);
    setenv("WORLD_SIZE", "1", 1);
    must_train("alone", 0, "train.steps=2");
    unsetenv("RANK");
    unsetenv("WORLD_SIZE");
}

static void a_batch_job_without_ranks_is_one_process(void **state)
{
    (void)state;
    int64_t rank, world;
    const char *who;
    setenv("SLURM_PROCID", "0", 1);
    setenv("SLURM_NTASKS", "8", 1); /* of the allocation; a step's would be SLURM_STEP_NUM_TASKS */
    ASSERT_OK(dg_ranks_announced(&rank, &world, &who, &err));
    assert_int_equal(world, 1);
    setenv("SLURM_PROCID", "5", 1);
    setenv("SLURM_STEP_NUM_TASKS", "8", 1);
    ASSERT_OK(dg_ranks_announced(&rank, &world, &who, &err));
    assert_int_equal(world, 8);
    assert_int_equal(rank, 5);
    unsetenv("SLURM_PROCID");
    unsetenv("SLURM_NTASKS");
    unsetenv("SLURM_STEP_NUM_TASKS");
}

/* ---- the engine by itself: this program as a rank */

#define CHECK(CONDITION)                                                                                     \
    do {                                                                                                     \
        if (!(CONDITION)) {                                                                                  \
            fprintf(stderr, "rank %d, line %d: %s is not so (%s)\n", r->all.rank, __LINE__, #CONDITION,      \
                    err.message);                                                                            \
            return 3;                                                                                        \
        }                                                                                                    \
    } while (0)

/* A number of a rank, such that another order of summation gives another sum. */
static double number_of(int rank, uint64_t i)
{
    return (rank % 2 ? -1.0 : 1.0) * (1e7 + (double)(i % 1000)) + 0.37 * rank + 1e-3 * (double)(i % 7);
}

static int check_sums(dg_ranks *r, uint64_t n)
{
    float *x = dg_calloc(n, sizeof *x);
    double *y = dg_calloc(n, sizeof *y);
    int64_t *z = dg_calloc(n, sizeof *z);
    for (uint64_t i = 0; i < n; i++) {
        y[i] = number_of(r->all.rank, i);
        x[i] = (float)y[i];
        z[i] = (r->all.rank + 1) * ((int64_t)1 << 40) + (int64_t)i;
    }
    CHECK(r->all.all_reduce(r->all.self, x, n, DG_SUM_F32, &err) == DG_OK);
    CHECK(r->all.all_reduce(r->all.self, y, n, DG_SUM_F64, &err) == DG_OK);
    CHECK(r->all.all_reduce(r->all.self, z, n, DG_SUM_I64, &err) == DG_OK);
    for (uint64_t i = 0; i < n; i++) {
        float a = (float)number_of(0, i);
        double b = number_of(0, i);
        int64_t c = ((int64_t)1 << 40) + (int64_t)i;
        for (int k = 1; k < r->all.world; k++) {
            a += (float)number_of(k, i);
            b += number_of(k, i);
            c += (k + 1) * ((int64_t)1 << 40) + (int64_t)i;
        }
        CHECK(memcmp(&a, &x[i], sizeof a) == 0);
        CHECK(memcmp(&b, &y[i], sizeof b) == 0);
        CHECK(c == z[i]);
    }
    dg_free(x);
    dg_free(y);
    dg_free(z);
    return 0;
}

static int check_bytes(dg_ranks *r)
{
    enum { N = 1000003 };
    char *one = dg_calloc(N, 1), *all = dg_calloc((size_t)r->all.world, N);
    memset(one, 'a' + r->all.rank, N);
    CHECK(r->all.all_gather(r->all.self, one, all, N, &err) == DG_OK);
    for (int k = 0; k < r->all.world; k++)
        CHECK(all[(size_t)k * N] == 'a' + k && all[(size_t)k * N + N - 1] == 'a' + k);
    CHECK(r->all.broadcast(r->all.self, one, N, r->all.world - 1, &err) == DG_OK);
    CHECK(one[0] == 'a' + r->all.world - 1 && one[N - 1] == one[0]);
    CHECK(r->all.barrier(r->all.self, &err) == DG_OK);
    dg_free(one);
    dg_free(all);
    return 0;
}

static int check_agreement(dg_ranks *r)
{
    static const char *const names[] = {"first thing", "second thing"};
    const char *const same[] = {"a", "b"}, *const other[] = {"a", r->all.rank == 1 ? "c" : "b"};
    bool flag = r->all.rank == 1, none = false;
    CHECK(dg_ranks_any(r, DG_OK, &flag, &err) == DG_OK && flag);
    CHECK(dg_ranks_any(r, DG_OK, &none, &err) == DG_OK && !none);
    CHECK(dg_ranks_same(r, names, same, 2, &err) == DG_OK);
    CHECK(dg_ranks_same(r, names, other, 2, &err) == DG_ERR_MISMATCH);
    CHECK(strstr(err.message, "rank 1 of ") &&
          strstr(err.message, "its second thing is not the same as of rank 0"));
    CHECK(r->failed &&
          dg_ranks_agree(r, DG_ERR_MISMATCH, &err) == DG_ERR_MISMATCH); /* nobody waits any more */
    return 0;
}

static int be_a_rank(void)
{
    static const uint64_t sizes[] = {1, 3, 1000, 70001, 2500000};
    const dg_search search = {0};
    dg_registry *registry = NULL;
    dg_ranks ranks = {0}, *r = &ranks;
    CHECK(dg_registry_create(&search, &registry, &err) == DG_OK);
    CHECK(dg_ranks_open(registry, r, &err) == DG_OK);
    CHECK(r->all.machine_ranks == r->all.world && r->all.machine_rank == r->all.rank &&
          r->all.sharing == r->all.world);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (check_sums(r, sizes[i])) return 3;
    if (check_bytes(r) || check_agreement(r)) return 3;
    dg_ranks_close(r);
    dg_registry_destroy(registry);
    return 0;
}

static void the_engine_sums_in_the_order_of_ranks_and_passes_bytes(void **state)
{
    (void)state;
    static const int numbers[] = {2, 3, 5};
    need_mpi();
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char command[2048];
        prefix(numbers[i], "", command, sizeof command);
        size_t n = strlen(command);
        snprintf(command + n, sizeof command - n, "%s rank 2>&1", program);
        int code = finish(popen(command, "r"));
        if (code != 0) fail_msg("%d ranks end with %d:\n%s", numbers[i], code, output);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "rank")) return be_a_rank();
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_sums_in_the_order_of_ranks_and_passes_bytes),
        cmocka_unit_test(ranks_give_the_trajectory_of_one_process),
        cmocka_unit_test(ranks_accumulate_and_clip_as_one_process),
        cmocka_unit_test(ranks_fine_tune_as_one_process_and_count_each_image_once),
        cmocka_unit_test(ranks_mix_within_their_share),
        cmocka_unit_test(resumed_ranks_equal_ranks_that_were_not_stopped),
        cmocka_unit_test(only_the_first_rank_speaks_and_writes),
        cmocka_unit_test(a_time_limit_stops_all_ranks),
        cmocka_unit_test(an_image_that_one_rank_cannot_read_ends_all_with_one_message),
        cmocka_unit_test(a_loss_that_is_no_number_is_found_by_all_and_told_once),
        cmocka_unit_test(a_full_disk_of_the_first_rank_ends_all_with_one_message),
        cmocka_unit_test(a_signal_to_one_rank_stops_all_in_order),
        cmocka_unit_test(a_rank_that_dies_ends_the_others_within_seconds),
        cmocka_unit_test(a_batch_that_cannot_be_shared_is_refused),
        cmocka_unit_test(a_backend_of_one_process_is_refused),
        cmocka_unit_test(a_task_of_one_process_is_refused),
        cmocka_unit_test(a_launcher_of_another_installation_is_noticed),
        cmocka_unit_test(ranks_that_no_engine_can_join_are_told_so),
        cmocka_unit_test(a_batch_job_without_ranks_is_one_process),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
