#!/usr/bin/env bash
# Python's email package turns a long domain in TLS-Report-Domain into encoded words, also in mail it only passes on.
# Program: CPython's standard library (seen with 3.10.13, 3.11.2, 3.11.7, 3.13.0); no package is needed.
# Guess: a domain has no blank to fold at, so the field stays one long line, well below the 998 octets allowed.
# Seen: from 78 octets on it is `=?utf-8?q?...?=`, although all of it is ASCII, with policy.default and policy.SMTP, new
# or parsed from octets; compat32 leaves it alone. RFC 8460 section 5.3 has a domain there, which encoded words are not
# (RFC 2047 section 5 keeps them to text), and a DKIM signature over the passed-on field no longer verifies.
# Matters to: writers of TLS reports and of filters on this field. max_line_length=None in the policy is the way out.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/run.py" <<'PY'
import email, email.message, email.policy

def domain(length):
    return "x" * 60 + "." + "y" * (length - 69) + ".example"

for policy in "default", "SMTP", "compat32":
    chosen = getattr(email.policy, policy)
    for length in 77, 78:
        fresh = (email.message.Message if policy == "compat32" else email.message.EmailMessage)(policy=chosen)
        fresh["TLS-Report-Domain"] = domain(length)
        passed = email.message_from_bytes(b"TLS-Report-Domain: " + domain(length).encode() + b"\r\n\r\nx\r\n", policy=chosen)
        words = ["encoded words" if b"=?utf-8?q?" in made.as_bytes() else "the domain" for made in (fresh, passed)]
        print(f"{policy}, {length} octets: written as {words[0]}, passed on as {words[1]}")
roomy = email.message.EmailMessage(policy=email.policy.SMTP.clone(max_line_length=None))
roomy["TLS-Report-Domain"] = domain(200)
print("SMTP with max_line_length=None, 200 octets:", "the domain" if domain(200).encode() in roomy.as_bytes() else "encoded words")
PY
python3 --version
python3 "$tmp/run.py" | tee "$tmp/seen"
cat >"$tmp/expected" <<'TXT'
default, 77 octets: written as the domain, passed on as the domain
default, 78 octets: written as encoded words, passed on as encoded words
SMTP, 77 octets: written as the domain, passed on as the domain
SMTP, 78 octets: written as encoded words, passed on as encoded words
compat32, 77 octets: written as the domain, passed on as the domain
compat32, 78 octets: written as the domain, passed on as the domain
SMTP with max_line_length=None, 200 octets: the domain
TXT
diff "$tmp/expected" "$tmp/seen"
