/* image_jpeg.c - JPEG through libjpeg-turbo, whose errors come back as messages and never end the process. */
#include "image_codecs.h"

#include <setjmp.h>
#include <jpeglib.h>
#include <jerror.h>

#include "base/mem.h"

/* More scans than this are made to waste time: "Two Issues with the JPEG Standard" (libjpeg-turbo). */
#define MAX_SCANS 500

typedef struct decoder {
    struct jpeg_decompress_struct info; /* first: libjpeg hands it back */
    struct jpeg_error_mgr manager;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    JSAMPLE *cmyk; /* [width, 4], one row */
    dg_status status;
    dg_error *err;
} decoder;

static void error_exit(j_common_ptr info)
{
    decoder *d = (decoder *)info;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    d->status = info->err->msg_code == JERR_OUT_OF_MEMORY
                    ? dg_fail(d->err, DG_ERR_NOMEM, "JPEG: out of memory")
                    : dg_fail(d->err, DG_ERR_FORMAT, "JPEG: %s", text);
    longjmp(d->out, 1);
}

/* libjpeg fills what is missing with grey and only warns; a picture without all of its pixels is a bad
 * picture. Harmless warnings (stray bytes between markers, odd Adobe markers) pass, as with Pillow. */
static void emit_message(j_common_ptr info, int level)
{
    static const int missing[] = {JWRN_JPEG_EOF, JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_ARITH_BAD_CODE,
                                  JWRN_MUST_RESYNC};
    if (level >= 0) return;
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        if (info->err->msg_code == missing[i]) error_exit(info);
}

static void limit_scans(j_common_ptr info)
{
    decoder *d = (decoder *)info;
    if (d->info.input_scan_number <= MAX_SCANS) return;
    d->status = dg_fail(d->err, DG_ERR_FORMAT, "JPEG: more than %d scans", MAX_SCANS);
    longjmp(d->out, 1);
}

static void no_output(j_common_ptr info)
{
    (void)info;
}

/* Between setjmp and this no local is changed, so that nothing is lost by the jump back. */
static void open_header(decoder *d, const void *bytes, size_t size)
{
    jpeg_create_decompress(&d->info);
    d->progress.progress_monitor = limit_scans;
    d->info.progress = &d->progress;
    jpeg_mem_src(&d->info, bytes, (unsigned long)size);
    jpeg_read_header(&d->info, TRUE);
}

/* out = k - k * (255 - c) / 255 in the rounding of Pillow's MULDIV255, from Adobe's inverted c and k. */
static void cmyk_to_rgb(const JSAMPLE *in, uint8_t *out, int32_t width)
{
    for (int32_t x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++) {
            int k = in[3], t = (255 - in[c]) * k + 128, v = k - (((t >> 8) + t) >> 8);
            out[c] = (uint8_t)(v < 0 ? 0 : v);
        }
}

/* Reads rows up to `end` of the output into the image, whose first row is the next one. */
static void read_rows(decoder *d, dg_image *image, uint32_t end)
{
    const size_t stride = (size_t)image->width * 3;
    const uint32_t begin = d->info.output_scanline;
    while (d->info.output_scanline < end) {
        JSAMPROW rows[8];
        uint32_t y = d->info.output_scanline - begin, left = end - d->info.output_scanline,
                 n = left < 8 ? left : 8;
        if (d->cmyk) {
            rows[0] = d->cmyk;
            if (jpeg_read_scanlines(&d->info, rows, 1))
                cmyk_to_rgb(d->cmyk, image->pixels + y * stride, image->width);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) rows[i] = image->pixels + (y + i) * stride;
        jpeg_read_scanlines(&d->info, rows, n);
    }
}

static dg_status prepare(decoder *d, int64_t max_pixels)
{
    const bool four = d->info.jpeg_color_space == JCS_CMYK || d->info.jpeg_color_space == JCS_YCCK;
    DG_TRY(dg_image_check_size(d->info.image_width, d->info.image_height, max_pixels, d->err));
    d->info.out_color_space = four ? JCS_CMYK : JCS_RGB;
    if (!four) return DG_OK;
    d->cmyk = dg_calloc(d->info.image_width, 4);
    return d->cmyk ? DG_OK : dg_fail(d->err, DG_ERR_NOMEM, "no memory for a row of an image");
}

static void decode_whole(decoder *d, dg_image *image)
{
    d->status = dg_image_reserve(image, (int32_t)d->info.image_width, (int32_t)d->info.image_height, d->err);
    if (d->status != DG_OK) return;
    jpeg_start_decompress(&d->info);
    read_rows(d, image, d->info.output_height);
    jpeg_finish_decompress(&d->info);
}

/* ---- a part */

/* Only these scales: libjpeg-turbo has fast transforms for 8, 4, 2 and 1 of the 8 rows of a block. */
static int32_t scale_for(const dg_image_want *want)
{
    int32_t scale = 8;
    while (scale > 1 && (want->height < scale * want->to_height || want->width < scale * want->to_width))
        scale /= 2;
    return scale;
}

