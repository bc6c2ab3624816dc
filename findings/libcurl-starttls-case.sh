#!/usr/bin/env bash
# libcurl up to 8.16 does not see a STARTTLS keyword that a server writes in small letters.
# Packages: pycurl 7.45.7 (wheel with libcurl 8.16.0) and, mended, pycurl 7.49.0 (libcurl 8.23.0); Debian 12's 7.88.1 is
# as the former. The server is a stand-in on loopback.
# Guess: keywords are compared without regard to case everywhere (RFC 5321 section 2.4; smtplib, swaks, s_client,
# GnuTLS, nodemailer, Postfix do).
# Seen: with TLS required, "STARTTLS not supported" and no delivery, the same words as for a server that has none.
# Matters to: writers of servers and of tests that use curl as the client, and readers of such a failure in a log.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/run.py" <<'PY'
import socket, threading, pycurl

def serve(listener, keyword, heard):
    peer, _ = listener.accept()
    peer.sendall(b"220 mx.example.com ESMTP\r\n")
    for line in peer.makefile("rb"):
        heard.append(line.split()[0].decode().upper())
        if heard[-1] == "EHLO":
            peer.sendall(b"250-mx.example.com\r\n250 " + keyword + b"\r\n")
        else:  # enough to see that the client asked for it
            peer.sendall(b"454 4.7.0 TLS not available now\r\n" if heard[-1] == "STARTTLS" else b"250 ok\r\n")

for keyword in b"STARTTLS", b"starttls":
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, keyword, heard), daemon=True).start()
        curl = pycurl.Curl()
        curl.setopt(curl.URL, f"smtp://127.0.0.1:{listener.getsockname()[1]}/client.example.com")
        curl.setopt(curl.USE_SSL, pycurl.USESSL_ALL)
        curl.setopt(curl.PROXY, "")
        try:
            curl.perform()
        except pycurl.error as error:
            print(f"{pycurl.version.split()[1]}, 250 {keyword.decode()}: heard {' '.join(heard)}; {error.args[1]}")
PY
for version in 7.45.7 7.49.0; do
  python3 -m venv "$tmp/$version"
  "$tmp/$version/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: "pycurl==$version"
  "$tmp/$version/bin/python" "$tmp/run.py"
done | tee "$tmp/seen"
cat >"$tmp/expected" <<'TXT'
libcurl/8.16.0-DEV, 250 STARTTLS: heard EHLO STARTTLS; STARTTLS denied, code 454
libcurl/8.16.0-DEV, 250 starttls: heard EHLO; STARTTLS not supported.
libcurl/8.23.0, 250 STARTTLS: heard EHLO STARTTLS; STARTTLS denied, code 454
libcurl/8.23.0, 250 starttls: heard EHLO STARTTLS; STARTTLS denied, code 454
TXT
diff "$tmp/expected" "$tmp/seen"
