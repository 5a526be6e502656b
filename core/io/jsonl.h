/* jsonl.h - JSON lines: one record a line, each on its way to the disk before the next call.
 *
 * A record is the bytes that its values dictate: equal values give equal lines. A resume cuts the file back
 * to the length that the checkpoint recorded. */
#ifndef DG_IO_JSONL_H
#define DG_IO_JSONL_H

#include "json.h"

/* ---- a record: start from {0}, add members, append. Keys come out in the order of the calls. */
void dg_row_int(dg_str *row, const char *key, int64_t value);
void dg_row_number(dg_str *row, const char *key, double value);
void dg_row_text(dg_str *row, const char *key, const char *value);
void dg_row_bool(dg_str *row, const char *key, bool value);

typedef struct dg_jsonl dg_jsonl;

#define DG_JSONL_KEEP_ALL UINT64_MAX

/* Opens for appending, made if it is not there, after cutting it to `keep` bytes: 0 starts anew,
 * DG_JSONL_KEEP_ALL keeps everything but an unfinished last line. A file shorter than `keep` is an error: it
 * is not the run's own. */
dg_status dg_jsonl_open(const char *path, uint64_t keep, dg_jsonl **out, dg_error *err);
/* Writes "{row}\n" in one write and empties the row, also when it fails. A line that could not be written
 * whole (disk full) is taken back. */
dg_status dg_jsonl_append(dg_jsonl *w, dg_str *row, dg_error *err);
/* Bytes so far: what a checkpoint records. */
uint64_t dg_jsonl_length(const dg_jsonl *w);
/* fsync; call it before a checkpoint records the length. */
dg_status dg_jsonl_sync(dg_jsonl *w, dg_error *err);
/* NULL is no writer. */
void dg_jsonl_close(dg_jsonl *w);

#endif
