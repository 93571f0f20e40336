#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Compares the manual pages with what they describe: the options of the built programs, the table of settings, the
# catalogue of events and where events are written.  Prints each difference; exit 0 when there is none.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
usage: scripts/check-man.sh [BUILD]

Checks the pages of scripts/man/ with mandoc, and against the programs in
BUILD/bin (default: build) and the tables in the source.
USAGE
}

case "${1-}" in
-h | --help)
    usage
    exit 0
    ;;
esac

cd "$PROJECT"
bin=${1:-build}/bin
man=scripts/man
[ -x "$bin/certconnector" ] || die "$bin/certconnector is not there: build first, or say the build's folder"
command -v mandoc >/dev/null || die "mandoc is not installed: run scripts/install-deps.sh --test"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
complaints=$scratch/complaints
: >"$complaints"

complain() {
    printf '%s\n' "$*" | tee -a "$complaints"
}

# differences PAGE WHAT: of two sorted files, what only the program and what only the page has.
differences() {
    local line
    while IFS= read -r line; do
        complain "$1: $2 $line is missing"
    done < <(comm -23 "$scratch/program" "$scratch/page")
    while IFS= read -r line; do
        complain "$1: $2 $line does not exist"
    done < <(comm -13 "$scratch/program" "$scratch/page")
}

# not_empty WHAT: both sides of a comparison have something, else it compared nothing.
not_empty() {
    if [ ! -s "$scratch/program" ] || [ ! -s "$scratch/page" ]; then
        complain "$1: nothing found to compare"
    fi
}

# ---- the pages by themselves ---------------------------------------------------------------------------------------

