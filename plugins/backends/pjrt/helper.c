/* helper.c - a program's first compile, away from this process. A plugin that aborts on a program would take
 * the run along. A process that has a plugin loaded cannot be forked to try (the plugin's threads would be
 * missing), so one is forked before that and kept: the helper. For each program it forks a child, which loads
 * the plugin, makes a client, compiles, and hands back the plugin's own bytes of the result for this process
 * to load. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "pjrt.h"

static const double limit = 4 * 3600; /* seconds */

/* What one side sends the other; files go along as SCM_RIGHTS. */
typedef struct question {
    char name[64]; /* of the program */
    uint64_t size; /* of its text, which is file 0; file 1 takes the answer's bytes */
} question;

typedef struct answer {
    dg_status status;
    dg_error err;
    int32_t reached; /* a client was there, so that the plugin did get to compile */
    uint64_t size;   /* of the bytes; 0: this plugin's programs cannot be kept */
} answer;

/* ---- in the child of the helper */

typedef struct job {
    const dg_pjrt *self;
    question q;
    int files[2];
} job;

static dg_status keep(const dg_pjrt *self, PJRT_LoadedExecutable *loaded, int file, uint64_t *size,
                      dg_error *err)
{
    if (!DG_PJRT_HAS(self->api, PJRT_Executable_Serialize)) return DG_OK;
    DG_PJRT_ARGS(PJRT_LoadedExecutable_GetExecutable, get);
    get.loaded_executable = loaded;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_LoadedExecutable_GetExecutable, get, err));
    DG_PJRT_ARGS(PJRT_Executable_Serialize, args);
    args.executable = get.executable;
    dg_error none = DG_ERROR_INIT;
    if (DG_PJRT_CALL(self->api, PJRT_Executable_Serialize, args, &none) == DG_OK) {
        const char *at = args.serialized_bytes;
        size_t left = args.serialized_bytes_size;
        for (ssize_t n; left > 0 && (n = write(file, at, left)) > 0; at += n) left -= (size_t)n;
        if (left == 0) *size = args.serialized_bytes_size;
    }
    return DG_OK; /* what is still held goes with this process */
}

static dg_status compile_there(void *user, void *result, dg_error *err)
{
    const job *j = user;
    answer *a = result;
    dg_pjrt self = *j->self;
    char options[DG_PJRT_OPTIONS_SIZE];
    DG_TRY(dg_pjrt_load(self.plugin, self.path, true, &self.api, err));
    DG_TRY(dg_pjrt_make_client(&self, err));
    a->reached = 1;
    void *text = mmap(NULL, j->q.size, PROT_READ, MAP_SHARED, j->files[0], 0);
    if (text == MAP_FAILED) return dg_fail(err, DG_ERR_NOMEM, "no memory for the program's text");
    PJRT_Program program = {.struct_size = PJRT_Program_STRUCT_SIZE,
                            .code = text,
                            .code_size = j->q.size,
                            .format = "mlir",
                            .format_size = 4};
    DG_PJRT_ARGS(PJRT_Client_Compile, args);
    args.client = self.client;
    args.program = &program;
    args.compile_options_size = dg_pjrt_options(self.n_replicas, options);
    args.compile_options = options;
    if (DG_PJRT_CALL(self.api, PJRT_Client_Compile, args, err) != DG_OK)
        return dg_fail_in(err, "program %s", j->q.name);
    return keep(&self, args.executable, j->files[1], &a->size, err);
}

/* ---- messages */

static bool send_message(int socket, const void *data, size_t size, const int *files, int n)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (n > 0) {
        m.msg_control = control.room;
        m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(c), files, (size_t)n * sizeof(int));
    }
    ssize_t done;
    do done = sendmsg(socket, &m, MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    return done == (ssize_t)size;
}

/* A whole message with n files, or false: the other side is gone. */
static bool receive_message(int socket, void *data, size_t size, int *files, int n)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec part = {data, size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room};
    if (n > 0) m.msg_controllen = sizeof control.room;
    ssize_t done;
    do done = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (done < 0 && errno == EINTR);
    if (done != (ssize_t)size) return false;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (n == 0) return true;
    if (!c || c->cmsg_len != CMSG_LEN((size_t)n * sizeof(int))) return false;
    memcpy(files, CMSG_DATA(c), (size_t)n * sizeof(int));
    return true;
}

