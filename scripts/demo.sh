#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Shows certconnector at work: real requests of every workload, each result verified with tools that are not ours.

# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
usage: scripts/demo.sh [--keep]

Installs what is needed, builds, makes a SoftHSM token, starts the stand-in
service and a connector, and sends PFX files on their way: uploaded by the
administrator's command, their passwords decrypted and re-encrypted by the
connector's token, and opened again with openssl as the devices would.  Then
devices get certificates of a built-in CA with their keys, checked with openssl
against its chain, CRL and OCSP, and some are revoked at the service's wish.
Ends with 0 only when every check held.

  --keep   leave the service and the connector running, and say where
USAGE
}

keep=no
case "${1-}" in
'') ;;
--keep) keep=yes ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

bin=$PROJECT/build/bin
tenant=contoso.example
client_id=11111111-2222-3333-4444-555555555555
service_pid=
connector_pid=
checks=0
failures=0
started=$SECONDS

# shellcheck disable=SC2317 # called by the trap
cleanup() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$keep" = yes ] && [ "$status" = 0 ]; then
        exit 0
    fi
    local pid
    for pid in $connector_pid $service_pid; do
        as_root kill -TERM "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
    if [ "$status" != 0 ] && [ -d "${work-}" ]; then
        say "what the connector and the service said last:" >&2
        as_root tail -n 15 "$work/connector.err" "$work/service.err" >&2 || true
    fi
    if [ -n "${work-}" ]; then
        if pgrep -f "^$work/usr/bin/" >/dev/null; then
            say "demo.sh: processes were left behind: $(pgrep -f "^$work/usr/bin/" | tr '\n' ' ')" >&2
            status=1
        fi
        as_root rm -rf "$work"
    fi
    [ "$status" != 0 ] || say "everything that was started is stopped and removed"
    exit "$status"
}
trap cleanup EXIT INT TERM

held() {
    checks=$((checks + 1))
}

failed() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    say "    FAILED: $*"
}

admin() {
    local method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body --cacert "$work/service-ca.pem" --request "$method" \
        --header @"$work/admin.header" "$@" "$service_url/admin/api/$path"
}

# ---- the machine ---------------------------------------------------------------------------------------------------

step "installing packages"
"$PROJECT/scripts/install-deps.sh" --demo
ensure_service_user

step "building (a minute or two the first time)"
build "$PROJECT/build" -DCC_TESTS=OFF -DCC_FAILPOINTS=OFF
say "$("$bin/certconnectord" --version) is in $bin"

# The service user must reach the programs wherever the project was cloned to, so they are installed into the demo's folder.
work=$(mktemp -d /tmp/certconnector-demo.XXXXXX)
chmod 0755 "$work"
DESTDIR='' cmake --install "$PROJECT/build" --prefix "$work/usr" >/dev/null
bin=$work/usr/bin
as_root install -d -o "$SERVICE_USER" -g "$SERVICE_USER" -m 0750 "$work/service" "$work/state" "$work/log" "$work/run"
mkdir "$work/pfx" "$work/devices" "$work/results"

# ---- the token -----------------------------------------------------------------------------------------------------

step "making a SoftHSM token with a key for every role"
"$PROJECT/scripts/token-init.sh" --token-dir "$work/token/tokens" --pin-file "$work/token/pin" --bin-dir "$bin"
export SOFTHSM2_CONF=$work/token/softhsm2.conf

# ---- the stand-in service ------------------------------------------------------------------------------------------

step "starting the stand-in service"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=stand-in service" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -keyout "$work/service.key" -out "$work/service-ca.pem" 2>/dev/null
(umask 077 && openssl rand -hex 24 >"$work/client.secret.tmp")
as_root install -o root -g "$SERVICE_USER" -m 0640 "$work/service.key" "$work/service/tls.key"
as_root install -o root -g "$SERVICE_USER" -m 0640 "$work/client.secret.tmp" "$work/client.secret"
rm -f "$work/client.secret.tmp" "$work/service.key"
(exec_service "$bin/certconnector-tenant" --listen 127.0.0.1:0 --tenant "$tenant" --state "sqlite:$work/service/state.db" \
    --tls-certificate "$work/service-ca.pem" --tls-key "$work/service/tls.key" --client-id "$client_id" \
    --revocation-cool-down 1 --client-secret-file "$work/client.secret" --admin-token-file "$work/service/admin.token" \
    --ready-file "$work/service/port") >"$work/service.out" 2>"$work/service.err" &
