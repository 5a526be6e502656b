/* The safetensors format: round trips, the bytes that are written, and headers made to hurt. */
#include "test.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <signal.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "io/weights.h"

static dg_error err = DG_ERROR_INIT;

/* A file of this header and `data` bytes of data, parsed from memory that ends where the file ends. */
static dg_status parse(const char *header, size_t data)
{
    size_t n = strlen(header);
    unsigned char *p = malloc(8 + n + data);
    memset(p, 0, 8 + n + data);
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(n >> (8 * i));
    memcpy(p + 8, header, n);
    dg_weights *w = NULL;
    dg_status s = dg_weights_parse(p, 8 + n + data, "in.safetensors", &w, &err);
    dg_weights_close(w);
    free(p);
    return s;
}

#define T(NAME, DTYPE, SHAPE, BEGIN, END)                                                                    \
    "\"" NAME "\":{\"dtype\":\"" DTYPE "\",\"shape\":" SHAPE ",\"data_offsets\":[" BEGIN "," END "]}"

static void hostile_headers_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        dg_status code;
        const char *message;
    } cases[] = {
        {"{" T("a", "F32", "[2]", "0", "8") "}", 4, DG_ERR_FORMAT,
         "'a' ends at byte 8 of the data, which has 4"},
        {"{" T("a", "F32", "[2]", "0", "8") "}", 12, DG_ERR_FORMAT,
         "have 12 bytes, and the tensors end at 8"},
        {"{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "2", "6") "}", 6, DG_ERR_FORMAT,
         "'a' and 'b' overlap at byte 2"},
        {"{" T("a", "F32", "[1]", "4", "8") "}", 8, DG_ERR_FORMAT,
         "bytes 0 to 4 of the data, before 'a', belong to no"},
        {"{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, DG_ERR_FORMAT,
         "there twice"},
        {"{" T("a", "F32", "[3]", "0", "8") "}", 8, DG_ERR_FORMAT,
         "is F32[3], 12 bytes, and its offsets span 8"},
        {"{" T("a", "F32", "[-1]", "0", "4") "}", 4, DG_ERR_FORMAT,
         "a dimension must be an integer of 0 or more"},
        {"{" T("a", "F32", "[1.5]", "0", "4") "}", 4, DG_ERR_FORMAT,
         "a dimension must be an integer of 0 or more"},
        {"{" T("a", "F32", "[4294967296,4294967296,4294967296]", "0", "4") "}", 4, DG_ERR_FORMAT,
         "more than 2^63"},
        {"{" T("a", "F32", "[0,4294967296,4294967296]", "0", "0") "}", 0, DG_ERR_FORMAT, "more than 2^63"},
        {"{" T("a", "F32", "[9223372036854775807]", "0", "4") "}", 4, DG_ERR_FORMAT, "more than 2^63"},
        {"{" T("a", "F32", "[1]", "-4", "0") "}", 4, DG_ERR_FORMAT, "must not be negative"},
        {"{" T("a", "F32", "[1]", "4", "0") "}", 4, DG_ERR_FORMAT, "run backwards"},
        {"{" T("a", "F32", "[1]", "0", "18446744073709551620") "}", 4, DG_ERR_FORMAT, "must be two integers"},
        {"{" T("a", "F4", "[2]", "0", "1") "}", 1, DG_ERR_UNSUPPORTED, "'a' has the type 'F4'"},
        {"{" T("a", "U8", "[1,1,1,1,1,1,1]", "0", "1") "}", 1, DG_ERR_UNSUPPORTED, "'a' has 7 dimensions"},
        {"{\"a\":3}", 0, DG_ERR_FORMAT, "its entry must be an object"},
        {"{\"a\":{}}", 0, DG_ERR_FORMAT, "\"dtype\" must be a string"},
        {"{\"__metadata__\":{\"k\":1}}", 0, DG_ERR_FORMAT, "the value of 'k' must be a string"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0, DG_ERR_FORMAT,
         "64 levels"},
        {"[]", 0, DG_ERR_FORMAT, "neither safetensors nor a PyTorch file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_FAILS(parse(cases[i].header, cases[i].data), cases[i].code, cases[i].message);
    ASSERT_OK(parse("{" T("a", "F32", "[0,5]", "0", "0") "," T("b", "U8", "[]", "0", "1") "}  ", 1));
    ASSERT_OK(parse("{}", 0));
}

