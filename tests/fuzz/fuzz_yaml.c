/* fuzz_yaml.c - YAML as a tree: what is a string must read back after it was written. */
#include "fuzz.h"

#include "recipe/yaml.h"

static void walk(const dg_yaml_node *node, dg_arena *arena)
{
    bool b;
    int64_t i;
    double f;
    char text[128];
    dg_yaml_describe(node, text, sizeof text);
    if (node->kind != DG_YAML_SCALAR) {
        for (size_t k = 0; k < node->n; k++) {
            FUZZ_CHECK((node->items[k].key != NULL) == (node->kind == DG_YAML_MAP));
            walk(node->items[k].value, arena);
        }
        return;
    }
    (void)(dg_yaml_is_null(node) || dg_yaml_bool(node, &b) || dg_yaml_int(node, &i) ||
           dg_yaml_float(node, &f));
    dg_str written = {0};
    dg_diagnostics diags = {0};
    dg_yaml_node *again = NULL;
    dg_yaml_write_string(&written, node->text);
    FUZZ_CHECK(!written.failed);
    dg_status s = dg_yaml_parse_value(written.text, (dg_pos){"fuzz", 1, 1}, arena, &again, &diags);
    FUZZ_CHECK(s == DG_OK && again && again->kind == DG_YAML_SCALAR && !strcmp(again->text, node->text));
    FUZZ_CHECK(!again->plain ||
               !(dg_yaml_is_null(again) || dg_yaml_bool(again, &b) || dg_yaml_float(again, &f)));
    dg_diagnostics_free(&diags);
    dg_str_free(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dg_arena arena = {0};
    dg_diagnostics diags = {0};
    dg_yaml_node *root = NULL;
    dg_status s = dg_yaml_parse((const char *)data, size, "fuzz", &arena, &root, &diags);
    FUZZ_CHECK(s == DG_OK || diags.n_errors || s == DG_ERR_NOMEM);
    if (root) walk(root, &arena);
    dg_str text = {0};
    dg_diagnostics_print(&diags, &text);
    dg_str_free(&text);
    dg_diagnostics_free(&diags);
    dg_arena_free(&arena);
    return 0;
}
