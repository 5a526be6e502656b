/* Pages in a real browser: report.html and the page of `digpt compare` are rendered by headless Chromium, and
 * its screenshot must show every picture as it is in the page, and every curve in its colour. Where each of
 * them lies is asked of the browser, by a copy of the page with a script. Skipped where there is no Chromium.
 */
#include "test.h"

#include <stdlib.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/image.h"

enum { WIDTH = 1280, MOST_BOXES = 256 };

static dg_error err = DG_ERROR_INIT;
static bool has_browser;

static int run_shell(const char *line)
{
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void shell(const char *commands)
{
    char line[4096];
    snprintf(line, sizeof line, "cd %s && { %s; } >out 2>&1", test_dir(), commands);
    if (run_shell(line) == 0) return;
    char *text = NULL;
    size_t n;
    dg_file_read(test_path("out"), 1 << 20, &text, &n, &err);
    fail_msg("%s\n%s", line, text ? text : "");
}

/* Three runs and their comparison. */
static int make_pages(void **state)
{
    static const char recipe[] = "data: {source: synthetic, synthetic_images: 64, synthetic_size: 40, "
                                 "image_size: 32, batch: 4, workers: 1}\n"
                                 "tokenizer: {name: pixels, patch: 8}\n"
                                 "model: {name: digpt, size: free, width: 16, depth: 2, heads: 2, patch: 8, "
                                 "segments: [2, 2], taps: [1, 2],\n"
                                 "        decoder_width: 16, decoder_depth: 1, decoder_heads: 2}\n"
                                 "loss: {name: mse}\nbackend: {name: reference}\n"
                                 "train: {steps: 16, log_every: 1, precision: f32, pictures: 2}\n";
    char line[1024];
    (void)state;
    has_browser = run_shell("command -v chromium >/dev/null 2>&1") == 0;
    if (!has_browser) return 0;
    test_write(test_path("tiny.yaml"), recipe, sizeof recipe - 1);
    snprintf(line, sizeof line,
             "D=%s/bin/digpt; for s in 0 1; do $D run tiny.yaml seed=$s --dir run-$s; done; "
             "$D run tiny.yaml model.order=raster --dir raster; $D compare run-* raster --out compare.html",
             DIGPT_BINARY_DIR);
    shell(line);
    return 0;
}

static void need_browser(void)
{
    if (has_browser) return;
    print_message("skipped: there is no chromium here (Debian: apt-get install chromium)\n");
    skip();
}

/* ---- the browser */

static void browse(const char *options, const char *page, const char *into)
{
    char line[2048];
    snprintf(line, sizeof line,
             "timeout 100 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
             "--hide-scrollbars "
             "--user-data-dir=%s/profile %s file://%s/%s >%s 2>browser.log",
             test_dir(), options, test_dir(), page, into);
    shell(line);
}

typedef struct box {
    int x, y, w, h;
} box;

typedef struct layout {
    int height; /* of the whole page */
    box images[MOST_BOXES], charts[MOST_BOXES];
    int n_images, n_charts;
} layout;

static void read_boxes(const char *dom, const char *name, box *boxes, int *n)
{
    char key[64];
    snprintf(key, sizeof key, "data-%s=\"", name);
    const char *at = strstr(dom, key);
    assert_non_null(at);
    at += strlen(key);
    for (*n = 0; *n < MOST_BOXES &&
                 sscanf(at, "%d %d %d %d", &boxes[*n].x, &boxes[*n].y, &boxes[*n].w, &boxes[*n].h) == 4;
         ++*n)
        at += strcspn(at, ";") + 1;
}

/* A copy of the page writes where everything is into attributes of its body. */
static void measure(const char *page, layout *l)
{
    static const char script[] =
        "<script>function put(name, what) { document.body.setAttribute('data-' + name, "
        "[...document.querySelectorAll(what)].map(e => { const b = e.getBoundingClientRect(); "
        "return [b.x, b.y, b.width, b.height].map(Math.round).join(' '); }).join(';') + ';'); }\n"
        "put('images', 'img'); put('charts', 'svg'); "
        "document.body.setAttribute('data-height', document.documentElement.scrollHeight);</script>\n</body>";
    char *text = NULL, option[64];
    size_t n;
    dg_str copy = {0};
    ASSERT_OK(dg_file_read(test_path(page), 16 << 20, &text, &n, &err));
    char *end = strstr(text, "</body>");
    assert_non_null(end);
    dg_str_bytes(&copy, text, (size_t)(end - text));
    dg_str_puts(&copy, script);
    dg_str_puts(&copy, end + strlen("</body>"));
    test_write(test_path("measured.html"), copy.text, copy.length);
    dg_str_free(&copy);
    dg_free(text);
    snprintf(option, sizeof option, "--window-size=%d,1000 --dump-dom", WIDTH);
    browse(option, "measured.html", "dom.html");
    ASSERT_OK(dg_file_read(test_path("dom.html"), 16 << 20, &text, &n, &err));
    const char *height = strstr(text, "data-height=\"");
    assert_non_null(height);
    l->height = atoi(height + strlen("data-height=\""));
    read_boxes(text, "images", l->images, &l->n_images);
    read_boxes(text, "charts", l->charts, &l->n_charts);
    dg_free(text);
}

static void photograph(const char *page, int height, dg_image *shot)
{
    char options[600], *bytes = NULL;
    size_t n;
    snprintf(options, sizeof options, "--window-size=%d,%d --screenshot=%s", WIDTH, height,
             test_path("shot.png"));
    browse(options, page, "/dev/null");
    ASSERT_OK(dg_file_read(test_path("shot.png"), 64 << 20, &bytes, &n, &err));
    ASSERT_OK(dg_image_decode(bytes, n, 0, shot, &err));
    assert_int_equal(shot->width, WIDTH);
    dg_free(bytes);
}

/* ---- what is on a screenshot */

typedef struct look {
    double mean[3], variance; /* over a box; the variance over all its values */
} look;

static look look_at(const dg_image *image, box b)
{
    look l = {{0}, 0};
    double sum = 0, squares = 0;
    int64_t n = (int64_t)b.w * b.h;
    for (int y = b.y; y < b.y + b.h; y++)
        for (int x = b.x; x < b.x + b.w; x++)
            for (int k = 0; k < 3; k++) {
                double v = image->pixels[((size_t)y * (size_t)image->width + (size_t)x) * 3 + (size_t)k];
                l.mean[k] += v / (double)n;
                sum += v;
                squares += v * v;
            }
    l.variance = squares / (double)(3 * n) - sum / (double)(3 * n) * (sum / (double)(3 * n));
    return l;
}

static bool on(const dg_image *shot, box b)
{
    return b.w > 0 && b.h > 0 && b.x >= 0 && b.y >= 0 && b.x + b.w <= shot->width &&
           b.y + b.h <= shot->height;
}

static int value_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The next picture of the page's text, decoded; moves *at behind it. */
static void next_picture(const char **at, dg_image *picture)
{
    static const char start[] = "src=\"data:image/png;base64,";
    const char *p = strstr(*at, start);
    assert_non_null(p);
    p += strlen(start);
    size_t n = strcspn(p, "\"");
    uint8_t *bytes = dg_calloc(n, 1);
    size_t size = 0;
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < n && p[i] != '='; i++) {
        bits = bits << 6 | (uint32_t)value_of(p[i]);
        held += 6;
        if (held < 8) continue;
        held -= 8;
        bytes[size++] = (uint8_t)(bits >> held);
    }
    ASSERT_OK(dg_image_decode(bytes, size, 0, picture, &err));
    dg_free(bytes);
    *at = p + n;
}

