/* device.c - PJRT's errors, events and buffers as ours. */
#include "pjrt.h"

/* PJRT's error codes are those of absl::Status. */
static const struct {
    dg_status status;
    const char *name;
} codes[] = {
    {DG_ERR_INTERNAL, "no error"},
    {DG_ERR_STOPPED, "cancelled"},
    {DG_ERR_INTERNAL, "unknown"},
    {DG_ERR_INVALID, "invalid argument"},
    {DG_ERR_STOPPED, "deadline exceeded"},
    {DG_ERR_NOT_FOUND, "not found"},
    {DG_ERR_INVALID, "already exists"},
    {DG_ERR_IO, "permission denied"},
    {DG_ERR_NOMEM, "resource exhausted"},
    {DG_ERR_MISMATCH, "failed precondition"},
    {DG_ERR_STOPPED, "aborted"},
    {DG_ERR_INVALID, "out of range"},
    {DG_ERR_UNSUPPORTED, "not implemented"},
    {DG_ERR_INTERNAL, "internal"},
    {DG_ERR_IO, "unavailable"},
    {DG_ERR_FORMAT, "data loss"},
    {DG_ERR_IO, "unauthenticated"},
};

dg_status dg_pjrt_status(const PJRT_Api *api, PJRT_Error *e, const char *what, dg_error *err)
{
    if (!e) return DG_OK;
    DG_PJRT_ARGS(PJRT_Error_Message, message);
    message.error = e;
    api->PJRT_Error_Message(&message);
    DG_PJRT_ARGS(PJRT_Error_GetCode, code);
    code.error = e;
    PJRT_Error *second = api->PJRT_Error_GetCode(&code);
    size_t k = second || (size_t)code.code >= sizeof codes / sizeof codes[0] ? 2 : (size_t)code.code;
    char text[800]; /* on one line */
    size_t n = 0;
    for (size_t i = 0; message.message && i < message.message_size && n + 1 < sizeof text; i++) {
        char c = message.message[i];
        if (c != '\n' && c != '\r' && c != '\t')
            text[n++] = c;
        else if (n > 0 && text[n - 1] != ' ')
            text[n++] = ' ';
    }
    while (n > 0 && text[n - 1] == ' ') n--;
    text[n] = 0;
    /* XLA's CPU client wraps this one as an internal error. */
    dg_status status = strstr(text, "Out of memory") ? DG_ERR_NOMEM : codes[k].status;
    dg_fail(err, status, "%s: %s: %s", what, codes[k].name, n ? text : "no message");
    PJRT_Error *both[] = {second, e};
    for (int i = 0; i < 2; i++)
        if (both[i]) {
            DG_PJRT_ARGS(PJRT_Error_Destroy, destroy);
            destroy.error = both[i];
            api->PJRT_Error_Destroy(&destroy);
        }
    return status;
}

dg_status dg_pjrt_await(const dg_pjrt *self, PJRT_Event *event, const char *what, dg_error *err)
{
    if (!event) return DG_OK;
    DG_PJRT_ARGS(PJRT_Event_Await, await);
    await.event = event;
    dg_status status = dg_pjrt_status(self->api, self->api->PJRT_Event_Await(&await), what, err);
    DG_PJRT_ARGS(PJRT_Event_Destroy, destroy);
    destroy.event = event;
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_CALL(self->api, PJRT_Event_Destroy, destroy, &none);
    return status;
}

static const PJRT_Buffer_Type buffer_type[DG_DTYPE_COUNT] = {
    PJRT_Buffer_Type_INVALID,  PJRT_Buffer_Type_F32, PJRT_Buffer_Type_BF16, PJRT_Buffer_Type_F16,
    PJRT_Buffer_Type_F8E4M3FN, PJRT_Buffer_Type_S32, PJRT_Buffer_Type_U8,   PJRT_Buffer_Type_PRED,
};

static dg_status to_device(const dg_pjrt *self, uint32_t replica, const dg_type *type, const void *data,
                           PJRT_HostBufferSemantics semantics, PJRT_Buffer **out, PJRT_Event **done,
                           dg_error *err)
{
    DG_PJRT_ARGS(PJRT_Client_BufferFromHostBuffer, args);
    args.client = self->client;
    args.data = data;
    args.type = buffer_type[type->dtype];
    args.dims = type->dims;
    args.num_dims = (size_t)type->rank;
    args.host_buffer_semantics = semantics;
    args.device = self->devices[replica];
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Client_BufferFromHostBuffer, args, err));
    *out = args.buffer;
    *done = args.done_with_host_buffer;
    return DG_OK;
}

dg_status dg_pjrt_upload(const dg_pjrt *self, uint32_t replica, const dg_type *type, const void *data,
                         PJRT_Buffer **out, dg_error *err)
{
    PJRT_Event *done = NULL;
    DG_TRY(to_device(self, replica, type, data, PJRT_HostBufferSemantics_kImmutableOnlyDuringCall, out, &done,
                     err));
    dg_status status = dg_pjrt_await(self, done, "copying to the device", err);
    if (status != DG_OK) {
        dg_pjrt_free(self, *out);
        *out = NULL;
    }
    return status;
}

dg_status dg_pjrt_lend(const dg_pjrt *self, uint32_t replica, const dg_type *type, const void *data,
                       PJRT_Buffer **out, PJRT_Event **done, dg_error *err)
{
    return to_device(self, replica, type, data, PJRT_HostBufferSemantics_kImmutableZeroCopy, out, done, err);
}

dg_status dg_pjrt_download(const dg_pjrt *self, PJRT_Buffer *buffer, const dg_type *type, void *data,
                           dg_error *err)
{
    int64_t minor_to_major[DG_MAX_RANK];
    for (int i = 0; i < type->rank; i++) minor_to_major[i] = type->rank - 1 - i;
    PJRT_Buffer_MemoryLayout layout = {0};
    layout.struct_size = PJRT_Buffer_MemoryLayout_STRUCT_SIZE;
    layout.type = PJRT_Buffer_MemoryLayout_Type_Tiled;
    layout.tiled.struct_size = PJRT_Buffer_MemoryLayout_Tiled_STRUCT_SIZE;
    layout.tiled.minor_to_major = minor_to_major;
    layout.tiled.minor_to_major_size = (size_t)type->rank;
    DG_PJRT_ARGS(PJRT_Buffer_ToHostBuffer, args);
    args.src = buffer;
    args.host_layout = &layout;
    args.dst = data;
    args.dst_size = (size_t)dg_type_bytes(type);
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Buffer_ToHostBuffer, args, err));
    return dg_pjrt_await(self, args.event, "copying from the device", err);
}

void dg_pjrt_free(const dg_pjrt *self, PJRT_Buffer *buffer)
{
    if (!buffer) return;
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Buffer_Destroy, args);
    args.buffer = buffer;
    DG_PJRT_CALL(self->api, PJRT_Buffer_Destroy, args, &none);
}

bool dg_pjrt_is_gone(const dg_pjrt *self, PJRT_Buffer *buffer)
{
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Buffer_IsDeleted, args);
    args.buffer = buffer;
    return DG_PJRT_CALL(self->api, PJRT_Buffer_IsDeleted, args, &none) != DG_OK || args.is_deleted;
}
