/* fuzz_weights.c - weights: safetensors, PyTorch's zip and legacy files; every value is read, the names
 * matched. */
#include "fuzz.h"

#include "io/names.h"

enum { MOST_ELEMENTS = 1 << 16 };

static void read_tensor(const dg_weight *t)
{
    char text[128];
    dg_error err = DG_ERROR_INIT;
    dg_weight_text(t, text, sizeof text);
    FUZZ_CHECK(t->count >= 0 && t->rank >= 0 && t->rank <= DG_MAX_RANK);
    if (t->count > MOST_ELEMENTS) return;
    float *values = dg_calloc((size_t)t->count, sizeof *values);
    unsigned char *raw = dg_calloc(t->bytes, 1);
    if (values && raw) {
        FUZZ_CHECK(dg_weight_read_f32(t, values, (size_t)t->count, &err) == DG_OK);
        FUZZ_CHECK(dg_weight_read_raw(t, raw, t->bytes, &err) == DG_OK);
    }
    dg_free(values);
    dg_free(raw);
}

static void match_names(const dg_weights *w)
{
    dg_arena arena = {0};
    dg_wanted *known = NULL;
    dg_names names = {0};
    size_t n = 0;
    dg_error err = DG_ERROR_INIT;
    dg_str report = {0};
    dg_status s = dg_names_known(w, &arena, &known, &n, &err);
    if (s == DG_OK && n) {
        s = dg_names_match(w, known, n, &names, &err);
        if (s == DG_OK) dg_names_report(&names, known, 4, &report);
    }
    if (s != DG_OK) fuzz_check_failure(s, &err);
    dg_str_free(&report);
    dg_names_free(&names);
    dg_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dg_weights *w = NULL;
    dg_error err = DG_ERROR_INIT;
    fuzz_quiet();
    dg_status s = dg_weights_parse(data, size, "fuzz", &w, &err);
    if (s != DG_OK) {
        fuzz_check_failure(s, &err);
        FUZZ_CHECK(!w);
        return 0;
    }
    for (size_t i = 0; i < dg_weights_count(w); i++) {
        read_tensor(dg_weights_at(w, i));
        FUZZ_CHECK(dg_weights_find(w, dg_weights_at(w, i)->name) == dg_weights_at(w, i));
    }
    for (size_t i = 0; i < dg_weights_meta_count(w); i++) {
        const char *key, *value;
        dg_weights_meta_at(w, i, &key, &value);
        FUZZ_CHECK(key && value);
    }
    match_names(w);
    dg_weights_close(w);
    return 0;
}
