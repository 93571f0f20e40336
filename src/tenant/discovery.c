/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* A service's place: ACCOUNT_PATH number "/" its folder; server.c has the same in its routes. */
#define ACCOUNT_PATH "/RACerts/a"

static const struct service {
    const char *provider, *folder;
} services[] = {
    { "PkiConnectorFEService", "StatelessPkiConnectorService" },
    { "ScepRequestValidationFEService", "StatelessScepRequestValidationService" },
};

static json_object *
endpoint(struct call *call, const char *base, const struct service *service, struct cc_err *err)
{
    struct cc_buf uri = CC_BUF_INIT(1024);
    json_object *item = json_object_new_object();

    if (cc_buf_printf(&uri, err, "%s" ACCOUNT_PATH "%ld/%s", base,
                atomic_load(&call->tenant->account), service->folder) != 0 ||
            cc_json_add_str(item, "id", call->tenant->id, err) != 0 ||
            cc_json_add_str(item, "capability", service->provider, err) != 0 ||
            cc_json_add_str(item, "providerId", TENANT_APP_ID, err) != 0 ||
            cc_json_add_str(item, "providerName", service->provider, err) != 0 ||
            cc_json_add_str(item, "providerResourceId", service->provider, err) != 0 ||
            cc_json_add_str(item, "uri", cc_buf_str(&uri), err) != 0) {
        json_object_put(item);
        item = NULL;
    }
    cc_buf_free(&uri);
    return item;
}

static int
add_endpoints(struct call *call, const char *base, json_object *value, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(services); i++) {
        json_object *item = endpoint(call, base, &services[i], err);

        if (item == NULL)
            return -1;
        if (json_object_array_add(value, item) != 0) {
            json_object_put(item);
            return cc_err_nomem(err);
        }
    }
    return 0;
}

static json_object *
endpoints(struct call *call, const char *base, struct cc_err *err)
{
    struct cc_buf context = CC_BUF_INIT(1024);
    json_object *body = json_object_new_object();
    json_object *value = json_object_new_array();
    int rc = -1;

    if (cc_buf_printf(&context, err, "%s/v1.0/$metadata#servicePrincipals('appId=%s')/endpoints",
                base, TENANT_APP_ID) != 0 ||
            cc_json_add_str(body, "@odata.context", cc_buf_str(&context), err) != 0)
        goto out;
    if (value == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (add_endpoints(call, base, value, err) != 0)
        goto out;
    rc = cc_json_add(body, "value", value, err);
    value = NULL;
out:
    if (rc != 0) {
        json_object_put(body);
        body = NULL;
    }
    json_object_put(value);
    cc_buf_free(&context);
    return body;
}

void
discovery_endpoints(struct call *call)
{
    struct cc_buf base = CC_BUF_INIT(1024);
    struct cc_err err = { 0 };
    json_object *body;

    if (!cc_equal_nocase(call->capture[1], TENANT_APP_ID)) {
        call_reply_error(call, 404, "Request_ResourceNotFound",
                "there is no service principal with this appId");
        return;
    }
    if (call_base_url(call, &base) != 0)
        goto out;
    if ((body = endpoints(call, cc_buf_str(&base), &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, body);
out:
    cc_buf_free(&base);
}

/* "a7" -> 7; 0: not an account's name. */
static long
account_number(const char *name)
{
    char *end;
    long number;

    if (name[0] != 'a' || name[1] < '1' || name[1] > '9' || strlen(name) > 10)
        return 0;
    number = strtol(name + 1, &end, 10);
    return *end == '\0' ? number : 0;
}

bool
discovery_check_account(struct call *call, const char *api_version)
{
    const char *version = http_exchange_header(call->exchange, "api-version");
    const char *id = http_exchange_header(call->exchange, "client-request-id");
    long number = account_number(call->capture[0]);
    long current = atomic_load(&call->tenant->account);

    if (number == 0 || number > current) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no account here");
        return false;
    }
    if (number < current) {
        call_reply_error(call, 410, "AccountMoved", "the account has moved: discover it anew");
        return false;
    }
    if (version == NULL || strcmp(version, api_version) != 0) {
        call_reply_error(call, 400, "UnsupportedApiVersion", "the api-version here is %s",
                api_version);
        return false;
    }
    if (id != NULL && !cc_is_uuid(id)) {
        call_reply_error(call, 400, "BadRequest", "client-request-id is not a GUID");
        return false;
    }
    return true;
}
