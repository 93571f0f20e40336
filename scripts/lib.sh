# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Shared by the scripts beside it; sourced, never run.  Bash.

set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SERVICE_USER=certconnector

say() {
    printf '%s\n' "$*"
}

step() {
    printf '\n==> %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Runs a command with root's rights, through sudo where we are not root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# Runs a command as the unprivileged user of the daemons.
as_service() {
    as_root setpriv --reuid "$SERVICE_USER" --regid "$SERVICE_USER" --clear-groups --inh-caps=-all -- "$@"
}

# The same in place of this shell, so that in a background subshell "$!" is the program's own process (or sudo's, which
# hands signals on).
exec_service() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo --)
    exec "${sudo[@]}" setpriv --reuid "$SERVICE_USER" --regid "$SERVICE_USER" --clear-groups --inh-caps=-all -- "$@"
}

ensure_service_user() {
    getent group "$SERVICE_USER" >/dev/null || as_root groupadd --system "$SERVICE_USER"
    getent passwd "$SERVICE_USER" >/dev/null ||
        as_root useradd --system --gid "$SERVICE_USER" --home-dir /nonexistent --no-create-home \
            --shell /usr/sbin/nologin "$SERVICE_USER"
}

# build FOLDER [cmake option...]: configures and builds the project there.
build() {
    local folder=$1 log=$1/build.log
    shift
    mkdir -p "$folder"
    local launcher=()
    if command -v ccache >/dev/null 2>&1; then
        launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    cmake -S "$PROJECT" -B "$folder" -G Ninja "${launcher[@]}" "$@" >"$log" 2>&1 ||
        { cat "$log" >&2; die "cmake failed in $folder"; }
    cmake --build "$folder" >>"$log" 2>&1 ||
        { tail -n 60 "$log" >&2; die "the build failed in $folder"; }
}

# wait_until SECONDS WHAT COMMAND...: repeats the command until it succeeds.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            die "gave up waiting until $what"
        fi
        sleep 0.05
    done
}
