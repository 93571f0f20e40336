/* SPDX-License-Identifier: MIT */

/* Every section and key there is. */

#include "config_int.h"

#include <string.h>

#define AT(field) offsetof(struct config, field)
#define CA(field) offsetof(struct config_ca, field)
#define PROFILE(field) offsetof(struct config_profile, field)
#define SCEP(field) offsetof(struct config_scep, field)
#define SCEP_OWN(field) (AT(scep.own) + SCEP(field))
#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const char *const clouds[] = { "public", "usgov", "dod", "china", "custom", NULL };
static const char *const enrols[] = { "auto", "no", NULL };
static const char *const assertions[] = { "ps256", "rs256", NULL };
static const char *const privates[] = { "auto", "no", "yes", NULL };
static const char *const reencrypts[] = { "auto", "token", "host", NULL };
static const char *const debugs[] = { "none", "admin", "operational", "all", NULL };

static const char *const generations[] = { "host", "token", NULL };
static const char *const error_codes[] = { "name", "number", NULL };
static const char *const foreigns[] = { "leave", "refuse", NULL };
static const char *const kinds[] = { "local", NULL };
static const char *const approvals[] = { "none", "manual", NULL };
static const char *const digests[] = { "sha256", "sha384", "sha512", NULL };
static const char *const challenges[] = { "service", "static", "file", "hook", NULL };
static const char *const legacies[] = { "none", "3des", "des", NULL };
static const char *const notifies[] = { "durable", "before-reply", NULL };
static const char *const sids[] = { "none", "extension", "uri", NULL };
static const char *const san_types[] = { "upn", "email", "dns", "uri", "ip", "guid", NULL };
static const char *const key_specs[] = { "rsa2048", "rsa3072", "rsa4096", "ecP256", "ecP384",
    NULL };

/* RFC 5280 section 5.3.1, without removeFromCRL, which is no reason to revoke. */
static const char *const reasons[] = {
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "privilegeWithdrawn",
    "aACompromise",
    NULL,
};

/* RFC 5280 section 4.2.1.3 */
static const char *const key_usages[] = {
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
    NULL,
};

/* RFC 5280 section 4.2.1.12, and the one of smart cards at Windows */
static const char *const extended_key_usages[] = {
    "serverAuth",
    "clientAuth",
    "codeSigning",
    "emailProtection",
    "timeStamping",
    "OCSPSigning",
    "smartcardLogon",
    NULL,
};

static const char *const roles[] = {
    "pfx-import",
    "scep-ra-sign",
    "scep-ra-encrypt",
    "ca",
    "ocsp",
    "identity",
    "identity-next",
    "seal",
    "audit",
    NULL,
};

const struct config_feature_name config_feature_names[] = {
    { CONFIG_PKCS, "pkcs" },
    { CONFIG_PFX_IMPORT, "pfx-import" },
    { CONFIG_SCEP, "scep" },
    { CONFIG_REVOCATION, "revocation" },
};
const size_t config_feature_name_count = CC_COUNT(config_feature_names);

