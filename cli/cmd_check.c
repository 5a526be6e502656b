/* cmd_check.c - `digpt check FILE.so`: the conformance checks of a plugin, in child processes that may die.
 */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "plugin/check.h"

/* ---- the child: a record a line. "B number subject check", "E number verdict detail", "D" when all is done;
 * the separator is a tab. */

static void send_line(int fd, dg_str *line)
{
    for (size_t i = 0; i + 1 < line->length; i++)
        if (line->text[i] == '\n') line->text[i] = ' ';
    if (!line->failed) dg_fd_write_all(fd, line->text, line->length, "pipe", NULL);
    dg_str_free(line);
}

static void on_begin(void *user, size_t number, const char *subject, const char *check)
{
    dg_str line = {0};
    dg_str_printf(&line, "B\t%zu\t%s\t%s\n", number, subject, check);
    send_line(*(int *)user, &line);
}

static void on_end(void *user, size_t number, dg_verdict verdict, const char *detail)
{
    dg_str line = {0};
    dg_str_printf(&line, "E\t%zu\t%d\t%s\n", number, (int)verdict, detail);
    send_line(*(int *)user, &line);
}

static void child(const char *path, size_t first, int fd, int output)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    dg_check_sink sink = {&fd, on_begin, on_end};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], SIG_DFL);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    dg_plugin_check(path, first, &sink);
    fflush(NULL);
    dg_fd_write_all(fd, "D\n", 2, "pipe", NULL);
    _exit(0);
}

/* ---- the parent */

typedef struct session {
    const char *path;
    double limit; /* seconds for one check */
    FILE *output; /* what the children print */
    size_t counts[3];
    /* of the check in progress */
    bool begun, done, backend;
    size_t number;
    char subject[160], name[160];
    char buffer[4096]; /* the line that is coming in */
    size_t length;
} session;

static void report(session *s, dg_verdict verdict, const char *detail)
{
    static const char *const words[] = {"pass", "FAIL", "skip"};
    s->counts[verdict]++;
    printf("%s  %s%s%s%s%s\n", words[verdict], s->subject, s->subject[0] ? ": " : "", s->name,
           detail[0] ? " - " : "", detail);
    fflush(stdout);
}

static void take_line(session *s, char *line)
{
    char *fields[4] = {line, "", "", ""};
    for (int i = 1; i < 4; i++) {
        char *tab = strchr(fields[i - 1], '\t');
        if (!tab) break;
        *tab = 0;
        fields[i] = tab + 1;
    }
    if (line[0] == 'D') s->done = true;
    if (line[0] == 'B') {
        s->begun = true;
        s->backend |= !strncmp(fields[2], "backend", 7);
        s->number = strtoull(fields[1], NULL, 10);
        snprintf(s->subject, sizeof s->subject, "%s", fields[2]);
        snprintf(s->name, sizeof s->name, "%s", fields[3]);
    }
    if (line[0] == 'E' && s->begun) {
        int verdict = atoi(fields[2]);
        report(s, verdict == DG_CHECK_PASS || verdict == DG_CHECK_SKIP ? (dg_verdict)verdict : DG_CHECK_FAIL,
               fields[3]);
        s->begun = false;
    }
}

static void take_bytes(session *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n') {
            s->buffer[s->length] = 0;
            take_line(s, s->buffer);
            s->length = 0;
        } else if (s->length + 1 < sizeof s->buffer)
            s->buffer[s->length++] = bytes[i];
    }
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads records until the child closes the pipe; false if a check took too long. */
static bool listen_to(session *s, int fd)
{
    double start = seconds_now();
    for (;;) {
        double left = start + s->limit - seconds_now();
        struct pollfd p = {fd, POLLIN, 0};
        if (left <= 0) return false;
        int ready = poll(&p, 1, (int)(left * 1e3) + 1);
        if (ready < 0 && errno != EINTR) return true;
        if (ready <= 0) continue;
        char bytes[4096];
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0) return true;
        take_bytes(s, bytes, (size_t)n);
        start = seconds_now();
    }
}

