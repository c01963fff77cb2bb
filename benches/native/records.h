/*
 * The records of TLS 1.3, for load.c.
 *
 * OpenSSL makes a system call and two copies for each 16 KiB, and with messages of 1 KiB it is as busy as the cipher itself:
 * a client of that kind, and no server, is what would be measured. So OpenSSL shakes hands, and the keys that it tells are
 * used here: what there is to send goes out with one call, and what has come is decrypted where it was received.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* LONGEST is what a record may be when it is encrypted. */
enum { HEADER = 5, TAG = 16, RECORD = 1 << 14, LONGEST = RECORD + 256, ALERT = 21, HANDSHAKE = 22, DATA = 23 };

/* What goes one way. */
struct direction {
    EVP_CIPHER_CTX *cipher;
    unsigned char secret[EVP_MAX_MD_SIZE], nonce[12];
    uint64_t number;
};

static void refuse(const char *what);

/* HKDF-Expand-Label of RFC 8446, for as much as one block gives. */
static void expand(const EVP_MD *hash, const unsigned char *secret, const char *label, unsigned char *key, int size) {
    unsigned char info[32] = {0, (unsigned char)size, (unsigned char)(6 + strlen(label))}, block[EVP_MAX_MD_SIZE];
    size_t used = 3 + (size_t)sprintf((char *)info + 3, "tls13 %s", label) + 1;
    info[used++] = 1;
    if (!HMAC(hash, secret, EVP_MD_get_size(hash), info, used, block, NULL))
        refuse("no HMAC");
    memcpy(key, block, (size_t)size);
}

static void take_keys(SSL *ssl, struct direction *d, int sends) {
    const SSL_CIPHER *suite = SSL_get_current_cipher(ssl);
    const EVP_CIPHER *cipher = EVP_get_cipherbynid(SSL_CIPHER_get_cipher_nid(suite));
    const EVP_MD *hash = SSL_CIPHER_get_handshake_digest(suite);
    unsigned char key[EVP_MAX_KEY_LENGTH];
    if (SSL_version(ssl) != TLS1_3_VERSION || !cipher)
        refuse("the server has another TLS than 1.3");
    expand(hash, d->secret, "key", key, EVP_CIPHER_get_key_length(cipher));
    expand(hash, d->secret, "iv", d->nonce, sizeof d->nonce);
    d->cipher = EVP_CIPHER_CTX_new();
    if (!EVP_CipherInit_ex(d->cipher, cipher, NULL, key, NULL, sends))
        refuse("no cipher");
}

/* Begins the next record: its nonce is its number in the key's, and its header is authenticated. */
static void begin_record(struct direction *d, const unsigned char *header) {
    unsigned char nonce[sizeof d->nonce];
    int n;
    memcpy(nonce, d->nonce, sizeof nonce);
    for (int i = 0; i < 8; i++)
        nonce[sizeof nonce - 1 - i] ^= (unsigned char)(d->number >> 8 * i);
    d->number++;
    if (!EVP_CipherInit_ex(d->cipher, NULL, NULL, NULL, nonce, -1) ||
        !EVP_CipherUpdate(d->cipher, NULL, &n, header, HEADER))
        refuse("no record");
}

/* Makes records of all the bytes; returns where they end. */
static unsigned char *seal(struct direction *d, const unsigned char *bytes, size_t length, unsigned char *to) {
    static const unsigned char type = DATA;
    for (size_t size; length; bytes += size, length -= size) {
        size = length < RECORD ? length : RECORD;
        size_t sealed = size + 1 + TAG;
        unsigned char header[HEADER] = {DATA, 3, 3, (unsigned char)(sealed >> 8), (unsigned char)sealed};
        int n;
        memcpy(to, header, HEADER);
        to += HEADER;
        begin_record(d, header);
        if (!EVP_CipherUpdate(d->cipher, to, &n, bytes, (int)size) ||
            !EVP_CipherUpdate(d->cipher, to + size, &n, &type, 1) || !EVP_CipherFinal_ex(d->cipher, to, &n) ||
            !EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_GET_TAG, TAG, to + size + 1))
            refuse("no record");
        to += sealed;
    }
    return to;
}

/* Decrypts a record's contents; returns their type, and their size. */
static int open_record(struct direction *d, const unsigned char *header, size_t sealed, unsigned char *to, size_t *size) {
    const unsigned char *from = header + HEADER;
    int n;
    if (sealed <= TAG)
        refuse("a wrong record");
    *size = sealed - TAG;
    begin_record(d, header);
    if (!EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(from + *size)) ||
        !EVP_CipherUpdate(d->cipher, to, &n, from, (int)*size) || EVP_CipherFinal_ex(d->cipher, to, &n) != 1)
        refuse("a wrong record");
    while (*size && !to[*size - 1])
        --*size; /* padding */
    return *size ? to[--*size] : 0;
}
