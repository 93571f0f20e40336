/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

/*
 * The configuration: one file, its drop-ins and the command line, checked and turned into one constant struct.
 *
 * INI read with inih: PATH, then PATH's sibling folder "<name>.d/" with *.conf in order of name (for
 * /etc/certconnector/certconnector.conf: /etc/certconnector/certconnector.conf.d/), later files setting keys that
 * earlier ones left unset or set (a drop-in overrides), then "section.key=value" overrides; [ca "NAME"], [profile
 * "NAME"] and [scep-profile "NAME"] are "ca.NAME" and so on there.  Within one file a duplicate key or section with a name, and anywhere
 * an unknown section or key or a bad value, is an error: "FILE:LINE: [section] key: what is wrong and what to do", with
 * the nearest known name.  Secrets are references only.
 *
 * A struct config never changes once loaded, and may be read by any thread; the owner frees it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

enum config_feature {
    CONFIG_PKCS = 1,
    CONFIG_PFX_IMPORT = 2,
    CONFIG_SCEP = 4,
    CONFIG_REVOCATION = 8
}; /* bits */
enum config_cloud {
    CONFIG_CLOUD_PUBLIC,
    CONFIG_CLOUD_USGOV,
    CONFIG_CLOUD_DOD,
    CONFIG_CLOUD_CHINA,
    CONFIG_CLOUD_CUSTOM
};
enum config_enrol { CONFIG_ENROL_AUTO, CONFIG_ENROL_NO };
enum config_assertion { CONFIG_ASSERTION_PS256, CONFIG_ASSERTION_RS256 };
enum config_private { CONFIG_PRIVATE_AUTO, CONFIG_PRIVATE_NO, CONFIG_PRIVATE_YES };
enum config_reencrypt { CONFIG_REENCRYPT_AUTO, CONFIG_REENCRYPT_TOKEN, CONFIG_REENCRYPT_HOST };
enum config_debug {
    CONFIG_DEBUG_NONE,
    CONFIG_DEBUG_ADMIN,
    CONFIG_DEBUG_OPERATIONAL,
    CONFIG_DEBUG_ALL
};

/* A line of a section whose keys are names: [keys], [key-alias]. */
struct config_pair {
    const char *name;
    const char *value;
};

/* A list: "a, b, c" in the file. */
struct config_list {
    const char *const *item;
    size_t count;
};

enum config_generation { CONFIG_GENERATE_HOST, CONFIG_GENERATE_TOKEN };
enum config_error_codes { CONFIG_ERROR_CODES_NAME, CONFIG_ERROR_CODES_NUMBER };
enum config_foreign { CONFIG_FOREIGN_LEAVE, CONFIG_FOREIGN_REFUSE };
enum config_sid { CONFIG_SID_NONE, CONFIG_SID_EXTENSION, CONFIG_SID_URI };
enum config_ca_kind { CONFIG_CA_LOCAL };
enum config_approval { CONFIG_APPROVAL_NONE, CONFIG_APPROVAL_MANUAL };
enum config_challenge {
    CONFIG_CHALLENGE_SERVICE,
    CONFIG_CHALLENGE_STATIC,
    CONFIG_CHALLENGE_FILE,
    CONFIG_CHALLENGE_HOOK
};
enum config_legacy { CONFIG_LEGACY_NONE, CONFIG_LEGACY_3DES, CONFIG_LEGACY_DES };
enum config_notify { CONFIG_NOTIFY_DURABLE, CONFIG_NOTIFY_BEFORE_REPLY };

/* [ca "NAME"] */
struct config_ca {
    const char *name;
    enum config_ca_kind kind; /* needed */
    const char *key;          /* PKCS#11 URI; default [keys] ca */
    const char *ocsp_key;     /* PKCS#11 URI; default [keys] ocsp; NULL: no OCSP */
    const char *digest;       /* "sha256" …; or NULL: by the key */
    const char *profile;      /* [profile "…"] when a request names no template; or NULL */
    const char *authority, *authority_name; /* as in the service's profiles; NULL: any */
    int64_t crl_interval_ms;                /* default 1d */
    int64_t crl_validity_ms;                /* default 7d */
    int64_t delta_interval_ms;              /* default 0s: no delta CRLs */
    int64_t ocsp_validity_ms;               /* default 1h */
    enum config_approval approval;          /* default none */
    struct config_list crl_urls, delta_crl_urls, issuer_urls,
            ocsp_urls; /* for profiles that have none of their own */
};

