#pragma once

/*
 * The mark that a domain is ours: <metadata><vm:owner xmlns:vm="...">STATE DIR\nFULL
 * ID</vm:owner></metadata>. Written by driver/domain_xml.c, read by driver/libvirt/.
 */
#define DOMAIN_NS_URI     "https://vm-driver.invalid/xmlns/1"
#define DOMAIN_NS_PREFIX  "vm"
#define DOMAIN_NS_ELEMENT "owner"
