/* SPDX-License-Identifier: MIT */
#include "odata_filter.h"

#include <string.h>

#include "base/text.h"

struct reader {
    const char *start, *at;
    struct odata_filter *filter;
    struct cc_err *err;
};

static int
refuse(struct reader *r, const char *what)
{
    return cc_err_set(r->err, CC_DOM_INPUT, 0, "$filter, at character %zu: %s",
            (size_t)(r->at - r->start) + 1, what);
}

static void
skip_spaces(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t')
        r->at++;
}

static bool
is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool
take_char(struct reader *r, char c)
{
    skip_spaces(r);
    if (*r->at != c)
        return false;
    r->at++;
    return true;
}

static int
take_word(struct reader *r, char *ret, size_t size)
{
    size_t len = 0;

    skip_spaces(r);
    while (is_letter(r->at[len]))
        len++;
    if (len == 0 || len >= size)
        return refuse(r, len == 0 ? "a name was expected" : "a name is too long");
    memcpy(ret, r->at, len);
    ret[len] = '\0';
    r->at += len;
    return 0;
}

/* 'it''s' */
static int
take_text(struct reader *r, char *ret, size_t size)
{
    size_t len = 0;

    if (!take_char(r, '\''))
        return refuse(r, "a text in single quotes was expected");
    for (;;) {
        char c = *r->at;

        if (c == '\0')
            return refuse(r, "the text does not end");
        r->at++;
        if (c == '\'' && *r->at != '\'')
            break;
        if (c == '\'')
            r->at++;
        if (len + 1 >= size)
            return refuse(r, "the text is too long");
        ret[len++] = c;
    }
    ret[len] = '\0';
    return 0;
}

static int
take_comparison(struct reader *r)
{
    struct odata_term *term = &r->filter->terms[r->filter->count];
    char word[64];

    if (r->filter->count == ODATA_TERMS_MAX)
        return refuse(r, "too many comparisons");
    if (take_word(r, term->property, sizeof(term->property)) != 0)
        return -1;
    term->tolower = take_char(r, '(');
    if (term->tolower) {
        if (!cc_equal_nocase(term->property, "tolower"))
            return refuse(r, "only the function tolower is known");
        if (take_word(r, term->property, sizeof(term->property)) != 0)
            return -1;
        if (!take_char(r, ')'))
            return refuse(r, "a closing parenthesis was expected");
    }
    if (take_word(r, word, sizeof(word)) != 0)
        return -1;
    if (!cc_equal_nocase(word, "eq"))
        return refuse(r, "only the operator eq is known");
    if (take_text(r, term->value, sizeof(term->value)) != 0)
        return -1;
    r->filter->count++;
    return 0;
}

static int take_terms(struct reader *r, int depth);

static int
take_term(struct reader *r, int depth)
{
    if (!take_char(r, '('))
        return take_comparison(r);
    if (depth == 0)
        return refuse(r, "too many parentheses");
    if (take_terms(r, depth - 1) != 0)
        return -1;
    return take_char(r, ')') ? 0 : refuse(r, "a closing parenthesis was expected");
}

static int
take_terms(struct reader *r, int depth)
{
    char word[64];

    for (;;) {
        if (take_term(r, depth) != 0)
            return -1;
        skip_spaces(r);
        if (*r->at == '\0' || *r->at == ')')
            return 0;
        if (take_word(r, word, sizeof(word)) != 0)
            return -1;
        if (!cc_equal_nocase(word, "and"))
            return refuse(r, "only and joins comparisons");
    }
}

int
odata_filter_parse(const char *text, struct odata_filter *ret, struct cc_err *err)
{
    struct odata_filter filter = { .count = 0 };
    struct reader r = { .start = text, .at = text, .filter = &filter, .err = err };

    if (take_terms(&r, ODATA_DEPTH_MAX) != 0)
        return -1;
    if (*r.at != '\0')
        return refuse(&r, "more follows");
    *ret = filter;
    return 0;
}

const struct odata_term *
odata_filter_find(const struct odata_filter *filter, const char *property)
{
    for (size_t i = 0; i < filter->count; i++)
        if (cc_equal_nocase(filter->terms[i].property, property))
            return &filter->terms[i];
    return NULL;
}
