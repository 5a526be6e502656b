/* page.h - what HTML pages of runs are made of: one look, escaped text, pictures inside the page. A page is
 * one file that needs no network and no script.
 *
 * All functions write to a dg_str, which is asked once at the end whether every write went well. */
#ifndef DG_TRAIN_PAGE_H
#define DG_TRAIN_PAGE_H

#include "base/str.h"

/* Up to <main>, with the title as heading; `below` (may be NULL) is a line under it. */
void dg_page_begin(dg_str *out, const char *title, const char *below);
void dg_page_end(dg_str *out);
/* Text with <, >, & and quotes escaped, for elements and attributes. */
void dg_page_text(dg_str *out, const char *text);
/* <h2> with an id made of its words, so that it can be linked to. */
void dg_page_heading(dg_str *out, const char *text);
/* An <img> that holds its own bytes; type is "png" or "jpeg", the size that of the picture. */
void dg_page_picture(dg_str *out, const char *type, const void *bytes, size_t size, int32_t width,
                     int32_t height, const char *alt);
/* The file as a PNG picture. */
dg_status dg_page_picture_file(dg_str *out, const char *path, const char *alt, dg_error *err);
/* "#1f5fa8": the colour of the i-th thing that is compared; they repeat after DG_PAGE_COLOURS. */
enum { DG_PAGE_COLOURS = 10 };
const char *dg_page_colour(size_t i);

#endif
