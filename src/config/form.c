/* SPDX-License-Identifier: MIT */

/*
 * What forms texts may have.
 *
 * An error here says what the value has to be and never repeats it: what stands where a reference should be may be the
 * secret itself.
 */

#include "config_int.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/text.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

int
config_bad(struct cc_err *err, const char *text)
{
    return cc_err_set(err, CC_DOM_CONFIG, 0, "%s", text);
}

int
config_value_check(const char *value, struct cc_err *err)
{
    if (value[0] == '\0')
        return config_bad(err, "is empty; give it a value or remove the line");
    if (!cc_is_utf8(value, strlen(value)))
        return config_bad(err, "is not UTF-8; save the file as UTF-8");
    for (const char *p = value; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return config_bad(err, "holds a control byte; remove it");
    }
    return 0;
}

static bool
only(const char *value, const char *set)
{
    return value[strspn(value, set)] == '\0';
}

int
config_check_text(const char *value, struct cc_err *err)
{
    if (strlen(value) > 1024)
        return config_bad(err, "is longer than 1024 bytes");
    return 0;
}

int
config_check_name(const char *value, struct cc_err *err)
{
    if (strlen(value) > 64 || !only(value, LETTERS DIGITS ".-_"))
        return config_bad(err, "must be 1 to 64 letters, digits, dots, dashes or underscores");
    return 0;
}

int
config_check_path(const char *value, struct cc_err *err)
{
    if (value[0] != '/')
        return config_bad(err, "must be an absolute path; begin it with /");
    if (strlen(value) >= PATH_MAX)
        return config_bad(err, "is too long for a path");
    return 0;
}

int
config_check_socket(const char *value, struct cc_err *err)
{
    struct sockaddr_un address;

    if (config_check_path(value, err) != 0)
        return -1;
    if (strlen(value) >= sizeof(address.sun_path))
        return config_bad(err, "is too long for a socket's path; use at most 107 bytes");
    return 0;
}

/* What else is wrong with it the store says, which knows the library's options. */
static int
check_postgresql(const char *value, struct cc_err *err)
{
    const char *user = value + strlen("postgresql://");
    size_t user_len = strcspn(user, "@/?");

    if (user[user_len] == '@' && memchr(user, ':', user_len) != NULL)
        return config_bad(err, "must not hold a password; write ?passfile=FILE behind it");
    return 0;
}

int
config_check_state(const char *value, struct cc_err *err)
{
    if (cc_starts_with(value, "postgresql://"))
        return check_postgresql(value, err);
    if (!cc_starts_with(value, "sqlite:/"))
        return config_bad(err, "must be sqlite:/PATH, or postgresql://USER@HOST/DATABASE");
    return config_check_path(value + strlen("sqlite:"), err);
}

static bool
uri_has(const char *uri, const char *attribute)
{
    size_t len = strlen(attribute);

    for (const char *p = strstr(uri, attribute); p != NULL; p = strstr(p + 1, attribute)) {
        if (p[len] == '=' && strchr(":;?&", p[-1]) != NULL)
            return true;
    }
    return false;
}

static int
check_uri(const char *value, struct cc_err *err)
{
    if (!cc_starts_with(value, "pkcs11:"))
        return config_bad(err, "must be a PKCS#11 URI; begin it with pkcs11:");
    if (!only(value, LETTERS DIGITS "-._~:;[]@!$'()*+,=&/?%"))
        return config_bad(err,
                "holds a byte that a PKCS#11 URI cannot; write it as %XX (RFC 7512)");
    if (uri_has(value, "pin-value") || uri_has(value, "pin-source"))
        return config_bad(err, "must not name a PIN; use [token] pin = file:PATH");
    return 0;
}

int
config_check_token_uri(const char *value, struct cc_err *err)
{
    static const char *const attributes[] = { "token", "serial", "manufacturer", "model" };

    if (check_uri(value, err) != 0)
        return -1;
    for (size_t i = 0; i < CC_COUNT(attributes); i++) {
        if (uri_has(value, attributes[i]))
            return 0;
    }
    return config_bad(err, "names no token; add token=LABEL");
}

int
config_check_key_uri(const char *value, struct cc_err *err)
{
    if (check_uri(value, err) != 0)
        return -1;
    if (!uri_has(value, "object") && !uri_has(value, "id"))
        return config_bad(err, "names no key; add object=LABEL or id=%XX");
    return 0;
}

