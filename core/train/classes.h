/* classes.h - the classes that a classifier knows, by name, and which of them the labels of other data are.
 */
#ifndef DG_TRAIN_CLASSES_H
#define DG_TRAIN_CLASSES_H

#include "base/mem.h"
#include "data/source.h"

#define DG_CLASSES_FILE "classes.json"

/* Names of classes 0..n-1; they live in the arena. Starts as {0}; ends with dg_classes_free. */
typedef struct dg_classes {
    int32_t n;
    const char **names;
    dg_arena arena;
} dg_classes;
void dg_classes_free(dg_classes *c);

/* Writes DIR/classes.json, a JSON list of the source's class names; nothing for a source without classes. */
dg_status dg_classes_write(const char *dir, const dg_source *source, dg_error *err);
/* Reads such a list, or a text file with a name a line. A name that is there twice is an error. */
dg_status dg_classes_read(const char *path, dg_classes *out, dg_error *err);
dg_status dg_classes_of(const dg_source *source, dg_classes *out, dg_error *err);

/* For every label of `source` its class: the one of the same name (wnids of a subset such as ImageNet-A), or,
 * where that fails and all names of the source are numbers of classes, the one of that number (ImageNet-V2's
 * folders "0" to "999", integer labels). *class_of [dg_source_classes(source)] is dg_free'd by the caller.
 * The error names the first class that there is not, and the nearest. */
dg_status dg_classes_map(const dg_classes *c, const dg_source *source, int32_t **class_of, dg_error *err);

#endif
