/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* What an administrator does about a refused sign-in, by the number that Entra ID gives it ("AADSTS…"). */

#define DESCRIPTION_MAX 65536

static const struct {
    int64_t number;
    const char *text;
} advice[] = {
    { 7000215, "the client secret is wrong: put the secret's value, not its id, into the file that "
               "[service] client-secret names" },
    { 7000222,
            "the client secret has expired: make a new one for the application in the tenant, and "
            "put it into the file that [service] client-secret names" },
    { 700027, "the certificate is not registered: upload the one that [service] client-certificate "
              "names to the application in the tenant" },
    { 700024, "the assertion is not valid at this time: set the clock of this host" },
    { 700016, "the tenant has no such application: correct [service] client-id or tenant" },
    { 7000112, "the application is disabled: enable it in the tenant" },
    { 90002, "there is no such tenant: correct [service] tenant or cloud" },
    { 500011,
            "the tenant does not know what the token is for: correct [service] cloud or resource, or "
            "have the tenant licensed for it" },
    { 70011, "the scope is not valid: correct [service] graph and resource" },
};

static const char *
find_advice(int64_t number)
{
    for (size_t i = 0; i < CC_COUNT(advice); i++)
        if (advice[i].number == number)
            return advice[i].text;
    return NULL;
}

static const char *
of_codes(json_object *json)
{
    json_object *codes = NULL;
    const char *text = NULL;

    if (cc_json_get_array(json, "error_codes", &codes, NULL) != 0 || codes == NULL)
        return NULL;
    for (size_t i = 0; text == NULL && i < json_object_array_length(codes); i++)
        text = find_advice(json_object_get_int64(json_object_array_get_idx(codes, i)));
    return text;
}

/* Proxies and older clouds leave the array out; the description begins with the number all the same. */
static const char *
of_description(json_object *json)
{
    static const char prefix[] = "AADSTS";
    const char *text = NULL;

    if (cc_json_get_str(json, "error_description", DESCRIPTION_MAX, &text, NULL) != 0 ||
            text == NULL || !cc_starts_with(text, prefix))
        return NULL;
    return find_advice(strtoll(text + strlen(prefix), NULL, 10));
}

const char *
intune_sign_in_advice(const struct http_response *response)
{
    json_object *json = cc_json_parse(response->body.data, response->body.len, NULL);
    const char *text = NULL;

    if (json != NULL && json_object_is_type(json, json_type_object)) {
        text = of_codes(json);
        if (text == NULL)
            text = of_description(json);
    }
    json_object_put(json);
    return text;
}
