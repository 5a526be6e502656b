/* PyTorch files: both kinds against checksums that PyTorch itself gave, and pickles and archives made to
 * hurt. */
#include "test.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/weights.h"

static dg_error err = DG_ERROR_INIT;

static const char *data(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", DIGPT_TEST_DATA, name);
    return path;
}

static void expect_fingerprint(const char *name, size_t count, const char *expected)
{
    dg_weights *w;
    char hash[33];
    ASSERT_OK(dg_weights_open(data(name), &w, &err));
    assert_int_equal(dg_weights_count(w), count);
    ASSERT_OK(dg_weights_fingerprint(w, hash, &err));
    assert_string_equal(hash, expected);
    dg_weights_close(w);
}

/* The expected values are XXH3-128 over name NUL type NUL bytes of torch.load(...)'s tensors, made
 * contiguous. */
static void both_kinds_are_bit_equal_to_what_pytorch_reads(void **state)
{
    (void)state;
    expect_fingerprint("H_checkpoint-3.pth", 268, "fe1ea17db95848fef1aaf3794d508b81");
    expect_fingerprint("H_legacy.pth", 268, "e38d2d86890cbbc0d4c5a80eabae06a6");
}

/* All element types, transposed, sliced, expanded, 0-d and empty tensors. */
static void views_and_types_are_bit_equal_in_every_container(void **state)
{
    (void)state;
    expect_fingerprint("io/mixed.pth", 15, "252c3f8e55f5811aba6b1a0c26449d56");
    expect_fingerprint("io/mixed_legacy.pth", 15, "252c3f8e55f5811aba6b1a0c26449d56");
    expect_fingerprint("io/mixed_deflated.pth", 15, "252c3f8e55f5811aba6b1a0c26449d56");
}

static void strides_and_offsets_of_views_are_kept(void **state)
{
    (void)state;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(data("io/mixed.pth"), &w, &err));
    const dg_weight *t = dg_weights_find(w, "t"); /* arange(24).reshape(4, 6).t() */
    float v[24], rows[8];
    assert_false(t->dense);
    ASSERT_OK(dg_weight_read_f32(t, v, 24, &err));
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 4; j++) assert_true(v[i * 4 + j] == (float)(j * 6 + i));
    ASSERT_OK(dg_weight_read_rows_f32(t, 2, 2, rows, 8, &err));
    assert_memory_equal(rows, v + 8, sizeof rows);
    ASSERT_FAILS(dg_weight_read_rows_f32(t, 5, 2, rows, 8, &err), DG_ERR_INVALID,
                 "has 6 rows; 2 from row 5 on");
    ASSERT_FAILS(dg_weight_read_f32(t, v, 23, &err), DG_ERR_INVALID, "24 elements, and there is room for 23");
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "off"), v, 6, &err)); /* [1:3, 2:5] */
    assert_true(v[0] == 8 && v[2] == 10 && v[3] == 14 && v[5] == 16);
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "scalar"), v, 1, &err));
    assert_true(v[0] == 7);
    ASSERT_FAILS(dg_weight_read_rows_f32(dg_weights_find(w, "scalar"), 0, 1, v, 1, &err), DG_ERR_INVALID,
                 "has no rows");
    dg_weights_close(w);
}

static void names_that_share_a_storage_all_read_it(void **state)
{
    (void)state;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(data("H_checkpoint-3.pth"), &w, &err));
    const dg_weight *a = dg_weights_find(w, "ar_enc_norm.0.weight"),
                    *b = dg_weights_find(w, "ar_enc_norm.3.weight");
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_equal(a->data, b->data);
    dg_weights_close(w);
}

static void scalars_beside_the_state_dict_are_metadata(void **state)
{
    (void)state;
    dg_weights *w;
    ASSERT_OK(dg_weights_open(data("H_checkpoint-3.pth"), &w, &err));
    assert_string_equal(dg_weights_meta(w, "epoch"), "3");
    assert_string_equal(dg_weights_meta(w, "args.batch_size"), "64");
    assert_string_equal(dg_weights_meta(w, "args.blr"), "0.00015");
    assert_string_equal(dg_weights_meta(w, "pytorch.state_dict"), "model");
    assert_null(dg_weights_meta(w, "pytorch.not_executed"));
    dg_weights_close(w);
}

