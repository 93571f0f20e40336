#!/bin/sh
# SPDX-License-Identifier: MIT
# Compares the #include lines and the link lines of all rooms with the arrows that are allowed, and compiles each
# header alone.  Prints each breach as FILE:LINE: text; exit 0 when there is none.
set -eu
cd "$(dirname "$0")/.."

everything="base config eventlog store http pki hsm intune flow ca scep pkcs pfximport revocation upkeep update"
workload="base eventlog store hsm pki ca intune flow"

# ROOM: the rooms that it may include
table="base:
config: base
eventlog: base
store: base
http: base
pki: base
hsm: base pki
intune: base http hsm pki
flow: base eventlog store intune
ca: base http hsm pki store
scep: $workload http
pkcs: $workload
pfximport: $workload
revocation: $workload
upkeep: base config store pki hsm
update: base http pki eventlog
daemon: $everything
cli: $everything
tenant: base config http store pki"

# The table itself: tsort(1) fails when rooms lie on a cycle.
if ! echo "$table" | tr -d : | awk '{ for (i = 2; i <= NF; i++) print $1, $i }' | tsort >/dev/null; then
    echo "check-rooms: the table has a cycle" >&2
    exit 1
fi

# Rooms are folders of include/ and src/, and hsm.  Of another room only what lies in include/ may be included.
check_includes() {
    find src hsm include -name '*.[ch]' | sort | awk -v table="$table" '
        function room_of(path, part) {
            split(path, part, "/")
            return part[1] == "hsm" ? "hsm" : part[2]
        }
        function breach(file, line, text) {
            print file ":" line ": " text
            bad = 1
        }
        function exists(path, dummy, rc) {
            rc = (getline dummy < path)
            close(path)
            return rc >= 0
        }
        function check(file, line, room, target, to) {
            if (target !~ /\//) {
                if (!exists(substr(file, 1, match(file, /[^\/]*$/) - 1) target))
                    breach(file, line, "\"" target "\" does not lie beside the file")
                return
            }
            to = target
            sub(/\/.*/, "", to)
            if (to == room)
                return
            if (!(room in known))
                breach(file, line, "room " room " is not in the table")
            else if (!(to in known))
                breach(file, line, "\"" target "\" is of no room")
            else if (!((room, to) in allowed))
                breach(file, line, room " may not include " to)
            else if (!exists("include/" target))
                breach(file, line, "\"" target "\" is private to " to)
        }
        BEGIN {
            rows = split(table, row, "\n")
            for (i = 1; i <= rows; i++) {
                split(row[i], side, ":")
                known[side[1]] = 1
                words = split(side[2], word, " ")
                for (j = 1; j <= words; j++)
                    allowed[side[1], word[j]] = 1
            }
        }
        {
            file = $0
            number = 0
            while ((getline text < file) > 0) {
                number++
                if (text ~ /^[ \t]*#[ \t]*include[ \t]*"/) {
                    split(text, quoted, "\"")
                    check(file, number, room_of(file), quoted[2])
                }
            }
            close(file)
        }
        END { exit bad }'
}

# cc_room(NAME ROOMS a b c LIBS …)
check_links() {
    # shellcheck disable=SC2016 # the $ are of awk
    find src hsm -name CMakeLists.txt | sort | xargs awk -v table="$table" '
        BEGIN {
            rows = split(table, row, "\n")
            for (i = 1; i <= rows; i++) {
                split(row[i], side, ":")
                words = split(side[2], word, " ")
                for (j = 1; j <= words; j++)
                    allowed[side[1], word[j]] = 1
            }
        }
        /^[ \t]*cc_room\(/ {
            line = $0
            gsub(/[()]/, " ", line)
            words = split(line, word, " ")
            rooms = 0
            for (i = 3; i <= words; i++) {
                if (word[i] == "ROOMS" || word[i] == "LIBS")
                    rooms = word[i] == "ROOMS"
                else if (rooms && !((word[2], word[i]) in allowed)) {
                    print FILENAME ":" FNR ": " word[2] " may not be linked with " word[i]
                    bad = 1
                }
            }
        }
        END { exit bad }'
}

# Every header says itself what it needs.
check_headers() {
    # shellcheck disable=SC2016 # the inner shell expands them
    find src hsm include -name '*.h' | sort | xargs -P 2 -n 1 sh -c '
        flags="-D_GNU_SOURCE -DCC_VERSION=\"0\" -Iinclude -Isrc -I. $(pkg-config --cflags p11-kit-1 json-c)"
        "${CC:-cc}" -std=gnu17 -Wall -Wextra -Werror -fsyntax-only $flags -x c "$1" ||
            { echo "$1:1: does not compile alone"; exit 1; }' sh
}

status=0
check_includes || status=1
check_links || status=1
check_headers || status=1
exit $status
