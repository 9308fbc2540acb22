#pragma once
/* A machine as people describe it, by hand: for tests and the benchmark. */
#include "cloudinit/seed.h"

#include <string.h>

#define TYPICAL_KEY                                                                                \
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJi0WTMn4XzmjZWJJ4UJfxhE6fC6TR6zsyLqmjHbVBkK me@home"
#define TYPICAL_USER_DATA "#cloud-config\npackage_update: false\nruncmd:\n  - echo hello\n"
#define TYPICAL_HASH                                                                               \
    "$6$saltstring$"                                                                               \
    "IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g."

typedef struct {
    MachineSpec spec;
    SpecWriteFile file;
    SeedNic nic;
    SeedKeyPair host_key;
    const char *keys[2];
    SeedInput input;
} Typical;

static inline GPtrArray *typical_list(const char *item)
{
    GPtrArray *list = g_ptr_array_new();
    g_ptr_array_add(list, (char *)item);
    return list;
}

static inline SpecText typical_text(const char *text)
{
    return (SpecText){
        .text = (char *)text, .n_bytes = text ? strlen(text) : 0, .pos = {.line = 1, .col = 1}};
}

static inline void typical_init(Typical *t)
{
    *t = (Typical){
        .spec = {.name = (char *)"web",
                 .user = (char *)"ops",
                 .timezone = (char *)"Europe/Berlin",
                 .locale = (char *)"C.UTF-8",
                 .packages = typical_list("nginx"),
                 .run = typical_list("systemctl enable --now nginx"),
                 .ca_certs =
                     typical_list("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
                 .cloud_init = {.user_data = typical_text(TYPICAL_USER_DATA)}},
        .file = {.path = (char *)"/etc/motd", .content = (char *)"Hello\nfrom outside\n"},
        .nic = {.mac = "52:54:00:12:34:56", .is_dhcp4 = true},
        .host_key = {.private_openssh =
                         (char *)"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH "
                                 "PRIVATE KEY-----\n",
                     .public_line = (char *)TYPICAL_KEY},
        .keys = {TYPICAL_KEY, NULL},
    };
    t->spec.write_files = typical_list((const char *)&t->file);
    t->input = (SeedInput){.spec = &t->spec,
                           .instance_id = "11111111-2222-3333-4444-555555555555",
                           .public_keys = t->keys,
                           .host_key = &t->host_key,
                           .password_hash = TYPICAL_HASH,
                           .nics = &t->nic,
                           .n_nics = 1,
                           .has_status_port = true};
}

static inline void typical_clear(Typical *t)
{
    g_ptr_array_unref(t->spec.packages);
    g_ptr_array_unref(t->spec.run);
    g_ptr_array_unref(t->spec.ca_certs);
    g_ptr_array_unref(t->spec.write_files);
}
