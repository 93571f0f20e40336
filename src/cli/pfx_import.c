/* SPDX-License-Identifier: MIT */
/* certconnector pfx import: many files, one way: open, check, encrypt the password, upload, note. */

#include "pfx_import.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hsm/admin.h"
#include "intune/graph.h"
#include "password.h"
#include "pki/password.h"
#include "pki/pfx.h"
#include "pki/pubkey.h"
#include "service.h"
#include "upload_list.h"

#define BAR_WIDTH 30
#define HTTP_CONFLICT 409

struct import {
    const struct cli_command *command;
    const char *config_path, *user, *csv, *password, *encoding_name, *public_key, *provider,
            *key_name;
    const char *padding_name, *purpose;
    bool update, json;

    enum cli_encoding encoding;
    enum pki_padding padding;
    char *alias; /* provider and key name out of the configuration */
    char *tag;   /* what distinguishes this kind of run in the progress */
    struct config *config;
    struct cli_service service;
    EVP_PKEY *key;
    struct upload_list list;
    json_object *outcomes;
    size_t uploaded, present, failed, skipped;
    bool terminal;
};

static int
check_options(struct import *import, struct cc_err *err)
{
    static const char *const purposes[] = { "unassigned", "smimeEncryption", "smimeSigning", "vpn",
        "wifi" };
    int padding, encoding;
    bool known = false;

    if ((padding = pki_padding_parse(import->padding_name)) < PKI_PADDING_OAEP_SHA256)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--padding %s: oaepSha512, oaepSha384 or oaepSha256 is wanted",
                import->padding_name);
    if ((encoding = cli_encoding_parse(import->encoding_name)) == -1)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--password-encoding %s: utf-8, latin-1 or auto is wanted", import->encoding_name);
    for (size_t i = 0; i < CC_COUNT(purposes); i++)
        known = known || strcmp(purposes[i], import->purpose) == 0;
    if (!known)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--purpose %s is not a purpose", import->purpose);
    if ((import->provider == NULL) != (import->key_name == NULL))
        return cc_err_set(err, CC_DOM_USAGE, 0, "--provider and --key-name go together");
    import->padding = (enum pki_padding)padding;
    import->encoding = (enum cli_encoding)encoding;
    return 0;
}

/* The names that connectors know the key by: as said, or the configuration's first alias. */
static int
choose_key_name(struct import *import, struct cc_err *err)
{
    char *slash;

    if (import->provider != NULL)
        return 0;
    if (import->config->key_alias_count == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "say --provider and --key-name, or give the configuration a [key-alias] for the import key");
    if ((import->alias = cc_strdup(import->config->key_aliases[0].name, err)) == NULL)
        return -1;
    if ((slash = strchr(import->alias, '/')) == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "[key-alias] %s: \"provider/key\" is wanted",
                import->alias);
    *slash = '\0';
    import->provider = import->alias;
    import->key_name = slash + 1;
    return 0;
}

static int
read_key_file(struct import *import, struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(64 * 1024);
    int rc = -1;

    if (cc_file_read(import->public_key, &file, err) == 0 &&
            pki_pubkey_read(cc_buf_bytes(&file), &import->key, err) == 0)
        rc = 0;
    else
        cc_err_in(err, "public key %s", import->public_key);
    cc_buf_free(&file);
    return rc;
}

static int
read_key_from_token(struct import *import, struct cc_err *err)
{
    const struct config *config = import->config;
    const char *uri = config_key(config, "pfx-import");
    struct hsm_admin_target target = { .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = config->token.pin };
    struct cc_buf spki = CC_BUF_INIT(64 * 1024);
    int rc = -1;

    if (uri == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "say --public-key, or name [keys] pfx-import in the configuration");
    if (hsm_admin_export_public(&target, uri, &spki, err) == 0 &&
            pki_pubkey_parse_spki(cc_buf_bytes(&spki), &import->key, err) == 0)
        rc = 0;
    cc_buf_free(&spki);
    return rc;
}

static int
open_key(struct import *import, struct cc_err *err)
{
    int rc = import->public_key != NULL ? read_key_file(import, err)
                                        : read_key_from_token(import, err);

    if (rc == 0 && !EVP_PKEY_is_a(import->key, "RSA"))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the public key is not RSA: passwords cannot be encrypted for it");
    return rc;
}

