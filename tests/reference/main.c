/* main.c - digpt-reference [--backend NAME] [--precision f32|bf16] [--data DIR] [--only LETTERS] DIR */
#include "reference.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

static const char usage[] =
    "usage: digpt-reference [--backend NAME] [--precision f32|bf16] [--data DIR] [--only LETTERS] DIR\n"
    "Compares this build with the recorded tensors in DIR (manifest.json).\n"
    "  --backend NAME    what runs the programs (cpu)\n"
    "  --precision WORD  bf16: losses within 1 %, gradients' cosine above 0.99 (f32)\n"
    "  --data DIR        folder of the photographs that the manifest names\n"
    "  --only LETTERS    fixtures to check, such as AH\n";

static const struct {
    char letter;
    void (*check)(reference *r, const dg_json *fixture);
} checks[] = {
    {'A', ref_pretrain},  {'B', ref_finetune},  {'C', ref_clip}, {'D', ref_images},
    {'E', ref_schedules}, {'F', ref_positions}, {'G', ref_mae},  {'H', ref_mini},
};

static bool parse(int argc, char **argv, reference *r, const char **only)
{
    r->backend = "cpu";
    r->compute = DG_F32;
    for (int i = 1; i < argc; i++) {
        const char **value = !strcmp(argv[i], "--backend") ? &r->backend
                             : !strcmp(argv[i], "--data")  ? &r->data
                             : !strcmp(argv[i], "--only")  ? only
                                                           : NULL;
        if (!strcmp(argv[i], "--precision") && i + 1 < argc) {
            const char *word = argv[++i];
            if (strcmp(word, "f32") != 0 && strcmp(word, "bf16") != 0) return false;
            r->compute = word[0] == 'f' ? DG_F32 : DG_BF16;
        } else if (value && i + 1 < argc) {
            *value = argv[++i];
        } else if (argv[i][0] == '-' || r->dir) {
            return false;
        } else {
            r->dir = argv[i];
        }
    }
    return r->dir != NULL;
}

static dg_status open_all(reference *r, dg_error *err)
{
    const dg_json *root;
    char *path = dg_path_join(r->dir, "manifest.json");
    dg_status s = path ? dg_json_read_file(path, 64 << 20, &r->arena, &root, err)
                       : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    dg_free(path);
    DG_TRY(s);
    r->fixtures = dg_json_get(root, "fixtures");
    if (!r->fixtures) return dg_fail(err, DG_ERR_FORMAT, "'%s/manifest.json' has no 'fixtures'", r->dir);
    snprintf(r->temporary, sizeof r->temporary, "/tmp/digpt-reference-XXXXXX");
    if (!mkdtemp(r->temporary)) return dg_fail(err, DG_ERR_IO, "cannot make a temporary folder");
    dg_search search = {0};
    return dg_registry_create(&search, &r->registry, err);
}

int main(int argc, char **argv)
{
    reference r = {0};
    const char *only = NULL;
    dg_error err = DG_ERROR_INIT;
    if (!parse(argc, argv, &r, &only)) {
        fputs(usage, stderr);
        return 2;
    }
    dg_status s = open_all(&r, &err);
    for (size_t i = 0; s == DG_OK && i < sizeof checks / sizeof checks[0]; i++) {
        const char name[] = {checks[i].letter, 0};
        const dg_json *fixture = dg_json_get(r.fixtures, name);
        if (fixture && (!only || strchr(only, checks[i].letter))) checks[i].check(&r, fixture);
    }
    if (s != DG_OK) fprintf(stderr, "digpt-reference: %s\n", err.message);
    if (r.temporary[0]) dg_dir_remove(r.temporary, NULL);
    dg_registry_destroy(r.registry);
    dg_arena_free(&r.arena);
    printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped);
    return s == DG_OK && r.failed == 0 && r.passed > 0 ? 0 : 1;
}
