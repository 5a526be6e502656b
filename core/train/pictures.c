/* pictures.c - tokens, predictions and losses of a few images as panels. See pictures.h. */
#include "pictures.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "train/pca.h"

enum {
    SIDE = 176
}; /* pixels of a picture's longer side at least; small images are enlarged by whole numbers */

static const dg_colour paper = {244, 245, 247}, mark = {206, 211, 219}, grey = {150, 158, 170},
                       white = {255, 255, 255}, black = {28, 35, 48};

typedef enum dg_token_look { TOKENS_VECTORS, TOKENS_PIXELS, TOKENS_IDS } dg_token_look;

/* All that the panels of one section share. */
typedef struct section {
    dg_look *look;
    const dg_shown *shown;
    dg_gallery *gallery;
    const dg_tokenizer_info *info;
    int32_t h, w, scale; /* of an image, and of its picture over it */
    dg_token_look kind;
    dg_pca pca;
    double low, high; /* of all losses */
    char about[700];
} section;

static const char title_section[] = "What the model sees and predicts";

/* ---- pixels as tokens */

/* Pixel `i` of a patch's colour; patch_w columns of 3 colours. */
static size_t pixel_at(const section *s, int64_t image, int64_t cell, int64_t i, int64_t colour)
{
    int64_t ph = s->h / s->info->grid_h, pw = s->w / s->info->grid_w;
    int64_t y = cell / s->info->grid_w * ph + i / pw, x = cell % s->info->grid_w * pw + i % pw;
    return (size_t)(((image * s->h + y) * s->w + x) * 3 + colour);
}

/* The line through (token, pixel) of one colour of a patch of n pixels; false if the points are on none. */
static bool fit_line(const float *token, const uint8_t *pixels, const size_t *at, int64_t n, int64_t colour,
                     double *slope, double *shift)
{
    double mt = 0, mp = 0, tt = 0, pp = 0, tp = 0;
    for (int64_t i = 0; i < n; i++) {
        mt += (double)token[i * 3 + colour] / (double)n;
        mp += pixels[at[i]] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double t = (double)token[i * 3 + colour] - mt, p = pixels[at[i]] - mp;
        tt += t * t;
        pp += p * p;
        tp += t * p;
    }
    *slope = tt > 0 ? tp / tt : 0;
    *shift = mp - *slope * mt;
    return pp < 1 || (tt > 0 && tp > 0 && tp * tp > 0.998 * tt * pp);
}

static bool patch_lines(const section *s, const float *token, const uint8_t *images, int64_t image,
                        int64_t cell, double slope[3], double shift[3])
{
    enum { MOST = 1 << 14 };
    int64_t n = (s->h / s->info->grid_h) * (s->w / s->info->grid_w);
    size_t *at = n <= MOST ? dg_calloc((size_t)n, sizeof *at) : NULL;
    bool straight = at != NULL;
    double steepest = 0;
    for (int64_t c = 0; c < 3 && at; c++) {
        for (int64_t i = 0; i < n; i++) at[i] = pixel_at(s, image, cell, i, c);
        if (!fit_line(token, images, at, n, c, &slope[c], &shift[c])) straight = false;
        steepest = fmax(steepest, slope[c]);
    }
    for (int64_t c = 0; c < 3 && at; c++) { /* a colour without contrast shares the others' scale */
        if (slope[c] > 0) continue;
        double mean = shift[c], level = 0;
        for (int64_t i = 0; i < n; i++) level += (double)token[i * 3 + c] / (double)n;
        slope[c] = steepest;
        shift[c] = mean - steepest * level;
    }
    dg_free(at);
    return straight;
}

