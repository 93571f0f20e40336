/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/compiler.h"

#define LONG100                                                                                    \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG500 LONG100 LONG100 LONG100 LONG100 LONG100

/* What each bad line is put into: three lines, so that the bad text begins on line 4. */
#define TOKEN                                                                                      \
    "[token]\n"                                                                                    \
    "uri = pkcs11:token=certconnector\n"                                                           \
    "pin = file:/etc/certconnector/token.pin\n"
#define UNSIGNED                                                                                   \
    "[service]\n"                                                                                  \
    "tenant = contoso.example\n"                                                                   \
    "client-id = 11111111-2222-3333-4444-555555555555\n"
#define SERVICE                                                                                    \
    UNSIGNED                                                                                       \
    "client-secret = file:/etc/certconnector/client.secret\n"

#define KEYS                                                                                       \
    "[keys]\n"                                                                                     \
    "seal = pkcs11:object=seal\n"                                                                  \
    "ca = pkcs11:object=ca\n"
#define CA                                                                                         \
    "[ca \"corp\"]\n"                                                                              \
    "kind = local\n"
#define SCEP                                                                                       \
    "[connector]\n"                                                                                \
    "features = scep\n" SERVICE KEYS
#define NAME64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char complete[] =
        "\xEF\xBB\xBF; the whole of it\n"
        "# and another comment\n"
        "[connector]\n"
        "name = dc1-connector-1   ; inline\n"
        "features =  pkcs,pfx-import , revocation\n"
        "state = sqlite:/srv/state.db\n"
        "state-directory = /srv/state\n"
        "control-socket = /run/cc/control.sock\n"
        "workers = 7\n"
        "\n" TOKEN "    module = /usr/lib/p11.so\n"
        "\tinit-args = a;b = 'c:d'\n"
        "profile = softhsm\n"
        "sessions = 4\n"
        "deadline = 250ms\n"
        "allow-raw-rsa = no\n"
        "helper = /opt/helper\r\n"
        "[service] ; comment\n"
        "tenant: contoso.example\n"
        "client-id = 11111111-2222-3333-4444-555555555555\n"
        "client-secret = credential:client-secret\n"
        "cloud = custom\n"
        "authority = http://127.0.0.1:8443\n"
        "graph = https://[::1]:9/graph/\n"
        "resource = https://manage.example\n"
        "allow-http = yes\n"
        "intune-app-id = 0000000b-0000-0000-c000-000000000000\n"
        "graph-version = beta\n"
        "proxy = http://proxy.example:3128\n"
        "no-proxy = localhost,.intern.example\n"
        "ca-file = /etc/ca.pem\n"
        "poll-wait = 0ms\n"
        "timeout = 2m\n"
        "heartbeat = 1h\n"
        "max-attempts = 100\n"
        "[keys]\n"
        "pfx-import = pkcs11:object=pfx-import\n"
        "seal = pkcs11:id=%01%02;type=secret-key\n"
        "[key-alias]\n"
        "Contoso HSM/PFXEncryptionKey = pkcs11:object=pfx-import\n"
        "[pfx-import]\n"
        "reencrypt = token\n"
        "check-pfx = no\n"
        "batch = 1\n"
        "[pkcs]\n"
        "ca = test.lab\n"
        "profile = wifi\n"
        "key-generation = token\n"
        "key-pool = 0\n"
        "batch = 100\n"
        "[revocation]\n"
        "reason = cessationOfOperation\n"
        "issuer-name = CN=Issuing CA, O=Contoso\n"
        "poll-interval = 1s\n"
        "max-requests = 500\n"
        "error-codes = number\n"
        "foreign = refuse\n"
        "[scep]\n"
        "listen = unix:/run/scep.sock\n"
        "path = /certsrv/mscep\n"
        "workers = 1\n"
        "max-connections = 65536\n"
        "deadline = 5m\n"
        "remember = 1h\n"
        "ca = corp\n"
        "profile = device\n"
        "challenge = static\n"
        "challenge-secret = credential:scep\n"
        "legacy = des\n"
        "notify = before-reply\n"
        "renewal-window = 30d\n"
        "renewal-grace = 12h\n"
        "queries = yes\n"
        "chain-in-reply = yes\n"
        "root-in-chain = no\n"
        "next-ca = /etc/next-ca.pem\n"
        "ra-sign = /etc/ra-sign.pem\n"
        "ra-encrypt = /etc/ra-encrypt.pem\n"
        "[scep-profile \"wifi\"]\n"
        "ca = test.lab\n"
        "profile = wifi\n"
        "challenge = hook\n"
        "challenge-url = https://hook.example/challenge\n"
        "challenge-file = /etc/scep.secrets\n"
        "legacy = 3des\n"
        "[scep-profile \"plain\"]\n"
        "[publish]\n"
        "listen = [::1]:8081\n"
        "ocsp-cache = 1\n"
        "[ca \"corp\"]\n"
        "kind = local\n"
        "key = pkcs11:object=corp\n"
        "ocsp-key = pkcs11:object=corp-ocsp\n"
        "digest = sha384\n"
        "profile = device\n"
        "authority = ca.contoso.example\n"
        "authority-name = Contoso Issuing CA\n"
        "crl-interval = 12h\n"
        "crl-validity = 2d\n"
        "delta-interval = 1h\n"
        "ocsp-validity = 10m\n"
        "approval = manual\n"
        "crl-urls = http://a.example/corp.crl, ldap:///CN=corp%2CO=C?crl?base\n"
        "delta-crl-urls = http://a.example/corp-delta.crl\n"
        "issuer-urls = http://a.example/corp.cer,https://b.example/corp.cer\n"
        "ocsp-urls = http://a.example:8081/ocsp\n"
        "[ca\t \"test.lab\"] ; another\n"
        "kind = local\n"
        "key = pkcs11:object=lab\n"
        "[profile \"device\"]\n"
        "validity = 30d\n"
        "backdate = 0s\n"
        "key-usages = digitalSignature\n"
        "extended-key-usages = clientAuth,smartcardLogon , 1.3.6.1.5.5.7.3.4\n"
        "subject = CN, O, 2.5.4.5\n"
        "san = dns, ip\n"
        "san-domains = contoso.example, corp\n"
        "keys = ecP256\n"
        "policies = 2.999.1, 1.3.6.1.4.1.311.1\n"
        "crl-urls = ldap://d.example/CN=x\n"
        "delta-crl-urls = http://d.example/delta\n"
        "issuer-urls = http://d.example/cer\n"
        "ocsp-urls = https://d.example/\n"
        "sid = uri\n"
        "templates = Device, Device 2\n"
        "[profile \"wifi\"]\n"
        "[log]\n"
        "directory = /srv/log\n"
        "max-size = 1M\n"
        "debug = operational\n"
        "journald = no\n";

struct folder {
    char path[64]; /* of the folder */
    char file[96];
};

static void
write_file(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void
put(const struct folder *folder, const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    write_file(path, text, strlen(text));
}

static int
setup(void **state)
{
    static struct folder folder;
    char drop_ins[128];

    (void)snprintf(folder.path, sizeof(folder.path), "/tmp/test_config.XXXXXX");
    if (mkdtemp(folder.path) == NULL)
        return -1;
    (void)snprintf(folder.file, sizeof(folder.file), "%s/cc.conf", folder.path);
    (void)snprintf(drop_ins, sizeof(drop_ins), "%s.d", folder.file);
    *state = &folder;
    return mkdir(drop_ins, 0700);
}

static int
teardown(void **state)
{
    const struct folder *folder = *state;
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", folder->path);
    return system(command);
}

static struct config *
load(const struct folder *folder, const char *text, const char *const *overrides, size_t count)
{
    struct config *config = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };

    write_file(folder->file, text, strlen(text));
    if (config_load(folder->file, overrides, count, &config, &err) != 0)
        fail_msg("%s", err.text);
    return config;
}

