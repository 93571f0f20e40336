/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <string.h>

#include "base/text.h"

const char options_help[] =
        "usage: certconnector-tenant --state URI [option]...\n"
        "\n"
        "The stand-in service: sign-in, discovery, imported PFX, queues of work for connectors,\n"
        "certificates to be revoked.\n"
        "\n"
        "  --listen ADDRESS:PORT      where to listen (127.0.0.1:8443; port 0: any free one)\n"
        "  --state URI                where to keep what is durable: sqlite:PATH\n"
        "                             or postgresql://USER@HOST/DATABASE\n"
        "  --tls-certificate FILE     PEM chain; with --tls-key. Without: plain HTTP\n"
        "  --tls-key FILE             PEM private key\n"
        "  --tenant NAME              the tenant's domain (contoso.example)\n"
        "  --public-url URL           as clients reach the service (else from their Host header)\n"
        "  --ready-file FILE          written when listening, with the port\n"
        "  --client-id ID             a client that may sign in, with one of the next two or both.\n"
        "                             Without: one is made at first start, its secret written beside\n"
        "                             the state\n"
        "  --client-secret-file FILE  its secret\n"
        "  --client-certificate FILE  certificate, PEM or DER, of the RSA key that signs its assertions\n"
        "  --admin-token-file FILE    the token for /admin/api: read, or made and written at first\n"
        "                             start (default: admin.token beside the state)\n"
        "  --lease-seconds N          how long a request is leased (300)\n"
        "  --retry-delay-ms N         until a failed request is offered again (30000)\n"
        "  --max-attempts N           failures after which a request has failed for good (5)\n"
        "  --revocation-cool-down N   seconds from one download of certificates to be revoked to the\n"
        "                             next that gets any (3600)\n"
        "  --revocation-filter KIND   what their issuerName is held against: documented (the issuer)\n"
        "                             or real (caConfiguration, after the cut to maxRequests)\n"
        "  --strict-users             unknown users are an error; else they are made when first named\n"
        "  --help, --version\n";

enum {
    OPT_LISTEN = 1,
    OPT_STATE,
    OPT_TLS_CERTIFICATE,
    OPT_TLS_KEY,
    OPT_TENANT,
    OPT_PUBLIC_URL,
    OPT_READY_FILE,
    OPT_CLIENT_ID,
    OPT_CLIENT_SECRET_FILE,
    OPT_CLIENT_CERTIFICATE,
    OPT_ADMIN_TOKEN_FILE,
    OPT_LEASE_SECONDS,
    OPT_RETRY_DELAY_MS,
    OPT_MAX_ATTEMPTS,
    OPT_REVOCATION_COOL_DOWN,
    OPT_REVOCATION_FILTER,
    OPT_STRICT_USERS,
    OPT_HELP,
    OPT_VERSION
};

