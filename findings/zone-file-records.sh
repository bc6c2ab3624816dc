#!/usr/bin/env bash
# Zone file parsers cut the record that RFC 8461 gives as its example, and lose or cut TLSA, without an error.
# Packages: zone-file 1.0.0 and dns-zonefile 0.3.2 (npm), zonefile-parser 0.1.20 (PyPI).
# Guess: a semicolon within quotes is text to all of them (RFC 1035 section 5.1), an unknown type is an error or kept.
# Seen: zone-file takes the semicolon for a comment, so `_mta-sts` is "v=STSv1" and `_smtp._tls` is "v=TLSRPTv1"; it and
# dns-zonefile drop TLSA silently; zonefile-parser keeps the first number of a TLSA record alone.
# Matters to: tools that move or check a domain's mail records by zone file: the domain ends up without MTA-STS or DANE.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" zone-file@1.0.0 dns-zonefile@0.3.2 >/dev/null
python3 -m venv v
v/bin/python -m pip install -q --disable-pip-version-check zonefile-parser==0.1.20
cat >zone <<'TXT'
$ORIGIN example.com.
$TTL 3600
@ IN SOA ns.example.com. hostmaster.example.com. ( 1 3600 600 86400 300 )
_mta-sts IN TXT "v=STSv1; id=20160831085700Z;"
_smtp._tls IN TXT "v=TLSRPTv1; rua=mailto:reports@example.com"
_25._tcp.mx IN TLSA 3 1 1 8755CDAA8FE24EF16CC0F2C918063185E433FAAF1415664911D9E30A924138C4
TXT
cat >run.mjs <<'JS'
import { readFileSync } from 'fs';
import one from 'zone-file';
import two from 'dns-zonefile';
const zone = readFileSync('zone', 'utf8');
for (const [name, parse] of [['zone-file 1.0.0', one.parseZoneFile], ['dns-zonefile 0.3.2', two.parse]]) {
  const { txt, ...rest } = parse(zone);
  for (const record of txt) console.log(`${name}: ${record.name} TXT ${record.txt.replace(/^"|"$/g, '')}`);
  console.log(`${name}: TLSA ${/8755cdaa/i.test(JSON.stringify(rest)) ? 'kept' : 'gone'}`);
}
JS
cat >run.py <<'PY'
import zonefile_parser
for record in zonefile_parser.parse(open("zone").read()):
    if record.rtype != "SOA":
        print(f"zonefile-parser 0.1.20: {record.name} {record.rtype} {record.rdata['value']}")
PY
{ node run.mjs; v/bin/python run.py; } | tee seen
cat >expected <<'TXT'
zone-file 1.0.0: _mta-sts TXT v=STSv1
zone-file 1.0.0: _smtp._tls TXT v=TLSRPTv1
zone-file 1.0.0: TLSA gone
dns-zonefile 0.3.2: _mta-sts TXT v=STSv1; id=20160831085700Z;
dns-zonefile 0.3.2: _smtp._tls TXT v=TLSRPTv1; rua=mailto:reports@example.com
dns-zonefile 0.3.2: TLSA gone
zonefile-parser 0.1.20: _mta-sts.example.com. TXT v=STSv1; id=20160831085700Z;
zonefile-parser 0.1.20: _smtp._tls.example.com. TXT v=TLSRPTv1; rua=mailto:reports@example.com
zonefile-parser 0.1.20: _25._tcp.mx.example.com. TLSA 3
TXT
diff expected seen
