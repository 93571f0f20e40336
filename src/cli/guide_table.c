/* SPDX-License-Identifier: MIT */

/* What configure asks, in order. */

#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "guide.h"

#define CERTIFYING (CONFIG_PKCS | CONFIG_SCEP | CONFIG_REVOCATION)
#define ISSUING (CONFIG_PKCS | CONFIG_SCEP)
#define ANY_FEATURE (CERTIFYING | CONFIG_PFX_IMPORT)

/* ---- when ---- */

static bool
value_is(const struct guide *g, const char *name, const char *want)
{
    char value[ASK_ANSWER_MAX];
    const char *fallback = config_default(name);

    if (guide_value(g, name, value))
        return strcmp(value, want) == 0;
    return fallback != NULL && strcmp(fallback, want) == 0;
}

static bool
is_custom_cloud(const struct guide *g, const struct question *q)
{
    (void)q;
    return value_is(g, "service.cloud", "custom");
}

static bool
has_no_resource(const struct guide *g, const struct question *q)
{
    return is_custom_cloud(g, q) || value_is(g, "service.cloud", "china");
}

static bool
is_in_file(const struct guide *g, const struct question *q)
{
    char value[ASK_ANSWER_MAX];

    return guide_value(g, q->name, value) && cc_starts_with(value, "file:");
}

static bool
signs_with_key(const struct guide *g, const struct question *q)
{
    (void)q;
    return g->signs_with_key;
}

static bool
signs_with_secret(const struct guide *g, const struct question *q)
{
    return !signs_with_key(g, q);
}

static bool
is_client_secret_in_file(const struct guide *g, const struct question *q)
{
    return signs_with_secret(g, q) && is_in_file(g, q);
}

static bool
has_no_certificate(const struct guide *g, const struct question *q)
{
    char path[ASK_ANSWER_MAX];

    (void)q;
    return g->signs_with_key && guide_value(g, "service.client-certificate", path) &&
           access(path, F_OK) != 0;
}

static bool
is_static_secret_in_file(const struct guide *g, const struct question *q)
{
    return value_is(g, "scep.challenge", "static") && is_in_file(g, q);
}

static bool
is_static(const struct guide *g, const struct question *q)
{
    (void)q;
    return value_is(g, "scep.challenge", "static");
}

static bool
is_file(const struct guide *g, const struct question *q)
{
    (void)q;
    return value_is(g, "scep.challenge", "file");
}

static bool
is_hook(const struct guide *g, const struct question *q)
{
    (void)q;
    return value_is(g, "scep.challenge", "hook");
}

static bool
has_proxy(const struct guide *g, const struct question *q)
{
    char value[ASK_ANSWER_MAX];

    (void)q;
    return guide_value(g, "service.proxy", value);
}

static bool
has_proxy_user(const struct guide *g, const struct question *q)
{
    char value[ASK_ANSWER_MAX];

    return has_proxy(g, q) && guide_value(g, "service.proxy-user", value);
}

static bool
is_proxy_password_in_file(const struct guide *g, const struct question *q)
{
    return has_proxy_user(g, q) && is_in_file(g, q);
}

static bool
key_is_missing(const struct guide *g, const struct question *q)
{
    char name[64], uri[ASK_ANSWER_MAX];

    return g->keys_known && guide_value(g, guide_setting_name(g, q, name, sizeof(name)), uri) &&
           !key_list_has(&g->keys, uri);
}

static bool
identity_is_missing(const struct guide *g, const struct question *q)
{
    return g->signs_with_key && key_is_missing(g, q);
}

static bool
makes_ca(const struct guide *g, const struct question *q)
{
    (void)q;
    return g->plan->init_ca;
}

/* ---- what there is already ---- */

static const char *
present_key_type(const struct guide *g, const struct question *q)
{
    const char *type = g->plan->key_type[q->role], *before = guide_type_before(g, q);

    if (before != NULL)
        return before;
    return type[0] != '\0' ? type : plan_usual_type(q->role);
}

static const char *
present_ca(const struct guide *g, const struct question *q)
{
    return g->ca[0] != '\0' ? g->ca : q->suggests;
}

static const char *
present_profile(const struct guide *g, const struct question *q)
{
    return g->profile[0] != '\0' ? g->profile : q->suggests;
}

