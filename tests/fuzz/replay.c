/* replay.c - runs a fuzz target on files, and on small changes of each, without libFuzzer: as a test under
 * any compiler. Arguments are files and folders of files; a finding ends the process. */
#include "fuzz.h"

#include <dirent.h>

enum { MOST_BYTES = 1 << 26, MOST_CHANGES = 300 };

static char now[4096]; /* what is being run, for whoever looks at a core file */

/* A copy of its own, so that a sanitizer sees a read past the end. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* The file, its beginnings, and the file with one byte changed, evenly spread. */
static int run_file(const char *path)
{
    char *bytes = NULL;
    size_t size = 0;
    dg_error err = DG_ERROR_INIT;
    snprintf(now, sizeof now, "%s", path);
    if (dg_file_read(path, MOST_BYTES, &bytes, &size, &err) != DG_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    run((const uint8_t *)bytes, size);
    const size_t step = size / MOST_CHANGES + 1;
    for (size_t i = 0; i < size; i += step) {
        static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x20};
        run((const uint8_t *)bytes, i);
        const char old = bytes[i];
        bytes[i] = (char)((uint8_t)old ^ changes[i / step % 4]);
        run((const uint8_t *)bytes, size);
        bytes[i] = old;
    }
    dg_free(bytes);
    return 0;
}

static int run_path(const char *path, size_t *n)
{
    if (!dg_path_is_dir(path)) {
        ++*n;
        return run_file(path);
    }
    int failed = 0;
    DIR *d = opendir(path);
    if (!d) {
        fprintf(stderr, "cannot open the folder '%s'\n", path);
        return 1;
    }
    for (struct dirent *e; !failed && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *file = dg_path_join(path, e->d_name);
        failed = file ? run_path(file, n) : 1;
        dg_free(file);
    }
    closedir(d);
    return failed;
}

int main(int argc, char **argv)
{
    size_t n = 0;
    for (int i = 1; i < argc; i++)
        if (run_path(argv[i], &n)) return 1;
    printf("%zu files\n", n);
    return n ? 0 : 1;
}