/* Every picture of the page is on the screenshot: its colours are there, and it is not of one colour if the
 * picture is not. */
static void pictures_are_seen(const char *page, const layout *l, const dg_image *shot, int least)
{
    char *text = NULL;
    size_t n;
    int plain = 0;
    dg_image picture = {0};
    ASSERT_OK(dg_file_read(test_path(page), 16 << 20, &text, &n, &err));
    const char *at = text;
    assert_true(l->n_images >= least);
    for (int i = 0; i < l->n_images; i++) {
        box b = l->images[i];
        next_picture(&at, &picture);
        if (!on(shot, b)) fail_msg("picture %d of %s is at %d,%d, which is not on it", i, page, b.x, b.y);
        b = (box){b.x + 4, b.y + 4, b.w - 8, b.h - 8}; /* corners are round */
        look seen = look_at(shot, b), own = look_at(&picture, (box){0, 0, picture.width, picture.height});
        for (int k = 0; k < 3; k++)
            if (seen.mean[k] < own.mean[k] - 12 || seen.mean[k] > own.mean[k] + 12)
                fail_msg("picture %d of %s: mean %g on the screenshot, %g in the file", i, page, seen.mean[k],
                         own.mean[k]);
        plain += own.variance < 1;
        if (own.variance > 20 && seen.variance < 0.4 * own.variance)
            fail_msg("picture %d of %s: variance %g on the screenshot, %g in the file", i, page,
                     seen.variance, own.variance);
    }
    assert_true(plain < l->n_images / 4);
    dg_image_free(&picture);
    dg_free(text);
}

