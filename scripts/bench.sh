#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Measures; no test, no pass mark.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
usage: scripts/bench.sh [--quick] [--only NAME-PREFIX]... [--json FILE]

Measures what the token alone can do and what the connector makes of it, both
in one run and in turn, and prints a table.

  --quick            a tenth of the length
  --only PREFIX      only figures whose names begin so
  --json FILE        the figures as JSON, too
USAGE
}

case "${1-}" in
-h | --help)
    usage
    exit 0
    ;;
esac

step "installing packages" >&2
"$PROJECT/scripts/install-deps.sh" --test >&2
ensure_service_user
step "building" >&2
build "$PROJECT/build" -DCC_TESTS=ON -DCC_FAILPOINTS=OFF
as_root env CC_BUILD="$PROJECT/build" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$PROJECT/tests/bench/bench.py" "$@"