/* [profile "NAME"] */
struct config_profile {
    const char *name;
    int64_t validity_ms;                    /* default 365d */
    int64_t backdate_ms;                    /* default 5m */
    struct config_list key_usages;          /* default digitalSignature, keyEncipherment */
    struct config_list extended_key_usages; /* default clientAuth */
    struct config_list subject;             /* attributes; default empty: any */
    struct config_list sans;                /* types; default upn, email, dns, uri, guid */
    struct config_list san_domains;         /* default empty: any */
    struct config_list keys;                /* default rsa2048, rsa3072, rsa4096, ecP256, ecP384 */
    struct config_list policies;            /* default empty */
    struct config_list crl_urls, delta_crl_urls, issuer_urls, ocsp_urls; /* default: the CA's */
    enum config_sid sid;                                                 /* default none */
    struct config_list templates; /* template names of requests; default: the profile's name */
};

/* What is enrolled at one URL: [scep] at its path, [scep-profile "NAME"] at the path and /NAME. */
struct config_scep {
    const char *name;    /* NULL: of [scep] */
    const char *ca;      /* name of a [ca]; default that of [scep], there the only one, else NULL */
    const char *profile; /* name of a [profile]; the same */
    enum config_challenge challenge; /* default service */
    const char *challenge_secret;    /* reference */
    const char *challenge_file, *challenge_url;
    enum config_legacy legacy;        /* default none */
    enum config_notify notify;        /* default durable */
    int64_t renewal_window_ms;        /* default 0s: any time */
    int64_t renewal_grace_ms;         /* default 0s */
    bool queries;                     /* default no: GetCert, GetCRL */
    bool chain_in_reply;              /* default no */
    bool root_in_chain;               /* default yes */
    const char *next_ca;              /* file, or NULL */
    const char *ra_sign, *ra_encrypt; /* files, or NULL */
};

