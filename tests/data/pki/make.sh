#!/bin/bash
# SPDX-License-Identifier: MIT
# Makes the objects beside it anew, with programs that nobody here wrote: OpenSSL, NSS and Java.
# The README says what each is for.  The tests' tables name thumbprints of no object: they compute them.
set -euo pipefail
cd "$(dirname "$0")"
rm -f ./*.pfx ./*.der ./*.pem

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pw=test-password
o=(openssl)

# key and certificate: name, subject, arguments of req
pair() {
    "${o[@]}" req -x509 -nodes -keyout "$1-key.pem" -out "$work/$1.crt" -days 36500 -subj "$2" \
        "${@:3}" 2>/dev/null
    "${o[@]}" x509 -in "$work/$1.crt" -outform der -out "$1.der"
}

pair rsa "/C=DE/O=Example \"Quoted\", Ltd./CN=user1" -newkey rsa:2048 -set_serial 0x00c0ffee
pair rsa3072 /CN=device1 -newkey rsa:3072 -set_serial 0x0a
pair rsa1024 /CN=weak -newkey rsa:1024 -set_serial 0
pair pss /CN=pss -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048
pair ec256 /CN=ec256 -newkey ec -pkeyopt ec_paramgen_curve:P-256
pair ec384 /CN=ec384 -newkey ec -pkeyopt ec_paramgen_curve:P-384
pair ec521 /CN=ec521 -newkey ec -pkeyopt ec_paramgen_curve:P-521
pair ca /CN=ca -newkey rsa:2048

# a fixed validity, for the edges of it
"${o[@]}" req -new -key rsa-key.pem -subj /CN=dated -out "$work/dated.csr"
mkdir "$work/ca"
: >"$work/ca/index"
echo 01 >"$work/ca/serial"
cat >"$work/ca.cnf" <<END
[ca]
default_ca = it
[it]
database = $work/ca/index
serial = $work/ca/serial
new_certs_dir = $work/ca
default_md = sha256
policy = any
[any]
commonName = supplied
END
"${o[@]}" ca -batch -config "$work/ca.cnf" -cert "$work/ca.crt" -keyfile ca-key.pem \
    -startdate 20260101000000Z -enddate 20261231235959Z -in "$work/dated.csr" \
    -out "$work/dated.crt" -notext 2>/dev/null
"${o[@]}" x509 -in "$work/dated.crt" -outform der -out dated.der

# pfx NAME KEYPAIR PASSWORD-FILE arguments
pfx() {
    "${o[@]}" pkcs12 -export -inkey "$2-key.pem" -in "$work/$2.crt" -passout "file:$3" -out "$1.pfx" "${@:4}"
}
des=(-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1)
printf '%s' $pw >"$work/pw"
printf 'x' >"$work/pw1"
printf 'p%.0s' {1..126} >"$work/pw126"
printf 'Gr\303\266\303\237e-\303\251' >"$work/utf8"
printf 'Gr\366\337e-\351' >"$work/latin1"
echo >"$work/empty"

pfx rsa-aes rsa "$work/pw"
pfx rsa-3des rsa "$work/pw" "${des[@]}"
pfx rsa-rc2 rsa "$work/pw" -legacy
pfx ec256-aes ec256 "$work/pw"
pfx ec384-3des ec384 "$work/pw" "${des[@]}"
pfx ec521-rc2 ec521 "$work/pw" -legacy
pfx one-aes rsa "$work/pw1"
pfx long-aes rsa "$work/pw126"
pfx long-3des rsa "$work/pw126" "${des[@]}"
pfx utf8-aes rsa "$work/utf8"
pfx utf8-3des rsa "$work/utf8" "${des[@]}"
pfx utf8-rc2 rsa "$work/utf8" -legacy
pfx latin1-aes rsa "$work/latin1"
pfx latin1-3des rsa "$work/latin1" "${des[@]}"
pfx empty-aes rsa "$work/empty"
pfx plain-certs rsa "$work/pw" -certpbe NONE
pfx chain rsa "$work/pw" -certfile "$work/ca.crt" -name "leaf and root"
pfx nomac rsa "$work/pw" -nomac
pfx nokey rsa "$work/pw" -nokeys
pfx iterations rsa "$work/pw" -iter 600001

# Java: key first, PBES2 by PBKDF2, 10000 iterations each
keytool -genkeypair -alias a -keyalg RSA -keysize 2048 -dname CN=java -validity 36500 \
    -storetype PKCS12 -keystore java.pfx -storepass $pw >/dev/null 2>&1

# NSS: BER with indefinite lengths
mkdir "$work/nss"
certutil -N -d "sql:$work/nss" --empty-password
pk12util -i rsa-aes.pfx -d "sql:$work/nss" -w "$work/pw" >/dev/null
name=$(certutil -L -d "sql:$work/nss" | sed -n '5s/ *u,u,u *$//p')
pk12util -o nss.pfx -d "sql:$work/nss" -n "$name" -w "$work/pw" >/dev/null
rm -f ./rsa1024-key.pem ./pss-key.pem ./ca-key.pem ./ec256-key.pem ./ec384-key.pem ./ec521-key.pem
