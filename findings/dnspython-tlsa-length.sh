#!/usr/bin/env bash
# dnspython reads no response at all that bears one TLSA record of a wrong digest length.
# Packages: dnspython 2.9.2 and, for comparison, 2.9.0.
# Guess: the record is handed over as it is, as up to 2.9.0, and its reader finds it unusable.
# Seen: from 2.9.1 on the whole message raises FormError, the good record beside it included; Resolver.resolve() asks
# each nameserver again until its time is up. RFC 7671 section 9 has a record of incorrect digest length discarded
# first, and the others used.
# Matters to: whoever decides DANE on dnspython: a slip in one record becomes a failed lookup, and mail waits.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/run.py" <<'PY'
import struct, dns.exception, dns.message, dns.version

NAME = b"\3_25\4_tcp\2mx\7example\3com\0"

def response(*rdatas):
    answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 52, 1, 300, len(rdata)) + rdata for rdata in rdatas)
    return struct.pack("!6H", 1, 0x81A0, 1, len(rdatas), 0, 0) + NAME + struct.pack("!HH", 52, 1) + answers

good, short = bytes([3, 1, 1]) + b"\xab" * 32, bytes([3, 1, 1]) + b"\xcd" * 31
for what, rdatas in ("good", [good]), ("good and short", [good, short]):
    try:
        records = dns.message.from_wire(response(*rdatas)).answer[0]
        read = [f"{r.usage} {r.selector} {r.mtype} {len(r.cert)} octets" for r in records]
        print(f"dnspython {dns.version.version}, {what}: {', '.join(sorted(read))}")
    except dns.exception.DNSException as error:
        print(f"dnspython {dns.version.version}, {what}: {type(error).__name__}: {error}")
PY
for version in 2.9.0 2.9.2; do
  python3 -m venv "$tmp/$version"
  "$tmp/$version/bin/python" -m pip install -q --disable-pip-version-check "dnspython==$version"
  "$tmp/$version/bin/python" "$tmp/run.py"
done | tee "$tmp/seen"
cat >"$tmp/expected" <<'TXT'
dnspython 2.9.0, good: 3 1 1 32 octets
dnspython 2.9.0, good and short: 3 1 1 31 octets, 3 1 1 32 octets
dnspython 2.9.2, good: 3 1 1 32 octets
dnspython 2.9.2, good and short: FormError: certificate association data length inconsistent with matching type
TXT
diff "$tmp/expected" "$tmp/seen"
