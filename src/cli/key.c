/* SPDX-License-Identifier: MIT */
#include "key_verbs.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "pki/pubkey.h"

#define PUBLIC_KEY_MAX 65536

/* ---- key list ---- */

#define USAGES 7

/* Names of what a key may be used for; how many. */
static size_t
key_usages(const struct hsm_admin_key *key, const char *ret[USAGES])
{
    const struct {
        bool has;
        const char *name;
    } usages[USAGES] = {
        { key->sign, "sign" },
        { key->verify, "verify" },
        { key->encrypt, "encrypt" },
        { key->decrypt, "decrypt" },
        { key->wrap, "wrap" },
        { key->unwrap, "unwrap" },
        { key->derive, "derive" },
    };
    size_t count = 0;

    for (size_t i = 0; i < USAGES; i++)
        if (usages[i].has)
            ret[count++] = usages[i].name;
    return count;
}

/* NULL without memory. */
static json_object *
usages_json(const struct hsm_admin_key *key)
{
    json_object *array = json_object_new_array();
    const char *names[USAGES];
    const size_t count = key_usages(key, names);

    for (size_t i = 0; array != NULL && i < count; i++) {
        json_object *name = json_object_new_string(names[i]);

        if (name == NULL || json_object_array_add(array, name) != 0) {
            json_object_put(name);
            json_object_put(array);
            return NULL;
        }
    }
    return array;
}

static json_object *
key_json(const struct hsm_admin_key *key)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "label", key->label, NULL) == 0 &&
            cc_json_add_str(obj, "id", key->id_hex, NULL) == 0 &&
            cc_json_add_str(obj, "kind", key->kind, NULL) == 0 &&
            cc_json_add_str(obj, "class", key->object_class, NULL) == 0 &&
            cc_json_add_str(obj, "uri", key->uri, NULL) == 0 &&
            cc_json_add_bool(obj, "sensitive", key->sensitive, NULL) == 0 &&
            cc_json_add_bool(obj, "extractable", key->extractable, NULL) == 0 &&
            cc_json_add_bool(obj, "alwaysSensitive", key->always_sensitive, NULL) == 0 &&
            cc_json_add_bool(obj, "neverExtractable", key->never_extractable, NULL) == 0 &&
            cc_json_add(obj, "usages", usages_json(key), NULL) == 0)
        return obj;
    json_object_put(obj);
    return NULL;
}

static int
print_json(const struct hsm_admin_key *keys, size_t count)
{
    json_object *obj = json_object_new_object(), *array = json_object_new_array();

    for (size_t i = 0; i < count; i++) {
        json_object *entry = key_json(&keys[i]);

        if (entry == NULL || array == NULL || json_object_array_add(array, entry) != 0) {
            json_object_put(entry);
            json_object_put(array);
            json_object_put(obj);
            return CLI_FAILED;
        }
    }
    if (cc_json_add(obj, "keys", array, NULL) != 0) {
        json_object_put(obj);
        return CLI_FAILED;
    }
    return cli_print_json(obj);
}

/* Whether the key's value stays in the token. */
static const char *
key_protection(const struct hsm_admin_key *key)
{
    if (strcmp(key->object_class, "public") == 0)
        return "-";
    if (!key->sensitive)
        return "NOT SENSITIVE";
    return key->extractable ? "EXTRACTABLE" : "stays inside";
}

#define COLUMNS 6

struct row_text {
    char usages[64];
};

static int
print_table(const struct hsm_admin_key *keys, size_t count)
{
    static const char *const headings[COLUMNS] = { "LABEL", "KIND", "CLASS", "USAGES", "VALUE",
        "ID" };
    const char **cells = calloc(count + 1, COLUMNS * sizeof(*cells));
    struct row_text *texts = calloc(count + 1, sizeof(*texts));

    if (cells == NULL || texts == NULL) {
        free(texts);
        free(cells);
        return CLI_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        const struct hsm_admin_key *key = &keys[i];
        const char **row = cells + i * COLUMNS, *names[USAGES];
        const size_t usages = key_usages(key, names);
        size_t len = 0;

        for (size_t u = 0; u < usages; u++)
            len += (size_t)snprintf(texts[i].usages + len, sizeof(texts[i].usages) - len, "%s%s",
                    u == 0 ? "" : ",", names[u]);
        row[0] = key->label;
        row[1] = key->kind;
        row[2] = key->object_class;
        row[3] = texts[i].usages;
        row[4] = key_protection(key);
        row[5] = key->id_hex;
    }
    cli_print_table(headings, COLUMNS, cells, count);
    free(texts);
    free(cells);
    return CLI_OK;
}