/* The rectangle's pixels after scaling and so many around it, within the picture: chroma is interpolated from
 * neighbours. */
enum { MARGIN = 2 };

typedef struct span {
    uint32_t begin, end;
} span;

static span scaled_span(int32_t begin, int32_t length, int32_t scale, uint32_t limit)
{
    int64_t low = begin / scale - MARGIN, high = ((int64_t)begin + length + scale - 1) / scale + MARGIN;
    return (span){low > 0 ? (uint32_t)low : 0, high < limit ? (uint32_t)high : limit};
}

static void decode_part(decoder *d, dg_image_choose choose, void *user, dg_image *image, dg_image_part *part)
{
    dg_image_want want;
    choose(user, (int32_t)d->info.image_height, (int32_t)d->info.image_width, &want);
    part->scale = scale_for(&want);
    d->info.scale_num = 1;
    d->info.scale_denom = (unsigned)part->scale;
    jpeg_start_decompress(&d->info);
    const span rows = scaled_span(want.top, want.height, part->scale, d->info.output_height);
    const span columns = scaled_span(want.left, want.width, part->scale, d->info.output_width);
    JDIMENSION left = columns.begin, width = columns.end - columns.begin;
    if (width < d->info.output_width) jpeg_crop_scanline(&d->info, &left, &width); /* to whole blocks */
    part->top = (int32_t)rows.begin;
    part->left = (int32_t)left;
    d->status = dg_image_reserve(image, (int32_t)width, (int32_t)(rows.end - rows.begin), d->err);
    if (d->status != DG_OK) return;
    if (rows.begin) jpeg_skip_scanlines(&d->info, rows.begin);
    read_rows(d, image, rows.end);
    jpeg_abort_decompress(&d->info);
}

static void set_up(decoder *d, dg_error *err)
{
    memset(d, 0, sizeof *d);
    d->err = err;
    d->info.err = jpeg_std_error(&d->manager);
    d->manager.error_exit = error_exit;
    d->manager.emit_message = emit_message;
    d->manager.output_message = no_output;
}

dg_status dg_jpeg_decode_part(const void *bytes, size_t size, int64_t max_pixels, dg_image_choose choose,
                              void *user, dg_image *image, dg_image_part *part, dg_error *err)
{
    decoder d;
    set_up(&d, err);
    if (setjmp(d.out) == 0) {
        open_header(&d, bytes, size);
        d.status = prepare(&d, max_pixels);
        if (d.status == DG_OK && choose)
            decode_part(&d, choose, user, image, part);
        else if (d.status == DG_OK)
            decode_whole(&d, image);
    }
    jpeg_destroy_decompress(&d.info);
    dg_free(d.cmyk);
    return d.status;
}

dg_status dg_jpeg_read_size(const void *bytes, size_t size, int32_t *width, int32_t *height, dg_error *err)
{
    decoder d;
    set_up(&d, err);
    if (setjmp(d.out) == 0) {
        open_header(&d, bytes, size);
        *width = (int32_t)d.info.image_width;
        *height = (int32_t)d.info.image_height;
    }
    jpeg_destroy_decompress(&d.info);
    return d.status;
}

/* ---- writing */

typedef struct encoder {
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr manager;
    jmp_buf out;
    unsigned char *bytes;
    unsigned long size;
    dg_status status;
    dg_error *err;
} encoder;

static void encoder_exit(j_common_ptr info)
{
    encoder *e = (encoder *)info;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    e->status = dg_fail(e->err, info->err->msg_code == JERR_OUT_OF_MEMORY ? DG_ERR_NOMEM : DG_ERR_INVALID,
                        "cannot write a JPEG: %s", text);
    longjmp(e->out, 1);
}

static void write_rows(encoder *e, const uint8_t *pixels, int32_t width, int32_t height, int quality)
{
    jpeg_create_compress(&e->info);
    jpeg_mem_dest(&e->info, &e->bytes, &e->size);
    e->info.image_width = (JDIMENSION)width;
    e->info.image_height = (JDIMENSION)height;
    e->info.input_components = 3;
    e->info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&e->info);
    jpeg_set_quality(&e->info, quality, TRUE);
    jpeg_start_compress(&e->info, TRUE);
    while (e->info.next_scanline < e->info.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)e->info.next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(&e->info, &row, 1);
    }
    jpeg_finish_compress(&e->info);
}

dg_status dg_image_encode_jpeg(const uint8_t *pixels, int32_t width, int32_t height, int quality,
                               void **bytes, size_t *size, dg_error *err)
{
    DG_TRY(dg_image_check_size(width, height, 0, err));
    encoder e;
    memset(&e, 0, sizeof e);
    e.err = err;
    e.info.err = jpeg_std_error(&e.manager);
    e.manager.error_exit = encoder_exit;
    e.manager.output_message = no_output;
    if (setjmp(e.out) == 0) write_rows(&e, pixels, width, height, quality);
    jpeg_destroy_compress(&e.info);
    if (e.status != DG_OK) {
        dg_free(e.bytes);
        return e.status;
    }
    *bytes = e.bytes;
    *size = e.size;
    return DG_OK;
}
