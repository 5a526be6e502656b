/* events.c - see events.h. */
#include "events.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { FLUSH_AT = 65536 };

struct dg_events {
    int fd;
    char *path;
    dg_str out;     /* frames that are not written yet */
    dg_str scratch; /* the message that is being made */
    uint32_t crc[256];
};

/* ---- frames */

static void make_crc_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1; /* Castagnoli, reflected */
        table[i] = c;
    }
}

/* TFRecord rotates and offsets checksums, so that a checksum of checksums stays useful. */
static uint32_t masked_crc(const dg_events *e, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) c = c >> 8 ^ e->crc[(c ^ p[i]) & 0xff];
    c = ~c;
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_fixed(dg_str *s, uint64_t value, int bytes)
{
    unsigned char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (unsigned char)(value >> (8 * i));
    dg_str_bytes(s, b, (size_t)bytes);
}

static dg_status put_frame(dg_events *e, const dg_str *message, dg_error *err)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)message->length >> (8 * i));
    DG_TRY(dg_str_check(message, err));
    dg_str_bytes(&e->out, length, 8);
    put_fixed(&e->out, masked_crc(e, length, 8), 4);
    dg_str_bytes(&e->out, message->text, message->length);
    put_fixed(&e->out, masked_crc(e, message->text, message->length), 4);
    DG_TRY(dg_str_check(&e->out, err));
    return e->out.length >= FLUSH_AT ? dg_events_flush(e, err) : DG_OK;
}

/* ---- protocol buffers: a field is (number << 3 | wire type), then its value */

static void put_varint(dg_str *s, uint64_t v)
{
    unsigned char b[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) b[n++] = (unsigned char)(v | 0x80);
    b[n++] = (unsigned char)v;
    dg_str_bytes(s, b, n);
}

static void field_int(dg_str *s, uint32_t number, int64_t v)
{
    put_varint(s, number << 3);
    put_varint(s, (uint64_t)v);
}

static void field_bytes(dg_str *s, uint32_t number, const void *bytes, size_t n)
{
    put_varint(s, number << 3 | 2);
    put_varint(s, n);
    dg_str_bytes(s, bytes, n);
}

static void field_text(dg_str *s, uint32_t number, const char *text)
{
    field_bytes(s, number, text, strlen(text));
}

/* Ends a message inside another: writes it as a field and empties it. */
static void field_message(dg_str *s, uint32_t number, dg_str *message)
{
    if (message->failed) s->failed = true;
    field_bytes(s, number, message->text, message->length);
    dg_str_free(message);
}

/* Event: wall_time = 1, step = 2 */
static dg_str *begin_event(dg_events *e, int64_t step, double now)
{
    uint64_t bits;
    memcpy(&bits, &now, sizeof bits);
    dg_str_free(&e->scratch);
    put_varint(&e->scratch, 1 << 3 | 1);
    put_fixed(&e->scratch, bits, 8);
    if (step) field_int(&e->scratch, 2, step);
    return &e->scratch;
}

/* Event.summary = 5, Summary.value = 1 */
static dg_status put_value(dg_events *e, int64_t step, double now, dg_str *value, dg_error *err)
{
    dg_str summary = {0};
    dg_str *event = begin_event(e, step, now);
    field_message(&summary, 1, value);
    field_message(event, 5, &summary);
    return put_frame(e, event, err);
}

dg_status dg_events_scalar(dg_events *e, const char *tag, int64_t step, double now, float value,
                           dg_error *err)
{
    dg_str v = {0};
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    field_text(&v, 1, tag);
    put_varint(&v, 2 << 3 | 5); /* simple_value */
    put_fixed(&v, bits, 4);
    return put_value(e, step, now, &v, err);
}

dg_status dg_events_text(dg_events *e, const char *tag, int64_t step, double now, const char *text,
                         dg_error *err)
{
    dg_str v = {0}, tensor = {0}, shape = {0}, dim = {0}, metadata = {0}, plugin = {0};
    field_text(&v, 1, tag);
    field_int(&tensor, 1, 7); /* dtype: DT_STRING */
    field_int(&dim, 1, 1);
    field_message(&shape, 2, &dim);
    field_message(&tensor, 2, &shape);
    field_text(&tensor, 8, text); /* string_val */
    field_message(&v, 8, &tensor);
    field_text(&plugin, 1, "text"); /* plugin_name */
    field_message(&metadata, 1, &plugin);
    field_message(&v, 9, &metadata);
    return put_value(e, step, now, &v, err);
}

dg_status dg_events_png(dg_events *e, const char *tag, int64_t step, double now, int32_t width,
                        int32_t height, const void *png, size_t size, dg_error *err)
{
    dg_str v = {0}, image = {0};
    field_text(&v, 1, tag);
    field_int(&image, 1, height);
    field_int(&image, 2, width);
    field_int(&image, 3, 3); /* colorspace: RGB */
    field_bytes(&image, 4, png, size);
    field_message(&v, 4, &image);
    return put_value(e, step, now, &v, err);
}

/* ---- the file */

/* TensorBoard reads a folder's files in the order of their names: a second that is later than all before. */
static long long next_second(const char *dir, double now)
{
    long long second = (long long)now, seen;
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (sscanf(f->d_name, "events.out.tfevents.%lld.", &seen) == 1 && seen >= second && seen < 9999999999)
            second = seen + 1;
    if (d) closedir(d);
    return second;
}

static dg_status open_file(dg_events *e, const char *dir, double now, dg_error *err)
{
    char host[65] = "", name[160];
    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++)
        if (*p == '/') *p = '_';
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld", next_second(dir, now), host,
             (long)getpid());
    e->path = dg_path_join(dir, name);
    if (!e->path) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return e->fd >= 0 ? DG_OK : dg_fail(err, DG_ERR_IO, "cannot create '%s': %s", e->path, strerror(errno));
}

dg_status dg_events_open(const char *dir, int64_t purge_step, double now, dg_events **out, dg_error *err)
{
    *out = NULL;
    DG_TRY(dg_dir_make(dir, err));
    dg_events *e = dg_calloc(1, sizeof *e);
    if (!e) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    e->fd = -1;
    make_crc_table(e->crc);
    dg_status s = open_file(e, dir, now, err);
    if (s == DG_OK) {
        dg_str *event = begin_event(e, 0, now);
        field_text(event, 3, "brain.Event:2"); /* file_version */
        s = put_frame(e, event, err);
    }
    if (s == DG_OK && purge_step >= 0) {
        dg_str session = {0};
        dg_str *event = begin_event(e, purge_step, now);
        field_int(&session, 1, 1); /* status: START */
        field_message(event, 7, &session);
        s = put_frame(e, event, err);
    }
    if (s == DG_OK) s = dg_events_flush(e, err);
    if (s == DG_OK)
        *out = e;
    else
        dg_events_close(e);
    return s;
}

dg_status dg_events_flush(dg_events *e, dg_error *err)
{
    dg_status s = dg_fd_write_all(e->fd, e->out.text, e->out.length, e->path, err);
    dg_str_free(&e->out); /* on failure too: a full disk must not fill the memory as well */
    return s;
}

const char *dg_events_path(const dg_events *e)
{
    return e->path;
}

void dg_events_close(dg_events *e)
{
    if (!e) return;
    if (e->fd >= 0) {
        dg_events_flush(e, NULL);
        close(e->fd);
    }
    dg_str_free(&e->out);
    dg_str_free(&e->scratch);
    dg_free(e->path);
    dg_free(e);
}
