# SPDX-License-Identifier: MIT
"""CMS EnvelopedData for a public key that has no certificate, as a sender of imported PFX makes it: by openssl's command,
with a certificate that carries the key and is signed by another."""

import datetime
import pathlib
import subprocess
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


def envelope(public_key, password, *options):
    signer = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pfx-import")])
    now = datetime.datetime.utcnow()
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public_key).serial_number(7)
                   .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False).sign(signer, hashes.SHA256()))
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "certificate")
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return subprocess.run(["openssl", "cms", "-encrypt", "-binary", "-aes256", "-keyid", "-outform", "DER", *options, file],
                              input=password, capture_output=True, check=True, timeout=60).stdout
