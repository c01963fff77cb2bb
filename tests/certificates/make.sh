#!/bin/sh
# Makes the keys and certificates of the tests, which are of use for nothing else. They are valid for a hundred years.
set -e
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1" 2>/dev/null; }
key ca.key
openssl req -x509 -new -key ca.key -days 36500 -subj "/CN=ferrio test authority" -out ca.pem
# name, subject, alternative names
issue() {
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  cat "$1.crt" "$1.key" >"$1.pem"
  rm "$1.csr" "$1.ext" "$1.crt" "$1.key"
}
issue server localhost DNS:localhost,IP:127.0.0.1
issue other other.example DNS:other.example
issue client "a client" DNS:client.example
openssl pkey -in server.pem -aes256 -passout pass:secret -out encrypted.key
rm ca.key ca.srl
