/* events.h - event files that TensorBoard reads: TFRecord frames (length, masked CRC-32C, data, masked
 * CRC-32C) of Event messages in protocol-buffer encoding (tensorflow/core/util/event.proto,
 * tensorboard/compat/proto).
 *
 * A resume opens a new file whose first record is a SessionLog START at the step resumed from: TensorBoard
 * then drops what older files of the folder say from that step on. The new file's name sorts after the old
 * ones. */
#ifndef DG_IO_EVENTS_H
#define DG_IO_EVENTS_H

#include "digpt/base.h"

typedef struct dg_events dg_events;

/* Makes the folder and a new file events.out.tfevents.* in it. purge_step: -1 for a fresh run, else the first
 * step that will be written again. `now`: seconds since 1970. */
dg_status dg_events_open(const char *dir, int64_t purge_step, double now, dg_events **out, dg_error *err);
/* One record each, buffered until flush, close, or 64 KiB. `tag`: "train/loss". */
dg_status dg_events_scalar(dg_events *e, const char *tag, int64_t step, double now, float value,
                           dg_error *err);
/* Markdown, shown in the text tab. */
dg_status dg_events_text(dg_events *e, const char *tag, int64_t step, double now, const char *text,
                         dg_error *err);
/* A whole PNG file of width x height RGB pixels. */
dg_status dg_events_png(dg_events *e, const char *tag, int64_t step, double now, int32_t width,
                        int32_t height, const void *png, size_t size, dg_error *err);
dg_status dg_events_flush(dg_events *e, dg_error *err);
const char *dg_events_path(const dg_events *e);
/* Flushes as far as it can; NULL is no writer. */
void dg_events_close(dg_events *e);

#endif
