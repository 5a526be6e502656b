/* test.h - what every test includes: cmocka, and a folder of its own that is removed at the end. */
#ifndef DG_TEST_H
#define DG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "digpt/graph.h" /* before cmocka, whose macro fail() would eat its function of that name */
#include <cmocka.h>

/* Fails the test with the error's message unless EXPR is DG_OK. Needs a `dg_error err` in scope. */
#define ASSERT_OK(EXPR)                                                                                      \
    do {                                                                                                     \
        err = (dg_error)DG_ERROR_INIT;                                                                       \
        if ((EXPR) != DG_OK) fail_msg("%s: %s", #EXPR, err.message);                                         \
    } while (0)

/* Fails unless EXPR fails with CODE and its message holds TEXT. */
#define ASSERT_FAILS(EXPR, CODE, TEXT)                                                                       \
    do {                                                                                                     \
        err = (dg_error)DG_ERROR_INIT;                                                                       \
        assert_int_equal((EXPR), (CODE));                                                                    \
        if (!strstr(err.message, (TEXT)))                                                                    \
            fail_msg("%s: '%s' does not say '%s'", #EXPR, err.message, (TEXT));                              \
    } while (0)

/* A fresh folder under the build folder; the same one for the whole process, removed at exit. */
const char *test_dir(void);
/* test_dir()/name in a static ring of buffers. */
const char *test_path(const char *name);
void test_write(const char *path, const void *bytes, size_t size);

#endif
