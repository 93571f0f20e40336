/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "intune/probe.h"
#include "service.h"

#define CLOCK_ERROR_MS (INT64_C(5) * 60 * 1000) /* Entra ID and others refuse what is further off */
#define CLOCK_WARNING_MS (INT64_C(30) * 1000)

/* ---- the way to a server ---- */

/* "https://HOST:PORT/" of a URL; false: it does not fit. */
static bool
origin_of(const char *url, char *ret, size_t size)
{
    const char *host = strstr(url, "://");
    size_t len;

    if (host == NULL)
        return false;
    len = (size_t)(host - url) + 3 + strcspn(host + 3, "/");
    return (size_t)snprintf(ret, size, "%.*s/", (int)len, url) < size;
}

static const struct check_place *
find_place(const struct check *c, const char *origin)
{
    for (size_t i = 0; i < c->place_count; i++)
        if (strcmp(c->places[i].origin, origin) == 0)
            return &c->places[i];
    return NULL;
}

static void
say_proxy(struct check *c, const struct http_probe *probe)
{
    const char *proxy = c->config->service.proxy;
    struct upkeep_finding *f;

    if (probe->proxy_status == HTTP_PROXY_WANTS_USER) {
        f = check_say(c, "proxy-password", UPKEEP_ERROR, "the proxy %s wants a name and a password",
                proxy);
        upkeep_cause(f, "it answered 407: %s", cc_err_text(&probe->err));
        upkeep_cure(f, "%s",
                c->config->service.proxy_user == NULL
                        ? "set [service] proxy-user and proxy-password, or have the proxy let this machine through without"
                        : "correct [service] proxy-user, or the file that [service] proxy-password names");
    } else if (probe->proxy_status != 0) {
        f = check_say(c, "proxy", UPKEEP_ERROR, "the proxy %s does not let the connector through",
                proxy);
        upkeep_cause(f, "it answered %ld: %s", probe->proxy_status, cc_err_text(&probe->err));
        upkeep_cure(f, "have the proxy allow CONNECT to the service's hosts, port 443");
    } else if (probe->proxy_verify_code != X509_V_OK) {
        f = check_say(c, "proxy-tls", UPKEEP_ERROR, "there is no TLS with the proxy %s", proxy);
        upkeep_cause(f, "%s", cc_err_text(&probe->err));
        upkeep_cure(f,
                "put the CA of the proxy's certificate into the file of [service] ca-file, and name the proxy as the "
                "certificate does; where it speaks no TLS, begin [service] proxy with http://");
    } else {
        f = check_say(c, "proxy", UPKEEP_ERROR, "the proxy %s cannot be reached", proxy);
        upkeep_cause(f, "%s", cc_err_text(&probe->err));
        upkeep_cure(f,
                "correct [service] proxy, remove it where there is none, or start the proxy");
    }
}

static void
say_certificate(struct check *c, const char *origin, const struct http_probe *probe)
{
    struct upkeep_finding *f;

    switch (probe->obstacle) {
    case HTTP_OBSTACLE_EXPIRED:
        f = check_say(c, "tls-expired", UPKEEP_ERROR, "the certificate of %s is not valid today",
                origin);
        upkeep_cause(f, "%s; it ends %s: %s", probe->subject, probe->not_after,
                X509_verify_cert_error_string(probe->verify_code));
        upkeep_cure(f,
                "see that this machine's clock is right (the check \"clock\" says); if it is, who runs the server, or the "
                "proxy that opens TLS, must renew the certificate");
        return;
    case HTTP_OBSTACLE_HOST:
        f = check_say(c, "tls-name", UPKEEP_ERROR, "the certificate of %s is of another host",
                origin);
        upkeep_cause(f, "%s: %s", probe->subject, cc_err_text(&probe->err));
        upkeep_cure(f,
                "name the host as its certificate does, in [service]; where a proxy opens TLS, exempt the service's "
                "hosts from that");
        return;
    default:
        f = check_say(c, "tls-trust", UPKEEP_ERROR,
                "the certificate of %s is of a CA that is not trusted", origin);
        upkeep_cause(f, "it is signed by %s: %s",
                probe->issuer[0] != '\0' ? probe->issuer : "somebody unknown",
                cc_err_text(&probe->err));
        upkeep_cure(f,
                "if that CA is the right one (your organisation's proxy, or your own service), put its certificate into "
                "the file of [service] ca-file; else install or update ca-certificates");
        return;
    }
}