static int
fill_list(struct import *import, int argc, char **argv, int first, struct cc_err *err)
{
    if (asprintf(&import->tag, "%s %s %s/%s", import->update ? "update" : "create",
                import->padding_name, import->provider, import->key_name) == -1) {
        import->tag = NULL;
        return cc_err_nomem(err);
    }
    if (import->csv != NULL)
        return upload_list_read_csv(&import->list, import->csv, import->tag, err);
    for (int i = first; i < argc; i++)
        if (upload_list_add(&import->list, argv[i], import->user, import->password, err) == -1)
            return -1;
    return 0;
}

/* What the PFX says of itself, once its password has opened it. */
static int
read_pfx(const struct import *import, const struct upload *item, struct cc_buf *pfx,
        struct cc_secret **ret_password, struct pki_pfx_info *ret_info, struct cc_err *err)
{
    struct cc_secret *given = NULL, *password = NULL;
    struct cc_bytes bytes;
    char prompt[512], name[256];
    int rc = -1;

    if (cc_file_read(item->file, pfx, err) == -1)
        return -1;
    snprintf(prompt, sizeof(prompt),
            "Password of %s: ", cc_escape_into(name, sizeof(name), item->file));
    if ((given = cli_password_read(item->password, prompt, err)) == NULL)
        goto out;
    if ((password = cli_password_to_latin1(given, import->encoding, err)) == NULL)
        goto out;
    bytes = (struct cc_bytes){ .data = cc_secret_data(password), .len = cc_secret_len(password) };
    if (pki_pfx_check(cc_buf_bytes(pfx), bytes, ret_info, err) == -1)
        goto out;
    *ret_password = password;
    password = NULL;
    rc = 0;
out:
    cc_secret_free(password);
    cc_secret_free(given);
    return rc;
}

static int
upload_one(const struct import *import, const struct upload *item, struct cc_err *err)
{
    struct cc_buf pfx = CC_BUF_INIT(PKI_PFX_MAX), encrypted = CC_BUF_INIT(1024);
    struct cc_secret *password = NULL;
    struct pki_pfx_info info;
    struct intune_user_pfx entry = { 0 };
    struct cc_bytes bytes;
    int rc = -1;

    if (read_pfx(import, item, &pfx, &password, &info, err) == -1)
        goto out;
    bytes = (struct cc_bytes){ .data = cc_secret_data(password), .len = cc_secret_len(password) };
    if (pki_password_encrypt_padding(import->key, import->padding, bytes, &encrypted, err) == -1)
        goto out;
    if (!cc_strcpy(entry.user, sizeof(entry.user), item->user) ||
            !cc_strcpy(entry.provider_name, sizeof(entry.provider_name), import->provider) ||
            !cc_strcpy(entry.key_name, sizeof(entry.key_name), import->key_name)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the names of user, provider and key may have 256 bytes");
        goto out;
    }
    (void)cc_strcpy(entry.thumbprint, sizeof(entry.thumbprint), info.thumbprint);
    (void)cc_strcpy(entry.intended_purpose, sizeof(entry.intended_purpose), import->purpose);
    (void)cc_strcpy(entry.padding_scheme, sizeof(entry.padding_scheme),
            pki_padding_name(import->padding));
    entry.not_before_ms = info.not_before_ms;
    entry.not_after_ms = info.not_after_ms;
    entry.created_ms = entry.modified_ms = cc_clock_now_ms();
    rc = intune_user_pfx_put(import->service.intune, &entry, cc_buf_bytes(&pfx),
            cc_buf_bytes(&encrypted), import->update, err);
out:
    cc_secret_free(password);
    cc_buf_free(&encrypted);
    cc_buf_wipe(&pfx);
    return rc;
}

static void
show_progress(const struct import *import, size_t at)
{
    size_t full = at * BAR_WIDTH / import->list.count;
    char bar[BAR_WIDTH + 1];

    if (!import->terminal)
        return;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', full);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %zu/%zu%s", bar, at, import->list.count,
            at == import->list.count ? "\n" : "");
}

static int
add_outcome(struct import *import, const struct upload *item, const char *outcome,
        const struct cc_err *failure, struct cc_err *err)
{
    json_object *object;

    if (!import->json)
        return 0;
    if ((object = json_object_new_object()) == NULL)
        return cc_err_nomem(err);
    if (cc_json_add_str(object, "file", item->file, err) == -1 ||
            cc_json_add_str(object, "user", item->user, err) == -1 ||
            cc_json_add_str(object, "outcome", outcome, err) == -1 ||
            cc_json_add_str(object, "error", failure != NULL ? failure->text : NULL, err) == -1 ||
            json_object_array_add(import->outcomes, object) == -1) {
        json_object_put(object);
        return cc_err_nomem(err);
    }
    return 0;
}

