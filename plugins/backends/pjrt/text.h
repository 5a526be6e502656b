/* text.h - a growing text on the host's allocator. After a failed allocation `failed` stays set and further
 * writes do nothing, so that a long program is written without a check a line and asked once at its end. */
#ifndef DG_PJRT_TEXT_H
#define DG_PJRT_TEXT_H

#include "digpt/plugin.h"

typedef struct dg_text {
    const dg_host *host;
    char *bytes; /* NUL-terminated; NULL while nothing was written */
    size_t length, capacity;
    bool failed;
} dg_text;

void dg_text_bytes(dg_text *t, const char *bytes, size_t n);
void dg_text_puts(dg_text *t, const char *s);
/* One call writes at most 255 characters. */
DG_PRINTF(2, 3) void dg_text_printf(dg_text *t, const char *fmt, ...);
/* Two hexadecimal digits a byte, in the order of the bytes. */
void dg_text_hex(dg_text *t, const void *bytes, size_t n);
void dg_text_free(dg_text *t);

#endif
