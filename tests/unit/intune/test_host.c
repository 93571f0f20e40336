/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "intune/intune_int.h"

#define SERVICE "PkiConnectorFEService"

static char *microsoft[] = { (char[]){ ".manage.microsoft.com" }, NULL };
static char *own[] = { (char[]){ "localhost" }, (char[]){ "[::1]" }, (char[]){ "10.1.2.3" }, NULL };

/* What a discovery that lies, or was tampered with, may say. */
static void
evil_addresses(void **state)
{
    static const struct {
        const char *uri;
        const char *want; /* NULL: it is good */
    } cases[] = {
        { "https://fef.msua06.manage.microsoft.com/StatelessPkiConnectorService", NULL },
        { "https://manage.microsoft.com", NULL },
        { "https://FEF.Manage.MICROSOFT.com:443/x", NULL },
        { "https://a.manage.microsoft.com:443", NULL },
        { "https://evil.example/x", "allowed-hosts does not have" },
        { "https://evilmanage.microsoft.com/", "allowed-hosts does not have" },
        { "https://manage.microsoft.com.evil.example/", "allowed-hosts does not have" },
        { "https://a.manage.microsoft.com./", "allowed-hosts does not have" },
        { "https://microsoft.com/", "allowed-hosts does not have" },
        { "https://com/", "allowed-hosts does not have" },
        { "https://evil.example/.manage.microsoft.com", "allowed-hosts does not have" },
        { "https://u:p@a.manage.microsoft.com/", "names a user" },
        { "https://a.manage.microsoft.com@evil.example/", "names a user" },
        { "https://a.manage.microsoft.com:443@evil.example/", "names a user" },
        { "https://evil.example\\@a.manage.microsoft.com/", "names a user" },
        { "https://evil.example\\.manage.microsoft.com/", "has no host" },
        { "https://evil.example%2f.manage.microsoft.com/", "has no host" },
        { "https://\xd0\xb5vil.manage.microsoft.com/", "has no host" },
        { "https://evil.example .manage.microsoft.com/", "has no host" },
        { "https://evil.example\t.manage.microsoft.com/", "has no host" },
        { "https:///a.manage.microsoft.com", "has no host" },
        { "https://:443/", "has no host" },
        { "https://", "has no host" },
        { "https://127.0.0.1/", "allowed-hosts does not have" },
        { "https://2130706433/", "allowed-hosts does not have" },
        { "https://[::1]/", "allowed-hosts does not have" },
        { "https://[::1", "allowed-hosts does not have" },
        { "https://a.manage.microsoft.com:8443/", "is not at port 443" },
        { "https://a.manage.microsoft.com:22", "is not at port 443" },
        { "https://a.manage.microsoft.com:0443/", "is not at port 443" },
        { "https://a.manage.microsoft.com:/", "is not at port 443" },
        { "https://a.manage.microsoft.com:443x/", "is not at port 443" },
        { "https://a.manage.microsoft.com:443443/", "is not at port 443" },
        { "http://a.manage.microsoft.com/", "is not https" },
        { "HTTPS://a.manage.microsoft.com/", "is not https" },
        { "file:///etc/passwd", "is not https" },
        { "//a.manage.microsoft.com/", "is not https" },
        { "gopher://a.manage.microsoft.com/", "is not https" },
        { "https://a.manage.microsoft.com/?x=", "is no plain address" },
        { "https://a.manage.microsoft.com/#x", "is no plain address" },
        { "https://a.manage.microsoft.com#@evil.example/", "is no plain address" },
    };
    const struct intune_link link = { .allowed_hosts = microsoft };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        const int rc = intune_check_uri(&link, SERVICE, cases[i].uri, &err);

        if (cases[i].want == NULL ? rc != 0
                                  : rc != -1 || err.domain != CC_DOM_INPUT ||
                                            strstr(err.text, cases[i].want) == NULL ||
                                            strstr(err.text, SERVICE) == NULL)
            fail_msg("%s: %d %s", cases[i].uri, rc, cc_err_text(&err));
    }
}

/* A service of one's own may be anywhere, but still only where it was said to be. */
static void
own_addresses(void **state)
{
    static const struct {
        const char *uri;
        bool want;
    } cases[] = {
        { "https://localhost:8443/x", true },
        { "https://[::1]:8443/x", true },
        { "https://[::1]", true },
        { "https://10.1.2.3:1/x", true },
        { "https://10.1.2.30:1/x", false },
        { "https://110.1.2.3/x", false },
        { "https://[::11]/", false },
        { "https://localhost.evil.example:8443/x", false },
        { "https://localhost:99999999/x", false },
        { "http://localhost/x", false },
    };
    const struct intune_link link = { .allowed_hosts = own, .any_port = true };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        if ((intune_check_uri(&link, SERVICE, cases[i].uri, NULL) == 0) != cases[i].want)
            fail_msg("%s", cases[i].uri);
}

static void
url_hosts(void **state)
{
    static const struct {
        const char *url, *want;
    } cases[] = {
        { "https://graph.example/", "graph.example" },
        { "https://graph.example:8443/x", "graph.example" },
        { "https://graph.example", "graph.example" },
        { "https://[::1]:9/graph/", "[::1]" },
        { "https://127.0.0.1:1", "127.0.0.1" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        size_t len;
        const char *host = intune_url_host(cases[i].url, &len);

        assert_int_equal(len, strlen(cases[i].want));
        assert_memory_equal(host, cases[i].want, len);
    }
}

/* The first of a name counts, however it is spelled; what is too long is nobody's address. */
static void
names_that_come_twice(void **state)
{
    static const char twice[] =
            "{\"value\":[{\"providerName\":\"pkiconnectorFESERVICE\",\"uri\":\"https://first.example/\"},"
            "{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://second.example\"},"
            "{\"providerName\":\"Other\",\"uri\":\"https://other.example\"}]}";
    struct intune_endpoints *found = calloc(1, sizeof(*found));
    char longer[4096];
    char text[8192];
    struct cc_err err = { 0 };
    int len;

    (void)state;
    assert_int_equal(intune_endpoints_read(twice, sizeof(twice) - 1, found, NULL), 0);
    assert_int_equal(found->count, 2);
    assert_string_equal(found->item[0].uri, "https://first.example");
    assert_string_equal(found->item[1].uri, "https://other.example");
    intune_endpoints_clear(found);

    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    len = snprintf(text, sizeof(text),
            "{\"value\":[{\"providerName\":\"" SERVICE
            "\",\"uri\":\"https://%s.manage.microsoft.com/\"}]}",
            longer);
    assert_int_equal(intune_endpoints_read(text, (size_t)len, found, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(found->count, 0);
    free(found);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evil_addresses),
        cmocka_unit_test(own_addresses),
        cmocka_unit_test(url_hosts),
        cmocka_unit_test(names_that_come_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