static const char *
present_ca_now(const struct guide *g, const struct question *q)
{
    (void)q;
    return g->plan->init_ca ? "yes" : "no";
}

static const char *
present_suggestion(const struct guide *g, const struct question *q)
{
    (void)g;
    return q->suggests;
}

static const char *
present_sign_in(const struct guide *g, const struct question *q)
{
    (void)q;
    return g->signs_with_key ? "key" : "secret";
}

static const char *
present_subject(const struct guide *g, const struct question *q)
{
    (void)q;
    return g->plan->subject[0] != '\0' ? g->plan->subject : NULL;
}

static const char *
present_validity(const struct guide *g, const struct question *q)
{
    return g->plan->validity[0] != '\0' ? g->plan->validity : q->suggests;
}

/* ---- the table ---- */

#define FEATURES "Features"
#define TOKEN "The token"
#define KEYS "Keys in the token"
#define SERVICE "The service"
#define PROXY "Proxy"
#define CA "The CA"
#define SCEP "SCEP"
#define LOG "Event log"

/* A key of a role, and its type where the token does not have it. */
#define KEY(of, in_features, is_optional, what, text)                                              \
    {                                                                                              \
        .heading = KEYS, .prompt = what, .name = "keys." of, .features = in_features,              \
        .suggests = (is_optional) ? NULL : "pkcs11:object=" of, .optional = is_optional,           \
        .show = guide_show_keys, .take = guide_take_key, .help = text                              \
    }
#define KEY_TYPE(of, in_features, of_role)                                                           \
    {                                                                                                \
        .heading = KEYS, .prompt = "  the token has no such key; make one of type",                  \
        .name = "keys." of, .features = in_features, .role = of_role, .when = key_is_missing,        \
        .present = present_key_type, .take = guide_take_key_type,                                    \
        .help = "The key is made in the token when everything is written, and can never leave it.  " \
                "Go back with < to name a key that is there already."                                \
    }