int
config_check_reference(const char *value, struct cc_err *err)
{
    if (cc_secret_check_reference(value, NULL) != 0)
        return config_bad(err,
                "must be a reference, as secrets do not stand in this file; write file:PATH or "
                "credential:NAME");
    return 0;
}

static bool
is_port(const char *text, size_t len)
{
    long port = 0;

    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (text[i] - '0');
    }
    return port >= 1 && port <= 65535;
}

/* host, host:port, [address] or [address]:port, up to the first slash; returns where it ends, NULL when it is none. */
static const char *
host_end(const char *text)
{
    size_t host = text[0] == '[' ? strspn(text + 1, DIGITS "abcdefABCDEF:.") + 1
                                 : strspn(text, LETTERS DIGITS ".-");
    const char *p = text + host;
    size_t port;

    if (text[0] == '[' && *p++ != ']')
        return NULL;
    if (p == text)
        return NULL;
    if (*p == ':') {
        port = strcspn(p + 1, "/");
        if (!is_port(p + 1, port))
            return NULL;
        p += port + 1;
    }
    return *p == '\0' || *p == '/' ? p : NULL;
}

static const char *
url_rest(const char *value)
{
    if (cc_starts_with(value, "https://"))
        return host_end(value + strlen("https://"));
    if (cc_starts_with(value, "http://"))
        return host_end(value + strlen("http://"));
    return NULL;
}

int
config_check_url(const char *value, struct cc_err *err)
{
    const char *rest = url_rest(value);

    if (rest == NULL || !only(rest, LETTERS DIGITS "/-._~%"))
        return config_bad(err,
                "must be a URL without user name, query and fragment, https://HOST/");
    return 0;
}

int
config_check_proxy(const char *value, struct cc_err *err)
{
    const char *rest = url_rest(value);

    if (strcmp(value, "none") == 0)
        return 0;
    if (rest == NULL || (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0))
        return config_bad(err,
                "must be http://HOST:PORT or https://HOST:PORT, without user name or password "
                "(they have keys of their own), or none");
    return 0;
}

/* Basic authentication has a colon behind it (RFC 7617 section 2). */
int
config_check_proxy_user(const char *value, struct cc_err *err)
{
    if (strchr(value, ':') != NULL)
        return config_bad(err, "must be a user name, in which no colon can be");
    return 0;
}

/* A host, or the end of the names of hosts. */
int
config_check_host(const char *value, struct cc_err *err)
{
    const char *end = value[0] == '\0' ? NULL : host_end(value);

    if (end == NULL || *end != '\0' || (value[0] != '[' && strchr(value, ':') != NULL) ||
            (value[0] == '[' && end[-1] != ']'))
        return config_bad(err, "must be a host or the end of the names of hosts, without port: "
                               "manage.microsoft.com");
    return 0;
}

int
config_check_uuid(const char *value, struct cc_err *err)
{
    if (!cc_is_uuid(value))
        return config_bad(err, "must be a UUID, 11111111-2222-3333-4444-555555555555");
    return 0;
}

int
config_check_date(const char *value, struct cc_err *err)
{
    char time[CC_TIME_LEN];
    int64_t ms;

    if (strlen(value) != strlen("2027-01-31") ||
            snprintf(time, sizeof(time), "%sT00:00:00Z", value) < 0 ||
            cc_time_parse(time, &ms, NULL) != 0)
        return config_bad(err, "must be a day, YEAR-MONTH-DAY as in 2027-01-31");
    return 0;
}

int
config_check_tenant(const char *value, struct cc_err *err)
{
    if (strlen(value) > 253 || !only(value, LETTERS DIGITS ".-"))
        return config_bad(err, "must be the tenant's domain name or UUID");
    return 0;
}

int
config_check_alias(const char *value, struct cc_err *err)
{
    const char *slash = strchr(value, '/');

    if (slash == NULL || slash == value || slash[1] == '\0')
        return config_bad(err, "an alias must be PROVIDER/KEY, the names that uploads carry");
    return config_check_text(value, err);
}

/*
 * A URL that goes into certificates: distribution points of CRLs and of issuers' certificates (RFC 5280 sections
 * 4.2.1.13 and 4.2.2.1).  An LDAP URL may leave out the host and has a query (RFC 4516).
 */