service_pid=$!
wait_until 20 "the service is ready" as_root test -s "$work/service/port"
service_url=https://localhost:$(as_root cat "$work/service/port")
(umask 077 && printf 'Authorization: Bearer %s\n' "$(as_root cat "$work/service/admin.token")" >"$work/admin.header")
say "it listens on $service_url"

# ---- the connector -------------------------------------------------------------------------------------------------

step "making a CA in the token and starting a connector"
free_port() {
    local port=$((20000 + RANDOM % 10000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((20000 + RANDOM % 10000))
    done
    echo "$port"
}
world_port=$(free_port)
world_url=http://127.0.0.1:$world_port
scep_port=$(free_port)
while [ "$scep_port" = "$world_port" ]; do
    scep_port=$(free_port)
done
scep_url=http://127.0.0.1:$scep_port/scep
cat >"$work/certconnector.conf" <<CONF
[connector]
name = demo-connector
features = pfx-import, pkcs, scep, revocation
state = sqlite:$work/state/state.db
state-directory = $work/state
control-socket = $work/run/control.sock

[token]
module = /usr/lib/softhsm/libsofthsm2.so
uri = pkcs11:token=certconnector
pin = file:$work/token/pin

[service]
tenant = $tenant
client-id = $client_id
client-secret = file:$work/client.secret
cloud = custom
authority = $service_url/
graph = $service_url/
resource = $service_url/
ca-file = $work/service-ca.pem

[keys]
pfx-import = pkcs11:object=pfx-import
seal = pkcs11:object=seal
scep-ra-sign = pkcs11:object=scep-ra-sign
scep-ra-encrypt = pkcs11:object=scep-ra-encrypt
ca = pkcs11:object=ca
ocsp = pkcs11:object=ocsp

[key-alias]
Contoso HSM/PFXEncryptionKey = pkcs11:object=pfx-import

[pkcs]
profile = user
key-pool = 10

[scep]
listen = 127.0.0.1:$scep_port
profile = device

; Debian's scep client knows single DES and nothing else.
[scep-profile "old"]
legacy = des

[revocation]
poll-interval = 1s
reason = cessationOfOperation

[publish]
listen = 127.0.0.1:$world_port

[ca "corp"]
kind = local
crl-urls = $world_url/corp.crl
issuer-urls = $world_url/corp.cer
ocsp-urls = $world_url/ocsp

[profile "user"]
validity = 90d
extended-key-usages = clientAuth, emailProtection

[profile "device"]
validity = 30d
san = dns

[log]
directory = $work/log
CONF
cli() {
    as_service env SOFTHSM2_CONF="$SOFTHSM2_CONF" "$bin/certconnector" "$@"
}
cli ca init --config "$work/certconnector.conf" --subject "CN=Contoso Demo CA,O=Contoso"
(exec_service env SOFTHSM2_CONF="$SOFTHSM2_CONF" "$bin/certconnectord" --config "$work/certconnector.conf") \
    >"$work/connector.out" 2>"$work/connector.err" &
connector_pid=$!
connector_ready() {
    cli status --config "$work/certconnector.conf" --json |
        jq -e '.token.state == "open" and .service.contact == "ok" and .workloads.scep.state == "ready"'
}
wait_until 30 "the connector is ready" connector_ready
cli status --config "$work/certconnector.conf"

# ---- the administrator's side: PFX files ---------------------------------------------------------------------------

# make_pfx NAME KEY FORM PASSWORD: a PFX file by openssl, its password beside it (bytes as given, ISO 8859-1).
make_pfx() {
    local name=$1 key=$2 form=$3 password=$4
    local request=(openssl req -x509 -nodes -days 365 -subj "/CN=$name/emailAddress=$name@$tenant"
        -keyout "$work/pfx/$name.key" -out "$work/pfx/$name.pem")
    case $key in
    rsa*) request+=(-newkey "rsa:${key#rsa}") ;;
    ec*) request+=(-newkey ec -pkeyopt "ec_paramgen_curve:${key#ec}") ;;
    esac
    "${request[@]}" 2>/dev/null
    printf '%s' "$password" | iconv -f UTF-8 -t ISO-8859-1 >"$work/pfx/$name.password"
    # OpenSSL takes passwords as UTF-8 and writes them as the BMPString that Windows writes.
    local options=(-export -inkey "$work/pfx/$name.key" -in "$work/pfx/$name.pem" -out "$work/pfx/$name.pfx")
    [ "$form" = aes ] || options+=(-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1)
    printf '%s' "$password" | LC_ALL=C.UTF-8 openssl pkcs12 "${options[@]}" -passout stdin
    rm -f "$work/pfx/$name.key"
}