static const struct option known[] = {
    { "listen", required_argument, NULL, OPT_LISTEN },
    { "state", required_argument, NULL, OPT_STATE },
    { "tls-certificate", required_argument, NULL, OPT_TLS_CERTIFICATE },
    { "tls-key", required_argument, NULL, OPT_TLS_KEY },
    { "tenant", required_argument, NULL, OPT_TENANT },
    { "public-url", required_argument, NULL, OPT_PUBLIC_URL },
    { "ready-file", required_argument, NULL, OPT_READY_FILE },
    { "client-id", required_argument, NULL, OPT_CLIENT_ID },
    { "client-secret-file", required_argument, NULL, OPT_CLIENT_SECRET_FILE },
    { "client-certificate", required_argument, NULL, OPT_CLIENT_CERTIFICATE },
    { "admin-token-file", required_argument, NULL, OPT_ADMIN_TOKEN_FILE },
    { "lease-seconds", required_argument, NULL, OPT_LEASE_SECONDS },
    { "retry-delay-ms", required_argument, NULL, OPT_RETRY_DELAY_MS },
    { "max-attempts", required_argument, NULL, OPT_MAX_ATTEMPTS },
    { "revocation-cool-down", required_argument, NULL, OPT_REVOCATION_COOL_DOWN },
    { "revocation-filter", required_argument, NULL, OPT_REVOCATION_FILTER },
    { "strict-users", no_argument, NULL, OPT_STRICT_USERS },
    { "help", no_argument, NULL, OPT_HELP },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

/* false: not an option with a text. */
static bool
take_text(struct options *o, int option, const char *text)
{
    const struct {
        int option;
        const char **target;
    } texts[] = { { OPT_LISTEN, &o->listen }, { OPT_STATE, &o->state },
        { OPT_TLS_CERTIFICATE, &o->tls_certificate }, { OPT_TLS_KEY, &o->tls_key },
        { OPT_TENANT, &o->settings.name }, { OPT_PUBLIC_URL, &o->settings.public_url },
        { OPT_READY_FILE, &o->ready_file }, { OPT_CLIENT_ID, &o->client_id },
        { OPT_CLIENT_SECRET_FILE, &o->client_secret_file },
        { OPT_CLIENT_CERTIFICATE, &o->client_certificate },
        { OPT_ADMIN_TOKEN_FILE, &o->admin_token_file } };

    for (size_t i = 0; i < CC_COUNT(texts); i++) {
        if (texts[i].option == option) {
            *texts[i].target = text;
            return true;
        }
    }
    return false;
}

/* Options with a number: its bounds, and what it is multiplied with. */
static const struct number {
    int option;
    const char *name;
    int64_t min, max, unit;
} numbers[] = {
    { OPT_LEASE_SECONDS, "--lease-seconds", 1, 86400, 1000 },
    { OPT_RETRY_DELAY_MS, "--retry-delay-ms", 0, 86400000, 1 },
    { OPT_MAX_ATTEMPTS, "--max-attempts", 1, 1000000, 1 },
    { OPT_REVOCATION_COOL_DOWN, "--revocation-cool-down", 0, 604800, 1000 },
};

static const struct number *
find_number(int option)
{
    for (size_t i = 0; i < CC_COUNT(numbers); i++)
        if (numbers[i].option == option)
            return &numbers[i];
    return NULL;
}

static int
take_number(struct tenant_settings *settings, const struct number *n, const char *text,
        struct cc_err *err)
{
    int64_t value;

    if (cc_parse_int(text, n->min, n->max, &value, NULL) != 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "%s is a number from %lld to %lld", n->name,
                (long long)n->min, (long long)n->max);
    value *= n->unit;
    if (n->option == OPT_LEASE_SECONDS)
        settings->lease_ms = value;
    else if (n->option == OPT_RETRY_DELAY_MS)
        settings->retry_delay_ms = value;
    else if (n->option == OPT_MAX_ATTEMPTS)
        settings->max_attempts = (int)value;
    else
        settings->revocation_cool_down_ms = value;
    return 0;
}

static int
take_option(struct options *o, int option, struct cc_err *err)
{
    const struct number *number = find_number(option);

    if (number != NULL)
        return take_number(&o->settings, number, optarg, err);
    if (take_text(o, option, optarg))
        return 0;
    switch (option) {
    case OPT_REVOCATION_FILTER:
        if (!revocation_filter_parse(optarg, &o->settings.revocation_filter))
            return cc_err_set(err, CC_DOM_USAGE, 0, "--revocation-filter is documented or real");
        return 0;
    case OPT_STRICT_USERS:
        o->settings.strict_users = true;
        return 0;
    case OPT_HELP:
        o->help = true;
        return 0;
    case OPT_VERSION:
        o->version = true;
        return 0;
    default:
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "option %d is known and not handled", option);
    }
}

static int
check_url(const char *url, struct cc_err *err)
{
    size_t len = strlen(url);

    if ((!cc_starts_with(url, "https://") && !cc_starts_with(url, "http://")) || len > 512 ||
            url[len - 1] == '/')
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--public-url is http:// or https:// and a host, without a slash at its end");
    return 0;
}

static int
check(const struct options *o, struct cc_err *err)
{
    if (o->state == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--state is missing; see --help");
    if ((o->tls_certificate == NULL) != (o->tls_key == NULL))
        return cc_err_set(err, CC_DOM_USAGE, 0, "--tls-certificate and --tls-key go together");
    if ((o->client_id == NULL) != (o->client_secret_file == NULL && o->client_certificate == NULL))
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--client-id goes with --client-secret-file, --client-certificate or both");
    if (o->client_id != NULL && (o->client_id[0] == '\0' || strlen(o->client_id) > TENANT_ID_MAX))
        return cc_err_set(err, CC_DOM_USAGE, 0, "--client-id has 1 to %d bytes", TENANT_ID_MAX);
    if (o->settings.name[0] == '\0' || strchr(o->settings.name, '/') != NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--tenant is a domain");
    return o->settings.public_url != NULL ? check_url(o->settings.public_url, err) : 0;
}

int
options_parse(int argc, char **argv, struct options *ret, struct cc_err *err)
{
    struct options o = { .listen = "127.0.0.1:8443",
        .settings = { .name = "contoso.example",
                .lease_ms = 300000,
                .retry_delay_ms = 30000,
                .max_attempts = 5,
                .revocation_cool_down_ms = 3600000,
                .revocation_filter = TENANT_FILTER_DOCUMENTED } };
    int option;

    opterr = 0;
    /* Before any thread: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == '?')
            return cc_err_set(err, CC_DOM_USAGE, 0,
                    "%s: no such option, or it lacks its value; see --help", argv[optind - 1]);
        if (take_option(&o, option, err) != 0)
            return -1;
    }
    if (optind < argc)
        return cc_err_set(err, CC_DOM_USAGE, 0, "%s: what is this? See --help", argv[optind]);
    if (!o.help && !o.version && check(&o, err) != 0)
        return -1;
    o.settings.tls = o.tls_certificate != NULL;
    *ret = o;
    return 0;
}
