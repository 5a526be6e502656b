/* assess_page.c - an assessment as one HTML page, with the images of the worst losses in it; no script, no
 * network. See assess.h. */
#include "assess.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/image.h"
#include "data/resample.h"
#include "train/page.h"

enum { SIDE = 144, QUALITY = 85 }; /* of the pictures: pixels of the longer side, and of JPEG */

/* The picture, made small, as an <img> that needs no other file. */
static dg_status put_picture(dg_str *out, dg_resampler *r, const dg_image *image, dg_error *err)
{
    int32_t longer = image->height > image->width ? image->height : image->width;
    int32_t h = longer > SIDE ? (int32_t)((int64_t)image->height * SIDE / longer) : image->height;
    int32_t w = longer > SIDE ? (int32_t)((int64_t)image->width * SIDE / longer) : image->width;
    h = h ? h : 1;
    w = w ? w : 1;
    const dg_view view = dg_view_of_box((dg_box){0, 0, image->height, image->width}, h, w);
    uint8_t *pixels = dg_calloc((size_t)h * (size_t)w, 3);
    void *bytes = NULL;
    size_t size = 0;
    dg_status s = pixels ? dg_resample(r, image->pixels, image->height, image->width, &view, pixels, err)
                         : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    if (s == DG_OK) s = dg_image_encode_jpeg(pixels, w, h, QUALITY, &bytes, &size, err);
    if (s == DG_OK) dg_page_picture(out, "jpeg", bytes, size, w, h, "");
    dg_free(bytes);
    dg_free(pixels);
    return s;
}

static dg_status put_worst(dg_str *out, const dg_assessor *a, const dg_source *source, const dg_assessment *x,
                           int64_t most, dg_error *err)
{
    int64_t *order = NULL, n = 0;
    dg_sample sample = {0};
    dg_resampler r = {0};
    dg_status s = dg_worst_losses(x, most, &order, &n, err);
    dg_str_puts(out, "<h2>Images with the worst losses</h2>\n<div class=\"worst\">\n");
    for (int64_t i = 0; i < n && s == DG_OK; i++) {
        const dg_assessed *one = &x->images[order[i]];
        s = dg_source_read_image(source, one->id, 0, &sample, err);
        dg_str_puts(out, "<figure>");
        if (s == DG_OK) s = put_picture(out, &r, &sample.image, err);
        if (s != DG_OK) break;
        dg_str_printf(out, "<figcaption>loss %.3f<br>is ", one->loss);
        dg_page_text(out, a->classes.names[one->label]);
        dg_str_puts(out, "<br>called ");
        dg_page_text(out, a->classes.names[one->best[0]]);
        dg_str_printf(out, ", %.3f<br><small>", (double)one->probability);
        dg_page_text(out, sample.name);
        dg_str_puts(out, "</small></figcaption></figure>\n");
    }
    dg_str_puts(out, "</div>\n");
    dg_resampler_free(&r);
    dg_sample_free(&sample);
    dg_free(order);
    return s;
}

static void put_numbers(dg_str *out, const dg_source *source, const dg_assessment *x)
{
    const dg_eval_result *r = &x->result;
    dg_str_puts(out, "<table>\n<tr><th>data</th><td>");
    dg_page_text(out, dg_source_describe(source));
    dg_str_printf(out,
                  "</td></tr>\n<tr><th>images</th><td>%lld</td></tr>\n<tr><th>classes to choose "
                  "among</th><td>%d</td></tr>\n"
                  "<tr><th>top-1</th><td>%.3f %%</td></tr>\n<tr><th>top-5</th><td>%.3f "
                  "%%</td></tr>\n<tr><th>loss</th><td>%.5f</td></tr>\n",
                  (long long)r->images, x->among, 100 * r->top1, 100 * r->top5, r->loss);
    if (x->real_images)
        dg_str_printf(out, "<tr><th>ReaL</th><td>%.3f %% of %lld images</td></tr>\n",
                      100 * (double)x->real_hits / (double)x->real_images, (long long)x->real_images);
    dg_str_puts(out, "</table>\n");
}

static dg_status put_confusions(dg_str *out, const dg_assessor *a, const dg_assessment *x, dg_error *err)
{
    enum { MOST = 30 };
    dg_confusion *list = NULL;
    int64_t n = 0;
    dg_status s = dg_confusions(x, &list, &n, err);
    dg_str_puts(out,
                "<h2>Most confused</h2>\n<table>\n<tr><th>class</th><th>called</th><th>images</th><th>of its "
                "class</th></tr>\n");
    for (int64_t i = 0; i < n && i < MOST; i++) {
        dg_str_puts(out, "<tr><td>");
        dg_page_text(out, a->classes.names[list[i].label]);
        dg_str_puts(out, "</td><td>");
        dg_page_text(out, a->classes.names[list[i].prediction]);
        dg_str_printf(out, "</td><td>%lld</td><td>%.1f %%</td></tr>\n", (long long)list[i].images,
                      100 * (double)list[i].images / (double)x->result.class_images[list[i].label]);
    }
    dg_str_puts(out, "</table>\n");
    dg_free(list);
    return s;
}

static void put_classes(dg_str *out, const dg_assessor *a, const dg_assessment *x)
{
    const dg_eval_result *r = &x->result;
    dg_str_puts(out, "<h2>Accuracy of every class that has "
                     "images</h2>\n<table>\n<tr><th>class</th><th>images</th><th>top-1</th></tr>\n");
    for (int64_t c = 0; c < r->classes; c++) {
        if (!r->class_images[c]) continue;
        dg_str_puts(out, "<tr><td>");
        dg_page_text(out, a->classes.names[c]);
        dg_str_printf(out, "</td><td>%lld</td><td>%.2f %%</td></tr>\n", (long long)r->class_images[c],
                      100 * (double)r->class_hits[c] / (double)r->class_images[c]);
    }
    dg_str_puts(out, "</table>\n");
}

dg_status dg_assess_page(const char *path, const dg_assessor *a, const dg_source *source,
                         const dg_assessment *x, int64_t worst, dg_error *err)
{
    dg_str out = {0};
    dg_page_begin(&out, "Evaluation", NULL);
    put_numbers(&out, source, x);
    dg_status s = put_worst(&out, a, source, x, worst, err);
    if (s == DG_OK) s = put_confusions(&out, a, x, err);
    put_classes(&out, a, x);
    dg_page_end(&out);
    if (s == DG_OK) s = dg_str_check(&out, err);
    if (s == DG_OK) s = dg_file_write_atomic(path, out.text, out.length, err);
    dg_str_free(&out);
    return s;
}
