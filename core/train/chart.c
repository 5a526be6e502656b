/* chart.c - charts as SVG. See chart.h. */
#include "chart.h"

#include <math.h>

#include "train/page.h"

enum { W = 400, H = 230, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 30, MOST_POINTS = 600 };

const char *dg_figure_text(double value, bool percent, char *out, size_t size)
{
    if (!isfinite(value))
        snprintf(out, size, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    else if (percent)
        snprintf(out, size, "%.2f %%", 100 * value);
    else
        snprintf(out, size, fabs(value) >= 1e4 && fabs(value) < 1e9 ? "%.0f" : "%.4g", value);
    return out;
}

void dg_smooth(const double *y, size_t n, double *mean, double *deviation)
{
    size_t half = n / 40;
    for (size_t i = 0; i < n; i++) {
        size_t first = i > half ? i - half : 0, last = i + half < n ? i + half : n - 1, count = 0;
        double sum = 0, squares = 0;
        for (size_t k = first; k <= last; k++)
            if (isfinite(y[k])) sum += y[k], count++;
        mean[i] = isfinite(y[i]) ? sum / (double)count : y[i];
        for (size_t k = first; k <= last; k++)
            if (isfinite(y[k])) squares += (y[k] - mean[i]) * (y[k] - mean[i]);
        if (deviation) deviation[i] = isfinite(y[i]) ? sqrt(squares / (double)count) : NAN;
    }
}

/* ---- axes */

typedef struct axes {
    double x0, x1, y0, y1; /* what the frame shows */
    double scale;          /* 100: per cent */
} axes;

static void stretch(const double *v, size_t n, double scale, double *low, double *high)
{
    for (size_t i = 0; v && i < n; i++) {
        if (!isfinite(v[i])) continue;
        *low = fmin(*low, v[i] * scale);
        *high = fmax(*high, v[i] * scale);
    }
}

/* False when there is nothing to draw. */
static bool find_axes(const dg_chart *c, axes *a)
{
    *a = (axes){INFINITY, -INFINITY, INFINITY, -INFINITY, c->percent ? 100 : 1};
    for (size_t i = 0; i < c->n; i++) {
        const dg_curve *k = &c->curves[i];
        stretch(k->x, k->n, 1, &a->x0, &a->x1);
        stretch(k->y, k->n, a->scale, &a->y0, &a->y1);
        stretch(k->low, k->n, a->scale, &a->y0, &a->y1);
        stretch(k->high, k->n, a->scale, &a->y0, &a->y1);
        stretch(k->raw, k->n, a->scale, &a->y0, &a->y1);
    }
    if (!(a->y0 <= a->y1) || !(a->x0 <= a->x1)) return false;
    double pad = a->y1 > a->y0 ? 0.04 * (a->y1 - a->y0) : a->y0 != 0 ? 0.05 * fabs(a->y0) : 1;
    bool from_zero =
        a->y0 >= 0 && a->y0 < pad; /* a line on the frame reads better than a sliver below zero */
    a->y0 = from_zero ? 0 : a->y0 - pad;
    a->y1 += pad;
    if (a->x1 <= a->x0) a->x1 = a->x0 + 1;
    return true;
}

/* A step of 1, 2 or 5 times a power of ten that gives about `parts` marks. */
static double mark_distance(double span, int parts)
{
    double raw = span / parts, power = pow(10, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static double at_x(const axes *a, double x)
{
    return LEFT + (W - LEFT - RIGHT) * (x - a->x0) / (a->x1 - a->x0);
}

static double at_y(const axes *a, double y)
{
    return TOP + (H - TOP - BOTTOM) * (a->y1 - y * a->scale) / (a->y1 - a->y0);
}

static void put_marks(dg_str *out, const axes *a, const char *x_name)
{
    double dy = mark_distance(a->y1 - a->y0, 4), dx = mark_distance(a->x1 - a->x0, 5);
    for (double y = ceil(a->y0 / dy) * dy; y <= a->y1 + 1e-9 * dy; y += dy) {
        double py = at_y(a, y / a->scale);
        dg_str_printf(out,
                      "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                      "text-anchor=\"end\">%.4g%s</text>\n",
                      LEFT, py, W - RIGHT, LEFT - 7, py + 4, fabs(y) < 1e-9 * dy ? 0 : y,
                      a->scale == 100 ? " %" : "");
    }
    dg_str_printf(out, "<path class=\"axis\" d=\"M%d %dH%d\"/>\n", LEFT, H - BOTTOM, W - RIGHT);
    for (double x = ceil(a->x0 / dx) * dx; x <= a->x1 + 1e-9 * dx; x += dx) {
        double px = at_x(a, x);
        if (px > W - RIGHT - 44 && px < W - RIGHT - 8) continue; /* the axis's name stands there */
        dg_str_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", px,
                      H - BOTTOM + 15, fabs(x) < 1e-9 * dx ? 0 : x);
    }
    dg_str_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", W - RIGHT, H - 2, x_name);
}

/* ---- lines */

static void put_line(dg_str *out, const axes *a, const dg_curve *c, const double *y, const char *class)
{
    size_t stride = c->n / MOST_POINTS + 1;
    bool down = false, any = false;
    dg_str_printf(out, "<path class=\"%s\" stroke=\"%s\" d=\"", class, c->colour);
    for (size_t i = 0; i < c->n; i++) {
        if (i % stride && i + 1 != c->n) continue;
        if (!isfinite(y[i]))
            down = false;
        else
            dg_str_printf(out, "%s%.1f %.1f", down ? "L" : "M", at_x(a, c->x[i]), at_y(a, y[i])),
                down = any = true;
    }
    if (!any) dg_str_puts(out, "M0 0");
    dg_str_puts(out, "\"/>\n");
}

/* One polygon for each stretch of finite points. */
static void put_band(dg_str *out, const axes *a, const dg_curve *c)
{
    size_t stride = c->n / MOST_POINTS + 1;
    for (size_t i = 0; i < c->n;) {
        size_t end = i;
        while (end < c->n && isfinite(c->low[end]) && isfinite(c->high[end])) end++;
        if (end > i + 1) {
            const char *letter = "M";
            dg_str_printf(out, "<path class=\"band\" fill=\"%s\" d=\"", c->colour);
            for (size_t k = i; k < end; k++) {
                if ((k - i) % stride && k + 1 != end) continue;
                dg_str_printf(out, "%s%.1f %.1f", letter, at_x(a, c->x[k]), at_y(a, c->high[k]));
                letter = "L";
            }
            for (size_t k = end; k-- > i;)
                if ((k - i) % stride == 0 || k + 1 == end)
                    dg_str_printf(out, "L%.1f %.1f", at_x(a, c->x[k]), at_y(a, c->low[k]));
            dg_str_puts(out, "Z\"/>\n");
        }
        i = end > i ? end : i + 1;
    }
}

static void put_dots(dg_str *out, const axes *a, const dg_curve *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(c->y[i]))
            dg_str_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n", at_x(a, c->x[i]),
                          at_y(a, c->y[i]), c->colour);
}

