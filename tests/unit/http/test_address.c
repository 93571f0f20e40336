/* SPDX-License-Identifier: MIT */
#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/text.h"

static bool
is_public(const char *text)
{
    struct sockaddr_storage address = { .ss_family = AF_INET };
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&address, &in, sizeof(in));
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
        memcpy(&address, &in6, sizeof(in6));
    }
    return http_address_is_public((const struct sockaddr *)&address);
}

static void
inside_and_outside(void **state)
{
    static const struct {
        const char *address;
        bool want;
    } cases[] = {
        { "20.190.128.1", true },
        { "9.255.255.255", true },
        { "11.0.0.0", true },
        { "100.63.255.255", true },
        { "100.128.0.0", true },
        { "126.255.255.255", true },
        { "128.0.0.1", true },
        { "169.253.255.255", true },
        { "172.15.255.255", true },
        { "172.32.0.0", true },
        { "192.167.255.255", true },
        { "198.20.0.0", true },
        { "223.255.255.255", true },
        { "0.0.0.0", false },
        { "10.0.0.1", false },
        { "10.255.255.255", false },
        { "100.64.0.1", false },
        { "100.127.255.255", false },
        { "127.0.0.1", false },
        { "127.255.255.254", false },
        { "169.254.169.254", false },
        { "172.16.0.1", false },
        { "172.31.255.255", false },
        { "192.0.0.8", false },
        { "192.168.0.1", false },
        { "198.19.255.255", false },
        { "224.0.0.1", false },
        { "240.0.0.1", false },
        { "255.255.255.255", false },
        { "2603:1030::1", true },
        { "2001:4860::8888", true },
        { "2002:808:808::1", true },
        { "64:ff9b::808:808", true },
        { "::ffff:8.8.8.8", true },
        { "::", false },
        { "::1", false },
        { "::8.8.8.8", false },
        { "::ffff:127.0.0.1", false },
        { "::ffff:10.1.2.3", false },
        { "64:ff9b::a00:1", false },
        { "2002:a00:1::1", false },
        { "2001:db8::1", false },
        { "fc00::1", false },
        { "fdff::1", false },
        { "fe80::1", false },
        { "fec0::1", false },
        { "ff02::1", false },
    };
    const struct sockaddr_un local = { .sun_family = AF_UNIX };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        if (is_public(cases[i].address) != cases[i].want)
            fail_msg("%s", cases[i].address);
    assert_false(http_address_is_public((const struct sockaddr *)&local));
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(inside_and_outside) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