static void
test_complete(void **state)
{
    struct config *c = load(*state, complete, NULL, 0);

    assert_string_equal(c->connector.name, "dc1-connector-1");
    assert_int_equal(c->connector.features, CONFIG_PKCS | CONFIG_PFX_IMPORT | CONFIG_REVOCATION);
    assert_string_equal(c->connector.state, "sqlite:/srv/state.db");
    assert_string_equal(c->connector.state_directory, "/srv/state");
    assert_string_equal(c->connector.control_socket, "/run/cc/control.sock");
    assert_int_equal(c->connector.workers, 7);
    assert_string_equal(c->token.module, "/usr/lib/p11.so");
    assert_string_equal(c->token.init_args, "a;b = 'c:d'");
    assert_string_equal(c->token.uri, "pkcs11:token=certconnector");
    assert_string_equal(c->token.pin, "file:/etc/certconnector/token.pin");
    assert_string_equal(c->token.profile, "softhsm");
    assert_int_equal(c->token.sessions, 4);
    assert_int_equal(c->token.deadline_ms, 250);
    assert_false(c->token.allow_raw_rsa);
    assert_string_equal(c->token.helper, "/opt/helper");
    assert_string_equal(c->service.tenant, "contoso.example");
    assert_string_equal(c->service.client_secret, "credential:client-secret");
    assert_int_equal(c->service.cloud, CONFIG_CLOUD_CUSTOM);
    assert_string_equal(c->service.authority, "http://127.0.0.1:8443/");
    assert_string_equal(c->service.graph, "https://[::1]:9/graph/");
    assert_string_equal(c->service.resource, "https://manage.example/");
    assert_string_equal(c->service.graph_version, "beta");
    assert_string_equal(c->service.proxy, "http://proxy.example:3128");
    assert_string_equal(c->service.no_proxy, "localhost,.intern.example");
    assert_string_equal(c->service.ca_file, "/etc/ca.pem");
    assert_true(c->service.allow_http);
    assert_int_equal(c->service.poll_wait_ms, 0);
    assert_int_equal(c->service.timeout_ms, 120000);
    assert_int_equal(c->service.heartbeat_ms, 3600000);
    assert_int_equal(c->service.max_attempts, 100);
    assert_int_equal(c->key_count, 2);
    assert_string_equal(config_key(c, "seal"), "pkcs11:id=%01%02;type=secret-key");
    assert_null(config_key(c, "ca"));
    assert_int_equal(c->key_alias_count, 1);
    assert_string_equal(c->key_aliases[0].name, "Contoso HSM/PFXEncryptionKey");
    assert_int_equal(c->pfx_import.reencrypt, CONFIG_REENCRYPT_TOKEN);
    assert_false(c->pfx_import.check_pfx);
    assert_int_equal(c->pfx_import.batch, 1);
    assert_string_equal(c->log.directory, "/srv/log");
    assert_int_equal(c->log.max_size, 1 << 20);
    assert_int_equal(c->log.debug, CONFIG_DEBUG_OPERATIONAL);
    assert_false(c->log.journald);
    assert_string_equal(c->pkcs.ca, "test.lab");
    assert_string_equal(c->pkcs.profile, "wifi");
    assert_int_equal(c->pkcs.key_generation, CONFIG_GENERATE_TOKEN);
    assert_int_equal(c->pkcs.key_pool, 0);
    assert_int_equal(c->pkcs.batch, 100);
    assert_string_equal(c->revocation.reason, "cessationOfOperation");
    assert_string_equal(c->revocation.issuer_name, "CN=Issuing CA, O=Contoso");
    assert_int_equal(c->revocation.poll_interval_ms, 1000);
    assert_int_equal(c->revocation.max_requests, 500);
    assert_int_equal(c->revocation.error_codes, CONFIG_ERROR_CODES_NUMBER);
    assert_int_equal(c->revocation.foreign, CONFIG_FOREIGN_REFUSE);
    assert_string_equal(c->publish.listen, "[::1]:8081");
    assert_int_equal(c->publish.ocsp_cache, 1);
    config_free(c);
}

/* want: the items with "|" behind each. */
static void
assert_list(struct config_list list, const char *want)
{
    char text[512] = "";

    for (size_t i = 0; i < list.count; i++) {
        size_t len = strlen(text);

        (void)snprintf(text + len, sizeof(text) - len, "%s|", list.item[i]);
    }
    assert_string_equal(text, want);
}

static void
test_complete_ca(void **state)
{
    struct config *c = load(*state, complete, NULL, 0);
    const struct config_ca *ca = config_ca_find(c, "corp");

    assert_int_equal(c->ca_count, 2);
    assert_ptr_equal(ca, &c->cas[0]);
    assert_ptr_equal(config_ca_find(c, "test.lab"), &c->cas[1]);
    assert_null(config_ca_find(c, "device"));
    assert_string_equal(ca->name, "corp");
    assert_int_equal(ca->kind, CONFIG_CA_LOCAL);
    assert_string_equal(ca->key, "pkcs11:object=corp");
    assert_string_equal(ca->ocsp_key, "pkcs11:object=corp-ocsp");
    assert_string_equal(ca->digest, "sha384");
    assert_string_equal(ca->profile, "device");
    assert_string_equal(ca->authority, "ca.contoso.example");
    assert_string_equal(ca->authority_name, "Contoso Issuing CA");
    assert_int_equal(ca->crl_interval_ms, 12 * 3600000);
    assert_int_equal(ca->crl_validity_ms, 2 * 86400000);
    assert_int_equal(ca->delta_interval_ms, 3600000);
    assert_int_equal(ca->ocsp_validity_ms, 600000);
    assert_int_equal(ca->approval, CONFIG_APPROVAL_MANUAL);
    assert_list(ca->crl_urls, "http://a.example/corp.crl|ldap:///CN=corp%2CO=C?crl?base|");
    assert_list(ca->delta_crl_urls, "http://a.example/corp-delta.crl|");
    assert_list(ca->issuer_urls, "http://a.example/corp.cer|https://b.example/corp.cer|");
    assert_list(ca->ocsp_urls, "http://a.example:8081/ocsp|");
    assert_string_equal(c->cas[1].key, "pkcs11:object=lab");
    assert_null(c->cas[1].ocsp_key);
    config_free(c);
}

static void
test_complete_profile(void **state)
{
    struct config *c = load(*state, complete, NULL, 0);
    const struct config_profile *profile = config_profile_find(c, "device");

    assert_int_equal(c->profile_count, 2);
    assert_ptr_equal(profile, &c->profiles[0]);
    assert_null(config_profile_find(c, "corp"));
    assert_int_equal(profile->validity_ms, INT64_C(30) * 86400000);
    assert_int_equal(profile->backdate_ms, 0);
    assert_list(profile->key_usages, "digitalSignature|");
    assert_list(profile->extended_key_usages, "clientAuth|smartcardLogon|1.3.6.1.5.5.7.3.4|");
    assert_list(profile->subject, "CN|O|2.5.4.5|");
    assert_list(profile->sans, "dns|ip|");
    assert_list(profile->san_domains, "contoso.example|corp|");
    assert_list(profile->keys, "ecP256|");
    assert_list(profile->policies, "2.999.1|1.3.6.1.4.1.311.1|");
    assert_list(profile->crl_urls, "ldap://d.example/CN=x|");
    assert_list(profile->delta_crl_urls, "http://d.example/delta|");
    assert_list(profile->issuer_urls, "http://d.example/cer|");
    assert_list(profile->ocsp_urls, "https://d.example/|");
    assert_int_equal(profile->sid, CONFIG_SID_URI);
    assert_list(profile->templates, "Device|Device 2|");
    config_free(c);
}

static void
test_complete_scep(void **state)
{
    struct config *c = load(*state, complete, NULL, 0);
    const struct config_scep *own = &c->scep.own, *wifi = &c->scep_profiles[0];

    assert_string_equal(c->scep.listen, "unix:/run/scep.sock");
    assert_string_equal(c->scep.path, "/certsrv/mscep");
    assert_int_equal(c->scep.workers, 1);
    assert_int_equal(c->scep.max_connections, 65536);
    assert_int_equal(c->scep.deadline_ms, 5 * 60000);
    assert_int_equal(c->scep.remember_ms, 3600000);
    assert_null(own->name);
    assert_string_equal(own->ca, "corp");
    assert_string_equal(own->profile, "device");
    assert_int_equal(own->challenge, CONFIG_CHALLENGE_STATIC);
    assert_string_equal(own->challenge_secret, "credential:scep");
    assert_null(own->challenge_file);
    assert_null(own->challenge_url);
    assert_int_equal(own->legacy, CONFIG_LEGACY_DES);
    assert_int_equal(own->notify, CONFIG_NOTIFY_BEFORE_REPLY);
    assert_int_equal(own->renewal_window_ms, INT64_C(30) * 86400000);
    assert_int_equal(own->renewal_grace_ms, 12 * 3600000);
    assert_true(own->queries);
    assert_true(own->chain_in_reply);
    assert_false(own->root_in_chain);
    assert_string_equal(own->next_ca, "/etc/next-ca.pem");
    assert_string_equal(own->ra_sign, "/etc/ra-sign.pem");
    assert_string_equal(own->ra_encrypt, "/etc/ra-encrypt.pem");
    assert_int_equal(c->scep_profile_count, 2);
    assert_string_equal(wifi->name, "wifi");
    assert_string_equal(wifi->ca, "test.lab");
    assert_string_equal(wifi->profile, "wifi");
    assert_int_equal(wifi->challenge, CONFIG_CHALLENGE_HOOK);
    assert_string_equal(wifi->challenge_url, "https://hook.example/challenge");
    assert_string_equal(wifi->challenge_file, "/etc/scep.secrets");
    assert_int_equal(wifi->legacy, CONFIG_LEGACY_3DES);
    config_free(c);
}