const struct question guide_questions[] = {
    { .heading = FEATURES,
            .prompt = "Features, by number or name",
            .name = "connector.features",
            .suggests = "pfx-import",
            .show = guide_show_features,
            .take = guide_take_features,
            .help = "What the connector does for the service; write several with commas between "
                    "them.  A feature that is left out stops after its work under way, and nothing of "
                    "it is lost." },
    { .heading = FEATURES,
            .prompt = "Name of this connector, or none for the host's",
            .name = "connector.name",
            .optional = true,
            .help = "Under this name the service and the event log know it.  Instances that share a "
                    "store must have different ones." },

    { .heading = TOKEN,
            .prompt = "PKCS#11 module, by number or path",
            .name = "token.module",
            .show = guide_show_modules,
            .take = guide_take_module,
            .help = "The library of the token's maker.  It is loaded by a process of its own, the "
                    "only one that knows the PIN." },
    { .heading = TOKEN,
            .prompt = "Token, by number, label or URI",
            .name = "token.uri",
            .show = guide_show_tokens,
            .take = guide_take_token,
            .help = "The token that has the connector's keys.  One that is not initialised yet is "
                    "made ready with certconnector token init." },
    { .heading = TOKEN,
            .prompt = "Where its PIN is",
            .name = "token.pin",
            .suggests = "file:/etc/certconnector/token.pin",
            .help = "file:PATH is a file that root and the connector's group can read; "
                    "credential:NAME is a credential of the systemd unit.  The PIN itself never "
                    "stands in the configuration." },
    { .heading = TOKEN,
            .prompt = "PIN (not shown; only Enter keeps the one in the file)",
            .name = "token.pin",
            .secret = true,
            .when = is_in_file,
            .help = "It goes into the file just named, and is tried on the token at once.  A token "
                    "counts wrong PINs and locks itself after a few: take care." },

    KEY("pfx-import", CONFIG_PFX_IMPORT, false, "Key for imported PFX",
            "Passwords of uploaded PFX are encrypted to this RSA key.  Write the number of a key of "
            "the list, its label, or a PKCS#11 URI; one that the token does not have is made."),
    KEY_TYPE("pfx-import", CONFIG_PFX_IMPORT, HSM_ROLE_PFX_IMPORT),
    KEY("scep-ra-sign", CONFIG_SCEP, false, "Key that signs SCEP answers",
            "The SCEP server signs its answers to devices with it.  RSA suits every device; it may "
            "be the key that opens requests, too."),
    KEY_TYPE("scep-ra-sign", CONFIG_SCEP, HSM_ROLE_SCEP_RA_SIGN),
    KEY("scep-ra-encrypt", CONFIG_SCEP, false, "Key that opens SCEP requests",
            "Devices encrypt their requests to this RSA key.  It must not change while devices "
            "wait for an answer."),
    KEY_TYPE("scep-ra-encrypt", CONFIG_SCEP, HSM_ROLE_SCEP_RA_ENCRYPT),
    KEY("ca", CERTIFYING, false, "Key of the built-in CA",
            "It signs certificates and revocation lists.  RSA or EC; it is the CA, and lives as "
            "long as that."),
    KEY_TYPE("ca", CERTIFYING, HSM_ROLE_CA),
    KEY("ocsp", CERTIFYING, true, "Key that signs OCSP answers, or none",
            "With it the connector answers by OCSP whether a certificate is revoked.  Without, "
            "there are only revocation lists."),
    KEY_TYPE("ocsp", CERTIFYING, HSM_ROLE_OCSP),
    KEY("seal", ISSUING, false, "Key that seals what is stored",
            "Private keys of devices wait in the state store only encrypted by this AES key.  All "
            "instances of one store need the same one."),
    KEY_TYPE("seal", ISSUING, HSM_ROLE_SEAL),

    { .heading = SERVICE,
            .prompt = "Cloud (public, usgov, dod, china, custom)",
            .name = "service.cloud",
            .features = ANY_FEATURE,
            .help = "Where the tenant lives.  custom asks for the addresses one by one." },
    { .heading = SERVICE,
            .prompt = "Address of the sign-in",
            .name = "service.authority",
            .features = ANY_FEATURE,
            .when = is_custom_cloud,
            .help = "The URL of Entra ID or what stands in for it.  It must be https." },
    { .heading = SERVICE,
            .prompt = "Address of Graph",
            .name = "service.graph",
            .features = ANY_FEATURE,
            .when = is_custom_cloud,
            .help = "The URL of Microsoft Graph or what stands in for it.  The endpoints of the "
                    "service are asked for there." },
    { .heading = SERVICE,
            .prompt = "Resource of the service",
            .name = "service.resource",
            .features = ANY_FEATURE,
            .when = has_no_resource,
            .help = "What access tokens for the service are asked for.  In this cloud it is not "
                    "known beforehand." },
    { .heading = SERVICE,
            .prompt = "Certificates of its CAs, a PEM file, or none",
            .name = "service.ca-file",
            .features = ANY_FEATURE,
            .when = is_custom_cloud,
            .optional = true,
            .help = "Which CAs are trusted for the service's TLS.  none means those of the system." },
    { .heading = SERVICE,
            .prompt = "Tenant, by name or id",
            .name = "service.tenant",
            .features = ANY_FEATURE,
            .help = "A domain of the tenant, or its id.  The Entra admin centre shows both in its "
                    "overview." },
    { .heading = SERVICE,
            .prompt = "Application (client) id",
            .name = "service.client-id",
            .features = ANY_FEATURE,
            .help = "Of the application that was registered for connectors in Entra ID.  It is a "
                    "UUID." },
    { .heading = SERVICE,
            .prompt = "Sign in with (secret, key)",
            .features = ANY_FEATURE,
            .present = present_sign_in,
            .take = guide_take_sign_in,
            .help = "A client secret of the application, or a key of the token whose certificate is "
                    "registered with it.  The key never leaves the token." },
    { .heading = SERVICE,
            .prompt = "Key to sign in with",
            .name = "keys.identity",
            .suggests = "pkcs11:object=identity",
            .features = ANY_FEATURE,
            .when = signs_with_key,
            .show = guide_show_keys,
            .take = guide_take_key,
            .help = "It signs what is shown to Entra ID in place of a secret.  Write the number of a "
                    "key of the list, its label, or a PKCS#11 URI; one that is not there is made." },
    { .heading = SERVICE,
            .prompt = "  the token has no such key; make one of type",
            .name = "keys.identity",
            .features = ANY_FEATURE,
            .role = HSM_ROLE_IDENTITY,
            .when = identity_is_missing,
            .present = present_key_type,
            .take = guide_take_key_type,
            .help = "Entra ID takes RSA keys for this.  Go back with < to name one that is there "
                    "already." },
    { .heading = SERVICE,
            .prompt = "File with its certificate",
            .name = "service.client-certificate",
            .suggests = "/etc/certconnector/client.pem",
            .features = ANY_FEATURE,
            .when = signs_with_key,
            .help = "The certificate of this key that is registered with the application, in PEM.  "
                    "One that is not there can be made next." },
    { .heading = SERVICE,
            .prompt = "It is not there; make it, self-signed (yes, no)",
            .suggests = "yes",
            .features = ANY_FEATURE,
            .when = has_no_certificate,
            .present = present_suggestion,
            .take = guide_take_self_sign,
            .help = "It is made at the end, as certconnector key self-sign does, and has to be "
                    "registered with the application then.  Signing in works after that." },
    { .heading = SERVICE,
            .prompt = "Where the client secret is",
            .name = "service.client-secret",
            .suggests = "file:/etc/certconnector/client.secret",
            .features = ANY_FEATURE,
            .when = signs_with_secret,
            .help = "file:PATH is a file that root and the connector's group can read; "
                    "credential:NAME is a credential of the systemd unit.  The secret itself never "
                    "stands in the configuration." },
    { .heading = SERVICE,
            .prompt = "Client secret (not shown; only Enter keeps the one in the file)",
            .name = "service.client-secret",
            .features = ANY_FEATURE,
            .secret = true,
            .when = is_client_secret_in_file,
            .help = "It goes into the file just named.  Entra ID shows it once, when it is made." },

    { .heading = PROXY,
            .prompt = "Proxy, or none",
            .name = "service.proxy",
            .features = ANY_FEATURE,
            .optional = true,
            .take = guide_take_proxy,
            .help = "An HTTP proxy through which the service is reached: http://HOST:PORT.  Proxies "
                    "of the environment are not looked at." },
    { .heading = PROXY,
            .prompt = "User at the proxy, or none",
            .name = "service.proxy-user",
            .features = ANY_FEATURE,
            .optional = true,
            .take = guide_take_proxy_user,
            .when = has_proxy,
            .help = "For a proxy that wants to know who comes.  Its password is asked for next." },
    { .heading = PROXY,
            .prompt = "Where the proxy's password is",
            .name = "service.proxy-password",
            .suggests = "file:/etc/certconnector/proxy.password",
            .features = ANY_FEATURE,
            .when = has_proxy_user,
            .help = "file:PATH is a file that root and the connector's group can read; "
                    "credential:NAME is a credential of the systemd unit.  The password itself never "
                    "stands in the configuration." },
    { .heading = PROXY,
            .prompt = "Its password (not shown; only Enter keeps the one in the file)",
            .name = "service.proxy-password",
            .features = ANY_FEATURE,
            .secret = true,
            .when = is_proxy_password_in_file,
            .help = "It goes into the file just named.  It is sent to the proxy alone." },
    { .heading = PROXY,
            .prompt = "Reached without it, or none",
            .name = "service.no-proxy",
            .features = ANY_FEATURE,
            .optional = true,
            .when = has_proxy,
            .help = "Hosts and domains with commas between them: localhost,.intern.example.  "
                    "Everything else goes through the proxy." },

    { .heading = CA,
            .prompt = "Name of the built-in CA",
            .suggests = "corp",
            .features = CERTIFYING,
            .present = present_ca,
            .take = guide_take_ca,
            .help = "The name that the configuration has for it, [ca \"NAME\"].  It stands in no "
                    "certificate." },
    { .heading = CA,
            .prompt = "Make its certificate at the end (yes, no)",
            .features = CERTIFYING,
            .present = present_ca_now,
            .take = guide_take_ca_now,
            .help = "A self-signed root, made once for each CA.  For an intermediate say no, and use "
                    "certconnector ca init --intermediate." },
    { .heading = CA,
            .prompt = "Subject of its certificate",
            .features = CERTIFYING,
            .when = makes_ca,
            .present = present_subject,
            .take = guide_take_subject,
            .help = "The CA's name in all certificates, as in CN=Contoso Issuing CA,O=Contoso,C=DE.  "
                    "It cannot be changed later." },
    { .heading = CA,
            .prompt = "How long it is valid",
            .suggests = "3650d",
            .features = CERTIFYING,
            .when = makes_ca,
            .present = present_validity,
            .take = guide_take_validity,
            .help = "A time with its unit, as in 3650d.  No certificate outlives its CA." },
    { .heading = CA,
            .prompt = "Published at HOST:PORT, or none",
            .name = "publish.listen",
            .features = CERTIFYING,
            .optional = true,
            .help = "Where revocation lists, the CA's certificate and OCSP can be fetched.  Put a "
                    "web server in front, and its URLs into the CA's crl-urls." },
    { .heading = CA,
            .prompt = "Name of the certificate profile",
            .suggests = "device",
            .features = ISSUING,
            .present = present_profile,
            .take = guide_take_profile,
            .help = "A profile says what certificates may look like, [profile \"NAME\"].  More of "
                    "them, and all their settings, are in certconnector.conf(5)." },
    { .heading = CA,
            .prompt = "Certificates are valid for",
            .name = "profile.NAME.validity",
            .features = ISSUING,
            .help = "A time with its unit, as in 365d.  A request may ask for less." },
    { .heading = CA,
            .prompt = "They are for",
            .name = "profile.NAME.extended-key-usages",
            .features = ISSUING,
            .help = "Extended key usages with commas between them: clientAuth, serverAuth, "
                    "emailProtection, smartcardLogon, or OIDs.  Every certificate of the profile "
                    "gets them." },

    { .heading = SCEP,
            .prompt = "Listens at HOST:PORT",
            .name = "scep.listen",
            .suggests = "127.0.0.1:8080",
            .features = CONFIG_SCEP,
            .help = "Where requests of devices arrive, in plain HTTP.  A web server with TLS in "
                    "front of it is what devices see." },
    { .heading = SCEP,
            .prompt = "Path of the URL",
            .name = "scep.path",
            .features = CONFIG_SCEP,
            .help = "What follows the host in the URL that devices are given.  It begins with /." },
    { .heading = SCEP,
            .prompt = "Challenges (service, static, file, hook)",
            .name = "scep.challenge",
            .features = CONFIG_SCEP,
            .help = "Who says whether a device may enrol: the service, one secret for all, a file of "
                    "secrets, or a web hook.  With Intune it is service." },
    { .heading = SCEP,
            .prompt = "Where the secret is",
            .name = "scep.challenge-secret",
            .suggests = "file:/etc/certconnector/scep.secret",
            .features = CONFIG_SCEP,
            .when = is_static,
            .help = "file:PATH or credential:NAME.  Everybody who knows this secret gets a "
                    "certificate." },
    { .heading = SCEP,
            .prompt = "Secret (not shown; only Enter keeps the one in the file)",
            .name = "scep.challenge-secret",
            .features = CONFIG_SCEP,
            .secret = true,
            .when = is_static_secret_in_file,
            .help = "It goes into the file just named.  Devices send it with their request." },
    { .heading = SCEP,
            .prompt = "File with the secrets",
            .name = "scep.challenge-file",
            .features = CONFIG_SCEP,
            .when = is_file,
            .help = "A secret a line; certconnector.conf(5) has its form.  Root and the connector's "
                    "group must be able to read it." },
    { .heading = SCEP,
            .prompt = "URL of the hook",
            .name = "scep.challenge-url",
            .features = CONFIG_SCEP,
            .when = is_hook,
            .help = "It is asked about each challenge; certconnector.conf(5) says how.  It must be "
                    "https." },

    { .heading = LOG,
            .prompt = "Directory",
            .name = "log.directory",
            .help = "Where the event log is written, one JSON object a line.  The connector's user "
                    "must be able to write there." },
    { .heading = LOG,
            .prompt = "Largest size of a file",
            .name = "log.max-size",
            .help = "A file of this size is archived and a new one begun.  Write it as in 50M." },
};
const size_t guide_question_count = CC_COUNT(guide_questions);
