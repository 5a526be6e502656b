/* fuzz_json.c - JSON: headers of weights, indices of shards, records of runs. */
#include "fuzz.h"

#include "io/json.h"

static void walk(const dg_json *node, size_t *n)
{
    (*n)++;
    FUZZ_CHECK(node->line >= 1 && node->col >= 1);
    if (node->type != DG_JSON_ARRAY && node->type != DG_JSON_OBJECT) return;
    uint32_t count = 0;
    for (const dg_json *child = node->v.first; child; child = child->next, count++) {
        if (node->type == DG_JSON_OBJECT) FUZZ_CHECK(dg_json_get(node, child->key) == child);
        walk(child, n);
    }
    FUZZ_CHECK(count == node->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dg_arena arena = {0};
    const dg_json *root = NULL;
    dg_error err = DG_ERROR_INIT;
    size_t n = 0;
    dg_status s = dg_json_parse((const char *)data, size, "fuzz", &arena, &root, &err);
    if (s == DG_OK)
        walk(root, &n);
    else
        fuzz_check_failure(s, &err);
    dg_arena_free(&arena);
    return 0;
}