/* A profile takes CA and profile from [scep], which takes the only ones, and nothing else. */
static void
test_defaults_of_scep(void **state)
{
    struct config *c = load(*state, complete, NULL, 0);
    const struct config_scep *plain = &c->scep_profiles[1];

    assert_string_equal(plain->name, "plain");
    assert_string_equal(plain->ca, "corp");
    assert_string_equal(plain->profile, "device");
    assert_int_equal(plain->challenge, CONFIG_CHALLENGE_SERVICE);
    assert_null(plain->challenge_secret);
    assert_int_equal(plain->legacy, CONFIG_LEGACY_NONE);
    assert_int_equal(plain->notify, CONFIG_NOTIFY_DURABLE);
    assert_int_equal(plain->renewal_window_ms, 0);
    assert_int_equal(plain->renewal_grace_ms, 0);
    assert_false(plain->queries);
    assert_false(plain->chain_in_reply);
    assert_true(plain->root_in_chain);
    assert_null(plain->next_ca);
    assert_null(plain->ra_sign);
    assert_null(plain->ra_encrypt);
    config_free(c);

    c = load(*state, TOKEN KEYS CA "[profile \"p\"]\n[scep-profile \"s\"]\n", NULL, 0);
    assert_null(c->scep.listen);
    assert_string_equal(c->scep.path, "/scep");
    assert_int_equal(c->scep.workers, 32);
    assert_int_equal(c->scep.max_connections, 512);
    assert_int_equal(c->scep.deadline_ms, 20000);
    assert_int_equal(c->scep.remember_ms, INT64_C(30) * 86400000);
    assert_string_equal(c->scep.own.ca, "corp");
    assert_string_equal(c->scep.own.profile, "p");
    assert_int_equal(c->scep.own.challenge, CONFIG_CHALLENGE_SERVICE);
    assert_true(c->scep.own.root_in_chain);
    assert_string_equal(c->scep_profiles[0].ca, "corp");
    assert_string_equal(c->scep_profiles[0].profile, "p");
    config_free(c);

    /* of two, none is the only one */
    c = load(*state, TOKEN KEYS CA "[ca \"b\"]\nkind = local\n[scep-profile \"s\"]\n", NULL, 0);
    assert_null(c->scep.own.ca);
    assert_null(c->scep.own.profile);
    assert_null(c->scep_profiles[0].ca);
    config_free(c);
}

/* What a CA and a profile are that only have a name, and what follows where there is one of each. */
static void
test_defaults_of_named(void **state)
{
    struct config *c = load(*state,
            TOKEN KEYS "ocsp = pkcs11:object=ocsp\n" CA
                       "crl-urls = http://a.example/\n[profile \"device\"]\n",
            NULL, 0);
    const struct config_ca *ca = config_ca_find(c, "corp");
    const struct config_profile *profile = config_profile_find(c, "device");

    assert_string_equal(ca->key, "pkcs11:object=ca");
    assert_string_equal(ca->ocsp_key, "pkcs11:object=ocsp");
    assert_null(ca->digest);
    assert_null(ca->profile);
    assert_null(ca->authority);
    assert_null(ca->authority_name);
    assert_int_equal(ca->crl_interval_ms, 86400000);
    assert_int_equal(ca->crl_validity_ms, 7 * 86400000);
    assert_int_equal(ca->delta_interval_ms, 0);
    assert_int_equal(ca->ocsp_validity_ms, 3600000);
    assert_int_equal(ca->approval, CONFIG_APPROVAL_NONE);
    assert_list(ca->ocsp_urls, "");
    assert_int_equal(profile->validity_ms, INT64_C(365) * 86400000);
    assert_int_equal(profile->backdate_ms, 5 * 60000);
    assert_list(profile->key_usages, "digitalSignature|keyEncipherment|");
    assert_list(profile->extended_key_usages, "clientAuth|");
    assert_list(profile->subject, "");
    assert_list(profile->sans, "upn|email|dns|uri|guid|");
    assert_list(profile->san_domains, "");
    assert_list(profile->keys, "rsa2048|rsa3072|rsa4096|ecP256|ecP384|");
    assert_list(profile->policies, "");
    assert_list(profile->crl_urls, "");
    assert_int_equal(profile->sid, CONFIG_SID_NONE);
    assert_list(profile->templates, "device|");
    assert_string_equal(c->pkcs.ca, "corp");
    assert_string_equal(c->pkcs.profile, "device");
    config_free(c);

    /* of two, none is the only one */
    c = load(*state, TOKEN KEYS CA "[ca \"b\"]\nkind = local\n[profile \"a\"]\n[profile \"b\"]\n",
            NULL, 0);
    assert_null(c->pkcs.ca);
    assert_null(c->pkcs.profile);
    assert_null(c->cas[1].ocsp_key);
    config_free(c);
}

/* Sections with names: drop-ins and the command line override key by key, and add. */
static void
test_layers_of_named(void **state)
{
    static const char *const overrides[] = {
        "profile.a.b.validity=90d",
        "ca.corp.digest=sha512",
        "profile.late.keys=ecP384",
    };
    struct folder *folder = *state;
    struct config *c;

    put(folder, "cc.conf.d/10-a.conf",
            "[ca \"corp\"]\ndigest = sha384\nocsp-validity = 2h\n[ca \"lab\"]\nkind = local\n");
    put(folder, "cc.conf.d/20-b.conf",
            "[profile \"a.b\"]\nsan = dns\n[ca \"corp\"]\nocsp-validity = 3h\n");
    c = load(folder,
            TOKEN KEYS CA "digest = sha256\ncrl-interval = 2d\n[profile \"a.b\"]\nsan = upn, ip\n"
                          "validity = 1d\n",
            overrides, CC_COUNT(overrides));
    assert_int_equal(c->ca_count, 2);
    assert_string_equal(c->cas[0].digest, "sha512");
    assert_int_equal(c->cas[0].ocsp_validity_ms, 3 * 3600000);
    assert_int_equal(c->cas[0].crl_interval_ms, 2 * 86400000);
    assert_string_equal(c->cas[1].name, "lab");
    assert_int_equal(c->profile_count, 2);
    assert_string_equal(c->profiles[0].name, "a.b");
    assert_int_equal(c->profiles[0].validity_ms, INT64_C(90) * 86400000);
    assert_list(c->profiles[0].sans, "dns|");
    assert_string_equal(c->profiles[1].name, "late");
    assert_list(c->profiles[1].keys, "ecP384|");
    config_free(c);
}

/* 64 of each, and no more; names up to 64 bytes, which inih alone would cut. */
static void
test_many_named(void **state)
{
    struct folder *folder = *state;
    struct cc_err err = { .domain = CC_DOM_NONE };
    struct config *c = load(folder, TOKEN "[profile \"" NAME64 "\"]\nsid = extension\n", NULL, 0);
    char text[8192] = TOKEN;
    size_t len;

    assert_int_equal(config_profile_find(c, NAME64)->sid, CONFIG_SID_EXTENSION);
    config_free(c);

    for (int i = 0; i < 64; i++) {
        len = strlen(text);
        (void)snprintf(text + len, sizeof(text) - len, "[profile \"p%d\"]\n", i);
    }
    c = load(folder, text, NULL, 0);
    assert_int_equal(c->profile_count, 64);
    assert_string_equal(config_profile_find(c, "p63")->templates.item[0], "p63");
    config_free(c);
    len = strlen(text);
    (void)snprintf(text + len, sizeof(text) - len, "[profile \"p64\"]\n");
    write_file(folder->file, text, strlen(text));
    assert_int_equal(config_load(folder->file, NULL, 0, &c, &err), -1);
    assert_non_null(strstr(err.text, ":68: [profile \"NAME\"]: there are more than 64"));
}

/* Each is one that a spoiled twin of bad_files differs from in a detail. */
static void
test_good_values(void **state)
{
    static const char *const table[] = {
        TOKEN "[publish]\nlisten = 127.0.0.1:0\n",
        TOKEN "[publish]\nlisten = [fe80::1]:65535\n",
        TOKEN "[publish]\nlisten = unix:/run/publish.sock\n",
        TOKEN "[profile \"p\"]\npolicies = 2.40, 1.39.0, 0.0, 2.5.29.32.0\n",
        TOKEN "[profile \"p\"]\ncrl-urls = https://h/a?b=c&d=%20, ldap://h:389/CN=a?b;binary\n",
        TOKEN "[profile \"p\"]\nkey-usages = digitalSignature, nonRepudiation, keyEncipherment, "
              "dataEncipherment, keyAgreement, keyCertSign, cRLSign, encipherOnly, decipherOnly\n",
        TOKEN "[profile \"p\"]\nextended-key-usages = serverAuth, clientAuth, codeSigning, "
              "emailProtection, timeStamping, OCSPSigning, smartcardLogon, 2.5.29.37.0\n",
        TOKEN "[profile \"p\"]\nvalidity = 36500d\n[profile \"P\"]\nvalidity = 1m\n",
        TOKEN KEYS CA "crl-interval = 7d\ncrl-validity = 604801s\ndelta-interval = 604799s\n",
        TOKEN "[revocation]\nreason = aACompromise\n",
        TOKEN KEYS "[connector]\nfeatures = revocation\n" SERVICE CA,
        TOKEN KEYS "[connector]\nfeatures = pkcs\n" SERVICE CA "[profile \"p\"]\n",
        TOKEN "[scep]\npath = /a\n",
        TOKEN "[scep]\npath = /cgi-bin/pkiclient.exe\n",
        TOKEN "[scep]\npath = /a~b/c_d/e-f/G.h/i..\n",
        TOKEN "[scep]\npath = /" LONG100 "aaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        TOKEN "[scep]\nlisten = [::1]:0\n",
        TOKEN "[scep]\nchallenge = file\nchallenge-file = /a\n",
        TOKEN "[scep]\nchallenge-url = http://[::1]:8/a\nchallenge = hook\n",
        TOKEN "[scep-profile \"s\"]\nchallenge = static\nchallenge-secret = file:/a\n",
        TOKEN "[scep]\nrenewal-window = 3650d\nrenewal-grace = 0s\n",
        TOKEN SCEP "scep-ra-encrypt = pkcs11:object=e\n" CA
                   "[profile \"p\"]\n[scep]\nlisten = 127.0.0.1:8080\n",
    };

    for (size_t i = 0; i < CC_COUNT(table); i++)
        config_free(load(*state, table[i], NULL, 0));
}