step "making PFX files with openssl: RSA and EC, AES and legacy 3DES, passwords of 1 to 126 bytes and with accents"
long=$(printf 'a%.0s' {1..126})
make_pfx user1 rsa2048 aes 'correct horse battery staple'
make_pfx user2 rsa2048 3des 'x'
make_pfx user3 ecP-256 aes "$long"
make_pfx user4 ecP-384 3des 'Crème Brûlée für 2 £'
make_pfx user5 rsa3072 aes '12345678 ÄÖÜß'
make_pfx user6 ecP-256 3des 'legacy'
users=(user1 user2 user3 user4 user5 user6)
say "made ${#users[@]} files in $work/pfx"

step "exporting the public key that uploads are encrypted for (the private half stays in the token)"
cli key export-public --config "$work/certconnector.conf" --role pfx-import --format pem >"$work/import-key.pem"
openssl pkey -pubin -in "$work/import-key.pem" -noout -text | head -n 1

step "uploading them, passwords encrypted with OAEP and SHA-512, SHA-256 and SHA-384"
(umask 027 && {
    printf 'file,user,password\n'
    for user in "${users[@]}"; do
        printf '%s,%s,%s\n' "$work/pfx/$user.pfx" "$user@$tenant" "file:$work/pfx/$user.password"
    done
} >"$work/upload.csv")
upload() {
    as_root env SOFTHSM2_CONF="$SOFTHSM2_CONF" "$bin/certconnector" pfx import --config "$work/certconnector.conf" --public-key "$work/import-key.pem" \
        --provider "Contoso HSM" --key-name PFXEncryptionKey "$@"
}
chmod 0600 "$work"/pfx/*.password
as_root chgrp "$SERVICE_USER" "$work/upload.csv"
paddings=(oaepSha512 oaepSha256 oaepSha384)

# ---- the devices' side ---------------------------------------------------------------------------------------------

# open_as_device BITS FORM FILE: decrypts a delivered password with the device's private key, by openssl alone.
open_as_device() {
    local key=$work/devices/$1.key certificate=$work/devices/$1.pem
    case $2 in
    cms) openssl cms -decrypt -inform DER -in "$3" -inkey "$key" -recip "$certificate" -binary ;;
    rsaOaepSha256) openssl pkeyutl -decrypt -inkey "$key" -in "$3" -pkeyopt rsa_padding_mode:oaep \
        -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256 ;;
    rsaOaepSha1) openssl pkeyutl -decrypt -inkey "$key" -in "$3" -pkeyopt rsa_padding_mode:oaep ;;
    rsaPkcs1) openssl pkeyutl -decrypt -inkey "$key" -in "$3" -pkeyopt rsa_padding_mode:pkcs1 ;;
    esac
}

for bits in 2048 3072 4096; do
    openssl req -x509 -newkey "rsa:$bits" -nodes -days 30 -subj "/CN=device $bits" \
        -keyout "$work/devices/$bits.key" -out "$work/devices/$bits.pem" 2>/dev/null
    openssl x509 -in "$work/devices/$bits.pem" -outform DER -out "$work/devices/$bits.der"
done

# deliver USER BITS FORM CIPHER: a device asks for the user's PFX; what comes back is opened and compared.
deliver() {
    local user=$1 bits=$2 form=$3 cipher=$4 what id thumbprint result=$work/results/password.bin
    what="$user for a device with RSA-$bits, $form${cipher:+ $cipher}"
    thumbprint=$(openssl x509 -in "$work/pfx/$user.pem" -noout -fingerprint -sha1 | sed 's/.*=//; s/://g' | tr A-F a-f)
    jq -n --arg user "$user@$tenant" --arg thumbprint "$thumbprint" --arg form "$form" --arg cipher "$cipher" \
        --arg recipient "$(base64 -w0 "$work/devices/$bits.der")" \
        '{userPrincipalName: $user, thumbprint: $thumbprint, recipientCertificate: $recipient, passwordEncryption: $form}
            + (if $cipher == "" then {} else {contentCipher: $cipher} end)' >"$work/results/request.json"
    id=$(admin POST pfxImportRequests --json @"$work/results/request.json" | jq -r .requestId)
    request_done() {
        admin GET "requests/$id" >"$work/results/answer.json" &&
            jq -e '.state == "completed" or .state == "failed"' "$work/results/answer.json"
    }
    wait_until 30 "request $id is done" request_done
    if ! jq -e '.state == "completed" and .result.succeeded' "$work/results/answer.json" >/dev/null; then
        failed "$what: $(jq -c .result "$work/results/answer.json")"
        return
    fi
    jq -r .result.encryptedPfxPassword "$work/results/answer.json" | base64 -d >"$result.encrypted"
    if ! open_as_device "$bits" "$form" "$result.encrypted" >"$result"; then
        failed "$what: openssl does not decrypt the password"
    elif ! cmp -s "$result" "$work/pfx/$user.password"; then
        failed "$what: another password came out"
    elif ! iconv -f ISO-8859-1 -t UTF-8 "$result" |
        LC_ALL=C.UTF-8 openssl pkcs12 -in "$work/pfx/$user.pfx" -passin stdin -nokeys -out /dev/null 2>/dev/null; then
        failed "$what: the password does not open the PFX"
    elif open_as_device "$((bits == 2048 ? 3072 : 2048))" "$form" "$result.encrypted" 2>/dev/null | cmp -s - "$work/pfx/$user.password"; then
        failed "$what: another device can read it too"
    else
        held
        say "    $what: re-encrypted in the $(jq -r .result.reencryptedIn "$work/results/answer.json"), decrypted by openssl, opens the PFX"
    fi
    rm -f "$result" "$result.encrypted"
}

forms=('cms aes256' 'cms des-ede3' 'rsaOaepSha256 ' 'rsaOaepSha1 ' 'rsaPkcs1 ')
for padding in "${paddings[@]}"; do
    step "upload with $padding, delivery to devices"
    update=()
    [ "$padding" = oaepSha512 ] || update=(--update)
    upload --padding "$padding" "${update[@]}" --csv "$work/upload.csv"
    turn=0
    for user in "${users[@]}"; do
        for bits in 2048 3072 4096; do
            read -r form cipher <<<"${forms[turn % ${#forms[@]}]}"
            deliver "$user" "$bits" "$form" "$cipher"
            turn=$((turn + 1))
        done
    done
done

step "a request that cannot be done fails with its reason, and the next one goes on"
openssl req -x509 -newkey rsa:1024 -nodes -days 30 -subj "/CN=weak device" -keyout /dev/null \
    -out "$work/devices/weak.pem" 2>/dev/null
openssl x509 -in "$work/devices/weak.pem" -outform DER -out "$work/devices/weak.der"
thumbprint=$(openssl x509 -in "$work/pfx/user1.pem" -noout -fingerprint -sha1 | sed 's/.*=//; s/://g' | tr A-F a-f)
id=$(jq -n --arg user "user1@$tenant" --arg thumbprint "$thumbprint" --arg recipient "$(base64 -w0 "$work/devices/weak.der")" \
    '{userPrincipalName: $user, thumbprint: $thumbprint, recipientCertificate: $recipient}' |
    admin POST pfxImportRequests --json @- | jq -r .requestId)
weak_failed() {
    admin GET "requests/$id" | jq -e '.state == "failed" and .result.errorCode == "RecipientNotAccepted"'
}
wait_until 30 "the weak device is refused" weak_failed
held
say "    a device with RSA-1024: RecipientNotAccepted"
deliver user1 2048 cms aes256

step "what the connector says of it"
cli status --config "$work/certconnector.conf"
admin_events=$(cli events --config "$work/certconnector.conf" --channel admin --category "PKCS Import" --json | wc -l)
say "admin events of imported PFX: $admin_events"
if [ "$admin_events" = "$checks" ]; then
    held
else
    failed "$admin_events admin events for $checks requests"
fi
if as_root grep -rqF -e 'correct horse' -e 'legacy"' "$work/log" "$work/state"; then
    failed "a password stands in the log or the state"
else
    held
fi

# ---- certificates on request ---------------------------------------------------------------------------------------

fetch() {
    curl --silent --show-error --fail --noproxy '*' --output "$work/results/$1" "$world_url/$1"
}

# ocsp_says WORD CERTIFICATE: what openssl asks and verifies.
ocsp_says() {
    openssl ocsp -issuer "$work/results/ca.pem" -CAfile "$work/results/ca.pem" -cert "$2" -url "$world_url/ocsp" 2>"$work/results/ocsp.err" |
        grep -q "^$2: $1" && grep -q 'Response verify OK' "$work/results/ocsp.err"
}

# crl_has CERTIFICATE: whether the published CRL, whose signature openssl verifies, has it.
crl_has() {
    fetch corp.crl
    openssl crl -inform DER -in "$work/results/corp.crl" -noout -verify -CAfile "$work/results/ca.pem" >/dev/null 2>&1 || return 2
    openssl crl -inform DER -in "$work/results/corp.crl" -noout -text |
        grep -qi "Serial Number: $(openssl x509 -in "$1" -noout -serial | sed 's/serial=//')"
}

# certify KIND FORM ENCRYPTION: a device gets a certificate with its key; what arrived is left in results/KIND-ENCRYPTION.*
certify() {
    local kind=$1 form=$2 encryption=$3 name=$1-$3 id what file
    what="$kind, PFX $encryption, password $form"
    file=$work/results/$name
    id=$(jq -n --arg name "$name" --arg kind "$kind" --arg form "$form" --arg encryption "$encryption" \
        --arg recipient "$(base64 -w0 "$work/devices/2048.der")" --arg user "user1@$tenant" \
        '{userPrincipalName: $user, subjectName: "CN=\($name),O=Contoso", keyAlgorithm: $kind, validityPeriodInDays: 30,
            subjectAlternativeNames: [{type: "upn", value: $user}, {type: "email", value: $user}],
            recipientCertificate: $recipient, passwordEncryption: $form, pfxEncryption: $encryption}' |
        admin POST pkcsRequests --json @- | jq -r .requestId)
    pkcs_done() {
        admin GET "requests/$id" >"$file.json" && jq -e '.state == "completed" or .state == "failed"' "$file.json"
    }
    wait_until 60 "request $id is done" pkcs_done
    if ! jq -e '.state == "completed" and .result.succeeded' "$file.json" >/dev/null; then
        failed "$what: $(jq -c .result "$file.json")"
        return
    fi
    jq -r .result.encryptedPfxPassword "$file.json" | base64 -d >"$file.encrypted"
    jq -r .result.encryptedPfxBlob "$file.json" | base64 -d >"$file.pfx"
    jq -r .result.certificate "$file.json" | base64 -d | openssl x509 -inform DER -out "$file.pem"
    open_as_device 2048 "$form" "$file.encrypted" >"$file.password"
    if ! openssl pkcs12 -legacy -in "$file.pfx" -passin "file:$file.password" -nodes -out "$file.opened" 2>/dev/null; then
        failed "$what: the decrypted password does not open the PFX"
    elif ! cmp -s <(openssl pkey -in "$file.opened" -pubout) <(openssl x509 -in "$file.pem" -noout -pubkey); then
        failed "$what: the key in the PFX is not the certificate's"
    elif ! openssl verify -x509_strict -purpose sslclient -CAfile "$work/results/ca.pem" "$file.pem" >/dev/null; then
        failed "$what: the chain does not verify"
    elif ! ocsp_says good "$file.pem" || crl_has "$file.pem"; then
        failed "$what: CRL or OCSP does not say good"
    else
        held
        say "    $what: opened, key and chain fit, CRL and OCSP say good"
    fi
    rm -f "$file.opened" "$file.password"
    echo "$id" >"$file.id"
}

step "certificates on request: key pairs made for devices, certified by the CA in the token, delivered as PFX"
fetch corp.cer
openssl x509 -inform DER -in "$work/results/corp.cer" -out "$work/results/ca.pem"
turn=0
for kind in rsa2048 rsa3072 rsa4096 ecP256 ecP384; do
    for encryption in aes256 compat; do
        read -r form _ <<<"${forms[turn % ${#forms[@]}]}"
        certify "$kind" "$form" "$encryption"
        turn=$((turn + 1))
    done
done

# ---- devices that enrol by SCEP ------------------------------------------------------------------------------------

# challenge NAME: the stand-in makes one for this device alone, as its profile would carry it.
challenge() {
    jq -n --arg subject "$1" --arg name "$2" \
        '{subjectName: $subject} + if $name == "" then {} else {subjectAlternativeNames: [{type: "dns", value: $name}]} end' |
        admin POST scepChallenges --json @- | jq -r '.challenges[0].challenge'
}

# enrolled FILE WHAT: the certificate is good, and the service heard of it exactly once.
enrolled() {
    local file=$1 what=$2 thumbprint
    thumbprint=$(openssl x509 -in "$file" -noout -fingerprint -sha1 2>/dev/null | sed 's/.*=//; s/://g') || true
    told_once() {
        admin GET "scepTransactions?\$top=1000" |
            jq -e --arg thumbprint "$thumbprint" '[.value[].notification | select(.members.certificateThumbprint == $thumbprint)
                | .count] == [1]'
    }
    if ! openssl verify -x509_strict -purpose sslclient -CAfile "$work/results/ca.pem" "$file" >/dev/null 2>&1; then
        failed "$what: no certificate, or one that does not verify: $(tail -n 3 "$work"/results/{pki,scepclient}.err 2>/dev/null)"
    elif [ "${3-}" != untold ] && ! wait_until 20 "the service knows" told_once; then
        failed "$what: the service did not hear of it exactly once"
    else
        held
        say "    $what: $(openssl x509 -in "$file" -noout -subject), verified"
    fi
}

strongswan() {
    pki "$@" 2>"$work/results/pki.err"
}

step "a device enrols with strongSwan's client, its challenge verified by the service"
(
    cd "$work/devices"
    strongswan --scepca --url "$scep_url" --caout scep-ca.crt --raout scep-ra.crt --outform pem
    strongswan --gen --type rsa --size 2048 --outform pem >device1.key
    strongswan --gen --type rsa --size 2048 --outform pem >device1-new.key
) >/dev/null
# scepca writes the certificates in the order of their appearance: which one is for what, its usages tell.
for file in "$work"/devices/scep-ra*.crt; do
    if openssl x509 -in "$file" -noout -ext keyUsage | grep -q 'Key Encipherment'; then
        scep_encrypt=$file
    else
        scep_sign=$file
    fi
done
scep_enrol() {
    strongswan --scep --url "$scep_url" --cacert "$work/devices/scep-ca.crt" --cacert-enc "$scep_encrypt" --cacert-sig "$scep_sign" \
        --dn 'O=Contoso, CN=device1' --san device1.contoso.example --outform pem "$@"
}
scep_enrol --in "$work/devices/device1.key" --password "$(challenge 'CN=device1,O=Contoso' device1.contoso.example)" \
    --cipher aes --digest sha256 >"$work/results/device1.pem" || true
enrolled "$work/results/device1.pem" "strongSwan, first enrolment"
scep_enrol --in "$work/devices/device1-new.key" --cert "$work/results/device1.pem" --key "$work/devices/device1.key" \
    --cipher aes --digest sha256 >"$work/results/device1-new.pem" || true
enrolled "$work/results/device1-new.pem" "strongSwan, renewal without a challenge" untold
if scep_enrol --in "$work/devices/device1-new.key" --password "$(challenge 'CN=another,O=Contoso' another.contoso.example)" \
    --cipher aes --digest sha256 >"$work/results/refused.pem"; then
    failed "a challenge for another device was good"
else
    held
    say "    a challenge that was made for another device is refused"
fi

step "a device enrols with Debian's scep client, at a profile that takes its single DES"
(cd "$work/devices" && scepclient -server-url "$scep_url/old" -private-key device2.key -certificate device2.pem \
    -cn device2 -organization Contoso -ou Devices -country DE -challenge "$(challenge 'CN=device2,OU=Devices,O=Contoso,C=DE' '')") \
    >"$work/results/scepclient.err" 2>&1 || true
enrolled "$work/devices/device2.pem" "Debian's scep client"
step "what the service wants revoked is revoked"
for name in rsa2048-aes256 ecP256-compat; do
    jq -n --arg id "$(cat "$work/results/$name.id")" '{requestId: $id}' | admin POST revocationRequests --json @- >/dev/null
    if wait_until 30 "OCSP says revoked" ocsp_says revoked "$work/results/$name.pem" &&
        wait_until 30 "the CRL has it" crl_has "$work/results/$name.pem"; then
        held
        say "    $name: OCSP and CRL say revoked"
    else
        failed "$name: not revoked"
    fi
done
if ocsp_says good "$work/results/rsa3072-aes256.pem" && ! crl_has "$work/results/rsa3072-aes256.pem"; then
    held
else
    failed "a certificate that nobody wants revoked is"
fi

step "the connector's own test of the whole path"
if cli selftest --config "$work/certconnector.conf" --admin-token-file "$work/service/admin.token"; then
    held
else
    failed "certconnector selftest"
fi

step "a subject that cannot be is refused with its reason"
id=$(jq -n --arg recipient "$(base64 -w0 "$work/devices/2048.der")" \
    '{subjectName: "CN=,O=Contoso", keyAlgorithm: "ecP256", recipientCertificate: $recipient}' |
    admin POST pkcsRequests --json @- | jq -r .requestId)
subject_refused() {
    admin GET "requests/$id" | jq -e '.state == "failed" and .result.errorCode == "ParameterDataInvalidError"'
}
wait_until 30 "the request is refused" subject_refused
held
say "    $(admin GET "requests/$id" | jq -r '.result.errorMessage')"
cli ca list --config "$work/certconnector.conf" --state all

step "result"
if ((failures)); then
    say "$failures of $checks checks failed"
    exit 1
fi
say "all $checks checks held, in $((SECONDS - started)) seconds"
if [ "$keep" = yes ]; then
    say "still running: the service at $service_url/ (process $service_pid), the connector (process $connector_pid)"
    say "its status page: $service_url/admin (the token is in $work/service/admin.token)"
    say "look around: sudo -u $SERVICE_USER env SOFTHSM2_CONF=$SOFTHSM2_CONF $bin/certconnector status --config $work/certconnector.conf"
    say "the event log is in $work/log; stop with: sudo kill $connector_pid $service_pid"
    disown -a
fi
