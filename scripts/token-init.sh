#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes a SoftHSM token with every key that a connector may need, and leaves it so that connectors can use and not write it.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

token_dir=/var/lib/certconnector-token/tokens
label=certconnector
pin_file=/etc/certconnector/token.pin
softhsm_conf=
bin_dir=$PROJECT/build/bin
module=/usr/lib/softhsm/libsofthsm2.so
declare -A kinds=(
    [pfx-import]=rsa3072 [scep-ra-sign]=rsa2048 [scep-ra-encrypt]=rsa2048 [ca]=rsa4096
    [ocsp]=rsa2048 [identity]=rsa2048 [seal]=aes256 [audit]=ecP256
)
roles=(pfx-import scep-ra-sign scep-ra-encrypt ca ocsp identity seal audit)

usage() {
    cat <<'USAGE'
usage: scripts/token-init.sh [--token-dir DIR] [--label LABEL] [--pin-file FILE] [--key ROLE=KIND]...
                             [--softhsm-conf FILE] [--bin-dir DIR]

Initialises a SoftHSM token, generates the keys of all roles in it, and makes
it readable and not writable for the group certconnector.  What is there
already stays: running it again adds only what is missing.

  --token-dir DIR      where SoftHSM keeps tokens (default /var/lib/certconnector-token/tokens)
  --label LABEL        the token's label (default certconnector)
  --pin-file FILE      the user PIN; made with a random PIN when there is none
                       (default /etc/certconnector/token.pin); the security
                       officer's PIN goes to FILE.so, readable for root alone
  --key ROLE=KIND      another kind of key for a role (rsa2048, rsa3072, rsa4096,
                       ecP256, ecP384, ecP521, aes256), or ROLE=none
  --softhsm-conf FILE  SoftHSM's configuration to use and, when absent, to write
                       (default: softhsm2.conf beside DIR)
  --bin-dir DIR        where the programs are (default build/bin of the project)
USAGE
}

while (($#)); do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --token-dir | --label | --pin-file | --key | --softhsm-conf | --bin-dir)
        (($# >= 2)) || die "$1 needs a value"
        case $1 in
        --token-dir) token_dir=$2 ;;
        --label) label=$2 ;;
        --pin-file) pin_file=$2 ;;
        --softhsm-conf) softhsm_conf=$2 ;;
        --bin-dir) bin_dir=$2 ;;
        --key)
            role=${2%%=*}
            [ -n "${kinds[$role]-}" ] || die "--key $2: the roles are ${roles[*]}"
            kinds[$role]=${2#*=}
            ;;
        esac
        shift 2
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done

[ -x "$bin_dir/certconnector" ] || die "$bin_dir/certconnector is not there: build first, or say --bin-dir"
[ -e "$module" ] || die "SoftHSM is not installed: run scripts/install-deps.sh"
ensure_service_user

: "${softhsm_conf:=$(dirname "$token_dir")/softhsm2.conf}"
as_root install -d -o root -g "$SERVICE_USER" -m 0750 "$(dirname "$token_dir")" "$token_dir"
as_root test -d "$(dirname "$pin_file")" || as_root install -d -o root -g "$SERVICE_USER" -m 0750 "$(dirname "$pin_file")"
if ! as_root test -e "$softhsm_conf"; then
    printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$token_dir" |
        as_root tee "$softhsm_conf" >/dev/null
    as_root chmod 0644 "$softhsm_conf"
fi

# A PIN never passes through an argument or the environment: it goes from the random source into its file.
make_pin() {
    local file=$1 owner=$2 mode=$3
    as_root test -s "$file" && return
    (umask 077 && openssl rand -hex 12) | as_root install -o root -g "$owner" -m "$mode" /dev/stdin "$file"
    say "made a random PIN in $file"
}
make_pin "$pin_file" "$SERVICE_USER" 0640
make_pin "$pin_file.so" root 0600

# Connectors read the token and cannot write it: every login rewrites a writable token's main file, and a kill at that
# moment would destroy it.
settle_owner() {
    as_root chown -R root:"$SERVICE_USER" "$token_dir"
    as_root find "$token_dir" -type d -exec chmod 0750 {} +
    as_root find "$token_dir" -type f -exec chmod 0640 {} +
}

# We change the token as root, and look at it as who cannot write it.  Where the project was built may be closed to them.
reader_dir=$bin_dir
if ! as_service test -x "$bin_dir/certconnector"; then
    reader_dir=$(mktemp -d)
    trap 'rm -rf "$reader_dir"' EXIT
    install -m 0755 "$bin_dir/certconnector" "$bin_dir/certconnector-token" "$reader_dir"
    chmod 0755 "$reader_dir"
fi
cli_as_root() {
    as_root env SOFTHSM2_CONF="$softhsm_conf" "$bin_dir/certconnector" "$@"
}
cli_as_reader() {
    as_service env SOFTHSM2_CONF="$softhsm_conf" "$reader_dir/certconnector" "$@"
}
target=(--module "$module" --uri "pkcs11:token=$label" --pin "file:$pin_file")
changed=no

settle_owner
# A token without a user PIN is one whose initialisation was cut short: init goes on from there.
# shellcheck disable=SC2016 # jq's own variable
is_there='.tokens[] | select(.initialised and .pinInitialised and .label == $wanted)'
tokens=$(cli_as_reader token list --module "$module" --json)
if jq -e --arg wanted "$label" "$is_there" <<<"$tokens" >/dev/null; then
    say "token $label: is there"
else
    cli_as_root token init --module "$module" --label "$label" --pin "file:$pin_file" --so-pin "file:$pin_file.so"
    settle_owner
    changed=yes
fi

keys=$(cli_as_reader key list "${target[@]}" --json)
present=$(jq -r '.keys[].label' <<<"$keys")
for role in "${roles[@]}"; do
    kind=${kinds[$role]}
    if [ "$kind" = none ]; then
        continue
    elif grep -qxF -- "$role" <<<"$present"; then
        say "key $role: is there"
    else
        cli_as_root key generate "${target[@]}" --role "$role" --type "$kind"
        changed=yes
    fi
done
settle_owner

# token.object holds the key that encrypts all others; it changes only with flags and PINs.  Copied when it was just
# seen to work.
cli_as_reader key list "${target[@]}" --json >/dev/null
backup=$(dirname "$token_dir")/token-backup
as_root install -d -o root -g root -m 0700 "$backup"
while IFS= read -r file; do
    copy=$backup/$(basename "$(dirname "$file")").token.object
    if [ "$changed" = yes ] || ! as_root test -e "$copy"; then
        as_root install -m 0600 "$file" "$copy"
    fi
done < <(as_root find "$token_dir" -name token.object -size +0)
say "token $label is ready in $token_dir (SoftHSM configuration $softhsm_conf; backup of its main file in $backup)"
