/* fuzz_text.c - captions: a vocabulary file, the text that it encodes, and a vocabulary learnt from that
 * text. */
#include "fuzz.h"

#include "data/text.h"

enum { LENGTH = 24, MOST_IDS = 600 };

/* Every id is one of the vocabulary's, the first is the start, and the largest, the end, comes once. */
static void encode(const dg_vocabulary *v, const char *caption)
{
    int32_t ids[LENGTH];
    const int64_t n = dg_vocabulary_size(v);
    dg_error err = DG_ERROR_INIT;
    dg_status s = dg_vocabulary_encode(v, caption, ids, LENGTH, &err);
    if (s != DG_OK) {
        fuzz_check_failure(s, &err);
        return;
    }
    int ends = 0;
    for (int i = 0; i < LENGTH; i++) {
        FUZZ_CHECK(ids[i] >= 0 && ids[i] < n);
        ends += ids[i] == n - 1;
        const char *word = dg_vocabulary_word(v, ids[i]);
        FUZZ_CHECK(!word || strlen(word) > 0);
    }
    FUZZ_CHECK(ids[0] == n - 2 && ends == 1);
}

static void load(const uint8_t *data, size_t size, const char *caption)
{
    char path[64];
    dg_vocabulary *v = NULL;
    dg_error err = DG_ERROR_INIT;
    int fd = fuzz_file(data, size, path);
    if (fd < 0) return;
    dg_status s = dg_vocabulary_load(path, &v, &err);
    if (s == DG_OK)
        encode(v, caption);
    else
        fuzz_check_failure(s, &err);
    dg_vocabulary_free(v);
    close(fd);
}

static void learn(dg_text_kind kind, const char *caption)
{
    dg_vocabulary *v = NULL;
    dg_error err = DG_ERROR_INIT;
    dg_status s = dg_vocabulary_create(kind, &v, &err);
    if (s == DG_OK) s = dg_vocabulary_add(v, caption, &err);
    if (s == DG_OK) s = dg_vocabulary_choose(v, MOST_IDS, 1, &err);
    if (s == DG_OK) {
        FUZZ_CHECK(dg_vocabulary_size(v) <= MOST_IDS);
        encode(v, caption);
    } else {
        fuzz_check_failure(s, &err);
    }
    dg_vocabulary_free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *caption = dg_calloc(size + 1, 1);
    if (!caption) return 0;
    if (size) memcpy(caption, data, size);
    fuzz_quiet();
    load(data, size, caption);
    learn(DG_TEXT_WORDS, caption);
    learn(DG_TEXT_PAIRS, caption);
    dg_free(caption);
    return 0;
}