static void lying_header_lengths_are_refused(void **state)
{
    (void)state;
    dg_weights *w;
    unsigned char p[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
    ASSERT_FAILS(dg_weights_parse(p, sizeof p, "x", &w, &err), DG_ERR_FORMAT, "more than the 100000000");
    memset(p, 0, 8);
    p[0] = 9;
    ASSERT_FAILS(dg_weights_parse(p, sizeof p, "x", &w, &err), DG_ERR_FORMAT,
                 "claims 9 bytes and the file has 16: it is cut");
    ASSERT_FAILS(dg_weights_parse(p, 4, "x", &w, &err), DG_ERR_FORMAT, "only 4 bytes");
    ASSERT_FAILS(dg_weights_parse(p, 0, "x", &w, &err), DG_ERR_FORMAT, "is empty");
}

static void what_is_written_reads_back_with_metadata(void **state)
{
    (void)state;
    static const float a[6] = {1, 2, 3, -4, 5.5f, 1e-20f};
    static const uint8_t b[3] = {1, 0, 1};
    static const int64_t c = INT64_MIN;
    const dg_st_tensor tensors[] = {{"b", DG_STORED_BOOL, 1, {3}},
                                    {"x\"\n.a", DG_STORED_F32, 2, {2, 3}},
                                    {"c", DG_STORED_I64, 0, {0}},
                                    {"e", DG_STORED_F16, 2, {0, 7}}};
    const void *const data[] = {b, a, &c, NULL};
    const dg_st_meta meta[] = {{"z", "\"quoted\""}, {"a", "1"}};
    const char *path = test_path("round.safetensors");
    dg_weights *w;
    ASSERT_OK(dg_st_write(path, tensors, data, 4, meta, 2, &err));
    ASSERT_OK(dg_weights_open(path, &w, &err));
    assert_int_equal(dg_weights_count(w), 4);
    float back[6];
    ASSERT_OK(dg_weight_read_f32(dg_weights_find(w, "x\"\n.a"), back, 6, &err));
    assert_memory_equal(back, a, sizeof a);
    int64_t c_back;
    ASSERT_OK(dg_weight_read_raw(dg_weights_find(w, "c"), &c_back, sizeof c_back, &err));
    assert_true(c_back == c);
    assert_int_equal((uintptr_t)dg_weights_find(w, "x\"\n.a")->data % 4, 0);
    assert_string_equal(dg_weights_meta(w, "z"), "\"quoted\"");
    assert_null(dg_weights_meta(w, "y"));
    dg_weights_close(w);
}

static void bytes_do_not_depend_on_the_order_given(void **state)
{
    (void)state;
    static const float x[2] = {1, 2};
    static const uint16_t y[1] = {7};
    const dg_st_tensor one[] = {{"a", DG_STORED_U16, 1, {1}}, {"b", DG_STORED_F32, 1, {2}}};
    const dg_st_tensor two[] = {{"b", DG_STORED_F32, 1, {2}}, {"a", DG_STORED_U16, 1, {1}}};
    const dg_st_meta meta_one[] = {{"k", "v"}, {"l", "w"}}, meta_two[] = {{"l", "w"}, {"k", "v"}};
    dg_st_writer *w;
    ASSERT_OK(dg_st_create(test_path("one"), one, 2, meta_one, 2, &w, &err));
    ASSERT_OK(dg_st_put(w, 1, &x[0], 4, &err));
    ASSERT_OK(dg_st_put(w, 0, y, 2, &err));
    ASSERT_OK(dg_st_put(w, 1, &x[1], 4, &err));
    ASSERT_OK(dg_st_finish(w, &err));
    ASSERT_OK(dg_st_write(test_path("two"), two, (const void *const[]){x, y}, 2, meta_two, 2, &err));
    char *p, *q;
    size_t n, m;
    ASSERT_OK(dg_file_read(test_path("one"), 4096, &p, &n, &err));
    ASSERT_OK(dg_file_read(test_path("two"), 4096, &q, &m, &err));
    assert_int_equal(n, m);
    assert_memory_equal(p, q, n);
    const char *header = "{\"__metadata__\":{\"k\":\"v\",\"l\":\"w\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
                         "\"data_offsets\":[0,8]},"
                         "\"a\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[8,10]}}";
    assert_memory_equal(p + 8, header, strlen(header));
    assert_int_equal((unsigned char)p[0] % 8, 0);
    dg_free(p);
    dg_free(q);
}

static void an_unfinished_file_never_appears(void **state)
{
    (void)state;
    static const float x[2] = {1, 2};
    const dg_st_tensor t[] = {{"a", DG_STORED_F32, 1, {2}}};
    const char *path = test_path("unfinished");
    char tmp[600];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    dg_st_writer *w;
    test_write(path, "old", 3);
    ASSERT_OK(dg_st_create(path, t, 1, NULL, 0, &w, &err));
    ASSERT_FAILS(dg_st_put(w, 0, x, 12, &err), DG_ERR_INVALID, "more bytes than the tensor 'a'");
    ASSERT_OK(dg_st_put(w, 0, x, 4, &err));
    ASSERT_FAILS(dg_st_finish(w, &err), DG_ERR_INVALID, "'a' has 4 of its 8 bytes");
    assert_false(dg_path_is_file(tmp));
    ASSERT_OK(dg_st_create(path, t, 1, NULL, 0, &w, &err));
    assert_true(dg_path_is_file(tmp));
    dg_st_abandon(w);
    assert_false(dg_path_is_file(tmp));
    char *p;
    size_t n;
    ASSERT_OK(dg_file_read(path, 100, &p, &n, &err));
    assert_string_equal(p, "old");
    dg_free(p);
}

static void a_writer_refuses_what_a_reader_would(void **state)
{
    (void)state;
    const dg_st_tensor twice[] = {{"a", DG_STORED_F32, 1, {2}}, {"a", DG_STORED_U8, 1, {2}}};
    const dg_st_tensor reserved[] = {{"__metadata__", DG_STORED_F32, 1, {2}}};
    const dg_st_tensor negative[] = {{"a", DG_STORED_F32, 1, {-1}}};
    const dg_st_meta meta[] = {{"k", "v"}, {"k", "w"}};
    dg_st_writer *w;
    const char *path = test_path("refused");
    ASSERT_FAILS(dg_st_create(path, twice, 2, NULL, 0, &w, &err), DG_ERR_INVALID,
                 "two tensors are named 'a'");
    ASSERT_FAILS(dg_st_create(path, reserved, 1, NULL, 0, &w, &err), DG_ERR_INVALID, "'__metadata__'");
    ASSERT_FAILS(dg_st_create(path, negative, 1, NULL, 0, &w, &err), DG_ERR_FORMAT, "dimension 0 is -1");
    ASSERT_FAILS(dg_st_create(path, twice, 1, meta, 2, &w, &err), DG_ERR_INVALID, "key 'k' is given twice");
    ASSERT_FAILS(dg_st_create("/nonexistent/x", twice, 1, NULL, 0, &w, &err), DG_ERR_IO,
                 "cannot create '/nonexistent/x.tmp'");
}

static void a_full_disk_is_reported_before_anything_is_written(void **state)
{
    (void)state;
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 4096; /* a file size limit stands in for a disk that is full */
    signal(SIGXFSZ, SIG_IGN);
    const dg_st_tensor t[] = {{"a", DG_STORED_F32, 1, {100000}}};
    dg_st_writer *w;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    err = (dg_error)DG_ERROR_INIT;
    dg_status s = dg_st_create(test_path("big"), t, 1, NULL, 0, &w, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(s, DG_ERR_IO);
    assert_non_null(strstr(err.message, "cannot write"));
    assert_non_null(strstr(err.message, "too large"));
    assert_false(dg_path_is_file(test_path("big.tmp")));
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    static const float x[64] = {1};
    const dg_st_tensor t[] = {{"a", DG_STORED_F32, 2, {8, 4}}, {"b", DG_STORED_F32, 1, {32}}};
    ASSERT_OK(dg_st_write(test_path("whole"), t, (const void *const[]){x, x}, 2, NULL, 0, &err));
    char *p;
    size_t n;
    ASSERT_OK(dg_file_read(test_path("whole"), 4096, &p, &n, &err));
    for (size_t cut = 0; cut < n; cut++) {
        char *exact = malloc(cut ? cut : 1);
        memcpy(exact, p, cut);
        dg_weights *w;
        assert_int_not_equal(dg_weights_parse(exact, cut, "cut", &w, &err), DG_OK);
        free(exact);
    }
    dg_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers_are_refused_with_the_reason),
        cmocka_unit_test(lying_header_lengths_are_refused),
        cmocka_unit_test(what_is_written_reads_back_with_metadata),
        cmocka_unit_test(bytes_do_not_depend_on_the_order_given),
        cmocka_unit_test(an_unfinished_file_never_appears),
        cmocka_unit_test(a_writer_refuses_what_a_reader_would),
        cmocka_unit_test(a_full_disk_is_reported_before_anything_is_written),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
