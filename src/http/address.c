/* SPDX-License-Identifier: MIT */
#include "address.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

struct block4 {
    uint32_t network;
    unsigned bits;
};

#define NET(a, b, c, d)                                                                            \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static const struct block4 not_public4[] = {
    { NET(0, 0, 0, 0), 8 },
    { NET(10, 0, 0, 0), 8 },
    { NET(100, 64, 0, 0), 10 },
    { NET(127, 0, 0, 0), 8 },
    { NET(169, 254, 0, 0), 16 },
    { NET(172, 16, 0, 0), 12 },
    { NET(192, 0, 0, 0), 24 },
    { NET(192, 0, 2, 0), 24 },
    { NET(192, 168, 0, 0), 16 },
    { NET(198, 18, 0, 0), 15 },
    { NET(198, 51, 100, 0), 24 },
    { NET(203, 0, 113, 0), 24 },
    { NET(224, 0, 0, 0), 3 },
};

static bool
is_public4(uint32_t address)
{
    for (size_t i = 0; i < CC_COUNT(not_public4); i++)
        if ((address ^ not_public4[i].network) >> (32 - not_public4[i].bits) == 0)
            return false;
    return true;
}

static uint32_t
read4(const uint8_t *bytes)
{
    return NET(bytes[0], bytes[1], bytes[2], bytes[3]);
}

static bool
is_public6(const uint8_t *bytes)
{
    static const uint8_t zero[12];
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

    if (memcmp(bytes, mapped, sizeof(mapped)) == 0 || memcmp(bytes, nat64, sizeof(nat64)) == 0)
        return is_public4(read4(bytes + 12));
    /* The unspecified one, loopback, and IPv4 in a form long gone (RFC 4291 section 2.5.5.1). */
    if (memcmp(bytes, zero, sizeof(zero)) == 0)
        return false;
    if (bytes[0] == 0x20 && bytes[1] == 0x02) /* 6to4 */
        return is_public4(read4(bytes + 2));
    if (bytes[0] == 0x20 && bytes[1] == 0x01 && bytes[2] == 0x0d && bytes[3] == 0xb8)
        return false;                 /* of documentation */
    return (bytes[0] & 0xe0) == 0x20; /* 2000::/3, the only unicast space given out */
}

bool
http_address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, address, sizeof(in));
        return is_public4(ntohl(in.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, address, sizeof(in6));
        return is_public6(in6.sin6_addr.s6_addr);
    }
    return false;
}