# Other packages' pages, and ours before they are installed, are not found by mandoc.
check_form() {
    local page
    for page in "$man"/*.[1-8]; do
        mandoc -Tlint "$page" 2>&1 |
            grep -vE 'STYLE: referenced manual not found|outdated mandoc\.db|^makewhatis' | tee -a "$complaints" || true
        grep -q '^\.Sh EXAMPLES' "$page" || complain "$page: has no examples"
        case $page in
        *.[18]) grep -q '^\.Sh EXIT STATUS' "$page" || complain "$page: has no exit statuses" ;;
        esac
    done
}

# ---- options -------------------------------------------------------------------------------------------------------

# Options named in a text, one a line.
options_in() {
    { grep -oE -- '(^|[^[:alnum:]-])--[a-z][a-z-]*' || true; } | sed 's/.*--/--/' | sort -u
}

# The page as it is read, on lines that are not broken.
rendered() {
    mandoc -Tascii -O width=900 "$1" | sed 's/.\x08//g'
}

# The source of a subsection, or of a whole page without one.
source_of() {
    awk -v wanted="${2-}" '
        /^\.S[hs] / { inside = ($0 == ".Ss " wanted) }
        wanted == "" || inside' "$1"
}

# Options that the items of a list in mdoc explain.
items_of() {
    grep -E '^\.(It|Fl).* ?Fl |^\.Fl ' | { grep -oE 'Fl -[a-z][a-z-]*' || true; } | sed 's/Fl -/--/' | sort -u
}

# --help and --version are understood by each program and explained once.
general='^--(help|version)$'

check_options() {
    local command
    for command in $("$bin/certconnector" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
        "$bin/certconnector" "$command" --help | options_in | grep -vE -- "$general" >"$scratch/program"
        source_of "$man/certconnector.1" "$command" | items_of >"$scratch/page"
        not_empty "certconnector.1, $command"
        differences "$man/certconnector.1, $command" option
    done
    for command in certconnectord certconnector-tenant; do
        "$bin/$command" --help | options_in >"$scratch/program"
        source_of "$man/$command.8" | items_of >"$scratch/page"
        not_empty "$command.8"
        differences "$man/$command.8" option
    done
    # It has no --help; its one argument is compared in the source.
    grep -oE 'argv\[1\], "--[a-z]+' hsm/token/main.c | options_in >"$scratch/program"
    source_of "$man/certconnector-token.8" | items_of >"$scratch/page"
    not_empty certconnector-token.8
    differences "$man/certconnector-token.8" option
}

# Wherever else a page names an option, in text and examples.
check_mentions() {
    local page option
    {
        options_in <hsm/token/main.c
        for program in certconnector certconnectord certconnector-tenant; do
            "$bin/$program" --help
        done | options_in
        for command in $("$bin/certconnector" --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p'); do
            "$bin/certconnector" "$command" --help
        done | options_in
        # what setpriv(1) is called with in an example
        printf -- '--%s\n' reuid regid clear-groups
        "$bin/certconnector" --version >/dev/null && echo --version
    } | sort -u >"$scratch/known"
    for page in "$man"/*.[1-8]; do
        while IFS= read -r option; do
            complain "$page: names the option $option, which does not exist"
        done < <(rendered "$page" | options_in | comm -13 "$scratch/known" -)
    done
}

# ---- settings ------------------------------------------------------------------------------------------------------

conf=$man/certconnector.conf.5

# The table as the compiler sees it: sections that share settings have them from the macro NAME_SETTINGS(SECTION, ...).
table_text() {
    awk '
        /^#define [A-Z]+_SETTINGS\(/ { name = $2; sub(/\(.*/, "", name); inside = 1; next }
        inside { line = $0; inside = sub(/\\$/, "", line); body[name] = body[name] line "\n"; next }
        /^const struct config_setting config_settings/ { listed = 1 }
        listed && /^};/ { listed = 0 }
        listed && /^ *[A-Z]+_SETTINGS\("/ {
            split($0, words, /[ ("]+/)
            text = body[words[2]]
            gsub(/\.section = in,/, ".section = \"" words[3] "\",", text)
            printf "%s", text
            next
        }
        listed' src/config/table.c
}

# "section key form need fallback" of each entry of the table, form without its prefix, "-" for what is not said.
table_settings() {
    table_text | tr '\n' ' ' |
        sed 's/{\.section/\n{.section/g' | awk '
        function field(name, pattern) {
            if (!match($0, "\\." name " = " pattern))
                return "-"
            value = substr($0, RSTART, RLENGTH)
            sub(/^[^=]*= /, "", value)
            gsub(/"|CONFIG_(FORM|NEED)_/, "", value)
            return value
        }
        /^\{/ {
            print field("section", "\"[^\"]*\""), field("key", "\"[^\"]*\""), field("form", "[A-Z_]+"),
                field("need", "[A-Z_]+"), field("fallback", "\"[^\"]*\"")
        }'
}

# A section as pages write it: those of the table of groups stand once for each name.
section_title() {
    case $1 in
    ca | profile | scep-profile) printf '[%s \\(dqNAME\\(dq]\n' "$1" ;;
    *) printf '[%s]\n' "$1" ;;
    esac
}

# Words of an array of the table.
table_words() {
    sed -n "/^static const char \*const $1\[\]/{:more; /};/!{N; b more}; p}" src/config/table.c | { grep -oE '"[A-Za-z0-9-]+"' || true; } | tr -d '"'
}

# "section key remark" of each item of the page.
page_settings() {
    awk '
        /^\.S[hs] / { section = $2; gsub(/[][]|\\&/, "", section); listed = /^\.Ss \[/ }
        listed && /^\.It Cm / {
            remark = "-"
            if (match($0, /Pq .*/))
                remark = substr($0, RSTART + 3)
            print section, $3, remark
        }' "$conf"
}

# The source of a key's item.
page_item() {
    awk -v title=".Ss $(section_title "$1" | sed 's/\\/\\\\/g')\\\\&" -v key="$2" '
        /^\.S[hs] / { inside = ($0 == title) }
        inside && /^\.(It Cm |El)/ { item = ($3 == key) }
        inside && item' "$conf"
}

check_setting_names() {
    {
        table_settings | awk '{
            fallback = substr($0, length($1 $2 $3 $4) + 5)
            remark = fallback != "-" ? "default " fallback : $4 == "ALWAYS" ? "required" : $4 == "SERVICE" ? "required with a feature" : "-"
            print $1, $2, remark
        }'
        table_words roles | sed 's/.*/keys & -/'
    } | sort >"$scratch/program"
    page_settings | sort >"$scratch/page"
    not_empty "$conf"
    differences "$conf" setting
    # One line for each entry, or the table has become unreadable for this script.
    [ "$(table_settings | wc -l)" = "$(table_text | grep -c '{\.section = "[a-z-]*", \.key = ')" ] ||
        complain "src/config/table.c: not every setting was understood"
}

# What the program says of a number that is out of range stands in the page.
check_setting_ranges() {
    local section key form bad said ranges=0
    while read -r section key form _; do
        case $form in
        DURATION) bad=99999d ;;
        UNSIGNED) bad=99999 ;;
        SIZE) bad=1 ;;
        *) continue ;;
        esac
        printf '[token]\nuri = pkcs11:token=x\npin = file:/p\n%s\n%s = %s\n' "$(section_title "$section" | sed 's/\\(dq/"/g')" \
            "$key" "$bad" >"$scratch/bad.conf"
        said=$({ "$bin/certconnector" check-config "$scratch/bad.conf" 2>&1 || true; } | sed -n 's/.*: must be //p')
        [ -n "$said" ] || complain "certconnector check-config: takes [$section] $key = $bad"
        page_item "$section" "$key" | sed 's/^\.Cm //' | tr '\n' ' ' | grep -qF -- "$said" || complain "$conf: [$section] $key does not say \"$said\""
        ranges=$((ranges + 1))
    done < <(table_settings)
    ((ranges > 0)) || complain "src/config/table.c: no number found"
}

