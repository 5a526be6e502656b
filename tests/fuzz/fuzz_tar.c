/* fuzz_tar.c - a tar shard: its scan, and the reading and decoding of a few samples. */
#include "fuzz.h"

#include "data/source.h"

enum { MOST_SAMPLES = 4, MOST_PIXELS = 1 << 16 };

static void read_some(const dg_source *source)
{
    dg_sample sample = {0};
    char name[64];
    const int64_t n = dg_source_count(source);
    FUZZ_CHECK(n > 0);
    for (int64_t i = 0; i < n && i < MOST_SAMPLES; i++) {
        dg_error err = DG_ERROR_INIT;
        dg_status s = dg_source_read_image(source, i, MOST_PIXELS, &sample, &err);
        if (s != DG_OK) fuzz_check_failure(s, &err);
        FUZZ_CHECK(sample.label >= -1 && sample.label < dg_source_classes(source));
        FUZZ_CHECK(strlen(sample.name) > 0 && sample.caption);
        dg_source_class_name(source, sample.label, name, sizeof name);
    }
    dg_sample_free(&sample);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    const char *paths[] = {path};
    dg_source *source = NULL;
    dg_error err = DG_ERROR_INIT;
    int fd = fuzz_file(data, size, path);
    if (fd < 0) return 0;
    fuzz_quiet();
    dg_status s = dg_source_open_tar(paths, 1, NULL, &source, &err);
    if (s == DG_OK)
        read_some(source);
    else
        fuzz_check_failure(s, &err);
    dg_source_close(source);
    close(fd);
    return 0;
}