static void
say_obstacle(struct check *c, const char *origin, const struct http_probe *probe)
{
    struct upkeep_finding *f;

    switch (probe->obstacle) {
    case HTTP_OBSTACLE_NONE:
        check_say(c, "way", UPKEEP_OK, "%s answers%s", origin,
                c->config->service.proxy != NULL ? ", the proxy between" : "");
        return;
    case HTTP_OBSTACLE_PROXY_NAME:
    case HTTP_OBSTACLE_PROXY:
        say_proxy(c, probe);
        return;
    case HTTP_OBSTACLE_NAME:
        f = check_say(c, "dns", UPKEEP_ERROR, "the name of %s is unknown", origin);
        upkeep_cause(f, "%s", cc_err_text(&probe->err));
        upkeep_cure(f,
                "correct the host in [service], or the machine's resolver (/etc/resolv.conf); where only a proxy knows "
                "the world, set [service] proxy");
        return;
    case HTTP_OBSTACLE_TRUST:
    case HTTP_OBSTACLE_EXPIRED:
    case HTTP_OBSTACLE_HOST:
        say_certificate(c, origin, probe);
        return;
    case HTTP_OBSTACLE_CONNECT:
    case HTTP_OBSTACLE_TIMEOUT:
        f = check_say(c, "connect", UPKEEP_ERROR, "%s cannot be reached", origin);
        upkeep_cause(f, "%s", cc_err_text(&probe->err));
        upkeep_cure(f,
                "open the firewall for it, set [service] proxy where there is one, or correct the address in [service]");
        return;
    case HTTP_OBSTACLE_TLS:
    case HTTP_OBSTACLE_OTHER:
        break;
    }
    f = check_say(c, "tls", UPKEEP_ERROR, "no TLS connection to %s comes about", origin);
    upkeep_cause(f, "%s", cc_err_text(&probe->err));
    upkeep_cure(f,
            "TLS 1.2 at least must be spoken there: correct the address in [service], or exempt the host from what opens "
            "TLS on the way");
}

/* What all servers meet, the proxy, is said once. */
static bool
is_said(const struct check *c, const struct http_probe *probe)
{
    const bool proxy =
            probe->obstacle == HTTP_OBSTACLE_PROXY || probe->obstacle == HTTP_OBSTACLE_PROXY_NAME;

    for (size_t i = 0; proxy && i < c->place_count; i++)
        if (c->places[i].probe.obstacle == probe->obstacle)
            return true;
    return false;
}

/* Each server once; its place, or NULL. */
static const struct check_place *
visit(struct check *c, const char *url)
{
    struct http_probe_settings settings = {
        .proxy = c->config->service.proxy,
        .proxy_user = c->config->service.proxy_user,
        .proxy_password = c->config->service.proxy_password,
        .no_proxy = c->config->service.no_proxy,
        .ca_file = c->config->service.ca_file,
        .timeout_ms = CHECK_NETWORK_MS / 2,
    };
    struct check_place *place;
    const struct check_place *known;
    struct check_place new_place;
    struct cc_err err = { 0 };

    if (url == NULL || !origin_of(url, new_place.origin, sizeof(new_place.origin)))
        return NULL;
    if ((known = find_place(c, new_place.origin)) != NULL)
        return known;
    if (c->place_count == CHECK_PLACES_MAX)
        return NULL;
    if (c->places == NULL && (c->places = calloc(CHECK_PLACES_MAX, sizeof(*c->places))) == NULL) {
        c->no_memory = true;
        return NULL;
    }
    settings.url = new_place.origin;
    if (http_probe(&settings, &new_place.probe, &err) != 0) {
        upkeep_cause(check_say(c, "way", UPKEEP_ERROR, "%s cannot be looked at", new_place.origin),
                "%s", cc_err_text(&err));
        return NULL;
    }
    if (!is_said(c, &new_place.probe))
        say_obstacle(c, new_place.origin, &new_place.probe);
    place = &c->places[c->place_count++];
    *place = new_place;
    return place;
}

static bool
is_reached(const struct check_place *place)
{
    return place != NULL && place->probe.obstacle == HTTP_OBSTACLE_NONE;
}

