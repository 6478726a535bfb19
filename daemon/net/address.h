/* daemon/net/address.h — HOST:PORT or [V6]:PORT to sockets. All sockets are non-blocking and close-on-exec. */
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "proto/base/check.h"

#define ADDRESS_TEXT_BYTES 80

/* -EINVAL: no such address; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES … */
MUST_USE int address_listen(const char *address, int *ret_fd);
/* Begins to connect; the socket becomes writable when done (address_connected). -EINVAL; -EHOSTUNREACH, -ENETUNREACH.
 * A name that is not numeric is resolved, which may take as long as the resolver takes. */
MUST_USE int address_connect(const char *address, int *ret_fd);
/* 0, or why the connection could not be made. */
MUST_USE int address_connected(int fd);
/* Numeric address of the other end, without its port. */
void address_of_peer(int fd, char ret_text[static ADDRESS_TEXT_BYTES]);
uint16_t address_port(int fd);
/* What every connection of ours wants: no delay, little unsent data in the kernel. */
void address_tune(int fd);
