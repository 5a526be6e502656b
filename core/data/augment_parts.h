/* augment_parts.h - what the files of augmentation share. */
#ifndef DG_DATA_AUGMENT_PARTS_H
#define DG_DATA_AUGMENT_PARTS_H

#include "augment_pixels.h"

/* At least so many bytes, aligned to 64, of unknown content; NULL after DG_ERR_NOMEM. Ends what an earlier
 * call gave. */
void *dg_scratch_need(dg_scratch *s, size_t bytes, dg_error *err);

#endif