bool dg_tokens_are_pixels(const float *tokens, const uint8_t *images, int64_t batch, int64_t grid_h,
                          int64_t grid_w, int64_t width, int64_t h, int64_t w)
{
    const dg_tokenizer_info info = {.grid_h = grid_h, .grid_w = grid_w};
    const section s = {.info = &info, .h = (int32_t)h, .w = (int32_t)w};
    if (h % grid_h || w % grid_w || width != 3 * (h / grid_h) * (w / grid_w)) return false;
    for (int64_t i = 0; i < batch * grid_h * grid_w; i++) {
        double slope[3], shift[3];
        if (!patch_lines(&s, tokens + i * width, images, i / (grid_h * grid_w), i % (grid_h * grid_w), slope,
                         shift))
            return false;
    }
    return true;
}

/* ---- cells */

static const float *token_of(const section *s, int64_t image, int64_t cell)
{
    int64_t width = s->info->discrete ? 1 : s->info->width, count = dg_token_count(s->info);
    return s->look->tokens + (image * count + cell + (s->info->class_token ? 1 : 0)) * width;
}

typedef struct edges {
    int32_t left, top, right, bottom;
} edges;

static edges edges_of(const section *s, int64_t cell, const dg_canvas *c)
{
    int64_t y = cell / s->info->grid_w, x = cell % s->info->grid_w;
    return (edges){dg_cell_edge(x, s->info->grid_w, c->width), dg_cell_edge(y, s->info->grid_h, c->height),
                   dg_cell_edge(x + 1, s->info->grid_w, c->width),
                   dg_cell_edge(y + 1, s->info->grid_h, c->height)};
}

static void fill_cell(const section *s, dg_canvas *c, int64_t cell, dg_colour colour)
{
    edges e = edges_of(s, cell, c);
    dg_canvas_fill(c, e.left, e.top, e.right, e.bottom, colour, 1);
}

