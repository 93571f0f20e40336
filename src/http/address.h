/* SPDX-License-Identifier: MIT */
#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

/*
 * Which addresses are of the internet and which of our own network.  Any thread.
 */

#include <stdbool.h>
#include <sys/socket.h>

/*
 * Whether an address can be somebody's on the internet: neither of this host, of a private network, of one link, of many
 * hosts at once nor reserved (RFC 6890).  IPv4 addresses inside of IPv6 ones count as what they are.
 */
bool http_address_is_public(const struct sockaddr *address);

#endif
