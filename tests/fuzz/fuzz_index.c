/* fuzz_index.c - the index file beside a tar shard: what is believed must lead nowhere outside of the tar.
 * Its header is made to fit the tar and its hash the rest, since nothing else would get past them. */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "data/source.h"
#include "data/tar_index.h"

enum { TAR_BYTES = 65536, MOST_SAMPLES = 8 };

static char tar_path[512], index_path[900];

static void find_index(const char *folder)
{
    DIR *d = opendir(folder);
    FUZZ_CHECK(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".dgidx")) snprintf(index_path, sizeof index_path, "%s/%s", folder, e->d_name);
    closedir(d);
    FUZZ_CHECK(index_path[0]);
}

/* A shard without members, and the name of its index, which its first opening makes. */
static void set_up(void)
{
    static const char zeros[TAR_BYTES];
    const char *paths[] = {tar_path};
    dg_source *source = NULL;
    snprintf(tar_path, sizeof tar_path, "%s/shard.tar", fuzz_folder());
    fuzz_put(tar_path, zeros, TAR_BYTES);
    FUZZ_CHECK(dg_source_open_tar(paths, 1, fuzz_folder(), &source, NULL) == DG_ERR_FORMAT);
    find_index(fuzz_folder());
}

static void seal(uint8_t *bytes, size_t size)
{
    struct stat st;
    dg_tar_header h;
    if (size < sizeof h) return;
    FUZZ_CHECK(stat(tar_path, &st) == 0);
    memcpy(&h, bytes, sizeof h);
    memcpy(h.magic, "dgtaridx", sizeof h.magic);
    h.version = 1;
    h.header_bytes = sizeof h;
    h.tar_bytes = TAR_BYTES;
    h.changed_s = (int64_t)st.st_mtim.tv_sec;
    h.changed_ns = (int64_t)st.st_mtim.tv_nsec;
    h.hash = XXH3_64bits(bytes + sizeof h, size - sizeof h);
    memcpy(bytes, &h, sizeof h);
}

static void read_some(const dg_source *source)
{
    dg_sample sample = {0};
    char name[64];
    const int64_t n = dg_source_count(source);
    FUZZ_CHECK(n > 0);
    for (int64_t i = 0; i < n && i < MOST_SAMPLES; i++) {
        dg_error err = DG_ERROR_INIT;
        dg_status s = dg_source_read(source, i, &sample, &err);
        if (s != DG_OK) fuzz_check_failure(s, &err);
        FUZZ_CHECK(sample.size <= TAR_BYTES && strlen(sample.name) < TAR_BYTES);
        FUZZ_CHECK(sample.label >= -1 && sample.label < dg_source_classes(source));
        dg_source_class_name(source, sample.label, name, sizeof name);
    }
    dg_sample_free(&sample);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *paths[] = {tar_path};
    dg_source *source = NULL;
    dg_error err = DG_ERROR_INIT;
    fuzz_quiet();
    if (!index_path[0]) set_up();
    uint8_t *copy = dg_calloc(size, 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    seal(copy, size);
    fuzz_put(index_path, copy, size);
    dg_free(copy);
    dg_status s = dg_source_open_tar(paths, 1, fuzz_folder(), &source, &err);
    if (s == DG_OK)
        read_some(source);
    else
        fuzz_check_failure(s, &err);
    dg_source_close(source);
    return 0;
}