static void put_curve(dg_str *out, const axes *a, const dg_curve *c)
{
    enum { FEW = 12 }; /* points that are marked one by one */
    dg_str_puts(out, "<g>");
    if (c->label) {
        dg_str_puts(out, "<title>");
        dg_page_text(out, c->label);
        dg_str_puts(out, "</title>");
    }
    if (c->low && c->high) put_band(out, a, c);
    if (c->raw) put_line(out, a, c, c->raw, "raw");
    put_line(out, a, c, c->y, "line");
    if (c->n <= FEW) put_dots(out, a, c);
    dg_str_puts(out, "</g>\n");
}

static void put_caption(dg_str *out, const char *title, const char *note)
{
    dg_str_puts(out, "<figure><figcaption>");
    dg_page_text(out, title);
    if (note) {
        dg_str_puts(out, " <span>");
        dg_page_text(out, note);
        dg_str_puts(out, "</span>");
    }
    dg_str_puts(out, "</figcaption>\n");
}

void dg_chart_lines(dg_str *out, const dg_chart *c)
{
    axes a;
    put_caption(out, c->title, c->note);
    if (find_axes(c, &a)) {
        dg_str_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
        dg_page_text(out, c->title);
        dg_str_puts(out, "\">\n");
        put_marks(out, &a, c->x_name);
        for (size_t i = 0; i < c->n; i++) put_curve(out, &a, &c->curves[i]);
        dg_str_puts(out, "</svg>");
    } else {
        dg_str_puts(out, "<p class=\"note\">no finite number</p>");
    }
    dg_str_puts(out, "</figure>\n");
}

/* ---- bars */

void dg_chart_bars(dg_str *out, const char *title, bool percent, const dg_bar *bars, size_t n)
{
    enum { ROW = 26, NAME = 210, FULL = 620, END = 90 };
    double most = 0;
    char text[40];
    for (size_t i = 0; i < n; i++) {
        if (isfinite(bars[i].mean)) most = fmax(most, bars[i].mean);
        for (size_t k = 0; k < bars[i].n; k++)
            if (isfinite(bars[i].values[k])) most = fmax(most, bars[i].values[k]);
    }
    double scale = most > 0 ? (FULL - NAME - END) / most : 0;
    put_caption(out, title, NULL);
    dg_str_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" style=\"max-width:%dpx\" aria-label=\"", FULL,
                  (int)n * ROW + 4, FULL);
    dg_page_text(out, title);
    dg_str_puts(out, "\">\n");
    for (size_t i = 0; i < n; i++) {
        const dg_bar *b = &bars[i];
        int y = (int)i * ROW;
        double length = isfinite(b->mean) && b->mean > 0 ? b->mean * scale : 0, end = NAME + length;
        dg_str_printf(out, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", NAME - 10, y + 18);
        dg_page_text(out, b->label);
        dg_str_printf(out,
                      "</text><rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"%s\"/>\n",
                      NAME, y + 5, length, ROW - 9, b->colour);
        for (size_t k = 0; b->n > 1 && k < b->n; k++) {
            if (!isfinite(b->values[k]) || b->values[k] < 0) continue;
            double x = NAME + b->values[k] * scale;
            end = fmax(end, x + 3);
            dg_str_printf(out,
                          "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"#fff\" stroke=\"#1c2330\"/>\n", x,
                          y + 5 + (ROW - 9) / 2.0);
        }
        dg_str_printf(out, "<text class=\"value\" x=\"%.1f\" y=\"%d\">%s</text>\n", end + 8, y + 18,
                      dg_figure_text(b->mean, percent, text, sizeof text));
    }
    dg_str_puts(out, "</svg></figure>\n");
}