static void
say_failure(const struct import *import, const struct upload *item, const struct cc_err *failure)
{
    char name[512];

    fprintf(stderr, "%s%s: %s\n", import->terminal ? "\r\033[K" : "",
            cc_escape_into(name, sizeof(name), item->file), failure->text);
}

/* One item and what became of it.  -1 only when the run itself cannot go on. */
static int
process_item(struct import *import, const struct upload *item, struct cc_err *err)
{
    struct cc_err failure = { 0 };
    const char *outcome = "uploaded";

    if (item->done) {
        import->skipped++;
        return add_outcome(import, item, "uploaded before", NULL, err);
    }
    if (upload_one(import, item, &failure) == 0) {
        import->uploaded++;
    } else if (failure.domain == CC_DOM_HTTP && failure.code == HTTP_CONFLICT && !import->update) {
        import->present++;
        outcome = "present";
    } else {
        import->failed++;
        say_failure(import, item, &failure);
        return add_outcome(import, item, "failed", &failure, err);
    }
    if (upload_list_note(&import->list, item, import->tag, err) == -1)
        return -1;
    return add_outcome(import, item, outcome, NULL, err);
}

static int
process_list(struct import *import, struct cc_err *err)
{
    show_progress(import, 0);
    for (size_t i = 0; i < import->list.count; i++) {
        if (process_item(import, &import->list.items[i], err) == -1)
            return -1;
        show_progress(import, i + 1);
    }
    if (import->failed == 0)
        upload_list_finish(&import->list);
    return 0;
}

static int
say_summary(struct import *import)
{
    if (import->json) {
        int status = cli_print_json(import->outcomes);

        import->outcomes = NULL;
        if (status != CLI_OK)
            return status;
    } else {
        printf("%zu uploaded", import->uploaded);
        if (import->skipped > 0)
            printf(", %zu uploaded in a run before", import->skipped);
        if (import->present > 0)
            printf(", %zu were there already (--update replaces them)", import->present);
        printf(", %zu failed\n", import->failed);
    }
    return import->failed == 0 ? CLI_OK : CLI_FAILED;
}

static void
free_import(struct import *import)
{
    upload_list_free(&import->list);
    EVP_PKEY_free(import->key);
    cli_service_close(&import->service);
    config_free(import->config);
    json_object_put(import->outcomes);
    free(import->alias);
    free(import->tag);
}

int
pfx_import_run(const struct cli_command *command, int argc, char **argv)
{
    struct import import = { .command = command,
        .password = "prompt",
        .encoding_name = "auto",
        .padding_name = "oaepSha512",
        .purpose = "unassigned" };
    const struct cli_option options[] = { { "config", &import.config_path, NULL },
        { "user", &import.user, NULL }, { "csv", &import.csv, NULL },
        { "password", &import.password, NULL },
        { "password-encoding", &import.encoding_name, NULL },
        { "public-key", &import.public_key, NULL }, { "provider", &import.provider, NULL },
        { "key-name", &import.key_name, NULL }, { "padding", &import.padding_name, NULL },
        { "purpose", &import.purpose, NULL }, { "update", NULL, &import.update },
        { "json", NULL, &import.json }, { NULL, NULL, NULL } };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) == -1)
        return status;
    if (import.csv != NULL ? (first < argc || import.user != NULL)
                           : (first == argc || import.user == NULL))
        return cli_usage_error(command, "import wants --user USER and files, or --csv LIST");

    upload_list_init(&import.list);
    import.terminal = isatty(STDERR_FILENO) == 1;
    status = CLI_FAILED;
    if (import.json && (import.outcomes = json_object_new_array()) == NULL)
        cc_err_nomem(&err);
    else if (check_options(&import, &err) == 0 &&
             cli_load_config(import.config_path, &import.config, &err) == 0 &&
             choose_key_name(&import, &err) == 0 &&
             fill_list(&import, argc, argv, first, &err) == 0 && open_key(&import, &err) == 0 &&
             cli_service_open(import.config, &import.service, &err) == 0 &&
             process_list(&import, &err) == 0)
        status = say_summary(&import);
    if (err.domain != CC_DOM_NONE)
        status = cli_fail(command, &err);
    free_import(&import);
    return status;
}