/* Where the daemon alone can do it, and none runs that could be asked. */
static void
say_of_unit(struct check *c, const char *check, const char *what, const char *setting)
{
    struct upkeep_finding *f = check_say(c, check, UPKEEP_WARNING, "%s: not tried", what);

    upkeep_cause(f, "%s is a credential that systemd gives to the service alone", setting);
    upkeep_cure(f, "start the daemon, then check again: it is asked");
}

/* The way through a proxy whose password the daemon alone has. */
static void
ask_way(struct check *c)
{
    if (strcmp(check_text(check_object(c->status, "service"), "contact"), "ok") == 0)
        check_say(c, "way", UPKEEP_OK,
                "the daemon is in contact with the service, the proxy between");
    else
        say_of_unit(c, "way", "the way to the service", "[service] proxy-password");
}

void
check_way(struct check *c)
{
    const struct check_place *authority, *graph;

    if (c->config->connector.features == 0)
        return;
    if (cli_is_of_unit(c->config->service.proxy_password)) {
        ask_way(c);
        return;
    }
    /* The address of the resource names it in tokens; nothing need answer there. */
    authority = visit(c, c->config->service.authority);
    graph = visit(c, c->config->service.graph);
    c->service_reached = is_reached(authority) && is_reached(graph);
}

/* ---- clock ---- */

static void
say_clock(struct check *c, const struct check_place *place)
{
    const int64_t limit = c->config->service.max_clock_skew_ms; /* 0: none */
    const int64_t ahead = place->probe.seen_ms - place->probe.date_ms;
    const int64_t off = ahead < 0 ? -ahead : ahead;
    const bool stops = limit != 0 && off > limit;
    struct upkeep_finding *f;

    if (off < CLOCK_WARNING_MS && !stops) {
        check_say(c, "clock", UPKEEP_OK, "the clock agrees with that of %s", place->origin);
        return;
    }
    f = check_say(c, "clock", stops || off >= CLOCK_ERROR_MS ? UPKEEP_ERROR : UPKEEP_WARNING,
            "the clock is %" PRId64 " s %s that of %s", off / 1000,
            ahead > 0 ? "ahead of" : "behind", place->origin);
    upkeep_cause(f,
            "nothing sets it, or it is set by a server that is wrong: sign-in, certificates and leases go by it%s",
            stops ? "; beyond [service] max-clock-skew the built-in CAs issue nothing" : "");
    upkeep_cure(f, "have the clock set by NTP (timedatectl shows whether it is)");
    UPKEEP_COMMAND(f, "timedatectl", "set-ntp", "true");
}

void
check_clock(struct check *c)
{
    for (size_t i = 0; i < c->place_count; i++)
        if (c->places[i].probe.date_ms != 0) {
            say_clock(c, &c->places[i]);
            return;
        }
}

/* ---- sign-in ---- */

/* Entra ID's numbers, and what an administrator does about them. */
static const struct refusal {
    long number;
    const char *check, *what, *cure;
} refusals[] = {
    { 90002, "tenant", "the tenant is unknown",
            "correct [service] tenant: the domain name or the id of the tenant, and [service] cloud where it is not in the public "
            "one" },
    { 900023, "tenant", "the tenant is unknown",
            "correct [service] tenant: the domain name or the id of the tenant" },
    { 700016, "client-id", "the application is not in the tenant",
            "correct [service] client-id to the application (client) id of the app registration, or [service] tenant to where it "
            "is registered" },
    { 7000215, "client-secret", "the client secret is wrong",
            "put the secret's value, not its id, into the file of [service] client-secret" },
    { 7000222, "client-secret-expired", "the client secret has expired",
            "make a new one in Entra ID (App registrations, Certificates & secrets), put its value into the file of [service] "
            "client-secret, and its end into client-secret-expires" },
    { 7000112, "client-disabled", "the application is disabled",
            "enable it in Entra ID (Enterprise applications, Properties)" },
    { 700027, "client-certificate",
            "the certificate that the connector signs in with is not the application's",
            "upload the certificate of the identity key to the app registration (Certificates & secrets)" },
    { 700024, "clock", "the connector's assertion is not of now",
            "set this machine's clock right, as with timedatectl set-ntp true" },
    { 500011, "resource", "the tenant does not know the service",
            "correct [service] resource, or see that the tenant is licensed for the service" },
    { 53003, "conditional-access", "conditional access forbids it",
            "have the application exempted, or this machine's address allowed, in Entra ID's conditional access" },
};