/* clang-format off */
/* What both [scep] and [scep-profile "NAME"] have. */
#define SCEP_SETTINGS(in, place)                                                                                      \
    {.section = in, .key = "ca", .form = CONFIG_FORM_TEXT, .offset = place(ca), .check = config_check_name,           \
     .example = "corp"},                                                                                              \
    {.section = in, .key = "profile", .form = CONFIG_FORM_TEXT, .offset = place(profile),                             \
     .check = config_check_name, .example = "device"},                                                                \
    {.section = in, .key = "challenge", .form = CONFIG_FORM_CHOICE, .offset = place(challenge),                       \
     .choices = challenges, .fallback = "service", .example = "service"},                                             \
    {.section = in, .key = "challenge-secret", .form = CONFIG_FORM_TEXT, .offset = place(challenge_secret),           \
     .check = config_check_reference, .secret = true, .example = "file:/etc/certconnector/scep.secret"},              \
    {.section = in, .key = "challenge-file", .form = CONFIG_FORM_TEXT, .offset = place(challenge_file),               \
     .check = config_check_path, .example = "/etc/certconnector/scep.secrets"},                                       \
    {.section = in, .key = "challenge-url", .form = CONFIG_FORM_TEXT, .offset = place(challenge_url),                 \
     .check = config_check_url, .example = "https://hook.example/challenge"},                                         \
    {.section = in, .key = "legacy", .form = CONFIG_FORM_CHOICE, .offset = place(legacy), .choices = legacies,        \
     .fallback = "none", .example = "none"},                                                                          \
    {.section = in, .key = "notify", .form = CONFIG_FORM_CHOICE, .offset = place(notify), .choices = notifies,        \
     .fallback = "durable", .example = "durable"},                                                                    \
    {.section = in, .key = "renewal-window", .form = CONFIG_FORM_DURATION, .offset = place(renewal_window_ms),        \
     .min = 0, .max = 3650 * DAY, .fallback = "0s", .example = "30d"},                                                \
    {.section = in, .key = "renewal-grace", .form = CONFIG_FORM_DURATION, .offset = place(renewal_grace_ms),          \
     .min = 0, .max = 3650 * DAY, .fallback = "0s", .example = "7d"},                                                 \
    {.section = in, .key = "queries", .form = CONFIG_FORM_BOOL, .offset = place(queries), .fallback = "no",           \
     .example = "no"},                                                                                                \
    {.section = in, .key = "chain-in-reply", .form = CONFIG_FORM_BOOL, .offset = place(chain_in_reply),               \
     .fallback = "no", .example = "no"},                                                                              \
    {.section = in, .key = "root-in-chain", .form = CONFIG_FORM_BOOL, .offset = place(root_in_chain),                 \
     .fallback = "yes", .example = "yes"},                                                                            \
    {.section = in, .key = "next-ca", .form = CONFIG_FORM_TEXT, .offset = place(next_ca),                             \
     .check = config_check_path, .example = "/etc/certconnector/next-ca.pem"},                                        \
    {.section = in, .key = "ra-sign", .form = CONFIG_FORM_TEXT, .offset = place(ra_sign),                             \
     .check = config_check_path, .example = "/etc/certconnector/ra-sign.pem"},                                        \
    {.section = in, .key = "ra-encrypt", .form = CONFIG_FORM_TEXT, .offset = place(ra_encrypt),                       \
     .check = config_check_path, .example = "/etc/certconnector/ra-encrypt.pem"}

