/* child.c - see child.h. */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What both processes see; the result follows it. */
typedef struct shared {
    dg_error err;
    dg_status status;
    int returned; /* the work came to its end */
} shared;

#define RESULT_OFFSET ((sizeof(shared) + 63) / 64 * 64)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_child(shared *s, int words, pid_t parent, dg_child_work work, void *user)
{
    static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTERM, SIGINT};
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) signal(fatal[i], SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it died before that */
    dup2(words, STDOUT_FILENO);
    dup2(words, STDERR_FILENO);
    s->status = work(user, (char *)s + RESULT_OFFSET, &s->err);
    s->returned = 1;
    _exit(0); /* nothing of the parent's is flushed twice, and the plugin's destructors are not run */
}

/* XLA's fatal line ("F0000 ... Check failed: ...") if there is one, else the last line that is not empty. */
static void last_words(int words, char *out, size_t size)
{
    char text[4096];
    const char *best = NULL;
    size_t length = 0;
    off_t end = lseek(words, 0, SEEK_END);
    ssize_t n =
        pread(words, text, sizeof text - 1, end > (off_t)sizeof text ? end - (off_t)sizeof text + 1 : 0);
    text[n > 0 ? n : 0] = 0;
    for (const char *line = text; *line;) {
        size_t k = strcspn(line, "\n");
        bool fatal = k > 1 && line[0] == 'F' && line[1] >= '0' && line[1] <= '9';
        if (k && !(length && best[0] == 'F' && !fatal)) {
            best = line;
            length = k;
        }
        line += k + (line[k] == '\n');
    }
    snprintf(out, size, "%.*s", (int)(length < size ? length : size - 1), best ? best : "");
}

/* Waits for the child; kills it after `limit` seconds. */
static int wait_child(pid_t child, double limit, bool *late)
{
    int how = 0;
    double until = now() + limit;
    long pause = 1000000; /* nanoseconds, up to 20 ms */
    *late = false;
    for (;;) {
        pid_t done = waitpid(child, &how, WNOHANG);
        if (done == child || (done < 0 && errno != EINTR)) return how;
        if (!*late && now() > until) {
            *late = true;
            kill(child, SIGKILL);
        }
        nanosleep(&(struct timespec){0, pause}, NULL);
        if (pause < 20000000) pause *= 2;
    }
}

dg_status dg_child_run(const char *what, double limit, dg_child_work work, void *user, void *result,
                       size_t size, dg_error *err)
{
    char said[512];
    bool late;
    dg_status status;
    int words = memfd_create("digpt-child", MFD_CLOEXEC);
    shared *s = mmap(NULL, RESULT_OFFSET + size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (words < 0 || s == MAP_FAILED) {
        status = dg_fail(err, DG_ERR_NOMEM, "%s: no memory for a child process: %s", what, strerror(errno));
        goto done;
    }
    *s = (shared){.err = DG_ERROR_INIT};
    if (size) memcpy((char *)s + RESULT_OFFSET, result, size);
    pid_t parent = getpid(), child = fork();
    if (child == 0) run_child(s, words, parent, work, user);
    if (child < 0) {
        status = dg_fail(err, DG_ERR_NOMEM, "%s: cannot start a child process: %s", what, strerror(errno));
        goto done;
    }
    int how = wait_child(child, limit, &late);
    if (size) memcpy(result, (char *)s + RESULT_OFFSET, size);
    if (s->returned) {
        status = s->status;
        if (status != DG_OK && err) {
            err->code = s->err.code;
            memcpy(err->key, s->err.key, sizeof err->key);
            memcpy(err->message, s->err.message, sizeof err->message);
        }
        goto done;
    }
    last_words(words, said, sizeof said);
    if (late)
        status =
            dg_fail(err, DG_ERR_UNSUPPORTED, "%s: it took more than %.0f seconds and was ended", what, limit);
    else
        status = dg_fail(err, DG_ERR_UNSUPPORTED, "%s: it ended its process (%s)%s%s", what,
                         WIFSIGNALED(how) ? strsignal(WTERMSIG(how)) : "exit",
                         *said ? "; its last words: " : "", said);
done:
    if (s != MAP_FAILED) munmap(s, RESULT_OFFSET + size);
    if (words >= 0) close(words);
    return status;
}
