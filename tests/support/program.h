/* program.h - for tests that run the program `digpt` itself, in the test's folder, and read what it says. */
#ifndef DG_TEST_PROGRAM_H
#define DG_TEST_PROGRAM_H

#include "test.h"

#include <stdlib.h>
#include <sys/wait.h>

/* What the last run wrote to standard output and standard error. */
static char out[1 << 18], err_text[1 << 16];

static DG_UNUSED void read_back(const char *path, char *into, size_t size)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(into, 1, size - 1, f) : 0;
    into[n] = 0;
    if (f) fclose(f);
}

/* Runs `digpt ARGUMENTS` through the shell, after the words `before`: exit code and texts as expected. */
static DG_UNUSED void expect_after(const char *before, const char *arguments, int code, const char *in_out,
                                   const char *in_err)
{
    char command[4096];
    snprintf(command, sizeof command, "cd %s && %s exec %s/bin/digpt %s >out 2>err", test_dir(), before,
             DIGPT_BINARY_DIR, arguments);
    int status = system(command), got = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    read_back(test_path("out"), out, sizeof out);
    read_back(test_path("err"), err_text, sizeof err_text);
    if (got != code) fail_msg("digpt %s: exit code %d, not %d\n%s%s", arguments, got, code, out, err_text);
    if (!strstr(out, in_out)) fail_msg("digpt %s: '%s' is not in\n%s%s", arguments, in_out, out, err_text);
    if (!strstr(err_text, in_err)) fail_msg("digpt %s: '%s' is not in\n%s", arguments, in_err, err_text);
}

static DG_UNUSED void expect(const char *arguments, int code, const char *in_out, const char *in_err)
{
    expect_after("", arguments, code, in_out, in_err);
}

#endif
