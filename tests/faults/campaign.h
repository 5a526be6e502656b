/* campaign.h - a small training by the real program, in a process of its own, that is disturbed from outside:
 * by signals, or by files that fail (shim.c). However often that happens, it must end with the bytes of a run
 * that nothing disturbed.
 *
 * DIGPT_CAMPAIGN=N asks for N disturbances, and for every instant where else some are tried
 * (scripts/kill-campaign). */
#ifndef DG_TEST_CAMPAIGN_H
#define DG_TEST_CAMPAIGN_H

#include "../train/train_support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/image.h"
#include "data/tar_write.h"
#include "digpt/philox.h"

/* Images come from a tar shard with an index file; the window of the log spans checkpoints. */
static const char campaign_recipe[] =
    "name: campaign\n"
    "seed: 5\n"
    "data: {source: tar, path: images-0.tar, image_size: 32, batch: 4, workers: 2}\n"
    "tokenizer: {name: pixels, patch: 8}\n"
    "model: {name: digpt, size: free, width: 16, depth: 2, heads: 2, patch: 8, segments: [2, 2], taps: [1, "
    "2],\n"
    "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"
    "loss: {name: mse}\n"
    "optimizer: {lr: 1e-2, warmup_steps: 3, clip_norm: 1}\n";

static const char *campaign_train;   /* the section `train` of the recipe, as an override */
static const char *campaign_backend; /* another: the cpu backend, or the interpreter */

static DG_UNUSED int campaign_size(int otherwise)
{
    const char *text = getenv("DIGPT_CAMPAIGN");
    return text && atoi(text) > 0 ? atoi(text) : otherwise;
}

static DG_UNUSED void campaign_write_images(void)
{
    enum { SIDE = 40, IMAGES = 48 };
    static uint8_t pixels[SIDE * SIDE * 3];
    dg_tar_writer *w;
    dg_error err;
    size_t n, shards;
    dg_rng rng = dg_rng_make(7, 0, 0, 0);
    ASSERT_OK(dg_tar_create(test_path("images-%d.tar"), IMAGES, 0, &w, &err));
    for (int i = 0; i < IMAGES; i++) {
        char name[32];
        void *bytes;
        for (size_t k = 0; k < sizeof pixels; k++) pixels[k] = (uint8_t)(256 * dg_rng_uniform(&rng));
        snprintf(name, sizeof name, "class-%d/%02d.png", i % 3, i);
        ASSERT_OK(dg_image_encode_png(pixels, SIDE, SIDE, &bytes, &n, &err));
        ASSERT_OK(dg_tar_add(w, name, bytes, n, &err));
        dg_free(bytes);
    }
    ASSERT_OK(dg_tar_finish(w, &shards, &err));
}

/* `digpt run RECIPE --dir DIR --resume` with its output in the file "log"; the process. `fault` as in shim.c,
 * NULL: none. What happens of it is told in the file "faults". */
static DG_UNUSED pid_t campaign_start(const char *dir, const char *fault)
{
    const char *recipe = test_path("recipe.yaml"), *log = test_path("log"), *run = test_path(dir);
    const char *asan = getenv("ASAN_OPTIONS");
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    if (fault) {
        char options[512]; /* a preloaded library comes before a sanitizer's, which is all right here */
        snprintf(options, sizeof options, "%s:verify_asan_link_order=0", asan ? asan : "");
        setenv("ASAN_OPTIONS", options, 1);
        setenv("LD_PRELOAD", DIGPT_BINARY_DIR "/tests/faults/shim.so", 1);
        setenv("DIGPT_FAULT", fault, 1);
        setenv("DIGPT_FAULT_PATH", test_path("*"), 1);
        setenv("DIGPT_FAULT_LOG", test_path("faults"), 1);
    }
    execl(DIGPT_BINARY_DIR "/bin/digpt", "digpt", "run", recipe, "--dir", run, "--resume", campaign_train,
          campaign_backend, (char *)NULL);
    _exit(127);
}

/* Its exit code, or -signal. */
static DG_UNUSED int campaign_finish(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* What the program said; valid until the next call. */
static DG_UNUSED const char *campaign_log(void)
{
    static char *text;
    size_t n;
    dg_free(text);
    text = read_file(test_path("log"), &n);
    return text;
}

static DG_UNUSED void campaign_must_end(pid_t pid, int code)
{
    int got = campaign_finish(pid);
    if (got != code) fail_msg("exit code %d, not %d:\n%s", got, code, campaign_log());
}

/* The step of the newest checkpoint in a run's folder; -1: there is none. */
static DG_UNUSED long long campaign_newest(const char *dir)
{
    char path[800];
    long long newest = -1;
    snprintf(path, sizeof path, "%s/checkpoints", test_path(dir));
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strncmp(e->d_name, "step-", 5) == 0 && atoll(e->d_name + 5) > newest)
            newest = atoll(e->d_name + 5);
    if (d) closedir(d);
    return newest;
}

/* The images, the recipe, and in "straight" a run that nothing disturbs. */
static DG_UNUSED void campaign_open(const char *train)
{
    campaign_train = train;
    campaign_backend = has_backend("cpu") ? "backend.name=cpu" : "backend.name=reference";
    campaign_write_images();
    test_write(test_path("recipe.yaml"), campaign_recipe, strlen(campaign_recipe));
    campaign_must_end(campaign_start("straight", NULL), 0);
}

#endif
