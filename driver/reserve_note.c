#include "driver/reserve_note.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

/* An array of {"uri", "network", "mac", "hostname"}: one a NIC. */
#define MAX_BYTES (64 * 1024)

static char *file_of(const char *name)
{
    return g_strconcat(MACHINE_RESERVE_PREFIX, name, NULL);
}

/* NULL and an error; without a note: an empty array. */
static json_t *load(MachineHost *host, const char *name, GError **error)
{
    g_autofree char *file = file_of(name);
    g_autoptr(GError) problem = NULL;
    g_autofree char *text =
        base_file_read(host->store->machines_fd, file, MAX_BYTES, NULL, &problem);
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        return json_array();
    }
    json_t *notes = text ? json_loads(text, 0, NULL) : NULL;
    if (problem) {
        g_propagate_error(error, g_steal_pointer(&problem));
    } else if (!json_is_array(notes)) {
        json_decref(notes);
        notes = NULL;
        base_fail(error, VM_ERROR_STATE, "'%s/machines/%s' is damaged", host->store->dir, file);
    }
    return notes;
}

bool machine_reserve_note(MachineHost *host, const char *name, const VirtReservation *reservation,
                          GError **error)
{
    g_autofree char *file = file_of(name);
    json_t *notes = load(host, name, error);
    if (!notes) {
        return false;
    }
    json_array_append_new(notes, json_pack("{s:s, s:s, s:s, s:s}", "uri", host->uri, "network",
                                           reservation->network, "mac", reservation->mac,
                                           "hostname", reservation->hostname));
    char *text = json_dumps(notes, JSON_COMPACT);
    json_decref(notes);
    bool is_ok = text ? base_file_write_atomic(host->store->machines_fd, file, text, strlen(text),
                                               0600, error)
                      : base_fail(error, VM_ERROR_INTERNAL, "cannot note a reservation");
    free(text);
    return is_ok;
}

static bool give_back(MachineHost *host, json_t *note, GError **error)
{
    const char *uri = NULL;
    VirtReservation reservation = {0};
    if (json_unpack(note, "{s:s, s:s, s:s, s:s}", "uri", &uri, "network", &reservation.network,
                    "mac", &reservation.mac, "hostname", &reservation.hostname) != 0) {
        return base_fail(error, VM_ERROR_STATE, "a note of a reservation is damaged");
    }
    VirtConn *conn = machine_host_virt(host, uri, error);
    return conn && virt_network_release(conn, &reservation, error);
}

bool machine_reserve_settle(MachineHost *host, const char *name, GError **error)
{
    json_t *notes = load(host, name, error), *note = NULL;
    size_t i = 0, n = json_array_size(notes);
    bool is_ok = notes;
    json_array_foreach(notes, i, note)
    {
        is_ok = is_ok && give_back(host, note, error);
    }
    json_decref(notes);
    if (n > 0) {
        machine_host_release(host);
    }
    if (is_ok) {
        machine_reserve_forget(host, name);
    }
    return is_ok;
}

void machine_reserve_forget(MachineHost *host, const char *name)
{
    g_autofree char *file = file_of(name);
    unlinkat(host->store->machines_fd, file, 0);
}
