/* pictures.h - for tests: small pictures as files, folders of them, and tar archives put together by hand. */
#ifndef DG_TEST_PICTURES_H
#define DG_TEST_PICTURES_H

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/image.h"
#include "test.h"

/* A JPEG of one colour that tells `k`; size 24 x (16 + k % 5). dg_free it. */
static DG_UNUSED void *picture(int k, size_t *size)
{
    dg_error err;
    uint8_t pixels[24 * 24 * 3];
    void *bytes;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(k * 37 + (int)(i % 72) + 40 * (int)(i % 3));
    ASSERT_OK(dg_image_encode_jpeg(pixels, 24, 16 + k % 5, 90, &bytes, size, &err));
    return bytes;
}

/* Makes the folder of a file of test_dir(), then the file. */
static DG_UNUSED void write_file(const char *name, const void *bytes, size_t size)
{
    dg_error err;
    char *dir = dg_path_dir(test_path(name));
    ASSERT_OK(dg_dir_make(dir, &err));
    dg_free(dir);
    test_write(test_path(name), bytes, size);
}

static DG_UNUSED void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

static DG_UNUSED void write_picture(const char *name, int k)
{
    size_t size;
    void *bytes = picture(k, &size);
    write_file(name, bytes, size);
    dg_free(bytes);
}

/* ---- tar */

static DG_UNUSED void tar_seal(unsigned char h[512])
{
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

/* Appends a member; names above 100 bytes are cut, so give them a long-name header first. */
static DG_UNUSED void tar_member(dg_str *tar, char type, const char *name, const void *bytes, size_t size)
{
    unsigned char h[512] = {0};
    static const char zeros[512];
    const size_t n = strlen(name);
    memcpy(h, name, n < 100 ? n : 100);
    snprintf((char *)h + 100, 8, "%07o", 0644);
    snprintf((char *)h + 124, 12, "%011zo", size);
    h[156] = (unsigned char)type;
    memcpy(h + 257, "ustar\00000", 8);
    tar_seal(h);
    dg_str_bytes(tar, h, 512);
    dg_str_bytes(tar, bytes, size);
    dg_str_bytes(tar, zeros, (512 - size % 512) % 512);
}

static DG_UNUSED void tar_text(dg_str *tar, const char *name, const char *text)
{
    tar_member(tar, '0', name, text, strlen(text));
}

static DG_UNUSED void tar_picture(dg_str *tar, const char *name, int k)
{
    size_t size;
    void *bytes = picture(k, &size);
    tar_member(tar, '0', name, bytes, size);
    dg_free(bytes);
}

/* A PAX header with one record, for the next member. */
static DG_UNUSED void tar_pax(dg_str *tar, const char *key, const char *value)
{
    dg_str record = {0};
    size_t body = strlen(key) + strlen(value) + 3, total = body + 1;
    char digits[16];
    while ((size_t)snprintf(digits, sizeof digits, "%zu", total) + body != total) total++;
    dg_str_printf(&record, "%zu %s=%s\n", total, key, value);
    tar_member(tar, 'x', "PaxHeaders/x", record.text, record.length);
    dg_str_free(&record);
}

static DG_UNUSED void tar_end(dg_str *tar)
{
    static const char zeros[1024];
    dg_str_bytes(tar, zeros, sizeof zeros);
}

/* Writes the archive to test_dir()/name and frees it. */
static DG_UNUSED void tar_write(dg_str *tar, const char *name)
{
    write_file(name, tar->text, tar->length);
    dg_str_free(tar);
}

#endif