int
config_check_pointer(const char *value, struct cc_err *err)
{
    const char *rest;

    if (cc_starts_with(value, "ldap:///"))
        rest = value + strlen("ldap://");
    else if (cc_starts_with(value, "ldap://"))
        rest = host_end(value + strlen("ldap://"));
    else
        rest = url_rest(value);
    if (rest == NULL || strlen(value) > 1024 || !only(rest, LETTERS DIGITS "/-._~%!$&'()*+;=:@?"))
        return config_bad(err,
                "must be a URL that begins with http://, https:// or ldap://; a comma in it is "
                "written %2C");
    return 0;
}

int
config_check_ocsp_url(const char *value, struct cc_err *err)
{
    if (cc_starts_with(value, "ldap:") || config_check_pointer(value, NULL) != 0)
        return config_bad(err, "must be a URL that begins with http:// or https://");
    return 0;
}

/* One arc of an OID: no leading zero, at most max when that is not 0. */
static bool
is_arc(const char *text, size_t len, unsigned max)
{
    unsigned value = 0;

    if (len == 0 || (len > 1 && text[0] == '0') || strspn(text, DIGITS) < len)
        return false;
    for (size_t i = 0; i < len && max > 0 && value <= max; i++)
        value = value * 10 + (unsigned)(text[i] - '0');
    return value <= max || max == 0;
}

/* X.660: the first arc is 0, 1 or 2; below 0 and 1, the second is less than 40. */
static bool
is_oid(const char *value)
{
    const char *p = value;
    size_t arcs = 0;

    for (;;) {
        size_t len = strcspn(p, ".");
        unsigned max = arcs == 0 ? 2 : arcs == 1 && value[0] != '2' ? 39 : 0;

        if (!is_arc(p, len, max))
            return false;
        arcs++;
        if (p[len] == '\0')
            return arcs >= 2;
        p += len + 1;
    }
}

int
config_check_oid(const char *value, struct cc_err *err)
{
    if (strlen(value) > 128 || !is_oid(value))
        return config_bad(err,
                "must be an OID as numbers with dots between them, 1.3.6.1.4.1.311.1");
    return 0;
}

int
config_check_attribute(const char *value, struct cc_err *err)
{
    if (strlen(value) > 64 || !only(value, LETTERS DIGITS "."))
        return config_bad(err, "must be an attribute's short name or OID, CN or 2.5.4.3");
    return 0;
}

int
config_check_domain(const char *value, struct cc_err *err)
{
    size_t len = strlen(value);

    if (len > 253 || !only(value, LETTERS DIGITS ".-") || value[0] == '.' ||
            value[len - 1] == '.' || strstr(value, "..") != NULL)
        return config_bad(err, "must be a domain without a dot at its ends, contoso.example");
    return 0;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT"; port 0 is any free one. */
static bool
is_socket_address(const char *value)
{
    bool v6 = value[0] == '[';
    const char *end = v6 ? strchr(value, ']') : strchr(value, ':');
    char host[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t len;

    if (end == NULL)
        return false;
    value += v6 ? 1 : 0;
    len = (size_t)(end - value);
    end += v6 ? 1 : 0;
    if (len >= sizeof(host) || *end != ':')
        return false;
    memcpy(host, value, len);
    host[len] = '\0';
    if (inet_pton(v6 ? AF_INET6 : AF_INET, host, &address) != 1)
        return false;
    return strcmp(end, ":0") == 0 || is_port(end + 1, strlen(end + 1));
}

int
config_check_listen(const char *value, struct cc_err *err)
{
    if (cc_starts_with(value, "unix:"))
        return config_check_socket(value + strlen("unix:"), err);
    if (!is_socket_address(value))
        return config_bad(err,
                "must be an address and port, 127.0.0.1:8081 or [::1]:8081, or unix:/PATH");
    return 0;
}

int
config_check_url_path(const char *value, struct cc_err *err)
{
    const size_t len = strlen(value);

    if (value[0] != '/' || len < 2 || len > 128 || value[len - 1] == '/' ||
            strstr(value, "//") != NULL || strstr(value, "/.") != NULL ||
            !only(value, LETTERS DIGITS "/-._~"))
        return config_bad(err,
                "must be the path of a URL, begun with / and not ended with it; as in /scep");
    return 0;
}
