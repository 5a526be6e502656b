/* chart.h - charts as SVG inside a page: lines over steps, and one number of several things side by side. */
#ifndef DG_TRAIN_CHART_H
#define DG_TRAIN_CHART_H

#include "base/str.h"

/* One line. Points whose y is not finite are left out and interrupt it. */
typedef struct dg_curve {
    const char *label;        /* for who points at it; NULL: none */
    const char *colour;       /* "#1f5fa8" */
    const double *x, *y;      // [n], x rising
    const double *low, *high; // [n] the band around it; NULL: none
    const double *raw;        // [n] drawn thin behind the line; NULL: none
    size_t n;
} dg_curve;

typedef struct dg_chart {
    const char *title, *note; /* note NULL: none */
    const char *x_name;       /* "step" */
    bool percent;             /* values are shares of 1, written in per cent */
    const dg_curve *curves;
    size_t n;
} dg_chart;

/* A <figure>. A chart of which no point is finite says so. */
void dg_chart_lines(dg_str *out, const dg_chart *chart);

/* One row: a name, its mean as a bar, and each value as a dot. */
typedef struct dg_bar {
    const char *label, *colour;
    double mean;
    const double *values; // [n]
    size_t n;
} dg_bar;
/* A <figure> of bars from zero, each with its mean behind it. */
void dg_chart_bars(dg_str *out, const char *title, bool percent, const dg_bar *bars, size_t n);

/* Running mean and standard deviation of y [n] over a fortieth of it on both sides, of the finite values;
 * where n is small they are y itself and 0. mean, deviation [n]; deviation may be NULL. */
void dg_smooth(const double *y, size_t n, double *mean, double *deviation);

/* A number of a figure for people: four digits, or per cent with two decimals. Into out, which it returns. */
const char *dg_figure_text(double value, bool percent, char *out, size_t size);

#endif