static int
list_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    bool json = false;
    const struct cli_option options[] = {
        CLI_TOKEN_OPTIONS(target),
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct hsm_admin_key *keys = NULL;
    struct cc_err err = { 0 };
    size_t count = 0;
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (cli_target_resolve(&target, &err) != 0 ||
            hsm_admin_list_keys(&target.admin, &keys, &count, &err) != 0)
        status = cli_fail(command, &err);
    else
        status = json ? print_json(keys, count) : print_table(keys, count);
    free(keys);
    cli_target_free(&target);
    return status;
}

/* ---- key generate ---- */

int
key_need_role(const struct cli_command *command, const char *name, enum hsm_role *ret_role,
        int *ret_status)
{
    const char *names[HSM_ROLE_COUNT];
    const char *nearest;
    const int role = hsm_role_parse(name);

    if (role >= 0) {
        *ret_role = (enum hsm_role)role;
        return 0;
    }
    for (int i = 0; i < HSM_ROLE_COUNT; i++)
        names[i] = hsm_role_name((enum hsm_role)i);
    nearest = cc_nearest(name, names, CC_COUNT(names));
    *ret_status = cli_usage_error(command, "no role has this name%s%s",
            nearest != NULL ? ", is it " : "; the help lists them", nearest != NULL ? nearest : "");
    return -1;
}

static int
generate_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    const char *role_name = NULL, *also_name = NULL, *label = NULL, *type = NULL;
    const struct cli_option options[] = {
        CLI_TOKEN_OPTIONS(target),
        { "role", &role_name, NULL },
        { "also", &also_name, NULL },
        { "label", &label, NULL },
        { "type", &type, NULL },
        { NULL, NULL, NULL },
    };
    struct cc_err err = { 0 };
    enum hsm_role role, also;
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (role_name == NULL || type == NULL)
        return cli_usage_error(command, "key generate needs --role and --type");
    if (key_need_role(command, role_name, &role, &status) != 0 ||
            key_need_role(command, also_name != NULL ? also_name : role_name, &also, &status) != 0)
        return status;
    if (label == NULL)
        label = role_name;

    if (cli_target_resolve(&target, &err) != 0 ||
            hsm_admin_generate_key(&target.admin, 1U << role | 1U << also, label, type, &err) !=
                    0) {
        status = cli_fail(command, &err);
    } else {
        fputs("key ", stdout);
        cli_print_escaped(label);
        printf(": generated (%s, for %s%s%s)\n", type, hsm_role_name(role),
                also != role ? " and " : "", also != role ? hsm_role_name(also) : "");
        status = CLI_OK;
    }
    cli_target_free(&target);
    return status;
}

/* ---- key export-public ---- */

typedef int (*write_fn)(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err);

static write_fn
find_format(const char *name)
{
    if (name == NULL || strcmp(name, "pem") == 0)
        return pki_pubkey_write_pem;
    return strcmp(name, "cng") == 0 ? pki_pubkey_write_cng : NULL;
}

static int
convert(const struct cc_buf *spki, write_fn write_key, struct cc_buf *ret, struct cc_err *err)
{
    EVP_PKEY *key = NULL;
    int rc;

    if (pki_pubkey_parse_spki(cc_buf_bytes(spki), &key, err) != 0)
        return -1;
    rc = write_key(key, ret, err);
    EVP_PKEY_free(key);
    return rc;
}

/* A file that is there stays as it is: it may be the key that passwords were encrypted to. */
int
key_deliver(const char *path, const struct cc_buf *file, struct cc_err *err)
{
    if (path == NULL)
        return cc_fd_write_all(STDOUT_FILENO, file->data, file->len, err);
    if (access(path, F_OK) == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "%s is there already and is not overwritten: choose another name", path);
    return cc_file_create(path, file->data, file->len, 0644, err);
}

const char *
key_role_uri(const struct cli_target *target, enum hsm_role role, char *fallback, size_t size)
{
    const char *uri =
            target->config == NULL ? NULL : config_key(target->config, hsm_role_name(role));

    (void)snprintf(fallback, size, "pkcs11:object=%s", hsm_role_name(role));
    return uri != NULL ? uri : fallback;
}