# check_choices SECTION KEY: the words on standard input are those that the key's item gives.
check_choices() {
    sort >"$scratch/program"
    page_item "$1" "$2" | sed -n 's/^\.Cm //p' | tr -s ' ,.' '\n' | sort >"$scratch/page"
    not_empty "$conf, [$1] $2"
    differences "$conf, [$1] $2" choice
}

check_setting_words() {
    local profiles
    table_words clouds | check_choices service cloud
    table_words reencrypts | check_choices pfx-import reencrypt
    table_words debugs | check_choices log debug
    table_words generations | check_choices pkcs key-generation
    table_words reasons | check_choices revocation reason
    table_words error_codes | check_choices revocation error-codes
    table_words foreigns | check_choices revocation foreign
    table_words challenges | check_choices scep challenge
    table_words legacies | check_choices scep legacy
    table_words notifies | check_choices scep notify
    table_words kinds | check_choices ca kind
    table_words digests | check_choices ca digest
    table_words key_usages | check_choices profile key-usages
    table_words extended_key_usages | check_choices profile extended-key-usages
    table_words san_types | check_choices profile san
    table_words key_specs | check_choices profile keys
    table_words sids | check_choices profile sid
    profiles=$(sed -n 's/^ *\.name = "\(.*\)",/\1/p' hsm/profiles/*.c | sort)
    printf '%s\n' auto "$profiles" | check_choices token profile
    echo "$profiles" >"$scratch/program"
    source_of "$man/certconnector-token.8" | sed -n 's/^\.It Cm //p' | sort >"$scratch/page"
    differences "$man/certconnector-token.8" profile
}

# Settings that pages refer to as [section] key, and sections, exist.
check_setting_mentions() {
    local page mention section key
    {
        while read -r section key _; do
            section_title "$section"
            printf '%s %s\n' "$(section_title "$section")" "$key"
        done < <(table_settings)
        table_words roles | sed 's/^/[keys] /'
        printf '[keys]\n[key-alias]\n'
    } | sort -u >"$scratch/program"
    for page in "$man"/*.[1-8]; do
        while IFS= read -r mention; do
            complain "$page: names $mention, which does not exist"
        done < <({ grep -E '^\.Ql \[' "$page" || true; } | sed -E 's/^\.Ql (\[[^]]*\]( [a-z-]+)?).*/\1/' | sort -u |
            comm -13 "$scratch/program" -)
    done
}

