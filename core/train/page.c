/* page.c - the look of HTML pages, and their smallest parts. See page.h. */
#include "page.h"

#include <ctype.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"

static const char style[] =
    "*{box-sizing:border-box}\n"
    "body{font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;"
    "color:#1c2330;background:#fff;margin:0}\n"
    "main{max-width:1240px;margin:0 auto;padding:28px 32px 64px}\n"
    "h1{font-size:26px;line-height:1.25;font-weight:650;letter-spacing:-.01em;margin:0}\n"
    "h2{font-size:18px;font-weight:650;margin:44px 0 12px;padding-top:14px;border-top:1px solid #e3e6eb}\n"
    "h3{font-size:15px;font-weight:650;margin:24px 0 8px}\n"
    "p{max-width:84ch;margin:6px 0}\n"
    ".below,.note{color:#5a6475;max-width:118ch}.below{margin:4px 0 0}.note{font-size:13px}\n"
    "a{color:#1f5fa8}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{text-align:left;vertical-align:top;padding:5px 22px 5px 0;border-bottom:1px solid #edf0f3}\n"
    "thead th{color:#5a6475;font-weight:600;font-size:13px;border-bottom:1px solid #c9cfd8;"
    "vertical-align:bottom;white-space:nowrap}\n"
    "tbody th{font-weight:600}\n"
    "td.n,th.n{text-align:right}\n"
    ".facts th{width:150px;color:#5a6475;font-weight:500}.facts td{overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto}\n"
    "code,pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace}\n"
    "pre{background:#f6f7f9;border:1px solid #e9ecf0;border-radius:6px;padding:14px 16px;overflow:auto;"
    "margin:8px 0}\n"
    "summary{cursor:pointer;color:#1f5fa8}\n"
    "figure{margin:0;min-width:0}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0 4px}\n"
    ".tile{border:1px solid #e3e6eb;border-radius:8px;padding:10px 16px;min-width:118px}\n"
    ".tile "
    "b{display:block;font-size:20px;font-weight:650;line-height:1.3;font-variant-numeric:tabular-nums}\n"
    ".tile span{color:#5a6475;font-size:12.5px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(370px,1fr));gap:22px 26px}\n"
    ".charts figcaption{font-size:13px;font-weight:600;margin:0 0 4px}\n"
    ".charts figcaption span{font-weight:400;color:#5a6475}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}\n"
    "svg text{font-size:11px;fill:#5a6475;font-variant-numeric:tabular-nums}\n"
    "svg .grid{stroke:#e9ecf0}svg .axis{stroke:#aab2bf}\n"
    "svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg "
    ".raw{fill:none;stroke-width:1;opacity:.3}\n"
    "svg .band{stroke:none;opacity:.16}\n"
    "svg .label{font-size:12.5px;fill:#1c2330}svg .value{font-size:12.5px;font-weight:600;fill:#1c2330}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:8px 0 14px;font-size:13px}\n"
    ".chip{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px;"
    "vertical-align:-1px}\n"
    ".pictures{display:grid;gap:6px 10px;overflow-x:auto;align-items:start;font-size:12px;line-height:1.35;"
    "color:#5a6475;margin:10px 0}\n"
    ".pictures b{color:#1c2330;font-weight:600;align-self:end}\n"
    ".pictures figure{overflow-wrap:anywhere}.pictures "
    "img{display:block;width:100%;height:auto;border-radius:4px;image-rendering:pixelated}\n"
    ".pictures .wrong{color:#b23a48}.pictures .right{color:#2e7d4f}\n"
    ".scale{display:flex;align-items:center;gap:5px;font-weight:400;color:#5a6475}.scale "
    "i{flex:1;max-width:76px;height:8px;border-radius:2px}\n"
    ".worst{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px}\n"
    ".worst figcaption,small{font-size:12px;color:#5a6475;overflow-wrap:anywhere}\n"
    "@media print{main{max-width:none;padding:0}h2{break-after:avoid}figure,tr{break-inside:avoid}}\n";

void dg_page_text(dg_str *out, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<'    ? "&lt;"
                             : *text == '>'  ? "&gt;"
                             : *text == '&'  ? "&amp;"
                             : *text == '"'  ? "&quot;"
                             : *text == '\'' ? "&#39;"
                                             : NULL;
        if (entity)
            dg_str_puts(out, entity);
        else
            dg_str_bytes(out, text, 1);
    }
}

void dg_page_begin(dg_str *out, const char *title, const char *below)
{
    dg_str_puts(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
    dg_page_text(out, title);
    dg_str_printf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
    dg_page_text(out, title);
    dg_str_puts(out, "</h1>\n");
    if (below) {
        dg_str_puts(out, "<p class=\"below\">");
        dg_page_text(out, below);
        dg_str_puts(out, "</p>\n");
    }
}

void dg_page_end(dg_str *out)
{
    dg_str_puts(out, "</main>\n</body>\n</html>\n");
}

void dg_page_heading(dg_str *out, const char *text)
{
    dg_str_puts(out, "<h2 id=\"");
    for (const char *p = text; *p; p++) {
        char c = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
        dg_str_bytes(out, &c, 1);
    }
    dg_str_puts(out, "\">");
    dg_page_text(out, text);
    dg_str_puts(out, "</h2>\n");
}

static void put_base64(dg_str *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t x = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                     (left > 2 ? bytes[i + 2] : 0);
        const char four[4] = {digits[x >> 18], digits[x >> 12 & 63], left > 1 ? digits[x >> 6 & 63] : '=',
                              left > 2 ? digits[x & 63] : '='};
        dg_str_bytes(out, four, 4);
    }
}

void dg_page_picture(dg_str *out, const char *type, const void *bytes, size_t size, int32_t width,
                     int32_t height, const char *alt)
{
    dg_str_printf(out, "<img width=\"%d\" height=\"%d\" alt=\"", width, height);
    dg_page_text(out, alt);
    dg_str_printf(out, "\" src=\"data:image/%s;base64,", type);
    put_base64(out, bytes, size);
    dg_str_puts(out, "\">");
}

dg_status dg_page_picture_file(dg_str *out, const char *path, const char *alt, dg_error *err)
{
    char *bytes = NULL;
    size_t size = 0;
    int32_t width, height;
    dg_status s = dg_file_read(path, 64 << 20, &bytes, &size, err);
    if (s == DG_OK) s = dg_image_read_size(bytes, size, &width, &height, err);
    if (s == DG_OK)
        dg_page_picture(out, "png", bytes, size, width, height, alt);
    else
        s = dg_fail_in(err, "%s", path);
    dg_free(bytes);
    return s;
}

const char *dg_page_colour(size_t i)
{
    static const char *const colours[DG_PAGE_COLOURS] = {"#1f5fa8", "#d9662b", "#2e8b57", "#b23a48",
                                                         "#7a5195", "#8c6d31", "#0f93a5", "#d45087",
                                                         "#5f6b7a", "#8a9a1b"};
    return colours[i % DG_PAGE_COLOURS];
}
