#!/usr/bin/env bash
# fflate cuts a gzip file of two members to the length of the last one, without an error.
# Packages: fflate 0.8.3, pako 3.0.3 (npm); node's zlib.
# Guess: gunzipSync gives both members, or the first alone.
# Seen: as many octets of the first member as the last member holds (here 14 of 25): the output is as long as the last
# four octets of the file say, and a gzip file may have any number of members (RFC 1952 section 2.2). zlib and pako
# join them.
# Matters to: readers of application/tlsrpt+gzip reports whose sender writes the file in pieces: the JSON is cut, and an
# error of the JSON parser puts the blame on the sender.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" fflate@0.8.3 pako@3.0.3 >/dev/null
cat >run.mjs <<'JS'
import { gunzipSync } from 'fflate';
import * as pako from 'pako';
import zlib from 'zlib';
const file = new Uint8Array(Buffer.concat(['{"organization-name":"A",', '"policies":[]}'].map(part => zlib.gzipSync(part))));
const ungzip = pako.ungzip ?? pako.default.ungzip;
for (const [name, read] of [['zlib', zlib.gunzipSync], ['pako 3.0.3', ungzip], ['fflate 0.8.3', gunzipSync]]) {
  console.log(`${name}: ${Buffer.from(read(file)).toString()}`);
}
JS
node run.mjs | tee seen
cat >expected <<'TXT'
zlib: {"organization-name":"A","policies":[]}
pako 3.0.3: {"organization-name":"A","policies":[]}
fflate 0.8.3: {"organization
TXT
diff expected seen
