#!/usr/bin/env bash
# CPython's ssl.SSLError.reason is None for an alert whose name stands in the very same exception's text.
# Program: CPython 3.10.13, 3.11.2 (Debian 3.11.2-6+deb12u6), 3.11.7, 3.13.0, all with OpenSSL 3.0.22.
# Guess: each registered alert has its reason, such as TLSV1_UNRECOGNIZED_NAME, and an unknown number has none.
# Seen: none for no_application_protocol (120) and unknown_psk_identity (115), though str() names them; for an
# unregistered number the text is "unknown error", and the number is nowhere.
# Matters to: senders of TLS reports (failure-reason-code) and others who look the reason up or call a method of it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/run.py" <<'PY'
import re, socket, ssl, threading

def serve(listener, alert):
    peer, _ = listener.accept()
    peer.recv(9999)
    peer.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))
    peer.close()

for alert in 40, 112, 115, 116, 120, 200:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, alert), daemon=True).start()
        try:
            ssl.create_default_context().wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="a.example")
        except ssl.SSLError as error:
            print(alert, error.reason, "|", re.sub(r" \(_ssl.*", "", str(error)))
PY
python3 -c 'import ssl, sys; print("CPython", sys.version.split()[0], "with", ssl.OPENSSL_VERSION)'
python3 "$tmp/run.py" | tee "$tmp/seen"
cat >"$tmp/expected" <<'TXT'
40 SSLV3_ALERT_HANDSHAKE_FAILURE | [SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure
112 TLSV1_UNRECOGNIZED_NAME | [SSL: TLSV1_UNRECOGNIZED_NAME] tlsv1 unrecognized name
115 None | [SSL] tlsv1 alert unknown psk identity
116 TLSV13_ALERT_CERTIFICATE_REQUIRED | [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required
120 None | [SSL] tlsv1 alert no application protocol
200 None | [SSL] unknown error
TXT
diff "$tmp/expected" "$tmp/seen"
