/* shim.c - a library for LD_PRELOAD that makes files fail, for tests of what a program does then.
 *
 * DIGPT_FAULT       KIND:N, or KIND:N+ where every later one fails too
 *   full:N          N more bytes fit on the disk; what is beyond fails with ENOSPC, for good
 *   short:N         every read and write moves a part of what it was asked to; N seeds the choice of the
 * parts read:N          the Nth read fails with EIO write:N         the Nth write fails with EIO sync:N the
 * Nth fsync fails with EIO rename:N        the Nth rename fails with EIO DIGPT_FAULT_PATH  an fnmatch
 * pattern: only files whose path matches it are counted and fail DIGPT_FAULT_LOG   gets a line for each
 * failure, so that a test knows whether there was one
 *
 * What a library of the system does inside itself (stdio, dlopen) and files that are mapped are not seen. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum kind { NONE, FULL, SHORT, READ, WRITE, SYNC, RENAME };
static const char *const names[] = {"", "full", "short", "read", "write", "sync", "rename"};

static enum kind kind;
static const char *pattern;
static int log_fd = -1;
static bool for_good;
static uint64_t wanted;
static atomic_uint_fast64_t seen; /* calls so far; of `full`, bytes so far */

static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_rename)(const char *, const char *);

static void find(void *function_pp, const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    memcpy(function_pp, &p, sizeof p);
}

__attribute__((constructor)) static void set_up(void)
{
    find(&real_read, "read");
    find(&real_pread, "pread");
    find(&real_write, "write");
    find(&real_pwrite, "pwrite");
    find(&real_fallocate, "fallocate");
    find(&real_fsync, "fsync");
    find(&real_rename, "rename");
    const char *fault = getenv("DIGPT_FAULT"), *log = getenv("DIGPT_FAULT_LOG");
    const char *colon = fault ? strchr(fault, ':') : NULL;
    char *end;
    pattern = getenv("DIGPT_FAULT_PATH");
    if (!colon || !pattern) return;
    wanted = strtoull(colon + 1, &end, 10);
    for_good = *end == '+';
    if (log) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (int k = FULL; k <= RENAME; k++)
        if (strlen(names[k]) == (size_t)(colon - fault) && !strncmp(fault, names[k], strlen(names[k])))
            kind = (enum kind)k;
}

static bool is_meant(const char *path)
{
    return fnmatch(pattern, path, 0) == 0;
}

static bool is_meant_fd(int fd)
{
    char link[64], path[4096];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (n < 0) return false;
    path[n] = 0;
    return is_meant(path);
}

static void note(const char *what)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s\n", what);
    if (log_fd >= 0 && real_write(log_fd, line, (size_t)n) != n) _exit(126); /* a test must not miss it */
}

/* Does this call, of a kind that is counted, fail? */
static bool fails(enum kind k)
{
    uint64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n != wanted && !(for_good && n > wanted)) return false;
    note(names[k]);
    errno = EIO;
    return true;
}

/* Part of `size`, at least one byte. */
static size_t part(size_t size)
{
    uint64_t x = (wanted + atomic_fetch_add(&seen, 1)) * 0x9e3779b97f4a7c15u;
    if (size < 2) return size;
    note("short");
    return 1 + (size_t)((x ^ x >> 32) % (size - 1));
}

/* How much of `size` the disk still takes; -1 if nothing. */
static ssize_t room(size_t size)
{
    uint64_t used = atomic_fetch_add(&seen, size);
    if (used + size <= wanted) return (ssize_t)size;
    note("full");
    if (used < wanted) return (ssize_t)(wanted - used);
    errno = ENOSPC;
    return -1;
}

static ssize_t before_read(int fd, size_t size)
{
    if ((kind != SHORT && kind != READ) || !is_meant_fd(fd)) return (ssize_t)size;
    if (kind == SHORT) return (ssize_t)part(size);
    return fails(READ) ? -1 : (ssize_t)size;
}

static ssize_t before_write(int fd, size_t size)
{
    if ((kind != SHORT && kind != WRITE && kind != FULL) || !is_meant_fd(fd)) return (ssize_t)size;
    if (kind == FULL) return room(size);
    if (kind == SHORT) return (ssize_t)part(size);
    return fails(WRITE) ? -1 : (ssize_t)size;
}

EXPORTED ssize_t read(int fd, void *to, size_t size)
{
    ssize_t n = before_read(fd, size);
    return n < 0 ? n : real_read(fd, to, (size_t)n);
}

EXPORTED ssize_t pread(int fd, void *to, size_t size, off_t at)
{
    ssize_t n = before_read(fd, size);
    return n < 0 ? n : real_pread(fd, to, (size_t)n, at);
}

EXPORTED ssize_t write(int fd, const void *from, size_t size)
{
    ssize_t n = before_write(fd, size);
    return n < 0 ? n : real_write(fd, from, (size_t)n);
}

EXPORTED ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    ssize_t n = before_write(fd, size);
    return n < 0 ? n : real_pwrite(fd, from, (size_t)n, at);
}

/* Room that is asked for in advance, and counted when it is written. */
EXPORTED int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (kind == FULL && is_meant_fd(fd) && atomic_load(&seen) + (uint64_t)size > wanted) {
        note("full");
        errno = ENOSPC;
        return -1;
    }
    return real_fallocate(fd, mode, at, size);
}

EXPORTED int fsync(int fd)
{
    return kind == SYNC && is_meant_fd(fd) && fails(SYNC) ? -1 : real_fsync(fd);
}

EXPORTED int rename(const char *from, const char *to)
{
    return kind == RENAME && is_meant(to) && fails(RENAME) ? -1 : real_rename(from, to);
}