static const struct refusal *
find_refusal(long number)
{
    for (size_t i = 0; i < CC_COUNT(refusals); i++)
        if (refusals[i].number == number)
            return &refusals[i];
    return NULL;
}

static void
say_sign_in(struct check *c, long number, const struct cc_err *err)
{
    const struct refusal *refusal = find_refusal(number);
    struct upkeep_finding *f;

    if (refusal != NULL)
        f = check_say(c, refusal->check, UPKEEP_ERROR, "signing in fails: %s", refusal->what);
    else
        f = check_say(c, "sign-in", UPKEEP_ERROR, "signing in fails");
    upkeep_cause(f, "%s", cc_err_text(err));
    if (refusal != NULL)
        upkeep_cure(f, "%s", refusal->cure);
    else
        upkeep_cure(f,
                "look the number behind AADSTS up at login.microsoftonline.com/error, where there is one, and see that "
                "tenant, client-id and client-secret are those of the app registration");
}

static int
open_service(struct check *c, struct cc_err *err)
{
    struct intune_settings settings;

    if (cli_service_settings(c->config, c->hsm, &settings, err) != 0)
        return -1;
    if (settings.timeout_ms > CHECK_NETWORK_MS)
        settings.timeout_ms = CHECK_NETWORK_MS;
    settings.attempts = 1;
    return intune_open(&settings, &c->intune, err);
}

void
check_client(struct check *c)
{
    const struct check_certificate file = {
        .check = "client-certificate",
        .check_expired = "client-certificate-expired",
        .check_key = "client-certificate-key",
        .what = "the certificate to sign in with",
        .path = c->config->service.client_certificate,
        .setting = "[service] client-certificate",
        .role = HSM_ROLE_IDENTITY,
        .uri = c->config->service.client_key,
        .when_expired =
                "Entra ID takes no assertion of it any more; the new one has to be registered with the application, too",
        .when_of_another =
                "what this key signs does not verify with the certificate that the application has",
    };

    check_certificate(c, &file);
}

/* It is enrolled, renewed and enrolled anew by the daemon; what it cannot put right itself is another key. */
void
check_identity(struct check *c)
{
    struct cc_buf path = CC_BUF_INIT(PATH_MAX);
    struct check_certificate file = {
        .check = "identity",
        .check_expired = "identity-expired",
        .check_key = "identity-key",
        .what = "the identity certificate",
        .setting = "the state directory",
        .role = HSM_ROLE_IDENTITY,
        .uri = config_key(c->config, hsm_role_name(HSM_ROLE_IDENTITY)),
        .other_uri = config_key(c->config, "identity-next"),
        .when_expired =
                "it was not renewed in time: the daemon did not run, or its log says why not",
        .when_of_another =
                "the service takes connections with this certificate from who has its key alone",
    };

    if (config_identity_path(c->config->connector.state_directory, c->config->connector.name, &path,
                NULL) == 0) {
        file.path = cc_buf_str(&path);
        if (access(file.path, F_OK) == 0)
            check_certificate(c, &file);
    }
    cc_buf_free(&path);
}

/* What signs in, or the way to it, is the running daemon's. */
static void
ask_sign_in(struct check *c)
{
    json_object *service = check_object(c->status, "service");
    const char *contact = check_text(service, "contact"), *why = check_text(service, "lastError");
    struct upkeep_finding *f;

    if (strcmp(contact, "ok") == 0) {
        check_say(c, "sign-in", UPKEEP_OK, "the daemon is signed in%s",
                cli_service_signs_with_token(c->config) ? ", with its certificate" : "");
        return;
    }
    f = check_say(c, "sign-in", UPKEEP_ERROR, "the daemon is not in contact with the service: %s",
            contact);
    upkeep_cause(f, "%s", why[0] != '\0' ? why : "it has not tried yet, or does not say why");
    if (cli_service_needs_credential(c->config))
        upkeep_cure(f,
                "correct in [service], or in what the unit's credentials hold, what this names, and restart the daemon");
    else
        upkeep_cure(f,
                "stop the daemon and check again: then signing in is tried from here, and what is wrong is told in detail");
}