# Each example of a configuration is one that would be taken, given what every configuration needs.
check_setting_examples() {
    local page file examples=0
    for page in "$man"/*.[1-8]; do
        awk -v prefix="$scratch/$(basename "$page")" '
            /^\.Bd -literal/ { name = prefix "." ++n; inside = 1; next }
            /^\.Ed/ { inside = 0 }
            inside { print > name }' "$page"
        for file in "$scratch/$(basename "$page")".[0-9]*; do
            grep -qE '^\[(connector|token|service)\]$' "$file" 2>/dev/null || continue
            examples=$((examples + 1))
            grep -q '^\[token\]' "$file" || printf '[token]\nuri = pkcs11:token=x\npin = file:/p\n' >>"$file"
            "$bin/certconnector" check-config "$file" >/dev/null 2>"$scratch/said" ||
                complain "$page: an example is refused: $(cat "$scratch/said")"
        done
    done
    ((examples > 0)) || complain "$man: no example of a configuration found"
}

# ---- events --------------------------------------------------------------------------------------------------------

events=$man/certconnector-events.7

# "id symbol name channel level"
catalogue() {
    sed -nE 's/^ *X\(([0-9]+), ([A-Z_]+), "([A-Za-z]+)", ([A-Z]+), [A-Z_]+, ([A-Z]+)\).*/\1 \2 \3 \4 \5/p' \
        include/eventlog/catalogue.h
}

# An event is written when a room other than the log's own names it; debug events have a function instead.
check_events() {
    local id symbol name channel level sign where
    while read -r id symbol name channel level; do
        sign="\\bEVENT_$symbol\\b"
        [ "$level" != DEBUG ] || sign='\beventlog_debug\('
        where=reserved
        if grep -rqE --include='*.c' --exclude-dir=eventlog -- "$sign" src hsm; then
            where=written
        fi
        printf '%s %s %s %s\n' "$id" "$name" "${channel,,} ${level,,}" "$where"
    done < <(catalogue) | sort >"$scratch/program"
    {
        sed -nE 's/^\.It ([0-9]+) ([A-Za-z]+) Pq ([A-Za-z]+), ([A-Za-z]+)$/\1 \2 \L\3 \4\E written/p' "$events"
        sed -nE 's/^\.It ([0-9]+) Ta ([A-Za-z]+) Ta ([A-Za-z]+) Ta ([A-Za-z]+)$/\1 \2 \L\3 \4\E reserved/p' "$events"
    } | sort >"$scratch/page"
    not_empty "$events"
    differences "$events" event
    [ "$(catalogue | wc -l)" = "$(grep -cE '^ *X\(' include/eventlog/catalogue.h)" ] ||
        complain "include/eventlog/catalogue.h: not every event was understood"
}

# ---- metrics -------------------------------------------------------------------------------------------------------

check_metrics() {
    local metrics=$man/certconnector-metrics.7
    grep -oE '(exposition_begin|one)\(e, "[a-z_]+"' src/daemon/metrics.c |
        sed -E 's/.*"([a-z_]+)"/\1/; /^process_/! s/^/certconnector_/' | sort >"$scratch/program"
    sed -nE 's/^\.It Cm ([a-z_]+) Pq (counter|gauge|histogram)$/\1/p' "$metrics" | sort >"$scratch/page"
    not_empty "$metrics"
    differences "$metrics" metric
}

check_form
check_options
check_mentions
check_setting_names
check_setting_ranges
check_setting_words
check_setting_mentions
check_setting_examples
check_events
check_metrics
if [ -s "$complaints" ]; then
    exit 1
fi
say "the pages of $man agree with the programs"
