/* image_png.c - PNG through libpng, whose errors come back as messages and never end the process. */
#include "image_codecs.h"

#include <setjmp.h>
#include <png.h>

#include "base/mem.h"
#include "base/str.h"

typedef struct reader {
    png_structp png;
    png_infop info;
    const unsigned char *bytes;
    size_t size, at;
    png_bytep *rows; /* [height] */
    dg_status status;
    dg_error *err;
} reader;

static void on_error(png_structp png, png_const_charp text)
{
    reader *r = png_get_error_ptr(png);
    r->status = dg_fail(r->err, DG_ERR_FORMAT, "PNG: %s", text);
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void take_bytes(png_structp png, png_bytep out, size_t n)
{
    reader *r = png_get_io_ptr(png);
    if (n > r->size - r->at) png_error(png, "the file is truncated");
    memcpy(out, r->bytes + r->at, n);
    r->at += n;
}

/* Every kind of PNG to three bytes a pixel. */
static dg_status prepare(reader *r, int64_t max_pixels, dg_image *image)
{
    const png_uint_32 width = png_get_image_width(r->png, r->info),
                      height = png_get_image_height(r->png, r->info);
    DG_TRY(dg_image_check_size(width, height, max_pixels, r->err));
    png_set_strip_16(r->png);
    png_set_palette_to_rgb(r->png);
    png_set_expand_gray_1_2_4_to_8(r->png);
    png_set_gray_to_rgb(r->png);
    png_set_strip_alpha(r->png);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != (size_t)width * 3)
        return dg_fail(r->err, DG_ERR_UNSUPPORTED, "PNG: a row is not three bytes a pixel after conversion");
    DG_TRY(dg_image_reserve(image, (int32_t)width, (int32_t)height, r->err));
    r->rows = dg_calloc(height, sizeof *r->rows);
    if (!r->rows) return dg_fail(r->err, DG_ERR_NOMEM, "no memory for the rows of an image");
    for (png_uint_32 y = 0; y < height; y++) r->rows[y] = image->pixels + (size_t)y * width * 3;
    return DG_OK;
}

static void read_all(reader *r, int64_t max_pixels, dg_image *image)
{
    png_set_user_limits(r->png, INT32_MAX, INT32_MAX); /* max_pixels is the limit */
    png_set_read_fn(r->png, r, take_bytes);
    png_read_info(r->png, r->info);
    r->status = prepare(r, max_pixels, image);
    if (r->status != DG_OK) return;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
}

dg_status dg_png_decode(const void *bytes, size_t size, int64_t max_pixels, dg_image *image, dg_error *err)
{
    reader r = {.bytes = bytes, .size = size, .err = err};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (!r.info)
        r.status = dg_fail(err, DG_ERR_NOMEM, "no memory for the PNG reader");
    else if (setjmp(png_jmpbuf(r.png)) == 0)
        read_all(&r, max_pixels, image);
    if (r.png) png_destroy_read_struct(&r.png, &r.info, NULL);
    dg_free(r.rows);
    return r.status;
}

/* ---- writing */

static void put_bytes(png_structp png, png_bytep bytes, size_t n)
{
    dg_str_bytes(png_get_io_ptr(png), bytes, n);
}

static void no_flush(png_structp png)
{
    (void)png;
}

static void write_all(reader *w, dg_str *out, const uint8_t *pixels, png_uint_32 width, png_uint_32 height)
{
    png_set_write_fn(w->png, out, put_bytes, no_flush);
    png_set_IHDR(w->png, w->info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (png_uint_32 y = 0; y < height; y++) png_write_row(w->png, pixels + (size_t)y * width * 3);
    png_write_end(w->png, w->info);
}

dg_status dg_image_encode_png(const uint8_t *pixels, int32_t width, int32_t height, void **bytes,
                              size_t *size, dg_error *err)
{
    DG_TRY(dg_image_check_size(width, height, 0, err));
    reader w = {.err = err};
    dg_str out = {0};
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    if (!w.info)
        w.status = dg_fail(err, DG_ERR_NOMEM, "no memory for the PNG writer");
    else if (setjmp(png_jmpbuf(w.png)) == 0)
        write_all(&w, &out, pixels, (png_uint_32)width, (png_uint_32)height);
    if (w.png) png_destroy_write_struct(&w.png, &w.info);
    if (w.status == DG_OK) w.status = dg_str_check(&out, err);
    if (w.status != DG_OK) {
        dg_str_free(&out);
        return w.status;
    }
    *bytes = out.text;
    *size = out.length;
    return DG_OK;
}