struct config {
    struct {
        const char *name; /* default: the host's name */
        unsigned features;
        const char *state; /* default sqlite:/var/lib/certconnector/state.db */
        const char *
                state_directory; /* default /var/lib/certconnector: what must last beside the store */
        const char *control_socket; /* default /run/certconnector/control.sock */
        unsigned workers;           /* 0: as many as the token has sessions, and one */
    } connector;
    struct {
        const char *module;    /* default /usr/lib/softhsm/libsofthsm2.so */
        const char *init_args; /* or NULL */
        const char *uri;
        const char *pin;
        const char *profile; /* default "auto" */
        unsigned sessions;   /* 0: auto */
        int64_t deadline_ms; /* default 10 s */
        bool allow_raw_rsa;  /* default yes */
        const char *helper;  /* or NULL */
    } token;
    struct {
        const char *tenant;
        const char *client_id;
        const char *client_secret;         /* reference; or NULL: the certificate signs in */
        const char *client_secret_expires; /* "2027-01-31", or NULL: not known */
        const char *client_certificate;    /* file; or NULL: the secret signs in */
        const char *client_key;            /* PKCS#11 URI of its key; default [keys] identity */
        enum config_assertion client_assertion; /* default ps256 */
        bool client_chain;                      /* default no: the file's certificates are sent */
        enum config_enrol enrol;                /* default auto: where [keys] has an identity */
        enum config_cloud cloud;
        const char *authority, *graph, *resource; /* effective, with trailing slash */
        const char *intune_app_id;
        const char *graph_version;  /* default "v1.0": discovery */
        const char *proxy;          /* or NULL */
        const char *proxy_user;     /* or NULL */
        const char *proxy_password; /* reference, or NULL */
        const char *no_proxy;       /* or NULL */
        struct config_list
                allowed_hosts; /* names, and ends of names, that discovery may give; empty: the hosts of resource and graph */
        enum config_private private_addresses; /* effective: never AUTO */
        int64_t max_clock_skew_ms;             /* 0: any; default 5 minutes */
        const char *ca_file;                   /* or NULL: the system's */
        bool allow_http;                       /* default no; for tests */
        int64_t poll_wait_ms;                  /* long poll, default 30 s */
        int64_t timeout_ms;    /* of one call, long poll not counted; default 30 s */
        int64_t heartbeat_ms;  /* default 60 s */
        unsigned max_attempts; /* of one request before it is failed for good; default 5 */
    } service;
    struct config_pair *keys; /* role = PKCS#11 URI */
    size_t key_count;
    struct config_pair *key_aliases; /* "provider/key" = PKCS#11 URI */
    size_t key_alias_count;
    struct {
        enum config_reencrypt reencrypt; /* default auto */
        bool check_pfx; /* default yes: in host mode open the PFX with the password */
        unsigned batch; /* requests asked for at once, 1..100; default 50 */
    } pfx_import;
    struct {
        const char *ca;      /* name of a [ca]; default the only one, else NULL */
        const char *profile; /* name of a [profile]; default the only one, else NULL */
        enum config_generation key_generation; /* default host */
        unsigned key_pool;                     /* RSA-2048 keys kept ready; default 100 */
        unsigned batch;                        /* 1..100; default 50 */
    } pkcs;
    struct {
        const char *reason;       /* of RFC 5280, as spelled there; default "unspecified" */
        const char *issuer_name;  /* filter; or NULL */
        int64_t poll_interval_ms; /* default 60m */
        unsigned max_requests;    /* 1..500; default 100 */
        enum config_error_codes error_codes; /* default name */
        enum config_foreign foreign;         /* default leave */
    } revocation;
    struct {
        const char *listen;       /* needed for the feature */
        const char *path;         /* default /scep */
        unsigned workers;         /* messages at once; default 32 */
        unsigned max_connections; /* default 512 */
        int64_t deadline_ms;      /* of one message; default 20s */
        int64_t remember_ms;      /* default 30d */
        struct config_scep own;
    } scep;
    struct config_scep *scep_profiles;
    size_t scep_profile_count;
    struct {
        const char *listen;  /* of CRLs, CA certificates and OCSP; or NULL: nothing is published */
        unsigned ocsp_cache; /* answers kept; default 4096 */
    } publish;
    struct {
        const char *listen; /* of /metrics, /healthz and /readyz; or NULL: nothing is shown */
    } metrics;
    struct config_ca *cas;
    size_t ca_count;
    struct config_profile *profiles;
    size_t profile_count;
    struct {
        const char *directory; /* default /var/log/certconnector */
        uint64_t max_size;     /* default 50 MiB */
        enum config_debug debug;
        bool journald; /* default yes */
    } log;
};

/* overrides: "section.key=value", may be NULL when count is 0. */
CC_MUST int config_load(const char *path, const char *const *overrides, size_t override_count,
        struct config **ret_config, struct cc_err *err);
void config_free(struct config *config); /* accepts NULL */

/* The [ca] and the [profile] of a name, or NULL. */
const struct config_ca *config_ca_find(const struct config *config, const char *name);
const struct config_profile *config_profile_find(const struct config *config, const char *name);

/* URI of a role in [keys], or NULL. */
const char *config_key(const struct config *config, const char *role);

/* Where the identity lies: in the state directory, by the name of the instance, as several may share one.  Appended. */
CC_MUST int config_identity_path(const char *state_directory, const char *name, struct cc_buf *ret,
        struct cc_err *err);

/* Each effective setting as text, secrets (values of references) as "***"; old may be NULL: then every one is shown,
   else those that differ, with both values (NULL: not set).  A section with a name comes as 'ca "NAME"'.  What the
   callback is given it borrows until it returns. */
typedef void (*config_change_fn)(void *arg, const char *section, const char *key,
        const char *old_value, const char *new_value);
void config_compare(const struct config *old, const struct config *new_config, config_change_fn fn,
        void *arg);

#define CONFIG_DEFAULT_PATH "/etc/certconnector/certconnector.conf"

#endif
