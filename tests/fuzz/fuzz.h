/* fuzz.h - what the fuzz targets share. A target is one file fuzz_NAME.c with LLVMFuzzerTestOneInput: it
 * hands hostile bytes to a reader and uses all that the reader lets through. It links with clang's libFuzzer,
 * or with replay.c, which runs files and small changes of them under any compiler.
 *
 * A crash, a sanitizer's complaint, a leak, or FUZZ_CHECK is a finding. */
#ifndef DG_FUZZ_H
#define DG_FUZZ_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must always be true of a result. */
#define FUZZ_CHECK(EXPR)                                                                                     \
    do {                                                                                                     \
        if (!(EXPR)) {                                                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #EXPR);                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* A failure has a code and says something; a warning would drown the fuzzer's own lines. */
static DG_UNUSED void fuzz_check_failure(dg_status s, const dg_error *err)
{
    FUZZ_CHECK(s == (dg_status)err->code && err->message[0]);
}

static DG_UNUSED void fuzz_ignore(void *user, dg_log_level level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

static DG_UNUSED void fuzz_quiet(void)
{
    dg_log_set_sink(fuzz_ignore, NULL);
}

/* For readers that want a path: a file in memory, and its name. -1 if there is no memory for it. */
static DG_UNUSED int fuzz_file(const uint8_t *data, size_t size, char path[64])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd >= 0 && dg_fd_write_all(fd, data, size, "fuzz", NULL) != DG_OK) {
        close(fd);
        fd = -1;
    }
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static char fuzz_folder_path[64];

static void fuzz_remove_folder(void)
{
    dg_dir_remove(fuzz_folder_path, NULL);
}

/* A folder of the process, in memory where there is one: syncs cost nothing there. */
static DG_UNUSED const char *fuzz_folder(void)
{
    if (!fuzz_folder_path[0]) {
        snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/digpt-fuzz-XXXXXX",
                 dg_path_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
        FUZZ_CHECK(mkdtemp(fuzz_folder_path));
        atexit(fuzz_remove_folder);
    }
    return fuzz_folder_path;
}

static DG_UNUSED void fuzz_put(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    FUZZ_CHECK(fd >= 0 && dg_fd_write_all(fd, bytes, size, path, NULL) == DG_OK);
    close(fd);
}

#endif