/* Whether it cannot be tried from here; then all there is to say is said. */
static bool
is_daemons(struct check *c)
{
    const bool with_token = cli_service_signs_with_token(c->config);
    const bool of_unit = cli_service_needs_credential(c->config);

    if (!of_unit && (c->hsm != NULL || !with_token))
        return false;
    if (c->status != NULL)
        ask_sign_in(c);
    else if (of_unit)
        say_of_unit(c, "sign-in", "signing in",
                cli_is_of_unit(c->config->service.proxy_password) ? "[service] proxy-password"
                : with_token                                      ? "[token] pin"
                                                                  : "[service] client-secret");
    else
        check_not_tried(c, "sign-in", "signing in", "the token, whose key signs in, is not open");
    return true;
}

void
check_sign_in(struct check *c)
{
    static const struct {
        enum intune_audience audience;
        const char *name;
    } audiences[] = {
        { INTUNE_AUDIENCE_GRAPH, "Graph" },
        { INTUNE_AUDIENCE_SERVICE, "the service" },
    };
    struct cc_err err = { 0 };
    long number = 0;

    if (c->config->connector.features == 0)
        return;
    if (!c->service_reached && !cli_is_of_unit(c->config->service.proxy_password)) {
        check_not_tried(c, "sign-in", "signing in", "the way to the service is not free");
        return;
    }
    if (is_daemons(c))
        return;
    if (open_service(c, &err) != 0) {
        say_sign_in(c, 0, &err);
        return;
    }
    for (size_t i = 0; i < CC_COUNT(audiences); i++) {
        if (intune_probe_sign_in(c->intune, audiences[i].audience, &number, &err) != 0) {
            say_sign_in(c, number, &err);
            intune_close(c->intune);
            c->intune = NULL;
            return;
        }
        check_say(c, "sign-in", UPKEEP_OK, "signed in for %s as %s", audiences[i].name,
                c->config->service.client_id);
    }
}

/* ---- discovery ---- */

static void
say_undiscovered(struct check *c, const char *provider, const struct cc_err *err)
{
    const bool http = err->domain == CC_DOM_HTTP;
    struct upkeep_finding *f;

    if (http && (err->code == 401 || err->code == 403)) {
        f = check_say(c, "graph-permission", UPKEEP_ERROR,
                "Graph does not tell the application where the service is");
        upkeep_cause(f, "%s", cc_err_text(err));
        upkeep_cure(f,
                "give the application the permission Application.Read.All of Microsoft Graph (kind: application), and "
                "grant it for the tenant (admin consent)");
    } else if (http && err->code == 404) {
        f = check_say(c, "service-missing", UPKEEP_ERROR, "the tenant has no service %s", provider);
        upkeep_cause(f, "%s", cc_err_text(err));
        upkeep_cure(f,
                "see that the tenant is licensed for Intune, and that [service] intune-app-id and graph are those of its "
                "cloud; or take the features that need it out of [connector] features");
    } else {
        f = check_say(c, "discovery", UPKEEP_ERROR, "where %s is cannot be found out", provider);
        upkeep_cause(f, "%s", cc_err_text(err));
        upkeep_cure(f, "check again; if it stays, [service] graph and graph-version may be wrong");
    }
}

/* Nothing is asked of it: a request that is taken in passing would wait for its lease to end. */
static void
discover(struct check *c, const char *provider)
{
    struct cc_buf url = CC_BUF_INIT(2048);
    struct cc_err err = { 0 };

    if (intune_probe_endpoint(c->intune, provider, &url, &err) != 0) {
        say_undiscovered(c, provider, &err);
    } else {
        check_say(c, "discovery", UPKEEP_OK, "%s is at %s", provider, cc_buf_str(&url));
        (void)visit(c, cc_buf_str(&url));
    }
    cc_buf_free(&url);
}

void
check_discovery(struct check *c)
{
    const unsigned features = c->config->connector.features;

    if (c->intune == NULL)
        return;
    if ((features & (CONFIG_PKCS | CONFIG_PFX_IMPORT | CONFIG_REVOCATION)) != 0)
        discover(c, INTUNE_PROVIDER_CONNECTOR);
    if ((features & CONFIG_SCEP) != 0)
        discover(c, INTUNE_PROVIDER_SCEP);
}
