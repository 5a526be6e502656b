/* gallery.h - the pictures of a run as files, and on a page: a folder of PNG files and pictures.jsonl, which
 * says of each where it stands and what it shows.
 *
 * Pictures form sections. A section is a table, one row an image and one column a kind of picture; or, where
 * `column` is "", a flow of pictures. */
#ifndef DG_TRAIN_GALLERY_H
#define DG_TRAIN_GALLERY_H

#include "base/str.h"
#include "train/draw.h"

typedef struct dg_panel {
    const char *section, *about; /* heading of the section; a sentence under it, "" none */
    int64_t row;                 /* in its section, from 0 */
    const char *column;          /* a word; with the row it names the file */
    const char *title;           /* of the column */
    const char *note;            /* under the picture; lines end in newlines; "" none */
    double low, high;            /* what a map's first and last colour stand for; equal: it is no map */
    int verdict;                 /* of a note: 1 right, -1 wrong, 0 neither */
} dg_panel;

/* Starts as {0} with `dir` set; ends with dg_gallery_close. */
typedef struct dg_gallery {
    const char *dir; /* not owned */
    dg_str lines;
    int64_t n;
} dg_gallery;

/* Makes the folder and takes away an older gallery that is there: pictures.jsonl and the files that it names.
 */
dg_status dg_gallery_begin(dg_gallery *g, dg_error *err);
/* Writes the picture as DIR/ROW-COLUMN.png, or DIR/picture-N.png in a flow. */
dg_status dg_gallery_add(dg_gallery *g, const dg_panel *panel, const dg_canvas *picture, dg_error *err);
/* Writes pictures.jsonl; without it the folder counts as empty. */
dg_status dg_gallery_end(dg_gallery *g, dg_error *err);
void dg_gallery_close(dg_gallery *g);

/* Puts the sections of DIR on a page, each under an <h3>; *n is how many pictures there were, 0 when DIR has
 * no gallery. most_rows: of each section, 0 all. */
dg_status dg_gallery_put(dg_str *out, const char *dir, int64_t most_rows, int64_t *n, dg_error *err);

#endif