/* Pixels of about this colour in a box. */
static int count_colour(const dg_image *shot, box b, int red, int green, int blue)
{
    int n = 0;
    for (int y = b.y; y < b.y + b.h; y++)
        for (int x = b.x; x < b.x + b.w; x++) {
            const uint8_t *p = shot->pixels + ((size_t)y * (size_t)shot->width + (size_t)x) * 3;
            n += abs(p[0] - red) < 30 && abs(p[1] - green) < 30 && abs(p[2] - blue) < 30;
        }
    return n;
}

static void charts_are_seen(const layout *l, const dg_image *shot, int least)
{
    assert_true(l->n_charts >= least);
    for (int i = 0; i < l->n_charts; i++) {
        if (!on(shot, l->charts[i])) fail_msg("chart %d is not on the screenshot", i);
        int line = count_colour(shot, l->charts[i], 0x1f, 0x5f, 0xa8) +
                   count_colour(shot, l->charts[i], 0xd9, 0x66, 0x2b); /* the second may cover the first */
        if (line < 100) fail_msg("chart %d has %d pixels of its line", i, line);
    }
}

/* ---- tests */

static void the_report_shows_its_pictures_and_curves(void **state)
{
    (void)state;
    need_browser();
    layout l = {0};
    dg_image shot = {0};
    measure("run-0/report.html", &l);
    photograph("run-0/report.html", l.height, &shot);
    pictures_are_seen("run-0/report.html", &l, &shot, 12);
    charts_are_seen(&l, &shot, 5);
    dg_image_free(&shot);
}

static void the_comparison_shows_pictures_and_curves_of_its_runs(void **state)
{
    (void)state;
    need_browser();
    layout l = {0};
    dg_image shot = {0};
    measure("compare.html", &l);
    photograph("compare.html", l.height, &shot);
    pictures_are_seen("compare.html", &l, &shot, 24);
    charts_are_seen(&l, &shot, 4);
    /* both groups have a line in the chart of the loss */
    assert_true(count_colour(&shot, l.charts[0], 0xd9, 0x66, 0x2b) > 60);
    dg_image_free(&shot);
}

/* A narrow window, such as half a laptop's screen: nothing is wider than it. */
static void a_narrow_window_needs_no_scrolling_to_the_side(void **state)
{
    (void)state;
    need_browser();
    char *text = NULL, *page = NULL;
    size_t n;
    dg_str copy = {0};
    ASSERT_OK(dg_file_read(test_path("run-0/report.html"), 16 << 20, &page, &n, &err));
    char *end = strstr(page, "</body>");
    dg_str_bytes(&copy, page, (size_t)(end - page));
    dg_str_puts(
        &copy,
        "<script>document.body.setAttribute('data-wide', document.documentElement.scrollWidth)</script>"
        "</body></html>");
    test_write(test_path("narrow.html"), copy.text, copy.length);
    browse("--window-size=700,900 --dump-dom", "narrow.html", "dom.html");
    ASSERT_OK(dg_file_read(test_path("dom.html"), 16 << 20, &text, &n, &err));
    const char *wide = strstr(text, "data-wide=\"");
    assert_non_null(wide);
    assert_true(atoi(wide + strlen("data-wide=\"")) <= 700);
    dg_str_free(&copy);
    dg_free(text);
    dg_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_report_shows_its_pictures_and_curves),
        cmocka_unit_test(the_comparison_shows_pictures_and_curves_of_its_runs),
        cmocka_unit_test(a_narrow_window_needs_no_scrolling_to_the_side),
    };
    return cmocka_run_group_tests(tests, make_pages, NULL);
}