/* ---- the helper */

static void help(const dg_pjrt *self, int socket)
{
    job j = {.self = self};
    while (receive_message(socket, &j.q, sizeof j.q, j.files, 2)) {
        char what[PATH_MAX + 256];
        answer a = {.err = DG_ERROR_INIT};
        j.q.name[sizeof j.q.name - 1] = 0;
        snprintf(what, sizeof what, "the PJRT plugin %s, compiling program %s in a child process", self->path,
                 j.q.name);
        answer found = {0};
        a.status = dg_child_run(what, limit, compile_there, &j, &found, sizeof found, &a.err);
        a.reached = found.reached;
        a.size = found.size;
        close(j.files[0]);
        close(j.files[1]);
        if (!send_message(socket, &a, sizeof a, NULL, 0)) break;
    }
    _exit(0);
}

void dg_pjrt_helper_start(dg_pjrt *self)
{
    int pair[2];
    if (dg_pjrt_is_loaded(self->path) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    pid_t parent = getpid(), helper = fork();
    if (helper == 0) {
        static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1,
                                      SIGUSR2}; /* it ends with the parent */
        for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) signal(ignored[i], SIG_IGN);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int nothing = open("/dev/null", O_RDWR);
        for (int k = 0; k < 3; k++)
            dup2(nothing, k); /* whoever reads the parent's output waits for its end */
        if (getppid() == parent && dup2(pair[1], 3) == 3) {
            closefrom(4);
            help(self, 3);
        }
        _exit(1);
    }
    close(pair[1]);
    if (helper < 0) {
        close(pair[0]);
        return;
    }
    self->helper = helper;
    self->helper_socket = pair[0];
}

void dg_pjrt_helper_stop(dg_pjrt *self)
{
    if (!self->helper) return;
    close(self->helper_socket);
    while (waitpid(self->helper, NULL, 0) < 0 && errno == EINTR) continue;
    self->helper = 0;
}

/* ---- asking it */

/* The bytes in a file, to be released; NULL when out of memory. */
static char *read_back(const dg_pjrt *self, int file, uint64_t size)
{
    char *bytes = self->host->allocate(size);
    uint64_t at = 0;
    for (ssize_t n; bytes && at < size && (n = pread(file, bytes + at, size - at, (off_t)at)) > 0;)
        at += (uint64_t)n;
    if (bytes && at == size) return bytes;
    if (bytes) self->host->release(bytes);
    return NULL;
}

static bool write_text(int file, const char *text, size_t size)
{
    for (ssize_t n; size > 0 && (n = write(file, text, size)) > 0; text += n) size -= (size_t)n;
    return size == 0;
}

dg_status dg_pjrt_helper_compile(const dg_pjrt *self, const char *name, const PJRT_Program *program,
                                 char **bytes, size_t *n_bytes, dg_error *err)
{
    *bytes = NULL;
    if (!self->helper) return DG_OK;
    const int files[2] = {memfd_create("digpt-program", MFD_CLOEXEC),
                          memfd_create("digpt-compiled", MFD_CLOEXEC)};
    question q = {.size = program->code_size};
    answer a = {.reached = 0};
    snprintf(q.name, sizeof q.name, "%s", name);
    bool told = files[0] >= 0 && files[1] >= 0 && write_text(files[0], program->code, program->code_size) &&
                send_message(self->helper_socket, &q, sizeof q, files, 2) &&
                receive_message(self->helper_socket, &a, sizeof a, NULL, 0);
    dg_status status = DG_OK;
    if (!told || !a.reached)
        self->host->log(0,
                        "pjrt: a program is compiled in this process: a child got no client of the plugin");
    else if (a.status != DG_OK) {
        status = a.status;
        if (err) {
            err->code = a.err.code;
            memcpy(err->key, a.err.key, sizeof err->key);
            memcpy(err->message, a.err.message, sizeof err->message);
        }
    } else if (a.size > 0) {
        *bytes = read_back(self, files[1], a.size);
        *n_bytes = (size_t)a.size;
    }
    for (int k = 0; k < 2; k++)
        if (files[k] >= 0) close(files[k]);
    return status;
}