static int
export_public(struct cli_target *target, const char *key_uri, enum hsm_role role,
        write_fn write_key, const char *path, struct cc_err *err)
{
    struct cc_buf spki = CC_BUF_INIT(PUBLIC_KEY_MAX), file = CC_BUF_INIT(PUBLIC_KEY_MAX);
    char fallback[64];
    int rc = -1;

    if (cli_target_resolve(target, err) != 0)
        goto out;
    if (key_uri == NULL)
        key_uri = key_role_uri(target, role, fallback, sizeof(fallback));
    if (hsm_admin_export_public(&target->admin, key_uri, &spki, err) != 0 ||
            convert(&spki, write_key, &file, err) != 0 || key_deliver(path, &file, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_free(&file);
    cc_buf_free(&spki);
    return rc;
}

static int
export_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    const char *role_name = NULL, *key_uri = NULL, *format = NULL, *path = NULL;
    const struct cli_option options[] = {
        CLI_TOKEN_OPTIONS(target),
        { "role", &role_name, NULL },
        { "key", &key_uri, NULL },
        { "format", &format, NULL },
        { "out", &path, NULL },
        { NULL, NULL, NULL },
    };
    enum hsm_role role = HSM_ROLE_COUNT;
    struct cc_err err = { 0 };
    write_fn write_key;
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if ((role_name == NULL) == (key_uri == NULL))
        return cli_usage_error(command, "key export-public needs either --role or --key");
    if (role_name != NULL && key_need_role(command, role_name, &role, &status) != 0)
        return status;
    if ((write_key = find_format(format)) == NULL)
        return cli_usage_error(command, "--format is pem or cng");
    if (write_key == pki_pubkey_write_cng && path == NULL && isatty(STDOUT_FILENO))
        return cli_usage_error(command, "a CNG blob is no text: say --out FILE");

    status = CLI_OK;
    if (export_public(&target, key_uri, role, write_key, path, &err) != 0)
        status = cli_fail(command, &err);
    cli_target_free(&target);
    return status;
}

static int
key_run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "list", list_run },
        { "generate", generate_run },
        { "export-public", export_run },
        { "self-sign", key_self_sign_run },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

const struct cli_command cli_key = {
    .name = "key",
    .summary = "list, generate and export keys of the token",
    .usage =
            "usage: certconnector key list [--json] [TOKEN OPTION...]\n"
            "       certconnector key generate --role ROLE [--also ROLE] --type TYPE [--label LABEL]\n"
            "                                  [TOKEN OPTION...]\n"
            "       certconnector key export-public (--role ROLE | --key URI) [--format pem|cng] [--out FILE]\n"
            "                                       [TOKEN OPTION...]\n"
            "       certconnector key self-sign --role ROLE [--key URI] [--subject NAME] [--days N] [--out FILE]\n"
            "                                   [TOKEN OPTION...]\n"
            "\n"
            "list shows all keys of the token, without a PIN only the public ones.  generate makes\n"
            "the key of a role: it cannot leave the token and does only what its role needs.\n"
            "export-public writes the public half, which whoever encrypts for us needs.  self-sign\n"
            "writes a certificate that the key signs for itself, to be registered with the tenant's\n"
            "application for signing in.\n"
            "\n"
            "  --role ROLE       pfx-import, scep-ra-sign, scep-ra-encrypt, ca, ocsp, identity, seal,\n"
            "                    audit; export-public and self-sign take the role's key of the\n"
            "                    configuration, or the one labelled so\n"
            "  --also ROLE       a second role of the same key, as where scep-ra-encrypt signs, too\n"
            "  --type TYPE       rsa2048, rsa3072, rsa4096, ecP256, ecP384, ecP521; for seal aes256\n"
            "  --label LABEL     of the new key (default: the role)\n"
            "  --key URI         a key: pkcs11:object=LABEL or pkcs11:id=%01%02\n"
            "  --format FORMAT   pem (default), or cng: a BCRYPT_RSAPUBLIC_BLOB for Windows\n"
            "  --subject NAME    of the certificate (default: CN=certconnector)\n"
            "  --days N          that it is valid (default: 365)\n"
            "  --out FILE        a new file (default: standard output)\n"
            "  --json            one JSON object: {\"keys\": [...]}\n"
            "\n"
            "Token options:\n" CLI_TOKEN_HELP "\n"
            "Exit status: 0; 1 for failure; 2 for bad usage.\n",
    .run = key_run,
};
