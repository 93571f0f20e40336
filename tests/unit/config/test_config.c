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
#define SERVICE                                                                                    \
    "[service]\n"                                                                                  \
    "tenant = contoso.example\n"                                                                   \
    "client-id = 11111111-2222-3333-4444-555555555555\n"                                           \
    "client-secret = file:/etc/certconnector/client.secret\n"

static const char complete[] = "\xEF\xBB\xBF; the whole of it\n"
                               "# and another comment\n"
                               "[connector]\n"
                               "name = dc1-connector-1   ; inline\n"
                               "features =  pfx-import\n"
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
    assert_int_equal(c->connector.features, CONFIG_PFX_IMPORT);
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
    config_free(c);
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

static void
test_clouds(void **state)
{
    static const struct {
        const char *text;
        const char *want_graph;
    } table[] = {
        { TOKEN "[service]\ncloud = usgov\n", "https://graph.microsoft.us/" },
        { TOKEN "[service]\ncloud = dod\n", "https://dod-graph.microsoft.us/" },
        { TOKEN "[service]\ncloud = china\nresource = https://manage.example\n",
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
    { TOKEN "[monitoring]\n", 4, "there is no such section; known are connector, token" },
    { TOKEN "modul = /x\n", 4, "[token] modul: there is no such key; did you mean module?" },
    { TOKEN "tenant = contoso.example\n", 4,
            "[token] tenant: there is no such key; it belongs in [service]" },
    { TOKEN "\n[pfx-import]\nfrobnicate = 1\n", 6, "known are reencrypt, check-pfx, batch" },
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
    /* values */
    { TOKEN "[connector]\nfeatures = pfx-imprt\n", 5, "did you mean pfx-import" },
    { TOKEN "[connector]\nfeatures = pkcs, pfx-import\n", 5, "pkcs is not part of this version" },
    { TOKEN "[connector]\nfeatures = scep\n", 5, "scep is not part of this version" },
    { TOKEN "[connector]\nfeatures = pfx-import,revocation\n", 5,
            "revocation is not part of this version" },
    { TOKEN "[connector]\nfeatures = pfx-import, pfx-import\n", 5, "pfx-import stands here twice" },
    { TOKEN "[connector]\nfeatures = pfx-import,\n", 5, "must be features with commas" },
    { TOKEN "[connector]\nname = two words\n", 5, "must be 1 to 64 letters" },
    { TOKEN "[connector]\nstate = postgresql://u@h/db\n", 5,
            "PostgreSQL is not part of this version" },
    { TOKEN "[connector]\nstate = state.db\n", 5, "must be sqlite: and an absolute path" },
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
    { TOKEN "[service]\nmax-attempts = 5x\n", 5, "must be a number from 1 to 100" },
    { TOKEN "[pfx-import]\nbatch = 101\n", 5, "must be a number from 1 to 100" },
    { TOKEN "[log]\nmax-size = 50MB\n", 5, "must be a size" },
    { TOKEN "[log]\nmax-size = 1\n", 5, "must be from 4K to 1024G" },
    { TOKEN "[log]\ndebug = yes\n", 5, "write one of none, admin, operational, all" },
    /* missing, and what does not go together */
    { "; empty\n\n", 2,
            "[token] uri: is missing; add for example uri = pkcs11:token=certconnector" },
    { "", 1, "[token] uri: is missing" },
    { "\n[token]\nuri = pkcs11:token=x\n[log]\n", 2, "[token] pin: is missing" },
    { "[token]\nuri = pkcs11:object=x\n", 2, "names no token" },
    { TOKEN "[connector]\nfeatures = pfx-import\n[service]\ntenant = a\n", 6,
            "[service] client-id: is missing, and the features need it" },
    { TOKEN "[connector]\nfeatures = pfx-import\n" SERVICE, 5, "pfx-import has no key" },
    { TOKEN "[service]\ncloud = custom\ngraph=https://a\nresource=https://b\n", 5,
            "[service] cloud: custom needs authority too" },
    { TOKEN "[service]\ncloud = china\n", 5, "[service] cloud: china needs resource too" },
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
    char text[4096];
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
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clouds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nul_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secrets_are_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