static void
test_defaults(void **state)
{
    struct config *c = load(*state, TOKEN, NULL, 0);

    assert_true(c->connector.name[0] != '\0');
    assert_int_equal(c->connector.features, 0);
    assert_string_equal(c->connector.state, "sqlite:/var/lib/certconnector/state.db");
    assert_string_equal(c->connector.control_socket, "/run/certconnector/control.sock");
    assert_int_equal(c->connector.workers, 0);
    assert_null(c->token.init_args);
    assert_int_equal(c->token.deadline_ms, 10000);
    assert_true(c->token.allow_raw_rsa);
    assert_string_equal(c->service.authority, "https://login.microsoftonline.com/");
    assert_string_equal(c->service.graph, "https://graph.microsoft.com/");
    assert_string_equal(c->service.resource, "https://api.manage.microsoft.com/");
    assert_string_equal(c->service.intune_app_id, "0000000a-0000-0000-c000-000000000000");
    assert_int_equal(c->service.poll_wait_ms, 30000);
    assert_int_equal(c->log.max_size, 50 << 20);
    assert_true(c->log.journald);
    config_free(c);
    config_free(NULL);
}

/* inih alone would cut lines at 200 bytes. */
static void
test_long_line(void **state)
{
    struct config *c = load(*state,
            TOKEN "[keys]\nseal = pkcs11:object=" LONG500 LONG500 LONG500 LONG100 ";id=%01 ; end\n",
            NULL, 0);

    assert_string_equal(config_key(c, "seal"),
            "pkcs11:object=" LONG500 LONG500 LONG500 LONG100 ";id=%01");
    config_free(c);
}

/* Where the service may be, and how it is reached, of each cloud. */
static void
test_ways(void **state)
{
    static const struct {
        const char *text, *want_host; /* NULL: none */
        enum config_private want_private;
        const char *want_proxy;
    } cases[] = {
        { TOKEN, "manage.microsoft.com", CONFIG_PRIVATE_NO, NULL },
        { TOKEN "[service]\ncloud = dod\nprivate-addresses = yes\nproxy = https://proxy.example:3129\n",
                "manage.microsoft.us", CONFIG_PRIVATE_YES, "https://proxy.example:3129" },
        { TOKEN "[service]\ncloud = usgov\nproxy = none\nproxy-user = u\n", "manage.microsoft.us",
                CONFIG_PRIVATE_NO, NULL },
        { TOKEN "[service]\nallowed-hosts = .a.example, [::1], 10.0.0.1\n", ".a.example",
                CONFIG_PRIVATE_NO, NULL },
        { TOKEN "[service]\ncloud = custom\nauthority = https://a.example\ngraph = https://g.example\n"
                "resource = https://r.example\n",
                NULL, CONFIG_PRIVATE_YES, NULL },
    };

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct config *c = load(*state, cases[i].text, NULL, 0);

        if (cases[i].want_host == NULL)
            assert_int_equal(c->service.allowed_hosts.count, 0);
        else
            assert_string_equal(c->service.allowed_hosts.item[0], cases[i].want_host);
        assert_int_equal(c->service.private_addresses, cases[i].want_private);
        if (cases[i].want_proxy == NULL)
            assert_null(c->service.proxy);
        else
            assert_string_equal(c->service.proxy, cases[i].want_proxy);
        assert_int_equal(c->service.max_clock_skew_ms, 300000);
        config_free(c);
    }
}

static void
test_sign_in(void **state)
{
    static const struct {
        const char *text, *want_key;
        enum config_assertion want_alg;
        bool want_chain;
    } cases[] = {
        { TOKEN UNSIGNED "client-certificate = /etc/c.pem\nclient-key = pkcs11:object=own\n"
                         "client-assertion = rs256\nclient-chain = yes\n",
                "pkcs11:object=own", CONFIG_ASSERTION_RS256, true },
        { TOKEN UNSIGNED "client-certificate = /etc/c.pem\n[keys]\nidentity = pkcs11:object=id\n",
                "pkcs11:object=id", CONFIG_ASSERTION_PS256, false },
    };

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct config *c = load(*state, cases[i].text, NULL, 0);

        assert_null(c->service.client_secret);
        assert_string_equal(c->service.client_certificate, "/etc/c.pem");
        assert_string_equal(c->service.client_key, cases[i].want_key);
        assert_int_equal(c->service.client_assertion, cases[i].want_alg);
        assert_int_equal(c->service.client_chain, cases[i].want_chain);
        config_free(c);
    }
}

static void
test_clouds(void **state)
{
    static const struct {
        const char *text;
        const char *want_graph;
    } table[] = {
        { TOKEN "[service]\ncloud = usgov\n", "https://graph.microsoft.us/" },
        { TOKEN "[service]\ncloud = dod\n", "https://dod-graph.microsoft.us/" },
        { TOKEN "[service]\ncloud = china\nresource = https://manage.example\nallowed-hosts = manage.example\n",
                "https://microsoftgraph.chinacloudapi.cn/" },
    };

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct config *c = load(*state, table[i].text, NULL, 0);

        assert_string_equal(c->service.graph, table[i].want_graph);
        config_free(c);
    }
}

