/* client.c - the client of a loaded plugin, and which of its devices the replicas run on. */
#include "pjrt.h"

void dg_pjrt_close_client(dg_pjrt *self)
{
    if (!self->client) return;
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Client_Destroy, args);
    args.client = self->client;
    DG_PJRT_CALL(self->api, PJRT_Client_Destroy, args, &none);
    self->client = NULL;
}

static int device_id(const dg_pjrt *self, PJRT_Device *device)
{
    dg_error none = DG_ERROR_INIT;
    DG_PJRT_ARGS(PJRT_Device_GetDescription, get);
    get.device = device;
    if (DG_PJRT_CALL(self->api, PJRT_Device_GetDescription, get, &none) != DG_OK) return -1;
    DG_PJRT_ARGS(PJRT_DeviceDescription_Id, id);
    id.device_description = get.device_description;
    return DG_PJRT_CALL(self->api, PJRT_DeviceDescription_Id, id, &none) == DG_OK ? id.id : -1;
}

/* Replica r runs where XLA's default assignment puts it, which on a TPU's torus is not simply device r. */
static dg_status place_replicas(dg_pjrt *self, PJRT_Device *const *devices, size_t n, dg_error *err)
{
    int ids[DG_EMIT_MOST_REPLICAS];
    DG_PJRT_ARGS(PJRT_Client_DefaultDeviceAssignment, args);
    args.client = self->client;
    args.num_replicas = (int)self->n_replicas;
    args.num_partitions = 1;
    args.default_assignment_size = self->n_replicas;
    args.default_assignment = ids;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Client_DefaultDeviceAssignment, args, err));
    for (uint32_t r = 0; r < self->n_replicas; r++) {
        for (size_t i = 0; i < n && !self->devices[r]; i++)
            if (device_id(self, devices[i]) == ids[r]) self->devices[r] = devices[i];
        if (!self->devices[r])
            return dg_fail_key(err, DG_ERR_UNSUPPORTED, "backend.replicas",
                               "XLA puts replica %u on device %d, which belongs to another process", r,
                               ids[r]);
    }
    return DG_OK;
}

dg_status dg_pjrt_make_client(dg_pjrt *self, dg_error *err)
{
    /* XLA's CPU plugin makes as many devices of one processor as it is told. */
    PJRT_NamedValue count = {0};
    count.struct_size = PJRT_NamedValue_STRUCT_SIZE;
    count.name = "cpu_device_count";
    count.name_size = strlen(count.name);
    count.type = PJRT_NamedValue_kInt64;
    count.int64_value = self->n_replicas;
    count.value_size = 1;
    DG_PJRT_ARGS(PJRT_Client_Create, create);
    create.create_options = &count;
    create.num_options = strcmp(self->plugin, "cpu") == 0;
    if (DG_PJRT_CALL(self->api, PJRT_Client_Create, create, err) != DG_OK)
        return dg_fail_in(err, "PJRT plugin %s", self->plugin);
    self->client = create.client;
    DG_PJRT_ARGS(PJRT_Client_PlatformName, name);
    name.client = self->client;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Client_PlatformName, name, err));
    snprintf(self->platform, sizeof self->platform, "%.*s", (int)name.platform_name_size, name.platform_name);
    DG_PJRT_ARGS(PJRT_Client_AddressableDevices, devices);
    devices.client = self->client;
    DG_TRY(DG_PJRT_CALL(self->api, PJRT_Client_AddressableDevices, devices, err));
    if (devices.num_addressable_devices == 0)
        return dg_fail(err, DG_ERR_NOT_FOUND,
                       "the PJRT plugin %s works, but has no device that this process can use", self->plugin);
    if (devices.num_addressable_devices < self->n_replicas)
        return dg_fail_key(err, DG_ERR_NOT_FOUND, "backend.replicas",
                           "the PJRT plugin %s has %zu devices for %u replicas", self->plugin,
                           devices.num_addressable_devices, self->n_replicas);
    self->devices[0] = devices.addressable_devices[0];
    if (self->n_replicas == 1) return DG_OK;
    self->devices[0] = NULL;
    return place_replicas(self, devices.addressable_devices, devices.num_addressable_devices, err);
}