static int64_t best_of(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* A predicted token put back into the image: scaled as the patch's own pixels were. */
static void put_pixels(const section *s, dg_canvas *c, int64_t image, int64_t cell, const float *v)
{
    double slope[3], shift[3];
    const uint8_t *images = s->shown->batch->images;
    int64_t pw = s->w / s->info->grid_w, n = (s->h / s->info->grid_h) * pw;
    if (!patch_lines(s, token_of(s, image, cell), images, image, cell, slope, shift)) return;
    for (int64_t i = 0; i < n; i++) {
        int32_t y = (int32_t)(cell / s->info->grid_w * (s->h / s->info->grid_h) + i / pw) * s->scale,
                x = (int32_t)(cell % s->info->grid_w * pw + i % pw) * s->scale;
        uint8_t rgb[3];
        for (int k = 0; k < 3; k++)
            rgb[k] = (uint8_t)lrint(fmin(255, fmax(0, slope[k] * (double)v[i * 3 + k] + shift[k])));
        dg_canvas_fill(c, x, y, x + s->scale, y + s->scale, (dg_colour){rgb[0], rgb[1], rgb[2]}, 1);
    }
}

/* ---- panels */

static dg_status add(const section *s, int64_t row, const char *column, const char *title, const char *note,
                     bool scale, const dg_canvas *c, dg_error *err)
{
    const dg_panel p = {.section = title_section,
                        .about = s->about,
                        .row = row,
                        .column = column,
                        .title = title,
                        .note = note,
                        .low = scale ? s->low : 0,
                        .high = scale ? s->high : 0};
    return dg_gallery_add(s->gallery, &p, c, err);
}

static dg_status crop_of(const section *s, int64_t row, dg_canvas *c, dg_error *err)
{
    return dg_canvas_of_image(s->shown->batch->images + row * s->h * s->w * 3, s->w, s->h, s->scale, c, err);
}

static dg_status add_crop(const section *s, int64_t row, dg_error *err)
{
    dg_canvas c = {0};
    dg_status status = crop_of(s, row, &c, err);
    if (status == DG_OK) status = add(s, row, "crop", "crop", s->shown->names[row], false, &c, err);
    dg_canvas_free(&c);
    return status;
}

/* NULL: the model has no order of segments. */
static const int32_t *order_of(const section *s, int64_t row, const int64_t **grid)
{
    dg_type t;
    size_t n;
    const int32_t *order = dg_look_input(s->look, "order", &t);
    *grid = dg_recipe_ints(s->look->parts->recipe, "model.segments", &n);
    if (!order || !*grid || n != 2 || t.dtype != DG_I32 || t.rank != 2 ||
        t.dims[1] != (*grid)[0] * (*grid)[1])
        return NULL;
    return order + row * t.dims[1];
}

/* Each segment with the number of its place; the last is never seen. */
static dg_status add_order(const section *s, int64_t row, dg_error *err)
{
    const int64_t *grid;
    const int32_t *order = order_of(s, row, &grid);
    dg_canvas c = {0};
    if (!order) return DG_OK;
    dg_status status = crop_of(s, row, &c, err);
    int64_t n = grid[0] * grid[1];
    for (int64_t place = 0; status == DG_OK && place < n; place++) {
        int64_t y = order[place] / grid[1], x = order[place] % grid[1];
        int32_t left = dg_cell_edge(x, grid[1], c.width), right = dg_cell_edge(x + 1, grid[1], c.width),
                top = dg_cell_edge(y, grid[0], c.height), bottom = dg_cell_edge(y + 1, grid[0], c.height);
        bool last = place + 1 == n;
        dg_canvas_fill(&c, left, top, right, bottom, white, last ? 0.75 : 0.15);
        if (last) dg_canvas_hatch(&c, left, top, right, bottom, mark);
        dg_canvas_fill(&c, left, top, right, bottom,
                       dg_heat(n > 1 ? 0.9 * (double)place / (double)(n - 1) : 0), last ? 0.12 : 0.5);
        dg_canvas_fill(&c, left, top, right, top + 1, white, 1);
        dg_canvas_fill(&c, left, top, left + 1, bottom, white, 1);
        double size = 0.3 * fmin(right - left, bottom - top);
        dg_canvas_number(&c, (left + right) / 2.0, (top + bottom) / 2.0, size, place + 1, white, black);
    }
    if (status == DG_OK) status = add(s, row, "order", "order of segments", "", false, &c, err);
    dg_canvas_free(&c);
    return status;
}

/* The positions that count towards the loss are those that the model does not see. */
static dg_status add_hidden(const section *s, const dg_look_prediction *p, int64_t row, dg_error *err)
{
    dg_canvas c = {0};
    int64_t hidden = 0;
    char note[64];
    if (!p->weight) return DG_OK;
    dg_status status = crop_of(s, row, &c, err);
    for (int64_t i = row * p->positions; status == DG_OK && i < (row + 1) * p->positions; i++) {
        if (p->weight[i] <= 0 || p->place[i] < 0) continue;
        fill_cell(s, &c, p->place[i], grey);
        hidden++;
    }
    snprintf(note, sizeof note, "%lld of %lld hidden", (long long)hidden,
             (long long)(s->info->grid_h * s->info->grid_w));
    if (status == DG_OK) status = add(s, row, "hidden", "what is seen", note, false, &c, err);
    dg_canvas_free(&c);
    return status;
}

static dg_status add_tokens(const section *s, int64_t row, dg_error *err)
{
    dg_canvas c = {0};
    if (s->kind == TOKENS_PIXELS) return DG_OK; /* the crop shows them */
    dg_status status = dg_canvas_make(s->w * s->scale, s->h * s->scale, paper, &c, err);
    for (int64_t i = 0; status == DG_OK && i < s->info->grid_h * s->info->grid_w; i++) {
        const float *v = token_of(s, row, i);
        fill_cell(s, &c, i, s->kind == TOKENS_IDS ? dg_hue((int64_t)v[0]) : dg_pca_colour(&s->pca, v));
    }
    if (status == DG_OK) status = add(s, row, "tokens", "tokens", "", false, &c, err);
    dg_canvas_free(&c);
    return status;
}

/* Hatched where nothing is predicted. */
static dg_status blank(const section *s, dg_canvas *c, dg_error *err)
{
    DG_TRY(dg_canvas_make(s->w * s->scale, s->h * s->scale, paper, c, err));
    dg_canvas_hatch(c, 0, 0, c->width, c->height, mark);
    return DG_OK;
}

static dg_status add_prediction(const section *s, const dg_look_prediction *p, int64_t row, dg_error *err)
{
    dg_canvas c = {0};
    char title[64];
    int64_t right = 0, n = 0;
    dg_status status = p->weight && s->kind == TOKENS_PIXELS ? crop_of(s, row, &c, err) : blank(s, &c, err);
    for (int64_t i = row * p->positions; status == DG_OK && i < (row + 1) * p->positions; i++) {
        const float *v = p->prediction + i * p->width;
        if (p->place[i] < 0 || (p->weight && p->weight[i] <= 0)) continue;
        if (s->kind == TOKENS_PIXELS) {
            put_pixels(s, &c, row, p->place[i], v);
        } else if (s->kind == TOKENS_IDS) {
            int64_t id = best_of(v, p->width);
            right += id == (int64_t)token_of(s, row, p->place[i])[0];
            fill_cell(s, &c, p->place[i], dg_hue(id));
        } else {
            fill_cell(s, &c, p->place[i], dg_pca_colour(&s->pca, v));
        }
        n++;
    }
    char note[64] = "";
    if (s->kind == TOKENS_IDS && n)
        snprintf(note, sizeof note, "%.0f %% right", 100.0 * (double)right / (double)n);
    snprintf(title, sizeof title, "%s: predicted", p->name);
    if (status == DG_OK) status = add(s, row, p->name, title, note, false, &c, err);
    dg_canvas_free(&c);
    return status;
}

static dg_status add_loss(const section *s, const dg_look_prediction *p, int64_t row, dg_error *err)
{
    dg_canvas c = {0};
    char title[64], column[64], note[96], class_loss[48] = "";
    double sum = 0, weights = 0;
    dg_status status = blank(s, &c, err);
    for (int64_t i = row * p->positions; status == DG_OK && i < (row + 1) * p->positions; i++) {
        double weight = p->weight ? (double)p->weight[i] : 1, loss = (double)p->loss[i];
        if (weight <= 0) continue;
        sum += weight * loss;
        weights += weight;
        if (p->place[i] < 0)
            snprintf(class_loss, sizeof class_loss, "\nclass token %.3f", loss);
        else
            fill_cell(s, &c, p->place[i], dg_heat((loss - s->low) / (s->high - s->low)));
    }
    snprintf(note, sizeof note, "mean %.3f%s", weights > 0 ? sum / weights : 0, class_loss);
    snprintf(title, sizeof title, "%s: loss", p->name);
    snprintf(column, sizeof column, "%s-loss", p->name);
    if (status == DG_OK) status = add(s, row, column, title, note, true, &c, err);
    dg_canvas_free(&c);
    return status;
}

/* ---- the section */

static int rising(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* One scale for all maps: the 1st to the 99th percentile of all losses that count. */
static dg_status find_scale(section *s, dg_error *err)
{
    int64_t n = 0, most = 1;
    for (uint32_t k = 0; k < s->look->n_predictions; k++)
        most += s->look->batch * s->look->predictions[k].positions;
    float *all = dg_calloc((size_t)most, sizeof *all);
    if (!all) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (uint32_t k = 0; k < s->look->n_predictions; k++) {
        const dg_look_prediction *p = &s->look->predictions[k];
        for (int64_t i = 0; i < s->look->batch * p->positions; i++)
            if (isfinite(p->loss[i]) && p->place[i] >= 0 && (!p->weight || p->weight[i] > 0))
                all[n++] = p->loss[i];
    }
    qsort(all, (size_t)n, sizeof *all, rising);
    s->low = n ? (double)all[n / 100] : 0;
    s->high = n ? (double)all[n - 1 - n / 100] : 1;
    if (!(s->high > s->low)) s->high = s->low + 1;
    dg_free(all);
    return DG_OK;
}

/* How tokens are shown, and the colours for it. */
static dg_status find_colours(section *s, dg_error *err)
{
    enum { MOST = 4096 }; /* tokens that components are found from */
    int64_t cells = s->info->grid_h * s->info->grid_w, n = s->look->batch * cells, every = n / MOST + 1,
            m = 0;
    float *rows;
    bool of_image = s->info->image_h == s->h && s->info->image_w == s->w;
    if (s->info->discrete) {
        s->kind = TOKENS_IDS;
        return DG_OK;
    }
    if (of_image && !s->info->class_token &&
        dg_tokens_are_pixels(s->look->tokens, s->shown->batch->images, s->look->batch, s->info->grid_h,
                             s->info->grid_w, s->info->width, s->h, s->w)) {
        s->kind = TOKENS_PIXELS;
        return DG_OK;
    }
    rows = dg_calloc((size_t)(n / every + 1), (size_t)s->info->width * sizeof *rows);
    if (!rows) return dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; i < n; i += every)
        memcpy(rows + m++ * s->info->width, token_of(s, i / cells, i % cells),
               (size_t)s->info->width * sizeof *rows);
    dg_status status = dg_pca_fit(rows, m, s->info->width, &s->pca, err);
    dg_free(rows);
    return status;
}

static void describe(section *s)
{
    static const char *const tokens[] = {
        [TOKENS_VECTORS] =
            "Tokens are coloured by the first three principal components of the tokenizer's tokens of "
            "all these images; predictions by the same.",
        [TOKENS_PIXELS] =
            "Tokens are pixels of patches: predictions are put back with each patch's own brightness "
            "and contrast.",
        [TOKENS_IDS] = "Every id of a token has a colour."};
    const int64_t *grid;
    bool order = order_of(s, 0, &grid) != NULL;
    snprintf(
        s->about, sizeof s->about, "%s %s%s Hatched: not predicted.", s->shown->about, tokens[s->kind],
        order ? " Segments are numbered in the order in which they are predicted; the last one is never seen."
              : "");
}

static bool fits(const section *s, const dg_look_prediction *p)
{
    if (!p->placed) return false;
    if (p->width != (s->info->discrete ? s->info->vocabulary : s->info->width)) return false;
    for (int64_t i = 0; i < s->look->batch * p->positions; i++)
        if (p->place[i] >= s->info->grid_h * s->info->grid_w) return false;
    return true;
}

static dg_status add_row(const section *s, int64_t row, dg_error *err)
{
    DG_TRY(add_crop(s, row, err));
    if (!s->look->tokens) return DG_OK;
    DG_TRY(add_order(s, row, err));
    for (uint32_t k = 0; k < s->look->n_predictions; k++)
        if (fits(s, &s->look->predictions[k]) && s->look->predictions[k].weight) {
            DG_TRY(add_hidden(s, &s->look->predictions[k], row, err));
            break;
        }
    DG_TRY(add_tokens(s, row, err));
    for (uint32_t k = 0; k < s->look->n_predictions; k++) {
        const dg_look_prediction *p = &s->look->predictions[k];
        if (!fits(s, p)) continue;
        DG_TRY(add_prediction(s, p, row, err));
        DG_TRY(add_loss(s, p, row, err));
    }
    return DG_OK;
}

/* ---- pictures and texts */

/* Row i is an image, column k a caption. */
static dg_status matrix_of(const dg_look *l, dg_canvas *c, double *low, double *high, float *similar,
                           dg_error *err)
{
    int64_t n = l->batch;
    *low = INFINITY;
    *high = -INFINITY;
    for (int64_t i = 0; i < n * n; i++) {
        similar[i] = 0;
        for (int64_t k = 0; k < l->feature_width; k++)
            similar[i] += l->image_features[i / n * l->feature_width + k] *
                          l->text_features[i % n * l->feature_width + k];
        *low = fmin(*low, (double)similar[i]);
        *high = fmax(*high, (double)similar[i]);
    }
    if (!(*high > *low)) *high = *low + 1;
    DG_TRY(dg_canvas_make(SIDE, SIDE, paper, c, err));
    for (int64_t i = 0; i < n * n; i++)
        dg_canvas_fill(c, dg_cell_edge(i % n, n, SIDE), dg_cell_edge(i / n, n, SIDE),
                       dg_cell_edge(i % n + 1, n, SIDE), dg_cell_edge(i / n + 1, n, SIDE),
                       dg_heat(((double)similar[i] - *low) / (*high - *low)), 1);
    return DG_OK;
}

static dg_status add_captioned(const section *s, int64_t row, const float *similar, dg_error *err)
{
    dg_canvas c = {0};
    int64_t n = s->look->batch, best = best_of(similar + row * n, n);
    const char *const *captions = s->shown->batch->captions;
    dg_str note = {0};
    dg_str_printf(&note, "%s", captions[row]);
    if (best != row) dg_str_printf(&note, "\nnearest text: %s", captions[best]);
    dg_panel p = {.section = "Images and their captions",
                  .about = s->about,
                  .row = row,
                  .column = "",
                  .title = "",
                  .note = note.text ? note.text : "",
                  .verdict = best == row ? 1 : -1};
    dg_status status = crop_of(s, row, &c, err);
    if (status == DG_OK) status = dg_gallery_add(s->gallery, &p, &c, err);
    dg_canvas_free(&c);
    dg_str_free(&note);
    return status;
}

static dg_status add_captions(section *s, dg_error *err)
{
    dg_canvas c = {0};
    int64_t n = s->look->batch, right = 0;
    double low, high;
    char note[128];
    float *similar = dg_calloc((size_t)(n * n) + 1, sizeof *similar);
    dg_status status = similar ? matrix_of(s->look, &c, &low, &high, similar, err)
                               : dg_fail(err, DG_ERR_NOMEM, "out of memory");
    for (int64_t i = 0; status == DG_OK && i < n; i++) right += best_of(similar + i * n, n) == i;
    snprintf(
        s->about, sizeof s->about,
        "%s Each image with its caption; where another one of these captions is nearer to it, that one too.",
        s->shown->about);
    for (int64_t i = 0; status == DG_OK && i < n; i++) status = add_captioned(s, i, similar, err);
    snprintf(note, sizeof note, "of images (rows) with captions (columns)\n%lld of %lld find their own",
             (long long)right, (long long)n);
    const dg_panel p = {.section = "Similarities",
                        .about = "Cosines of features; what belongs together is on the diagonal.",
                        .column = "similarity",
                        .title = "similarity",
                        .note = note,
                        .low = low,
                        .high = high};
    if (status == DG_OK) status = dg_gallery_add(s->gallery, &p, &c, err);
    dg_canvas_free(&c);
    dg_free(similar);
    return status;
}

dg_status dg_pictures_tokens(dg_look *look, const dg_shown *shown, dg_gallery *gallery, dg_error *err)
{
    const dg_parts *parts = look->parts;
    section s = {.look = look,
                 .shown = shown,
                 .gallery = gallery,
                 .info = &parts->tokens,
                 .h = (int32_t)parts->image_h,
                 .w = (int32_t)parts->image_w};
    int32_t longer = s.h > s.w ? s.h : s.w;
    s.scale = longer < SIDE ? (SIDE + longer - 1) / longer : 1;
    if (look->image_features && look->text_features && shown->batch->captions) return add_captions(&s, err);
    dg_status status = look->tokens ? find_colours(&s, err) : DG_OK;
    if (status == DG_OK) status = find_scale(&s, err);
    if (look->tokens)
        describe(&s);
    else
        snprintf(s.about, sizeof s.about, "%s", shown->about);
    for (int64_t i = 0; status == DG_OK && i < look->batch; i++) status = add_row(&s, i, err);
    dg_pca_free(&s.pca);
    return status;
}