static void torchscript_modules_are_read_by_attribute(void **state)
{
    (void)state;
    dg_weights *w;
    float v[2];
    ASSERT_OK(dg_weights_open(data("io/torchscript.pt"), &w, &err));
    assert_int_equal(dg_weights_count(w), 5);
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "visual.0.bias"), v, 2, &err));
    assert_true(v[0] == -0.011439144611358643f && v[1] == 0.45777493715286255f);
    dg_weights_close(w);
}

/* ---- made by hand */

#define MAGIC "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."
#define HEAD                                                                                                 \
    MAGIC "\x80\x02M\xe9\x03."                                                                               \
          "\x80\x02}."
/* A storage of key 'k', 4 floats, on the stack. */
#define STORAGE "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0kX\3\0\0\0cpuK\4tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define KEYS "\x80\x02]X\1\0\0\0ka."
#define BYTES                                                                                                \
    "\4\0\0\0\0\0\0\0"                                                                                       \
    "\0\0\x80?\0\0\0@\0\0@@\0\0\x80@"
/* {'a': tensor(storage, offset, size, stride, False, None)} */
#define TENSOR(ARGS) "\x80\x02}X\1\0\0\0a" REBUILD "(" STORAGE ARGS "\x89NtRs."

#define PARSE(FILE) parse(FILE, sizeof(FILE) - 1)

/* From a block of exactly this size, so that a sanitizer sees one byte too far. */
static dg_status parse(const char *bytes, size_t size)
{
    dg_weights *w = NULL;
    char *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    dg_status s = dg_weights_parse(exact, size, "in.pth", &w, &err);
    dg_weights_close(w);
    free(exact);
    return s;
}

static void a_hand_made_legacy_file_is_read(void **state)
{
    (void)state;
    dg_weights *w;
    float v[2];
    static const char file[] = HEAD TENSOR("K\1K\2\x85K\2\x85") KEYS BYTES;
    ASSERT_OK(dg_weights_parse(file, sizeof file - 1, "in.pth", &w, &err));
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "a"), v, 2, &err));
    assert_true(v[0] == 2 && v[1] == 4);
    dg_weights_close(w);
}

static void tensors_that_leave_their_storage_are_refused(void **state)
{
    (void)state;
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\1K\4\x85K\1\x85") KEYS BYTES), DG_ERR_FORMAT,
                 "lead outside of its storage");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85K\4\x85") KEYS BYTES), DG_ERR_FORMAT,
                 "lead outside of its storage");
    ASSERT_FAILS(PARSE(HEAD TENSOR("J\xff\xff\xff\xffK\1\x85K\1\x85") KEYS BYTES), DG_ERR_FORMAT,
                 "no integer of 0 or more");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0J\xff\xff\xff\xff\x85K\1\x85") KEYS BYTES), DG_ERR_FORMAT,
                 "integers of 0 or more");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2K\2\x86K\1\x85") KEYS BYTES), DG_ERR_FORMAT, "do not fit together");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85K\1\x85") KEYS BYTES),
                 DG_ERR_FORMAT, "more than 2^63 bytes");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85") KEYS BYTES),
                 DG_ERR_FORMAT, "lead outside of its storage");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0J\0\0\0\x7f\x85K\0\x85") KEYS BYTES), DG_ERR_FORMAT,
                 "repeats its storage");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0(K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1t") KEYS BYTES),
                 DG_ERR_UNSUPPORTED, "'a' has 7 dimensions");
}

