#!/usr/bin/env bash
# cryptography's verifier refuses the two policy extensions that RFC 5280 obliges CAs to mark critical.
# Packages: cryptography 50.0.2, pyhanko-certvalidator 0.33.0 (PyPI); Debian's openssl (3.0.22) beside them.
# Guess: they are processed, or passed over, since nothing in these paths is forbidden by them.
# Seen: policyConstraints (4.2.1.11) and inhibitAnyPolicy (4.2.1.14) of a CA, and certificatePolicies of a server where
# it is critical, are "unaccounted-for critical extensions"; openssl with -x509_strict and pyhanko accept the paths.
# Matters to: whoever verifies chains of company or state CAs (bridged PKIs have these) with DANE-TA(2) or MTA-STS.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/python -m pip install -q --disable-pip-version-check cryptography==50.0.2 pyhanko-certvalidator==0.33.0
cat >run.py <<'PY'
import asyncio, datetime, subprocess
from asn1crypto.x509 import Certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from pyhanko_certvalidator import CertificateValidator, ValidationContext

NOW = datetime.datetime.now(datetime.timezone.utc)
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), None)])
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "ca", "mx")}

def certificate(name, issuer, *more):
    title = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
    key, issuing = KEYS[name].public_key(), KEYS[issuer].public_key()
    made = x509.CertificateBuilder(title(issuer), title(name), key, x509.random_serial_number(), NOW, NOW + datetime.timedelta(9))
    extensions = [(x509.SubjectKeyIdentifier.from_public_key(key), False),
                  (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing), False)]
    if name == "mx":
        extensions += [(x509.SubjectAlternativeName([x509.DNSName("mx.example.com")]), False)]
    else:
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                               "key_agreement", "encipher_only", "decipher_only"), False)
        extensions += [(x509.BasicConstraints(True, None), True), (x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), True)]
    for extension, critical in [*extensions, *more]:
        made = made.add_extension(extension, critical)
    return made.sign(KEYS[issuer], hashes.SHA256())

def outcomes(ca_more, mx_more):
    path = [certificate("root", "root"), certificate("ca", "root", *ca_more), certificate("mx", "ca", *mx_more)]
    for name, made in zip(("root", "ca", "mx"), path):
        open(name, "wb").write(made.public_bytes(Encoding.PEM))
    asked = "openssl verify -x509_strict -purpose sslserver -verify_hostname mx.example.com -CAfile root -untrusted ca mx"
    yield "openssl " + ("accepts" if subprocess.run(asked.split(), capture_output=True).returncode == 0 else "refuses")
    root, ca, mx = (Certificate.load(made.public_bytes(Encoding.DER)) for made in path)
    context = ValidationContext(trust_roots=[root], allow_fetching=False)
    asyncio.run(CertificateValidator(mx, [ca], validation_context=context).async_validate_path())
    yield "pyhanko-certvalidator accepts"
    try:
        PolicyBuilder().store(Store(path[:1])).build_server_verifier(x509.DNSName("mx.example.com")).verify(path[2], [path[1]])
        yield "cryptography accepts"
    except VerificationError as error:
        yield "cryptography refuses" + (": unaccounted-for critical" if "unaccounted-for critical" in str(error) else "")

for what, ca_more, mx_more in (
    ("certificatePolicies, not critical", [(POLICIES, False)], [(POLICIES, False)]),
    ("policyConstraints", [(POLICIES, False), (x509.PolicyConstraints(0, None), True)], [(POLICIES, False)]),
    ("inhibitAnyPolicy", [(POLICIES, False), (x509.InhibitAnyPolicy(0), True)], [(POLICIES, False)]),
    ("certificatePolicies, critical", [(POLICIES, False)], [(POLICIES, True)]),
):
    print(f"{what}: {', '.join(outcomes(ca_more, mx_more))}")
PY
openssl version
v/bin/python run.py | tee seen
cat >expected <<'TXT'
certificatePolicies, not critical: openssl accepts, pyhanko-certvalidator accepts, cryptography accepts
policyConstraints: openssl accepts, pyhanko-certvalidator accepts, cryptography refuses: unaccounted-for critical
inhibitAnyPolicy: openssl accepts, pyhanko-certvalidator accepts, cryptography refuses: unaccounted-for critical
certificatePolicies, critical: openssl accepts, pyhanko-certvalidator accepts, cryptography refuses: unaccounted-for critical
TXT
diff expected seen
