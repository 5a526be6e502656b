/* Event files, byte by byte: frames, checksums, messages. */
#include "test.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/events.h"

static dg_error err = DG_ERROR_INIT;

static uint32_t get4(const unsigned char *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* CRC-32C bit by bit, unmasked from what the file holds. */
static void expect_crc(const unsigned char *p, size_t n, uint32_t masked)
{
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (0x82f63b78u & (0u - (c & 1)));
    }
    uint32_t rot = masked - 0xa282ead8u;
    assert_int_equal(~c, rot >> 17 | rot << 15);
}

/* Checks the frame at *at and moves past it; the message is the return value, *n its size. */
static const unsigned char *frame(const unsigned char *p, size_t size, size_t *at, size_t *n)
{
    assert_true(size - *at >= 16);
    *n = get4(p + *at);
    assert_int_equal(get4(p + *at + 4), 0);
    expect_crc(p + *at, 8, get4(p + *at + 8));
    const unsigned char *m = p + *at + 12;
    assert_true(size - *at >= 16 + *n);
    expect_crc(m, *n, get4(m + *n));
    *at += 16 + *n;
    return m;
}

#define EXPECT(M, N, TEXT)                                                                                   \
    do {                                                                                                     \
        assert_int_equal(N, sizeof(TEXT) - 1);                                                               \
        assert_memory_equal(M, TEXT, sizeof(TEXT) - 1);                                                      \
    } while (0)

static unsigned char *read_all(const dg_events *e, size_t *size)
{
    char *p;
    ASSERT_OK(dg_file_read(dg_events_path(e), 1 << 20, &p, size, &err));
    return (unsigned char *)p;
}

/* 1.0 as a double: wall_time of every event here */
#define WALL "\x09\0\0\0\0\0\0\xf0\x3f"

static void records_are_framed_messages_of_the_event_proto(void **state)
{
    (void)state;
    dg_events *e;
    size_t at = 0, n, size;
    const unsigned char *m;
    ASSERT_OK(dg_events_open(test_path("events"), -1, 1.0, &e, &err));
    ASSERT_OK(dg_events_scalar(e, "loss", 300, 1.0, 2.0f, &err));
    ASSERT_OK(dg_events_text(e, "t", 0, 1.0, "hi", &err));
    ASSERT_OK(dg_events_png(e, "p", 1, 1.0, 3, 2, "PNG", 3, &err));
    ASSERT_OK(dg_events_flush(e, &err));
    unsigned char *p = read_all(e, &size);
    m = frame(p, size, &at, &n);
    EXPECT(m, n,
           WALL "\x1a\x0d"
                "brain.Event:2");
    m = frame(p, size, &at, &n);
    EXPECT(m, n,
           WALL "\x10\xac\x02"
                "\x2a\x0d"
                "\x0a\x0b"
                "\x0a\4loss"
                "\x15\0\0\0\x40");
    m = frame(p, size, &at, &n);
    EXPECT(m, n,
           WALL "\x2a\x1d"
                "\x0a\x1b"
                "\x0a\1t"
                "\x42\x0c"
                "\x08\7"
                "\x12\4\x12\2\x08\1"
                "\x42\2hi"
                "\x4a\x08\x0a\6\x0a\4text");
    m = frame(p, size, &at, &n);
    EXPECT(m, n,
           WALL "\x10\1"
                "\x2a\x12"
                "\x0a\x10"
                "\x0a\1p"
                "\x22\x0b"
                "\x08\2\x10\3\x18\3"
                "\x22\3PNG");
    assert_int_equal(at, size);
    dg_free(p);
    dg_events_close(e);
}

static void a_resume_starts_a_session_in_a_file_that_sorts_later(void **state)
{
    (void)state;
    dg_events *first, *second;
    size_t at = 0, n, size;
    const char *dir = test_path("resumed");
    ASSERT_OK(dg_events_open(dir, -1, 1.0, &first, &err));
    ASSERT_OK(dg_events_open(dir, 7, 1.0, &second, &err));
    assert_true(strcmp(dg_events_path(first), dg_events_path(second)) < 0);
    unsigned char *p = read_all(second, &size);
    frame(p, size, &at, &n);
    const unsigned char *m = frame(p, size, &at, &n);
    EXPECT(m, n,
           WALL "\x10\7"
                "\x3a\2\x08\1");
    assert_int_equal(at, size);
    dg_free(p);
    dg_events_close(first);
    dg_events_close(second);
}

static void long_runs_are_written_on_the_way(void **state)
{
    (void)state;
    dg_events *e;
    size_t size;
    ASSERT_OK(dg_events_open(test_path("long"), -1, 1.0, &e, &err));
    for (int i = 0; i < 3000; i++) ASSERT_OK(dg_events_scalar(e, "loss", i, 1.0, 2.0f, &err));
    dg_free(read_all(e, &size));
    assert_true(size > 65536);
    dg_events_close(e);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    dg_events *e;
    test_write(test_path("file"), "x", 1);
    ASSERT_FAILS(dg_events_open(test_path("file/events"), -1, 1.0, &e, &err), DG_ERR_IO,
                 "cannot make the folder");
    assert_null(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_framed_messages_of_the_event_proto),
        cmocka_unit_test(a_resume_starts_a_session_in_a_file_that_sorts_later),
        cmocka_unit_test(long_runs_are_written_on_the_way),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