static void damaged_legacy_storages_are_refused(void **state)
{
    (void)state;
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85K\1\x85") KEYS "\5" BYTES), DG_ERR_FORMAT,
                 "the file is cut short");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85K\1\x85") KEYS "\2\0\0\0\0\0\0\0"
                                                             "12345678"),
                 DG_ERR_FORMAT, "should have 4 elements and holds 8 bytes");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85K\1\x85") "\x80\x02]X\1\0\0\0xa." BYTES), DG_ERR_FORMAT,
                 "is unknown, or listed twice");
    ASSERT_FAILS(PARSE(HEAD TENSOR("K\0K\2\x85K\1\x85") "\x80\x02]."), DG_ERR_FORMAT,
                 "its storage is not in the file");
    ASSERT_FAILS(PARSE("\x80\x02K\1."), DG_ERR_FORMAT, "not one that torch.save wrote");
    ASSERT_FAILS(PARSE(MAGIC "\x80\x02M\xe9\x03."
                             "\x80\x02}X\x0d\0\0\0little_endian\x89s." TENSOR("K\0K\2\x85K\1\x85")),
                 DG_ERR_UNSUPPORTED, "big-endian");
}

static void code_in_a_pickle_is_refused_and_not_run(void **state)
{
    (void)state;
    char command[300], file[1024];
    snprintf(command, sizeof command, "touch %s", test_path("executed"));
    dg_str s = {0};
    dg_str_bytes(&s, HEAD, sizeof HEAD - 1);
    dg_str_printf(&s,
                  "\x80\x02"
                  "cposix\nsystem\n(S'%s'\ntR.",
                  command);
    memcpy(file, s.text, s.length);
    ASSERT_FAILS(parse(file, s.length), DG_ERR_UNSUPPORTED,
                 "asks to run posix.system: refused, nothing was executed");
    dg_str_free(&s);
    assert_false(dg_path_is_file(test_path("executed")));
    ASSERT_FAILS(PARSE(HEAD "\x80\4X\2\0\0\0osX\6\0\0\0system\x93."), DG_ERR_UNSUPPORTED, "os.system");
    ASSERT_FAILS(PARSE(HEAD "(S'x'\nios\nsystem\n."), DG_ERR_UNSUPPORTED, "os.system");
    ASSERT_FAILS(PARSE(HEAD "c__builtin__\neval\n."), DG_ERR_UNSUPPORTED, "builtins.eval");
    ASSERT_FAILS(PARSE(HEAD "csubprocess\nPopen\n."), DG_ERR_UNSUPPORTED, "subprocess.Popen");
}

static void unknown_classes_become_nothing_and_are_listed(void **state)
{
    (void)state;
    dg_weights *w;
    static const char file[] =
        HEAD "\x80\x02}(X\1\0\0\0a" REBUILD "(" STORAGE "K\0K\2\x85K\1\x85\x89NtR"
             "X\1\0\0\0xcmine\nThing\n(" REBUILD "(" STORAGE "K\0K\2\x85K\1\x85\x89NtRtR"
             "X\1\0\0\0ycmine\nThing\n)\x81}b"
             "u." KEYS BYTES;
    ASSERT_OK(dg_weights_parse(file, sizeof file - 1, "in.pth", &w, &err));
    assert_int_equal(dg_weights_count(w), 1);
    assert_string_equal(dg_weights_meta(w, "pytorch.not_executed"), "mine.Thing");
    dg_weights_close(w);
    ASSERT_FAILS(PARSE(HEAD "cmine\nThing\n)\x81."
                            "\x80\x02]."),
                 DG_ERR_FORMAT,
                 "objects of classes whose code is not run (mine.Thing): save its state_dict() instead");
    /* a tensor made by an unknown function is no tensor */
    ASSERT_FAILS(PARSE(HEAD "}X\1\0\0\0acmine\nmake\n(" STORAGE "K\0K\2\x85K\1\x85\x89NtRs." KEYS BYTES),
                 DG_ERR_FORMAT, "holds no tensors");
}

