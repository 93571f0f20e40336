#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the Debian packages that certconnector is built with and runs on; also those of its demo or its tests.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
usage: scripts/install-deps.sh [--demo | --test]

Installs Debian 12 packages with apt-get: what is needed to build and run
certconnector, with --demo also the SCEP clients of the demo, and with --test
what its tests use, playwright-core from npm among it.  What is there already is
left as it is.
USAGE
}

build_packages=(
    gcc cmake ninja-build pkg-config libc6-dev
    libssl-dev libcurl4-openssl-dev libjson-c-dev libmicrohttpd-dev libgnutls28-dev libinih-dev
    libsqlite3-dev libpq-dev libzstd-dev libsystemd-dev libp11-dev libp11-kit-dev
)
run_packages=(libpq5 softhsm2 openssl ca-certificates curl jq procps util-linux)
demo_packages=(strongswan-pki libstrongswan-extra-plugins scep)
test_packages=(
    ccache clang-14 libclang-rt-14-dev clang-format clang-tidy shellcheck
    libcmocka-dev python3 python3-pytest python3-cryptography python3-requests python3-pexpect
    opensc p11-kit p11-kit-modules libnss3 libnss3-tools zstd mandoc gnutls-bin
    libstrongswan-standard-plugins certmonger nginx-light libengine-pkcs11-openssl
    postgresql pgbouncer faketime prometheus python3-msal chromium squid
)

# A node of one's own is as good as Debian's.
command -v node >/dev/null || test_packages+=(nodejs npm)

packages=("${build_packages[@]}" "${run_packages[@]}")
with_browser=no
case "${1-}" in
'') ;;
--demo) packages+=("${demo_packages[@]}") ;;
--test)
    packages+=("${demo_packages[@]}" "${test_packages[@]}")
    with_browser=yes
    ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

[ -x /usr/bin/apt-get ] || die "this is not a Debian system: install by hand: ${packages[*]}"

# What drives the browser is not in Debian: npm has it, in the version and with the hash that stand in its lock.
install_browser_modules() {
    local source=$PROJECT/tests/interop/browser target=${CC_BROWSER_MODULES:-$HOME/.cache/certconnector/browser/node_modules}
    local folder
    folder=$(dirname "$target")
    if [ -d "$target/playwright-core" ] && cmp -s "$source/package-lock.json" "$folder/package-lock.json"; then
        return
    fi
    command -v npm >/dev/null || die "npm is missing beside $(command -v node): install it, or leave out --test"
    say "installing playwright-core in $folder"
    mkdir -p "$folder"
    cp "$source/package.json" "$source/package-lock.json" "$folder/"
    npm ci --prefix "$folder" --no-update-notifier --ignore-scripts --no-audit --no-fund --loglevel=error || {
        rm -f "$folder/package-lock.json"
        die "npm failed"
    }
}

missing=()
for package in "${packages[@]}"; do
    # shellcheck disable=SC2016 # dpkg-query's own format
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) || status=
    [ "$status" = 'install ok installed' ] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    say "all ${#packages[@]} packages are installed"
    [ "$with_browser" = no ] || install_browser_modules
    exit 0
fi

say "installing ${#missing[@]} of ${#packages[@]} packages: ${missing[*]}"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
clean_up() {
    rm -f "$log"
    [ "$policy_is_ours" = no ] || as_root rm -f "$policy"
}
trap clean_up EXIT

# Some packages of tests have services, which tests start themselves: none runs on this machine because of us, neither now
# nor after its next start.
services=()
clusters=$(pg_lsclusters --no-header 2>/dev/null) || clusters=
for service in certmonger nginx pgbouncer postgresql prometheus squid; do
    [ -e "/lib/systemd/system/$service.service" ] || services+=("$service.service")
done
if ! [ -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 0755 /dev/stdin "$policy"
    policy_is_ours=yes
fi
{
    as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "apt-get failed"
}
for service in "${services[@]}"; do
    if [ -e "/lib/systemd/system/$service" ] && command -v systemctl >/dev/null; then
        as_root systemctl --quiet disable "$service" 2>/dev/null || say "$service stays enabled: systemctl disable failed"
    fi
done

# Nor is there a database that nobody asked for.
if [ -z "$clusters" ] && command -v pg_lsclusters >/dev/null; then
    pg_lsclusters --no-header | while read -r version name _; do
        [ "$name" != main ] || as_root pg_dropcluster --stop "$version" "$name"
    done
fi

[ "$with_browser" = no ] || install_browser_modules