const struct config_setting config_settings[] = {
    {.section = "connector", .key = "name", .form = CONFIG_FORM_TEXT, .offset = AT(connector.name),
     .check = config_check_name, .example = "dc1-connector-1"},
    {.section = "connector", .key = "features", .form = CONFIG_FORM_FEATURES, .offset = AT(connector.features),
     .example = "pfx-import"},
    {.section = "connector", .key = "state", .form = CONFIG_FORM_TEXT, .offset = AT(connector.state),
     .check = config_check_state, .fallback = "sqlite:/var/lib/certconnector/state.db",
     .example = "sqlite:/var/lib/certconnector/state.db"},
    {.section = "connector", .key = "state-directory", .form = CONFIG_FORM_TEXT,
     .offset = AT(connector.state_directory), .check = config_check_path,
     .fallback = "/var/lib/certconnector", .example = "/var/lib/certconnector"},
    {.section = "connector", .key = "control-socket", .form = CONFIG_FORM_TEXT,
     .offset = AT(connector.control_socket), .check = config_check_socket,
     .fallback = "/run/certconnector/control.sock", .example = "/run/certconnector/control.sock"},
    {.section = "connector", .key = "workers", .form = CONFIG_FORM_UNSIGNED, .offset = AT(connector.workers),
     .zero = "auto", .min = 1, .max = 256, .fallback = "auto", .example = "auto"},

    {.section = "token", .key = "module", .form = CONFIG_FORM_TEXT, .offset = AT(token.module),
     .check = config_check_path, .fallback = "/usr/lib/softhsm/libsofthsm2.so",
     .example = "/usr/lib/softhsm/libsofthsm2.so"},
    {.section = "token", .key = "init-args", .form = CONFIG_FORM_TEXT, .offset = AT(token.init_args),
     .check = config_check_text, .example = "configDir='/etc/certconnector/nss'"},
    {.section = "token", .key = "uri", .form = CONFIG_FORM_TEXT, .offset = AT(token.uri),
     .check = config_check_token_uri, .need = CONFIG_NEED_ALWAYS, .example = "pkcs11:token=certconnector"},
    {.section = "token", .key = "pin", .form = CONFIG_FORM_TEXT, .offset = AT(token.pin),
     .check = config_check_reference, .need = CONFIG_NEED_ALWAYS, .secret = true,
     .example = "file:/etc/certconnector/token.pin"},
    {.section = "token", .key = "profile", .form = CONFIG_FORM_TEXT, .offset = AT(token.profile),
     .check = config_check_name, .fallback = "auto", .example = "auto"},
    {.section = "token", .key = "sessions", .form = CONFIG_FORM_UNSIGNED, .offset = AT(token.sessions),
     .zero = "auto", .min = 1, .max = 256, .fallback = "auto", .example = "auto"},
    {.section = "token", .key = "deadline", .form = CONFIG_FORM_DURATION, .offset = AT(token.deadline_ms),
     .min = 100, .max = 10 * MINUTE, .fallback = "10s", .example = "10s"},
    {.section = "token", .key = "allow-raw-rsa", .form = CONFIG_FORM_BOOL, .offset = AT(token.allow_raw_rsa),
     .fallback = "yes", .example = "yes"},
    {.section = "token", .key = "helper", .form = CONFIG_FORM_TEXT, .offset = AT(token.helper),
     .check = config_check_path, .example = "/usr/libexec/certconnector-token"},

    {.section = "service", .key = "tenant", .form = CONFIG_FORM_TEXT, .offset = AT(service.tenant),
     .check = config_check_tenant, .need = CONFIG_NEED_SERVICE, .example = "contoso.example"},
    {.section = "service", .key = "client-id", .form = CONFIG_FORM_TEXT, .offset = AT(service.client_id),
     .check = config_check_uuid, .need = CONFIG_NEED_SERVICE, .example = "11111111-2222-3333-4444-555555555555"},
    {.section = "service", .key = "client-secret", .form = CONFIG_FORM_TEXT, .offset = AT(service.client_secret),
     .check = config_check_reference, .secret = true, .example = "file:/etc/certconnector/client.secret"},
    {.section = "service", .key = "client-secret-expires", .form = CONFIG_FORM_TEXT,
     .offset = AT(service.client_secret_expires), .check = config_check_date, .example = "2027-01-31"},
    {.section = "service", .key = "client-certificate", .form = CONFIG_FORM_TEXT,
     .offset = AT(service.client_certificate), .check = config_check_path,
     .example = "/etc/certconnector/client.pem"},
    {.section = "service", .key = "client-key", .form = CONFIG_FORM_TEXT, .offset = AT(service.client_key),
     .check = config_check_key_uri, .example = "pkcs11:object=identity"},
    {.section = "service", .key = "client-assertion", .form = CONFIG_FORM_CHOICE,
     .offset = AT(service.client_assertion), .choices = assertions, .fallback = "ps256", .example = "ps256"},
    {.section = "service", .key = "client-chain", .form = CONFIG_FORM_BOOL, .offset = AT(service.client_chain),
     .fallback = "no", .example = "no"},
    {.section = "service", .key = "enrol", .form = CONFIG_FORM_CHOICE, .offset = AT(service.enrol), .choices = enrols,
     .fallback = "auto", .example = "auto"},
    {.section = "service", .key = "cloud", .form = CONFIG_FORM_CHOICE, .offset = AT(service.cloud),
     .choices = clouds, .fallback = "public", .example = "public"},
    {.section = "service", .key = "authority", .form = CONFIG_FORM_TEXT, .offset = AT(service.authority),
     .check = config_check_url, .example = "https://login.example/"},
    {.section = "service", .key = "graph", .form = CONFIG_FORM_TEXT, .offset = AT(service.graph),
     .check = config_check_url, .example = "https://graph.example/"},
    {.section = "service", .key = "resource", .form = CONFIG_FORM_TEXT, .offset = AT(service.resource),
     .check = config_check_url, .example = "https://manage.example/"},
    {.section = "service", .key = "intune-app-id", .form = CONFIG_FORM_TEXT, .offset = AT(service.intune_app_id),
     .check = config_check_uuid, .fallback = "0000000a-0000-0000-c000-000000000000",
     .example = "0000000a-0000-0000-c000-000000000000"},
    {.section = "service", .key = "graph-version", .form = CONFIG_FORM_TEXT, .offset = AT(service.graph_version),
     .check = config_check_name, .fallback = "v1.0", .example = "v1.0"},
    {.section = "service", .key = "proxy", .form = CONFIG_FORM_TEXT, .offset = AT(service.proxy),
     .check = config_check_proxy, .example = "http://proxy.example:3128"},
    {.section = "service", .key = "proxy-user", .form = CONFIG_FORM_TEXT, .offset = AT(service.proxy_user),
     .check = config_check_proxy_user, .example = "certconnector"},
    {.section = "service", .key = "proxy-password", .form = CONFIG_FORM_TEXT, .offset = AT(service.proxy_password),
     .check = config_check_reference, .secret = true, .example = "file:/etc/certconnector/proxy.password"},
    {.section = "service", .key = "no-proxy", .form = CONFIG_FORM_TEXT, .offset = AT(service.no_proxy),
     .check = config_check_text, .example = "localhost,.intern.example"},
    {.section = "service", .key = "allowed-hosts", .form = CONFIG_FORM_LIST, .offset = AT(service.allowed_hosts),
     .check = config_check_host, .example = "manage.microsoft.com"},
    {.section = "service", .key = "private-addresses", .form = CONFIG_FORM_CHOICE,
     .offset = AT(service.private_addresses), .choices = privates, .fallback = "auto", .example = "no"},
    {.section = "service", .key = "max-clock-skew", .form = CONFIG_FORM_DURATION,
     .offset = AT(service.max_clock_skew_ms), .min = 0, .max = 7 * DAY, .fallback = "5m", .example = "5m"},
    {.section = "service", .key = "ca-file", .form = CONFIG_FORM_TEXT, .offset = AT(service.ca_file),
     .check = config_check_path, .example = "/etc/certconnector/service-ca.pem"},
    {.section = "service", .key = "allow-http", .form = CONFIG_FORM_BOOL, .offset = AT(service.allow_http),
     .fallback = "no", .example = "no"},
    {.section = "service", .key = "poll-wait", .form = CONFIG_FORM_DURATION, .offset = AT(service.poll_wait_ms),
     .min = 0, .max = 5 * MINUTE, .fallback = "30s", .example = "30s"},
    {.section = "service", .key = "timeout", .form = CONFIG_FORM_DURATION, .offset = AT(service.timeout_ms),
     .min = 100, .max = 10 * MINUTE, .fallback = "30s", .example = "30s"},
    {.section = "service", .key = "heartbeat", .form = CONFIG_FORM_DURATION, .offset = AT(service.heartbeat_ms),
     .min = 100, .max = 24 * HOUR, .fallback = "60s", .example = "60s"},
    {.section = "service", .key = "max-attempts", .form = CONFIG_FORM_UNSIGNED, .offset = AT(service.max_attempts),
     .min = 1, .max = 100, .fallback = "5", .example = "5"},

    {.section = "pfx-import", .key = "reencrypt", .form = CONFIG_FORM_CHOICE, .offset = AT(pfx_import.reencrypt),
     .choices = reencrypts, .fallback = "auto", .example = "auto"},
    {.section = "pfx-import", .key = "check-pfx", .form = CONFIG_FORM_BOOL, .offset = AT(pfx_import.check_pfx),
     .fallback = "yes", .example = "yes"},
    {.section = "pfx-import", .key = "batch", .form = CONFIG_FORM_UNSIGNED, .offset = AT(pfx_import.batch),
     .min = 1, .max = 100, .fallback = "50", .example = "50"},

    {.section = "pkcs", .key = "ca", .form = CONFIG_FORM_TEXT, .offset = AT(pkcs.ca),
     .check = config_check_name, .example = "corp"},
    {.section = "pkcs", .key = "profile", .form = CONFIG_FORM_TEXT, .offset = AT(pkcs.profile),
     .check = config_check_name, .example = "device"},
    {.section = "pkcs", .key = "key-generation", .form = CONFIG_FORM_CHOICE, .offset = AT(pkcs.key_generation),
     .choices = generations, .fallback = "host", .example = "host"},
    {.section = "pkcs", .key = "key-pool", .form = CONFIG_FORM_UNSIGNED, .offset = AT(pkcs.key_pool),
     .min = 0, .max = 10000, .fallback = "100", .example = "100"},
    {.section = "pkcs", .key = "batch", .form = CONFIG_FORM_UNSIGNED, .offset = AT(pkcs.batch),
     .min = 1, .max = 100, .fallback = "50", .example = "50"},

    {.section = "revocation", .key = "reason", .form = CONFIG_FORM_TEXT, .offset = AT(revocation.reason),
     .choices = reasons, .fallback = "unspecified", .example = "unspecified"},
    {.section = "revocation", .key = "issuer-name", .form = CONFIG_FORM_TEXT, .offset = AT(revocation.issuer_name),
     .check = config_check_text, .example = "CN=Contoso Issuing CA,O=Contoso"},
    {.section = "revocation", .key = "poll-interval", .form = CONFIG_FORM_DURATION,
     .offset = AT(revocation.poll_interval_ms), .min = SECOND, .max = 7 * DAY, .fallback = "60m", .example = "60m"},
    {.section = "revocation", .key = "max-requests", .form = CONFIG_FORM_UNSIGNED,
     .offset = AT(revocation.max_requests), .min = 1, .max = 500, .fallback = "100", .example = "100"},
    {.section = "revocation", .key = "error-codes", .form = CONFIG_FORM_CHOICE, .offset = AT(revocation.error_codes),
     .choices = error_codes, .fallback = "name", .example = "name"},
    {.section = "revocation", .key = "foreign", .form = CONFIG_FORM_CHOICE, .offset = AT(revocation.foreign),
     .choices = foreigns, .fallback = "leave", .example = "leave"},

    {.section = "scep", .key = "listen", .form = CONFIG_FORM_TEXT, .offset = AT(scep.listen),
     .check = config_check_listen, .example = "127.0.0.1:8080"},
    {.section = "scep", .key = "path", .form = CONFIG_FORM_TEXT, .offset = AT(scep.path),
     .check = config_check_url_path, .fallback = "/scep", .example = "/scep"},
    {.section = "scep", .key = "workers", .form = CONFIG_FORM_UNSIGNED, .offset = AT(scep.workers),
     .min = 1, .max = 256, .fallback = "32", .example = "32"},
    {.section = "scep", .key = "max-connections", .form = CONFIG_FORM_UNSIGNED, .offset = AT(scep.max_connections),
     .min = 1, .max = 65536, .fallback = "512", .example = "512"},
    {.section = "scep", .key = "deadline", .form = CONFIG_FORM_DURATION, .offset = AT(scep.deadline_ms),
     .min = SECOND, .max = 5 * MINUTE, .fallback = "20s", .example = "20s"},
    {.section = "scep", .key = "remember", .form = CONFIG_FORM_DURATION, .offset = AT(scep.remember_ms),
     .min = HOUR, .max = 3650 * DAY, .fallback = "30d", .example = "30d"},
    SCEP_SETTINGS("scep", SCEP_OWN),
    SCEP_SETTINGS("scep-profile", SCEP),

    {.section = "publish", .key = "listen", .form = CONFIG_FORM_TEXT, .offset = AT(publish.listen),
     .check = config_check_listen, .example = "127.0.0.1:8081"},
    {.section = "publish", .key = "ocsp-cache", .form = CONFIG_FORM_UNSIGNED, .offset = AT(publish.ocsp_cache),
     .min = 1, .max = 65536, .fallback = "4096", .example = "4096"},

    {.section = "metrics", .key = "listen", .form = CONFIG_FORM_TEXT, .offset = AT(metrics.listen),
     .check = config_check_listen, .example = "127.0.0.1:9180"},

    {.section = "log", .key = "directory", .form = CONFIG_FORM_TEXT, .offset = AT(log.directory),
     .check = config_check_path, .fallback = "/var/log/certconnector", .example = "/var/log/certconnector"},
    {.section = "log", .key = "max-size", .form = CONFIG_FORM_SIZE, .offset = AT(log.max_size),
     .min = 4096, .max = INT64_C(1) << 40, .fallback = "50M", .example = "50M"},
    {.section = "log", .key = "debug", .form = CONFIG_FORM_CHOICE, .offset = AT(log.debug),
     .choices = debugs, .fallback = "none", .example = "none"},
    {.section = "log", .key = "journald", .form = CONFIG_FORM_BOOL, .offset = AT(log.journald),
     .fallback = "yes", .example = "yes"},

    {.section = "ca", .key = "kind", .form = CONFIG_FORM_CHOICE, .offset = CA(kind), .choices = kinds,
     .need = CONFIG_NEED_ALWAYS, .example = "local"},
    {.section = "ca", .key = "key", .form = CONFIG_FORM_TEXT, .offset = CA(key), .check = config_check_key_uri,
     .example = "pkcs11:object=ca"},
    {.section = "ca", .key = "ocsp-key", .form = CONFIG_FORM_TEXT, .offset = CA(ocsp_key),
     .check = config_check_key_uri, .example = "pkcs11:object=ocsp"},
    {.section = "ca", .key = "digest", .form = CONFIG_FORM_TEXT, .offset = CA(digest), .choices = digests,
     .example = "sha256"},
    {.section = "ca", .key = "profile", .form = CONFIG_FORM_TEXT, .offset = CA(profile),
     .check = config_check_name, .example = "device"},
    {.section = "ca", .key = "authority", .form = CONFIG_FORM_TEXT, .offset = CA(authority),
     .check = config_check_text, .example = "ca.contoso.example"},
    {.section = "ca", .key = "authority-name", .form = CONFIG_FORM_TEXT, .offset = CA(authority_name),
     .check = config_check_text, .example = "Contoso Issuing CA"},
    {.section = "ca", .key = "crl-interval", .form = CONFIG_FORM_DURATION, .offset = CA(crl_interval_ms),
     .min = SECOND, .max = 365 * DAY, .fallback = "1d", .example = "1d"},
    {.section = "ca", .key = "crl-validity", .form = CONFIG_FORM_DURATION, .offset = CA(crl_validity_ms),
     .min = SECOND, .max = 3650 * DAY, .fallback = "7d", .example = "7d"},
    {.section = "ca", .key = "delta-interval", .form = CONFIG_FORM_DURATION, .offset = CA(delta_interval_ms),
     .min = 0, .max = 365 * DAY, .fallback = "0s", .example = "1h"},
    {.section = "ca", .key = "ocsp-validity", .form = CONFIG_FORM_DURATION, .offset = CA(ocsp_validity_ms),
     .min = SECOND, .max = 365 * DAY, .fallback = "1h", .example = "1h"},
    {.section = "ca", .key = "approval", .form = CONFIG_FORM_CHOICE, .offset = CA(approval), .choices = approvals,
     .fallback = "none", .example = "manual"},
    {.section = "ca", .key = "crl-urls", .form = CONFIG_FORM_LIST, .offset = CA(crl_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp.crl"},
    {.section = "ca", .key = "delta-crl-urls", .form = CONFIG_FORM_LIST, .offset = CA(delta_crl_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp-delta.crl"},
    {.section = "ca", .key = "issuer-urls", .form = CONFIG_FORM_LIST, .offset = CA(issuer_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp.cer"},
    {.section = "ca", .key = "ocsp-urls", .form = CONFIG_FORM_LIST, .offset = CA(ocsp_urls),
     .check = config_check_ocsp_url, .example = "http://pki.contoso.example/ocsp"},

    {.section = "profile", .key = "validity", .form = CONFIG_FORM_DURATION, .offset = PROFILE(validity_ms),
     .min = MINUTE, .max = 36500 * DAY, .fallback = "365d", .example = "365d"},
    {.section = "profile", .key = "backdate", .form = CONFIG_FORM_DURATION, .offset = PROFILE(backdate_ms),
     .min = 0, .max = 7 * DAY, .fallback = "5m", .example = "5m"},
    {.section = "profile", .key = "key-usages", .form = CONFIG_FORM_LIST, .offset = PROFILE(key_usages),
     .choices = key_usages, .fallback = "digitalSignature, keyEncipherment", .example = "digitalSignature"},
    {.section = "profile", .key = "extended-key-usages", .form = CONFIG_FORM_LIST,
     .offset = PROFILE(extended_key_usages), .choices = extended_key_usages, .check = config_check_oid,
     .fallback = "clientAuth", .example = "clientAuth"},
    {.section = "profile", .key = "subject", .form = CONFIG_FORM_LIST, .offset = PROFILE(subject),
     .check = config_check_attribute, .example = "CN, O"},
    {.section = "profile", .key = "san", .form = CONFIG_FORM_LIST, .offset = PROFILE(sans), .choices = san_types,
     .fallback = "upn, email, dns, uri, guid", .example = "upn"},
    {.section = "profile", .key = "san-domains", .form = CONFIG_FORM_LIST, .offset = PROFILE(san_domains),
     .check = config_check_domain, .example = "contoso.example"},
    {.section = "profile", .key = "keys", .form = CONFIG_FORM_LIST, .offset = PROFILE(keys), .choices = key_specs,
     .fallback = "rsa2048, rsa3072, rsa4096, ecP256, ecP384", .example = "rsa2048"},
    {.section = "profile", .key = "policies", .form = CONFIG_FORM_LIST, .offset = PROFILE(policies),
     .check = config_check_oid, .example = "1.3.6.1.4.1.311.1"},
    {.section = "profile", .key = "crl-urls", .form = CONFIG_FORM_LIST, .offset = PROFILE(crl_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp.crl"},
    {.section = "profile", .key = "delta-crl-urls", .form = CONFIG_FORM_LIST, .offset = PROFILE(delta_crl_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp-delta.crl"},
    {.section = "profile", .key = "issuer-urls", .form = CONFIG_FORM_LIST, .offset = PROFILE(issuer_urls),
     .check = config_check_pointer, .example = "http://pki.contoso.example/corp.cer"},
    {.section = "profile", .key = "ocsp-urls", .form = CONFIG_FORM_LIST, .offset = PROFILE(ocsp_urls),
     .check = config_check_ocsp_url, .example = "http://pki.contoso.example/ocsp"},
    {.section = "profile", .key = "sid", .form = CONFIG_FORM_CHOICE, .offset = PROFILE(sid), .choices = sids,
     .fallback = "none", .example = "none"},
    {.section = "profile", .key = "templates", .form = CONFIG_FORM_LIST, .offset = PROFILE(templates),
     .check = config_check_text, .example = "device"},
};

const struct config_names config_names[CONFIG_NAMES_COUNT] = {
    {.section = "keys", .names = roles, .check = config_check_key_uri, .pairs_offset = AT(keys),
     .count_offset = AT(key_count), .example = "pkcs11:object=pfx-import"},
    {.section = "key-alias", .check_name = config_check_alias, .check = config_check_key_uri,
     .pairs_offset = AT(key_aliases), .count_offset = AT(key_alias_count), .example = "pkcs11:object=pfx-import"},
};

const struct config_group config_groups[CONFIG_GROUPS_COUNT] = {
    {.section = "ca", .shown = "ca \"NAME\"", .item_size = sizeof(struct config_ca), .items_offset = AT(cas),
     .count_offset = AT(ca_count)},
    {.section = "profile", .shown = "profile \"NAME\"", .item_size = sizeof(struct config_profile),
     .items_offset = AT(profiles), .count_offset = AT(profile_count)},
    {.section = "scep-profile", .shown = "scep-profile \"NAME\"", .item_size = sizeof(struct config_scep),
     .items_offset = AT(scep_profiles), .count_offset = AT(scep_profile_count)},
};
/* clang-format on */

const size_t config_setting_count = CC_COUNT(config_settings);

_Static_assert(CC_COUNT(config_settings) <= CONFIG_SETTINGS_MAX, "struct config_trace has no room");
_Static_assert(CA(name) == 0 && PROFILE(name) == 0 && SCEP(name) == 0,
        "an item does not begin with its name");

const struct config_setting *
config_setting_find(const char *section, const char *key)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (strcmp(s->section, section) == 0 && strcmp(s->key, key) == 0)
            return s;
    }
    return NULL;
}

const struct config_names *
config_names_find(const char *section)
{
    for (size_t i = 0; i < CONFIG_NAMES_COUNT; i++) {
        if (strcmp(config_names[i].section, section) == 0)
            return &config_names[i];
    }
    return NULL;
}

const struct config_group *
config_setting_group(const struct config_setting *setting)
{
    for (size_t i = 0; i < CONFIG_GROUPS_COUNT; i++) {
        if (strcmp(config_groups[i].section, setting->section) == 0)
            return &config_groups[i];
    }
    return NULL;
}