static void damaged_pickles_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *pickle;
        size_t size;
        const char *message;
    } cases[] = {
#define CASE(P, M) {HEAD P, sizeof(HEAD P) - 1, M}
        CASE("", "in.pth (object): damaged pickle at byte 0: it is cut short"),
        CASE(".", "its stack is empty"),
        CASE("\x86.", "its stack is empty"),
        CASE("t.", "a mark is missing"),
        CASE("(.", "its stack is empty"),
        CASE("h\7.", "a memo index that was never stored"),
        CASE("Nr\xff\xff\xff\xff.", "a memo index beyond 8 million"),
        CASE("X\xff\xff\xff\xffxx.", "it is cut short"),
        CASE("\x8d\xff\xff\xff\xff\xff\xff\xff\xffxx.", "it is cut short"),
        CASE("\x8b\xff\xff\xff\xff.", "it is cut short"),
        CASE("\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "it is cut short"),
        CASE("\x80\7.", "a protocol newer than 5"),
        CASE("]Ns.", "its stack is empty"),
        CASE("NNNs.", "what is not such a container"),
        CASE("}(Nu.", "a key without its value"),
        CASE("N)\x92.", "its stack is empty"),
        CASE("NQ.", "a persistent id that is no storage"),
        CASE("NNR.", "arguments that are no tuple"),
        CASE("NNRR\x93", "arguments that are no tuple"),
        CASE("\xff", "damaged pickle at byte 0: an opcode that is not known"),
        CASE("cabc", "a line without its end"),
        CASE("Ix\n.", "a number that is none"),
        CASE("I99999999999999999999999999999999999999999999999999999999999999999999\n",
             "more than 63 characters"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_FAILS(parse(cases[i].pickle, cases[i].size), DG_ERR_FORMAT, cases[i].message);
}

static void circles_and_repetition_come_to_an_end(void **state)
{
    (void)state;
    /* a dict that holds itself, beside a tensor */
    ASSERT_FAILS(PARSE(HEAD "\x80\x02}q\0X\1\0\0\0xh\0s(X\1\0\0\0a" REBUILD "(" STORAGE
                            "K\0K\2\x85K\1\x85\x89NtRu." KEYS BYTES),
                 DG_ERR_FORMAT, "nested too deep, or in a circle");
    /* forty levels, each of which holds the one before twice: 2^40 paths */
    dg_str s = {0};
    dg_str_bytes(&s, HEAD, sizeof HEAD - 1);
    dg_str_puts(&s, "]");
    for (int i = 0; i < 40; i++) dg_str_puts(&s, "2\x86");
    dg_str_bytes(&s, ".\x80\x02].", 5);
    dg_weights *w = NULL;
    ASSERT_FAILS(dg_weights_parse(s.text, s.length, "in.pth", &w, &err), DG_ERR_FORMAT,
                 "more than a million values");
    dg_str_free(&s);
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"io/mixed.pth", "io/mixed_legacy.pth", "io/mixed_deflated.pth",
                                        "H_legacy.pth", "H_checkpoint-3.pth"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char *p;
        size_t n, parts = k < 3 ? 64 : 16;
        ASSERT_OK(dg_file_read(data(names[k]), 1 << 24, &p, &n, &err));
        for (size_t i = 0; i < parts; i++) assert_int_not_equal(parse(p, n * i / parts), DG_OK);
        assert_int_not_equal(parse(p, n - 1), DG_OK);
        dg_free(p);
    }
}

/* Any byte changed: an error or other weights, but never a read outside (which the sanitizers see). */
static void flipped_bytes_never_lead_outside(void **state)
{
    (void)state;
    static const char *const names[] = {"io/mixed.pth", "io/mixed_legacy.pth", "io/mixed_deflated.pth",
                                        "io/torchscript.pt"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char *p;
        size_t n;
        ASSERT_OK(dg_file_read(data(names[k]), 1 << 24, &p, &n, &err));
        for (size_t i = 0; i < n; i++)
            for (int bit = 0; bit < 3; bit++) {
                dg_weights *w;
                char hash[33], old = p[i];
                p[i] = bit == 0 ? (char)~old : bit == 1 ? (char)(old + 1) : (char)0xff;
                if (dg_weights_parse(p, n, "flipped", &w, &err) == DG_OK) {
                    ASSERT_OK(dg_weights_fingerprint(w, hash, &err));
                    dg_weights_close(w);
                }
                p[i] = old;
            }
        dg_free(p);
    }
}

/* ---- archives: one stored member "a/data.pkl" with the pickle "}." and whatever a test changes in it */

#define LOCAL "PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\2\0\0\0\x0a\0\0\0a/data.pkl}."
#define ENTRY                                                                                                \
    "PK\1\2\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\2\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0a/"     \
    "data.pkl"
#define END "PK\5\6\0\0\0\0\1\0\1\0\x38\0\0\0\x2a\0\0\0\0\0"

static dg_status parse_patched(size_t at, const char *bytes, size_t n)
{
    static const char file[] = LOCAL ENTRY END;
    char copy[sizeof file];
    memcpy(copy, file, sizeof file);
    memcpy(copy + at, bytes, n);
    return parse(copy, sizeof file - 1);
}

static void archives_with_lying_sizes_are_refused(void **state)
{
    (void)state;
    enum { E = sizeof LOCAL - 1, D = E + sizeof ENTRY - 1 };
    ASSERT_FAILS(parse_patched(0, "", 0), DG_ERR_FORMAT, "in.pth holds no tensors");
    ASSERT_FAILS(parse_patched(E + 20, "\xff\xff\0\0\xff\xff\0\0", 8), DG_ERR_FORMAT,
                 "claims 65535 bytes from byte 40 on");
    ASSERT_FAILS(parse_patched(E + 24, "\xff\xff", 2), DG_ERR_FORMAT, "'a/data.pkl' claims 65535 bytes in 2");
    ASSERT_FAILS(parse_patched(E + 20, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), DG_ERR_FORMAT,
                 "a zip64 entry without its sizes");
    ASSERT_FAILS(parse_patched(E + 42, "\xff\xff", 2), DG_ERR_FORMAT,
                 "should begin at byte 65535 and does not");
    ASSERT_FAILS(parse_patched(E + 10, "\x08\0", 2), DG_ERR_FORMAT, "is damaged: it does not inflate");
    ASSERT_FAILS(parse_patched(E + 10, "\x0c\0", 2), DG_ERR_UNSUPPORTED, "compressed by method 12");
    ASSERT_FAILS(parse_patched(E + 8, "\1\0", 2), DG_ERR_UNSUPPORTED, "is encrypted");
    ASSERT_FAILS(parse_patched(E + 28, "\xff\xff", 2), DG_ERR_FORMAT, "a directory entry is cut short");
    ASSERT_FAILS(parse_patched(E, "XX", 2), DG_ERR_FORMAT, "a directory entry is damaged");
    ASSERT_FAILS(parse_patched(D + 16, "\xff\xff\xff\xff", 4), DG_ERR_FORMAT, "its directory lies outside");
    ASSERT_FAILS(parse_patched(D + 10, "\xff\xff", 2), DG_ERR_FORMAT, "too short for its members");
    ASSERT_FAILS(parse_patched(D, "XX", 2), DG_ERR_FORMAT, "its directory is missing");
    ASSERT_FAILS(parse_patched(D + 4, "\1\0", 2), DG_ERR_FORMAT, "split archive");
    ASSERT_FAILS(parse_patched(E + 46, "x", 1), DG_ERR_FORMAT, "in.pth holds no tensors");
    ASSERT_FAILS(parse_patched(E + 50, "x", 1), DG_ERR_FORMAT, "a zip archive without a data.pkl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_kinds_are_bit_equal_to_what_pytorch_reads),
        cmocka_unit_test(views_and_types_are_bit_equal_in_every_container),
        cmocka_unit_test(strides_and_offsets_of_views_are_kept),
        cmocka_unit_test(names_that_share_a_storage_all_read_it),
        cmocka_unit_test(scalars_beside_the_state_dict_are_metadata),
        cmocka_unit_test(torchscript_modules_are_read_by_attribute),
        cmocka_unit_test(a_hand_made_legacy_file_is_read),
        cmocka_unit_test(tensors_that_leave_their_storage_are_refused),
        cmocka_unit_test(damaged_legacy_storages_are_refused),
        cmocka_unit_test(code_in_a_pickle_is_refused_and_not_run),
        cmocka_unit_test(unknown_classes_become_nothing_and_are_listed),
        cmocka_unit_test(damaged_pickles_say_where),
        cmocka_unit_test(circles_and_repetition_come_to_an_end),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(flipped_bytes_never_lead_outside),
        cmocka_unit_test(archives_with_lying_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
