/* fuzz_tar.c - a tar shard: its scan, and the reading and decoding of a few samples; once as it is, and once
 * with the headers' checksums put right, since few changes would get past them. */
#include "fuzz.h"

#include "data/source.h"

enum { BLOCK = 512, MOST_SAMPLES = 4, MOST_PIXELS = 1 << 16 };

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

static void run(const uint8_t *data, size_t size)
{
    char path[64];
    const char *paths[] = {path};
    dg_source *source = NULL;
    dg_error err = DG_ERROR_INIT;
    int fd = fuzz_file(data, size, path);
    if (fd < 0) return;
    dg_status s = dg_source_open_tar(paths, 1, NULL, &source, &err);
    if (s == DG_OK)
        read_some(source);
    else
        fuzz_check_failure(s, &err);
    dg_source_close(source);
    close(fd);
}

/* Every block that says "ustar" gets the checksum of its bytes. False if all had it. */
static bool seal(uint8_t *data, size_t size)
{
    bool changed = false;
    for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
        uint8_t *h = data + at, old[8];
        uint32_t sum = 8 * ' ';
        if (memcmp(h + 257, "ustar", 5) != 0) continue;
        for (size_t i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0 : h[i];
        memcpy(old, h + 148, sizeof old);
        for (int i = 5; i >= 0; i--, sum >>= 3) h[148 + i] = (uint8_t)('0' + (sum & 7));
        h[154] = 0;
        h[155] = ' ';
        changed |= memcmp(old, h + 148, sizeof old) != 0;
    }
    return changed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_quiet();
    run(data, size);
    uint8_t *copy = dg_calloc(size, 1);
    if (copy && size) memcpy(copy, data, size);
    if (copy && seal(copy, size)) run(copy, size);
    dg_free(copy);
    return 0;
}
