/* test.c - see test.h. */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

static char dir[256];

static void remove_dir(void)
{
    dg_dir_remove(dir, NULL);
}

const char *test_dir(void)
{
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/digpt-test-XXXXXX");
        if (!mkdtemp(dir)) abort();
        atexit(remove_dir);
    }
    return dir;
}

const char *test_path(const char *name)
{
    static char ring[8][512];
    static unsigned next;
    char *p = ring[next++ % 8];
    snprintf(p, sizeof ring[0], "%s/%s", test_dir(), name);
    return p;
}

void test_write(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) fail_msg("cannot write %s", path);
}
