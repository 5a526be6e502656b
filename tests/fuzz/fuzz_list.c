/* fuzz_list.c - a list file: paths, labels, captions. The files that it names are not there. */
#include "fuzz.h"

#include "data/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], name[64];
    dg_source *source = NULL;
    dg_error err = DG_ERROR_INIT;
    int fd = fuzz_file(data, size, path);
    if (fd < 0) return 0;
    fuzz_quiet();
    dg_status s = dg_source_open_list(path, &source, &err);
    if (s != DG_OK) fuzz_check_failure(s, &err);
    if (s == DG_OK) {
        FUZZ_CHECK(dg_source_count(source) > 0);
        const int32_t classes = dg_source_classes(source);
        for (int32_t i = 0; i < classes && i < 100; i++) dg_source_class_name(source, i, name, sizeof name);
        FUZZ_CHECK(dg_source_describe(source)[0]);
    }
    dg_source_close(source);
    close(fd);
    return 0;
}