/* Drop-ins override in order of name, the command line overrides all. */
static void
test_layers(void **state)
{
    static const char *const overrides[] = {
        "log.debug=admin",
        "key-alias.A.B/C=D=pkcs11:object=last",
        "key-alias.A/B=pkcs11:object=last",
    };
    struct folder *folder = *state;
    struct config *c;
    struct cc_err err = { .domain = CC_DOM_NONE };

    put(folder, "cc.conf.d/20-b.conf", "[log]\nmax-size = 3M\n[pfx-import]\nbatch = 3\n");
    put(folder, "cc.conf.d/10-a.conf",
            "[log]\nmax-size = 2M\ndebug = all\n[key-alias]\nA/B = pkcs11:object=a\n");
    put(folder, "cc.conf.d/30-not-one.conf.bak", "nonsense");
    put(folder, "cc.conf.d/.hidden.conf", "nonsense");
    write_file(folder->file, TOKEN "[log]\nmax-size = 1M\n",
            strlen(TOKEN "[log]\nmax-size = 1M\n"));

    if (config_load(folder->file, &overrides[2], 1, &c, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(c->log.max_size, 3 << 20);
    assert_int_equal(c->log.debug, CONFIG_DEBUG_ALL);
    assert_int_equal(c->pfx_import.batch, 3);
    assert_int_equal(c->key_alias_count, 1);
    assert_string_equal(c->key_aliases[0].value, "pkcs11:object=last");
    config_free(c);

    if (config_load(folder->file, overrides, 1, &c, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(c->log.debug, CONFIG_DEBUG_ADMIN);
    config_free(c);

    /* an error of a drop-in names the drop-in */
    put(folder, "cc.conf.d/20-b.conf", "\n\n[log]\nmax-sise = 3M\n");
    c = NULL;
    assert_int_equal(config_load(folder->file, NULL, 0, &c, &err), -1);
    assert_null(c);
    assert_non_null(strstr(err.text, "/cc.conf.d/20-b.conf:4: [log] max-sise: "));
    assert_non_null(strstr(err.text, "did you mean max-size?"));
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    assert_int_equal(err.code, 4);
}

struct bad {
    const char *text;
    int want_line;
    const char *want_text;
};

static const struct bad bad_files[] = {
    /* form */
    { TOKEN "[log\n", 4, "has no ]" },
    { TOKEN "[log] debug = all\n", 4, "text follows the ]" },
    { TOKEN "just words\n", 4, "neither [section] nor key = value" },
    { TOKEN "words\n[lag]\n", 4, "neither [section] nor key = value" },
    { "debug = all\n" TOKEN, 1, "before any section" },
    { TOKEN "; " LONG500 LONG500 LONG500 LONG500 "\n", 4, "too long" },
    { TOKEN "[" LONG100 "]\n", 4, "name is too long" },
    { TOKEN "[log]\ndirectory = /a\x1b[2Jb\n", 5, "[log] directory: holds a control byte" },
    { TOKEN "[log]\ndirectory = /a\xff\n", 5, "[log] directory: is not UTF-8" },
    { TOKEN "[log]\ndirectory =\n", 5, "[log] directory: is empty" },
    /* names */
    { TOKEN "[logs]\n", 4, "[logs]: there is no such section; did you mean [log]?" },
    { TOKEN "[ca]\n", 4, "[ca]: this section has a name in quotes; write [ca \"NAME\"]" },
    { TOKEN "[ca corp]\n", 4, "this section has a name in quotes" },
    { TOKEN "[ca.corp]\n", 4, "this section has a name in quotes" },
    { TOKEN "[ca\"corp\"]\n", 4, "this section has a name in quotes" },
    { TOKEN "[ca \"corp]\n", 4, "this section has a name in quotes" },
    { TOKEN "[ca \"corp\" ]\n", 4, "this section has a name in quotes" },
    { TOKEN "[profile \"]\n", 4, "write [profile \"NAME\"]" },
    { TOKEN "[profile \"\"]\n", 4, "must have 1 to 64 bytes" },
    { TOKEN "[profile \"" NAME64 "a\"]\n", 4, "must have 1 to 64 bytes" },
    { TOKEN "[profile \"a b\"]\n", 4, "must be letters, digits" },
    { TOKEN "[profile \"a\x1b\"]\n", 4,
            "[profile \"a\\x1b\"]: the name in quotes must be letters" },
    { TOKEN "[profil \"device\"]\n", 4, "did you mean [profile \"NAME\"]?" },
    { TOKEN "[log \"x\"]\n", 4, "[log \"x\"]: there is no such section; did you mean [log]?" },
    { TOKEN "[monitoring]\n", 4, "log, ca \"NAME\", profile \"NAME\", keys, key-alias" },
    { TOKEN "[monitoring]\n", 4, "there is no such section; known are connector, token" },
    { TOKEN "modul = /x\n", 4, "[token] modul: there is no such key; did you mean module?" },
    { TOKEN "tenant = contoso.example\n", 4,
            "[token] tenant: there is no such key; it belongs in [service]" },
    { TOKEN "\n[pfx-import]\nfrobnicate = 1\n", 6, "known are reencrypt, check-pfx, batch" },
    { TOKEN "[ca \"corp\"]\ndigset = sha256\n", 5,
            "[ca \"corp\"] digset: there is no such key; did you mean digest?" },
    { TOKEN "[pkcs]\ncrl-urls = http://a/\n", 5,
            "it belongs in [ca \"NAME\"] or [profile \"NAME\"]" },
    { TOKEN "[keys]\npfximport = pkcs11:object=x\n", 5, "did you mean pfx-import?" },
    { TOKEN "[Log]\n", 4, "did you mean [log]?" },
    { TOKEN "PIN = file:/x\n", 4, "[token] PIN: there is no such key" },
    /* twice */
    { TOKEN "pin = file:/x\n", 4, "[token] pin: is set a second time; line 3 has it" },
    { TOKEN "[log]\ndebug=all\n[token]\nuri = pkcs11:token=b\n", 7,
            "[token] uri: is set a second time; line 2" },
    { TOKEN "[keys]\nseal = pkcs11:object=a\nseal = pkcs11:object=b\n", 6,
            "[keys] seal: is set a second time; line 5" },
    { TOKEN "[key-alias]\nA/B = pkcs11:object=a\nA/B = pkcs11:object=b\n", 6,
            "[key-alias] A/B: is set a second" },
    { TOKEN CA "key = pkcs11:object=a\nkind = local\n", 7,
            "[ca \"corp\"] kind: is set a second time; line 5" },
    { TOKEN CA "[log]\n[ca  \"corp\"]\nkey = pkcs11:object=a\n", 7,
            "[ca \"corp\"]: this section stands here a second time; line 4 begins it" },
    /* values */
    { TOKEN "[connector]\nfeatures = pfx-imprt\n", 5, "did you mean pfx-import" },
    { TOKEN "[connector]\nfeatures = everything\n", 5,
            "there is no feature \"everything\"; write pkcs, pfx-import, scep or revocation" },
    { TOKEN "[connector]\nfeatures = pfx-import, pfx-import\n", 5, "pfx-import stands here twice" },
    { TOKEN "[connector]\nfeatures = pfx-import,\n", 5, "must be features with commas" },
    { TOKEN "[connector]\nname = two words\n", 5, "must be 1 to 64 letters" },
    { TOKEN "[connector]\nstate = postgresql://u:p@h/db\n", 5, "must not hold a password" },
    { TOKEN "[connector]\nstate = postgresql:db\n", 5, "must be sqlite:/PATH, or postgresql:" },
    { TOKEN "[connector]\nstate = state.db\n", 5, "must be sqlite:/PATH, or postgresql:" },
    { TOKEN "[connector]\nstate-directory = lib\n", 5, "must be an absolute path" },
    { TOKEN "[connector]\ncontrol-socket = /" LONG100 LONG100 "\n", 5, "too long for a socket" },
    { TOKEN "[connector]\nworkers = 0\n", 5, "must be auto or a number from 1 to 256" },
    { TOKEN "sessions = -1\n", 4, "must be auto or a number from 1 to 256" },
    { TOKEN "deadline = 10\n", 4, "must be a time with its unit" },
    { TOKEN "deadline = 1d\n", 4, "must be from 100ms to 10m" },
    { TOKEN "allow-raw-rsa = true\n", 4, "must be yes or no" },
    { TOKEN "[keys]\nseal = seal\n", 5,
            "[keys] seal: must be a PKCS#11 URI; begin it with pkcs11:" },
    { TOKEN "[keys]\nseal = pkcs11:token=x\n", 5, "names no key" },
    { TOKEN "[keys]\nseal = pkcs11:object=a b\n", 5, "write it as %XX" },
    { TOKEN "[keys]\nseal = pkcs11:object=a?pin-value=1234\n", 5, "must not name a PIN" },
    { TOKEN "[key-alias]\nPFXEncryptionKey = pkcs11:object=a\n", 5,
            "an alias must be PROVIDER/KEY" },
    { TOKEN "[key-alias]\n/x = pkcs11:object=a\n", 5, "an alias must be PROVIDER/KEY" },
    { TOKEN "[service]\ntenant = a b\n", 5, "domain name or UUID" },
    { TOKEN "[service]\nclient-id = 11111111\n", 5, "must be a UUID" },
    { TOKEN "[service]\ncloud = mars\n", 5,
            "\"mars\" is no choice; write one of public, usgov, dod, china, custom" },
    { TOKEN "[service]\nproxy = proxy.example:3128\n", 5, "must be http://HOST:PORT" },
    { TOKEN "[service]\nproxy = http://u:p@proxy.example:3128\n", 5,
            "without user name or password" },
    { TOKEN "[service]\nproxy = http://proxy.example:99999\n", 5, "must be http://HOST:PORT" },
    { TOKEN "[service]\nproxy-user = a:b\n", 5, "no colon" },
    { TOKEN "[service]\nproxy-password = hunter2\n", 5, "must be a reference" },
    { TOKEN "[service]\nallowed-hosts = https://a.example\n", 5, "must be a host or the end" },
    { TOKEN "[service]\nallowed-hosts = a.example:443\n", 5, "must be a host or the end" },
    { TOKEN "[service]\nallowed-hosts = a.example, b.example/x\n", 5, "must be a host or the end" },
    { TOKEN "[service]\nprivate-addresses = maybe\n", 5, "write one of auto, no, yes" },
    { TOKEN "[service]\nmax-clock-skew = 8d\n", 5, "must be from 0ms to 7d" },
    { TOKEN "[service]\nmax-attempts = 5x\n", 5, "must be a number from 1 to 100" },
    { TOKEN "[pfx-import]\nbatch = 101\n", 5, "must be a number from 1 to 100" },
    { TOKEN "[log]\nmax-size = 50MB\n", 5, "must be a size" },
    { TOKEN "[log]\nmax-size = 1\n", 5, "must be from 4K to 1024G" },
    { TOKEN "[log]\ndebug = yes\n", 5, "write one of none, admin, operational, all" },
    /* values of sections with names, lists */
    { TOKEN "[ca \"c\"]\nkind = est\n", 5,
            "[ca \"c\"] kind: \"est\" is no choice; write one of local" },
    { TOKEN "[ca \"c\"]\nkey = pkcs11:token=x\n", 5, "names no key" },
    { TOKEN "[ca \"c\"]\ndigest = sha1\n", 5, "write one of sha256, sha384, sha512" },
    { TOKEN "[ca \"c\"]\nprofile = a b\n", 5, "must be 1 to 64 letters" },
    { TOKEN "[ca \"c\"]\ncrl-interval = 0s\n", 5, "must be from 1s to 365d" },
    { TOKEN "[ca \"c\"]\ncrl-validity = 3651d\n", 5, "must be from 1s to 3650d" },
    { TOKEN "[ca \"c\"]\ndelta-interval = 366d\n", 5, "must be from 0ms to 365d" },
    { TOKEN "[ca \"c\"]\nocsp-validity = 1\n", 5, "must be a time with its unit" },
    { TOKEN "[ca \"c\"]\ncrl-urls = ftp://h/\n", 5,
            "item 1 of the list: must be a URL that begins with http://, https:// or ldap://" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/,http://\n", 5, "item 2 of the list: must be a URL" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/ a\n", 5, "item 1 of the list: must be a URL" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/#a\n", 5, "item 1 of the list: must be a URL" },
    { TOKEN "[ca \"c\"]\nissuer-urls = ldap:///CN=a,O=b\n", 5, "a comma in it is written %2C" },
    { TOKEN "[ca \"c\"]\ndelta-crl-urls = ldap://?a\n", 5, "item 1 of the list: must be a URL" },
    { TOKEN "[ca \"c\"]\nocsp-urls = ldap://h/CN=a\n", 5,
            "must be a URL that begins with http://" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/, \n", 5, "none of them empty" },
    { TOKEN "[ca \"c\"]\ncrl-urls = ,http://h/\n", 5, "none of them empty" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/,,http://i/\n", 5, "none of them empty" },
    { TOKEN "[ca \"c\"]\ncrl-urls = http://h/a, http://h/b, http://h/a\n", 5,
            "item 3 of the list is item 1 again" },
    { TOKEN "[profile \"p\"]\nvalidity = 36501d\n", 5, "must be from 1m to 36500d" },
    { TOKEN "[profile \"p\"]\nbackdate = 8d\n", 5, "must be from 0ms to 7d" },
    { TOKEN "[profile \"p\"]\nkey-usages = DigitalSignature\n", 5,
            "item 1 of the list: \"DigitalSignature\" is no choice; write one of digitalSignature" },
    { TOKEN "[profile \"p\"]\nextended-key-usages = clientAuth, any\n", 5,
            "item 2 of the list: \"any\" is no choice; write one of serverAuth" },
    { TOKEN "[profile \"p\"]\nextended-key-usages = 1.3.6.\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\nsan = mail\n", 5, "write one of upn, email, dns, uri, ip, guid" },
    { TOKEN "[profile \"p\"]\nsan-domains = contoso.example, .example\n", 5, "must be a domain" },
    { TOKEN "[profile \"p\"]\nsan-domains = a..b\n", 5, "must be a domain" },
    { TOKEN "[profile \"p\"]\nsan-domains = a.\n", 5, "must be a domain" },
    { TOKEN "[profile \"p\"]\nsubject = CN, E-Mail\n", 5,
            "must be an attribute's short name or OID" },
    { TOKEN "[profile \"p\"]\nkeys = rsa1024\n", 5, "write one of rsa2048, rsa3072" },
    { TOKEN "[profile \"p\"]\npolicies = 1\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = 3.1\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = 1.40\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = 1.2.03\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = 1..2\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = 1.4294967297\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\npolicies = anyPolicy\n", 5, "must be an OID" },
    { TOKEN "[profile \"p\"]\nsid = yes\n", 5, "write one of none, extension, uri" },
    { TOKEN "[pkcs]\nkey-generation = hsm\n", 5, "write one of host, token" },
    { TOKEN "[pkcs]\nkey-pool = 10001\n", 5, "must be a number from 0 to 10000" },
    { TOKEN "[pkcs]\nbatch = 0\n", 5, "must be a number from 1 to 100" },
    { TOKEN "[revocation]\nreason = removeFromCRL\n", 5,
            "\"removeFromCRL\" is no choice; write one of unspecified, keyCompromise" },
    { TOKEN "[revocation]\npoll-interval = 8d\n", 5, "must be from 1s to 7d" },
    { TOKEN "[revocation]\nmax-requests = 501\n", 5, "must be a number from 1 to 500" },
    { TOKEN "[revocation]\nerror-codes = text\n", 5, "write one of name, number" },
    { TOKEN "[revocation]\nforeign = drop\n", 5, "write one of leave, refuse" },
    { TOKEN "[scep]\nlisten = 8080\n", 5, "[scep] listen: must be an address and port" },
    { TOKEN "[scep]\nlisten = scep.example:8080\n", 5, "must be an address and port" },
    { TOKEN "[scep]\npath = scep\n", 5, "[scep] path: must be the path of a URL, begun with /" },
    { TOKEN "[scep]\npath = /\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /scep/\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = //scep\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /a//b\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /a/../b\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /.a\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /a?b\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /a%20b\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /a b\n", 5, "must be the path of a URL" },
    { TOKEN "[scep]\npath = /" LONG100 "aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 5,
            "must be the path of a URL" },
    { TOKEN "[scep]\nworkers = 0\n", 5, "must be a number from 1 to 256" },
    { TOKEN "[scep]\nworkers = auto\n", 5, "must be a number from 1 to 256" },
    { TOKEN "[scep]\nmax-connections = 65537\n", 5, "must be a number from 1 to 65536" },
    { TOKEN "[scep]\ndeadline = 301s\n", 5, "must be from 1s to 5m" },
    { TOKEN "[scep]\nremember = 59m\n", 5, "must be from 1h to 3650d" },
    { TOKEN "[scep]\nca = a b\n", 5, "must be 1 to 64 letters" },
    { TOKEN "[scep]\nchallenge = intune\n", 5, "write one of service, static, file, hook" },
    { TOKEN "[scep]\nchallenge-secret = geheim\n", 5,
            "[scep] challenge-secret: must be a reference" },
    { TOKEN "[scep]\nchallenge-file = secrets\n", 5, "must be an absolute path" },
    { TOKEN "[scep]\nchallenge-url = https://h/a?b=c\n", 5, "must be a URL without user name" },
    { TOKEN "[scep]\nlegacy = md5\n", 5, "write one of none, 3des, des" },
    { TOKEN "[scep]\nnotify = never\n", 5, "write one of durable, before-reply" },
    { TOKEN "[scep]\nrenewal-window = 3651d\n", 5, "must be from 0ms to 3650d" },
    { TOKEN "[scep]\nrenewal-grace = 7\n", 5, "must be a time with its unit" },
    { TOKEN "[scep]\nqueries = true\n", 5, "must be yes or no" },
    { TOKEN "[scep]\nchain-in-reply = all\n", 5, "must be yes or no" },
    { TOKEN "[scep]\nroot-in-chain = 1\n", 5, "must be yes or no" },
    { TOKEN "[scep]\nnext-ca = next.pem\n", 5, "must be an absolute path" },
    { TOKEN "[scep]\nra-sign = sign.pem\n", 5, "must be an absolute path" },
    { TOKEN "[scep-profile \"s\"]\nra-encrypt = encrypt.pem\n", 5,
            "[scep-profile \"s\"] ra-encrypt: must be an absolute path" },
    { TOKEN "[scep-profile \"s\"]\nlegacy = yes\n", 5, "write one of none, 3des, des" },
    { TOKEN "[scep-profile \"s\"]\nlisten = 127.0.0.1:8080\n", 5,
            "[scep-profile \"s\"] listen: there is no such key; it belongs in [scep]" },
    { TOKEN "[scep-profile]\n", 4, "write [scep-profile \"NAME\"]" },
    { TOKEN "[publish]\nlisten = 8081\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = pki.contoso.example:8081\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = 127.0.0.1:65536\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = 127.0.0.1\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = ::1:8081\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = [::1]\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = [127.0.0.1]:8081\n", 5, "must be an address and port" },
    { TOKEN "[publish]\nlisten = unix:run\n", 5, "must be an absolute path" },
    { TOKEN "[publish]\nocsp-cache = 0\n", 5, "must be a number from 1 to 65536" },
    /* missing, and what does not go together */
    { TOKEN KEYS "[profile \"p\"]\n[ca \"corp\"]\ndigest = sha256\n", 8,
            "[ca \"corp\"] kind: is missing; add for example kind = local" },
    { TOKEN CA, 4, "[ca \"corp\"] key: is missing, and [keys] has no ca" },
    { TOKEN KEYS CA "crl-interval = 8d\n", 9,
            "[ca \"corp\"] crl-interval: a CRL must be valid longer than until the next" },
    { TOKEN KEYS CA "crl-validity = 3d\ncrl-interval = 3d\n", 9,
            "[ca \"corp\"] crl-validity: a CRL" },
    { TOKEN KEYS CA "delta-interval = 1d\n", 9, "must be shorter than crl-interval" },
    { TOKEN KEYS CA "profile = devise\n[profile \"device\"]\n", 9,
            "[ca \"corp\"] profile: there is no [profile \"devise\"]; did you mean device?" },
    { TOKEN KEYS CA "profile = p\n", 9, "add a section [profile \"p\"]" },
    { TOKEN KEYS CA "[pkcs]\nca = crop\n", 10,
            "[pkcs] ca: there is no [ca \"crop\"]; did you mean corp?" },
    { TOKEN KEYS CA "[pkcs]\nca = elsewhere\n", 10,
            "there is no [ca \"elsewhere\"]; known are corp" },
    { TOKEN "[pkcs]\nprofile = p\n", 5,
            "[pkcs] profile: there is no [profile \"p\"]; add a section" },
    { TOKEN "[profile \"a\"]\ntemplates = x, b\n[profile \"b\"]\n", 6,
            "[profile \"b\"] templates: item 1 of the list is of [profile \"a\"], too" },
    { TOKEN "[profile \"a\"]\n[profile \"b\"]\ntemplates = b, c, a\n", 6,
            "[profile \"b\"] templates: item 3 of the list is of [profile \"a\"], too" },
    { TOKEN "[scep]\nca = corp\n", 5, "[scep] ca: there is no [ca \"corp\"]; add a section" },
    { TOKEN KEYS CA "[scep]\nca = crop\n", 10,
            "[scep] ca: there is no [ca \"crop\"]; did you mean corp?" },
    { TOKEN "[profile \"p\"]\n[scep]\nprofile = q\n", 6,
            "[scep] profile: there is no [profile \"q\"]; known are p" },
    { TOKEN KEYS CA "[scep-profile \"s\"]\nca = crop\n", 10,
            "[scep-profile \"s\"] ca: there is no [ca \"crop\"]; did you mean corp?" },
    { TOKEN "[profile \"p\"]\n[scep-profile \"s\"]\nprofile = q\n", 6,
            "[scep-profile \"s\"] profile: there is no [profile \"q\"]; known are p" },
    { TOKEN "[scep]\nchallenge = static\nchallenge-file = /a\n", 5,
            "[scep] challenge: static needs challenge-secret" },
    { TOKEN "[scep]\nchallenge-secret = file:/a\nchallenge = file\n", 6,
            "[scep] challenge: file needs challenge-file" },
    { TOKEN "[scep]\nchallenge = hook\n", 5, "[scep] challenge: hook needs challenge-url" },
    { TOKEN "[scep]\nchallenge-secret = file:/a\n[scep-profile \"s\"]\nchallenge = static\n", 7,
            "[scep-profile \"s\"] challenge: static needs challenge-secret" },
    { TOKEN "[scep-profile \"s\"]\nchallenge = file\n", 5, "file needs challenge-file" },
    { TOKEN "[scep-profile \"s\"]\nchallenge = hook\n", 5, "hook needs challenge-url" },
    { TOKEN SCEP "scep-ra-encrypt = pkcs11:object=e\n" CA "[profile \"p\"]\n", 5,
            "[connector] features: scep has no address; add listen = 127.0.0.1:8080 to [scep]" },
    { TOKEN SCEP "scep-ra-encrypt = pkcs11:object=e\n" CA "[scep]\nlisten = 127.0.0.1:8080\n", 5,
            "scep has no CA or no profile" },
    { TOKEN SCEP "scep-ra-encrypt = pkcs11:object=e\n[profile \"p\"]\n"
                 "[scep]\nlisten = 127.0.0.1:8080\n",
            5, "scep has no CA or no profile" },
    { TOKEN SCEP "scep-ra-sign = pkcs11:object=s\n" CA "[profile \"p\"]\n"
                 "[scep]\nlisten = 127.0.0.1:8080\n",
            5, "scep has no keys; add scep-ra-sign, scep-ra-encrypt and seal to [keys]" },
    { TOKEN "[connector]\nfeatures = scep\n" SERVICE
            "[keys]\nca = pkcs11:object=c\nscep-ra-encrypt = pkcs11:object=e\n" CA
            "[profile \"p\"]\n[scep]\nlisten = 127.0.0.1:8080\n",
            5, "scep has no keys" },
    { TOKEN "[connector]\nfeatures = scep\n", 5,
            "[service] tenant: is missing, and the features need it" },
    { TOKEN KEYS "[connector]\nfeatures = pkcs\n" SERVICE "[profile \"p\"]\n", 8,
            "pkcs has no CA" },
    { TOKEN KEYS "[connector]\nfeatures = pkcs\n" SERVICE CA, 8, "pkcs has no profile" },
    { TOKEN "[connector]\nfeatures = pkcs\n" SERVICE CA "key = pkcs11:object=a\n[profile \"p\"]\n",
            5, "pkcs has no key to seal others with; add seal = pkcs11:object=NAME to [keys]" },
    { TOKEN "[connector]\nfeatures = revocation\n" SERVICE, 5, "revocation has no CA" },
    { "; empty\n\n", 2,
            "[token] uri: is missing; add for example uri = pkcs11:token=certconnector" },
    { "", 1, "[token] uri: is missing" },
    { "\n[token]\nuri = pkcs11:token=x\n[log]\n", 2, "[token] pin: is missing" },
    { "[token]\nuri = pkcs11:object=x\n", 2, "names no token" },
    { TOKEN "[connector]\nfeatures = pfx-import\n[service]\ntenant = a\n", 6,
            "[service] client-id: is missing, and the features need it" },
    { TOKEN "[connector]\nfeatures = pfx-import\n" SERVICE, 5, "pfx-import has no key" },
    { TOKEN "[connector]\nfeatures = pfx-import\n[keys]\npfx-import = pkcs11:object=p\n" UNSIGNED,
            8,
            "[service] client-secret: is missing, and the features need it, or client-certificate instead" },
    { TOKEN SERVICE "client-certificate = /etc/c.pem\n", 8,
            "[service] client-certificate: is a second way to sign in beside client-secret" },
    { TOKEN SERVICE "client-key = pkcs11:object=identity\n", 8,
            "[service] client-key: signs in only with its certificate" },
    { TOKEN UNSIGNED "client-certificate = /etc/c.pem\n", 7,
            "[service] client-certificate: has no key; add identity = pkcs11:object=identity to [keys]" },
    { TOKEN UNSIGNED "client-certificate = c.pem\n", 7, "must be an absolute path" },
    { TOKEN UNSIGNED "client-assertion = es256\n", 7,
            "[service] client-assertion: \"es256\" is no choice" },
    { TOKEN "[service]\ncloud = custom\ngraph=https://a\nresource=https://b\n", 5,
            "[service] cloud: custom needs authority too" },
    { TOKEN "[service]\ncloud = china\n", 5, "[service] cloud: china needs resource too" },
    { TOKEN "[service]\ncloud = china\nresource = https://manage.example\n", 5,
            "[service] cloud: china needs allowed-hosts too" },
    { TOKEN "[service]\nproxy-password = file:/a\n", 5, "[service] proxy-password: is of no user" },
    { TOKEN "[service]\ngraph = https://graph.example/\n", 5,
            "[service] graph: is given by cloud = public" },
    { TOKEN "[service]\ncloud = custom\nauthority=https://a\ngraph=http://a\nresource=https://a\n",
            7, "[service] graph: must begin with https://" },
    { TOKEN "[service]\ngraph = https://u@h/\n", 5, "must be a URL without user name" },
};

static void
expect_bad(const char *file, const struct bad *bad, const char *const *overrides, size_t count)
{
    struct config *config = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };
    char place[128];

    if (config_load(file, overrides, count, &config, &err) == 0)
        fail_msg("accepted: %s", bad->text);
    assert_null(config);
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    if (bad->want_line > 0)
        (void)snprintf(place, sizeof(place), "%s:%d: ", file, bad->want_line);
    else
        (void)snprintf(place, sizeof(place), "command line: ");
    if (strncmp(err.text, place, strlen(place)) != 0 || strstr(err.text, bad->want_text) == NULL)
        fail_msg("%s\n  gave: %s\n  want: %s… %s", bad->text, err.text, place, bad->want_text);
    assert_int_equal(err.code, bad->want_line);
}

static void
test_bad_files(void **state)
{
    const struct folder *folder = *state;

    for (size_t i = 0; i < CC_COUNT(bad_files); i++) {
        write_file(folder->file, bad_files[i].text, strlen(bad_files[i].text));
        expect_bad(folder->file, &bad_files[i], NULL, 0);
    }
}

static void
test_nul_byte(void **state)
{
    static const char text[] = TOKEN "[log]\ndebug = all\0; hidden\n";
    static const struct bad want = { text, 5, "NUL byte" };
    const struct folder *folder = *state;

    write_file(folder->file, text, sizeof(text) - 1);
    expect_bad(folder->file, &want, NULL, 0);
}

static void
test_bad_overrides(void **state)
{
    static const struct bad table[] = {
        { "debug=all", 0, "must be SECTION.KEY=VALUE" },
        { "log.debug", 0, "must be SECTION.KEY=VALUE" },
        { "log.=all", 0, "must be SECTION.KEY=VALUE" },
        { ".debug=all", 0, "must be SECTION.KEY=VALUE" },
        { "log.debg=all", 0, "[log] debg: there is no such key; did you mean debug?" },
        { "lug.debug=all", 0, "[lug]: there is no such section; did you mean [log]?" },
        { "ca.kind=local", 0, "this setting must be ca.NAME.KEY=VALUE" },
        { "profile.a b.sid=uri", 0, "[profile \"a b\"]: the name in quotes must be letters" },
        { "profile..sid=uri", 0, "must have 1 to 64 bytes" },
        { "profile.a.=uri", 0, "[profile \"a\"] : there is no such key" },
        { "profile.a.sit=uri", 0, "[profile \"a\"] sit: there is no such key; did you mean sid?" },
        { "profil.a.sid=uri", 0, "did you mean [profile \"NAME\"]?" },
        { "ca.corp.key=pkcs11:object=x", 0, "[ca \"corp\"] kind: is missing" },
        { "log.debug=", 0, "[log] debug: is empty" },
        { "log.directory=/a\nb", 0, "[log] directory: holds a control byte" },
    };
    const struct folder *folder = *state;

    write_file(folder->file, TOKEN, strlen(TOKEN));
    for (size_t i = 0; i < CC_COUNT(table); i++)
        expect_bad(folder->file, &table[i], &table[i].text, 1);
}

/* A secret in the wrong place does not come back in the error. */
static void
test_secrets_are_not_repeated(void **state)
{
    static const char *const table[] = {
        TOKEN "[service]\nclient-secret = hunter2\n",
        TOKEN "[service]\nclient-secrt = hunter2\n",
        TOKEN "[service]\nproxy = http://user:hunter2@proxy.example/\n",
        TOKEN "[keys]\nseal = pkcs11:object=seal?pin-value=hunter2\n",
        TOKEN "[service]\nhunter2\n",
        TOKEN "[scep]\nchallenge-secret = hunter2\n",
        "[token]\nuri = pkcs11:token=x\npin = hunter2\n",
    };
    static const char *const overrides[] = { "token.pin=hunter2", "pin=hunter2" };
    const struct folder *folder = *state;

    for (size_t i = 0; i < CC_COUNT(table) + CC_COUNT(overrides); i++) {
        bool is_file = i < CC_COUNT(table);
        const char *text = is_file ? table[i] : TOKEN;
        struct config *config = NULL;
        struct cc_err err = { .domain = CC_DOM_NONE };

        write_file(folder->file, text, strlen(text));
        assert_int_equal(config_load(folder->file, is_file ? NULL : &overrides[i - CC_COUNT(table)],
                                 is_file ? 0 : 1, &config, &err),
                -1);
        assert_true(err.text[0] != '\0');
        assert_null(strstr(err.text, "hunter2"));
    }
}

static void
test_unreadable(void **state)
{
    const struct folder *folder = *state;
    struct config *config = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };

    assert_int_equal(config_load("/nonexistent/cc.conf", NULL, 0, &config, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_non_null(strstr(err.text, "/nonexistent/cc.conf"));
    cc_err_clear(&err);
    assert_int_equal(config_load(folder->path, NULL, 0, &config, &err), -1);
    assert_non_null(strstr(err.text, folder->path));
}

struct changes {
    char text[8192];
    size_t count;
};

static void
note(void *arg, const char *section, const char *key, const char *old_value, const char *new_value)
{
    struct changes *c = arg;
    size_t len = strlen(c->text);

    (void)snprintf(c->text + len, sizeof(c->text) - len, "%s.%s: %s -> %s\n", section, key,
            old_value == NULL ? "(none)" : old_value, new_value == NULL ? "(none)" : new_value);
    c->count++;
}

static void
test_compare(void **state)
{
    static const char changed[] =
            "[connector]\nname = x\nworkers = 2\n"
            "[token]\nuri = pkcs11:token=certconnector\npin = file:/other\ndeadline = 10000ms\n"
            "[keys]\nseal = pkcs11:object=b\nca = pkcs11:object=c\n"
            "[key-alias]\nA/C = pkcs11:object=a\n"
            "[log]\nmax-size = 51200K\n";
    static const char first[] =
            "[connector]\nname = x\n" TOKEN "init-args = q\n[keys]\nseal = pkcs11:object=a\n"
            "[key-alias]\nA/B = pkcs11:object=a\n";
    static struct changes all, some, none;
    struct config *a = load(*state, first, NULL, 0);
    struct config *b = load(*state, changed, NULL, 0);

    config_compare(NULL, a, note, &all);
    assert_non_null(strstr(all.text, "connector.name: (none) -> x\n"));
    assert_non_null(strstr(all.text, "token.pin: (none) -> ***\n"));
    assert_non_null(strstr(all.text, "token.sessions: (none) -> auto\n"));
    assert_non_null(strstr(all.text, "token.deadline: (none) -> 10s\n"));
    assert_non_null(strstr(all.text, "service.cloud: (none) -> public\n"));
    assert_non_null(
            strstr(all.text, "service.authority: (none) -> https://login.microsoftonline.com/\n"));
    assert_non_null(strstr(all.text, "log.max-size: (none) -> 50M\n"));
    assert_non_null(strstr(all.text, "keys.seal: (none) -> pkcs11:object=a\n"));
    assert_null(strstr(all.text, "token.pin: (none) -> file"));
    assert_null(strstr(all.text, "service.proxy"));

    config_compare(a, b, note, &some);
    assert_string_equal(some.text, "connector.workers: auto -> 2\n"
                                   "token.init-args: q -> (none)\n"
                                   "token.pin: *** -> ***\n"
                                   "keys.seal: pkcs11:object=a -> pkcs11:object=b\n"
                                   "keys.ca: (none) -> pkcs11:object=c\n"
                                   "key-alias.A/B: pkcs11:object=a -> (none)\n"
                                   "key-alias.A/C: (none) -> pkcs11:object=a\n");
    config_compare(b, b, note, &none);
    assert_int_equal(none.count, 0);
    config_free(a);
    config_free(b);
}

static void
test_compare_named(void **state)
{
    static const char first[] = TOKEN KEYS CA "[profile \"gone\"]\n[profile \"p\"]\nsan = dns\n";
    static const char changed[] =
            TOKEN KEYS "[ca \"new\"]\nkind = local\n" CA
                       "crl-urls = http://a.example/ ,http://b.example/\n[profile \"p\"]\n"
                       "san = dns,upn\n[pkcs]\nca = corp\n";
    static struct changes all, some, none;
    struct config *a = load(*state, first, NULL, 0);
    struct config *b = load(*state, changed, NULL, 0);

    config_compare(NULL, a, note, &all);
    assert_non_null(strstr(all.text, "ca \"corp\".kind: (none) -> local\n"));
    assert_non_null(strstr(all.text, "ca \"corp\".key: (none) -> pkcs11:object=ca\n"));
    assert_non_null(strstr(all.text, "ca \"corp\".delta-interval: (none) -> 0ms\n"));
    assert_non_null(strstr(all.text,
            "profile \"p\".key-usages: (none) -> digitalSignature, keyEncipherment\n"));
    assert_non_null(strstr(all.text, "profile \"gone\".templates: (none) -> gone\n"));
    assert_null(strstr(all.text, "crl-urls"));

    config_compare(a, b, note, &some);
    assert_non_null(strstr(some.text, "ca \"new\".kind: (none) -> local\n"));
    assert_non_null(strstr(some.text,
            "ca \"corp\".crl-urls: (none) -> http://a.example/, http://b.example/\n"));
    assert_non_null(strstr(some.text, "profile \"gone\".validity: 365d -> (none)\n"));
    assert_non_null(strstr(some.text, "profile \"p\".san: dns -> dns, upn\n"));
    assert_null(strstr(some.text, "profile \"p\".validity"));
    assert_null(strstr(some.text, "ca \"corp\".kind"));
    config_compare(b, b, note, &none);
    assert_int_equal(none.count, 0);
    config_free(a);
    config_free(b);
}

/* A small generator of its own, so that every run mutates alike. */
static uint32_t
next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* A changed file is either taken whole or refused with the place of the fault; never something between. */
static void
test_mutations(void **state)
{
    static const char bytes[] = "\0\n\r =[];#:.,/\"\\\x1b\xff\xc3"
                                "aA0-";
    const struct folder *folder = *state;
    uint32_t seed = 4711;
    size_t refused = 0;

    for (int round = 0; round < 2000; round++) {
        char text[sizeof(complete)];
        size_t len = sizeof(complete) - 1;
        struct config *config = NULL;
        struct cc_err err = { .domain = CC_DOM_NONE };

        memcpy(text, complete, sizeof(complete));
        for (uint32_t n = next_random(&seed) % 3 + 1; n > 0; n--) {
            size_t at = next_random(&seed) % len;

            if (next_random(&seed) % 3 == 0) {
                memmove(text + at, text + at + 1, len - at - 1);
                len--;
            } else {
                text[at] = bytes[next_random(&seed) % (sizeof(bytes) - 1)];
            }
        }
        write_file(folder->file, text, len);
        if (config_load(folder->file, NULL, 0, &config, &err) == 0) {
            assert_non_null(config);
            assert_non_null(config->token.uri);
            assert_non_null(config->service.graph);
            config_free(config);
            continue;
        }
        refused++;
        assert_null(config);
        assert_int_equal(err.domain, CC_DOM_CONFIG);
        assert_int_equal(strncmp(err.text, folder->file, strlen(folder->file)), 0);
        assert_true(err.code > 0);
    }
    assert_in_range(refused, 200, 1900);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_complete_ca, setup, teardown),
        cmocka_unit_test_setup_teardown(test_complete_profile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_complete_scep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults_of_scep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults_of_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clouds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sign_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_layers_of_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_good_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nul_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secrets_are_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compare_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