static void tell_death(session *s, bool in_time, int status)
{
    char text[160];
    if (!s->begun) snprintf(s->name, sizeof s->name, "between checks");
    if (!in_time)
        snprintf(text, sizeof text, "it takes longer than %.0f seconds", s->limit);
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "it crashes: signal %d, %s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(text, sizeof text, "it ends the process, with exit code %d", WEXITSTATUS(status));
    report(s, DG_CHECK_FAIL, text);
}

/* Runs the checks from `first` on in one child. True: all are done; false: go on behind s->number. */
static bool run_child(session *s, size_t first, dg_error *err)
{
    int fds[2], status = 0;
    s->begun = s->done = false;
    s->length = 0;
    fflush(NULL);
    if (pipe(fds) != 0) {
        dg_fail(err, DG_ERR_IO, "cannot make a pipe: %s", strerror(errno));
        return true;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(s->path, first, fds[1], fileno(s->output));
    }
    close(fds[1]);
    if (pid < 0) {
        dg_fail(err, DG_ERR_IO, "cannot start a process: %s", strerror(errno));
        close(fds[0]);
        return true;
    }
    bool in_time = listen_to(s, fds[0]);
    close(fds[0]);
    if (!in_time) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (s->done) return true;
    tell_death(s, in_time, status);
    /* What cannot be loaded cannot be checked further; a death between checks would only come again. */
    return !s->begun || s->number == 0;
}

static void check_output(session *s)
{
    char line[200] = "";
    s->subject[0] = 0;
    snprintf(s->name, sizeof s->name, "prints nothing");
    rewind(s->output);
    if (fgets(line, sizeof line, s->output)) {
        char text[240];
        line[strcspn(line, "\n")] = 0;
        snprintf(text, sizeof text, "it prints: %s", line);
        /* The libraries under a backend are out of its hands. */
        report(s, s->backend ? DG_CHECK_SKIP : DG_CHECK_FAIL, text);
    } else
        report(s, DG_CHECK_PASS, "");
}

static int run(const cli_args *args)
{
    dg_error err = DG_ERROR_INIT;
    int64_t limit = 60;
    if (!cli_number(args, "time-limit", 1, 86400, &limit)) return CLI_USAGE;
    session s = {.path = args->words[0], .limit = (double)limit};
    if (!dg_path_is_file(s.path))
        dg_fail(&err, DG_ERR_NOT_FOUND, "'%s' is no file; digpt check wants a plugin's shared object",
                s.path);
    else if (!(s.output = tmpfile()))
        dg_fail(&err, DG_ERR_IO, "cannot make a temporary file: %s", strerror(errno));
    if (err.code) return cli_fail(&err);
    for (size_t first = 0; !run_child(&s, first, &err); first = s.number + 1) {
    }
    if (err.code == 0) check_output(&s);
    fclose(s.output);
    if (err.code) return cli_fail(&err);
    printf("\n%zu passed, %zu failed, %zu skipped\n", s.counts[DG_CHECK_PASS], s.counts[DG_CHECK_FAIL],
           s.counts[DG_CHECK_SKIP]);
    return s.counts[DG_CHECK_FAIL] ? CLI_FAILED : CLI_OK;
}

static const cli_option options[] = {{"time-limit", "SECONDS", "for one check; 60 if not given"},
                                     {NULL, NULL, NULL}};

const cli_command cmd_check = {
    "check",
    "FILE.so",
    1,
    1,
    "prove that a plugin is well made",
    "Loads it in a process of its own and tries: unknown questions, random settings from its own schema,\n"
    "leaks, memory that runs out; shapes, values and gradients of losses; what tokenizers and models build;\n"
    "every op on a backend. Exit code 1 if a check fails.",
    options,
    run};
