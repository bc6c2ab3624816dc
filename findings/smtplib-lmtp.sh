#!/usr/bin/env bash
# smtplib.LMTP reads one reply after the content, whatever the number of recipients.
# Program: CPython's standard library (seen with 3.10.13, 3.11.2, 3.11.7, 3.13.0); the server is a stand-in on loopback.
# Guess: an outcome for each recipient (RFC 2033 section 4.2: one reply for each RCPT that was accepted).
# Seen: the second recipient's 452 is lost, sendmail() returns {} ("all accepted"); the reply left over is taken for the
# answer to the next MAIL, so an innocent message is refused with another recipient's text.
# Matters to: whoever hands mail to Dovecot, Cyrus or a filter by LMTP: send one recipient at a time, or lose mail.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/run.py" <<'PY'
import smtplib, socket, threading

def serve(listener):
    peer, _ = listener.accept()
    lines, recipients = peer.makefile("rb"), 0
    peer.sendall(b"220 lmtp.example.com\r\n")
    for line in lines:
        verb = line[:4].upper()
        recipients = recipients + 1 if verb == b"RCPT" else 0 if verb == b"MAIL" else recipients
        if verb == b"DATA":
            peer.sendall(b"354 go on\r\n")
            while lines.readline() != b".\r\n":
                pass
            peer.sendall(b"".join([b"250 2.0.0 <a> kept\r\n", b"452 4.2.2 <b> mailbox full\r\n"][:recipients]))
        else:
            peer.sendall(b"250 ok\r\n")

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
client = smtplib.LMTP("127.0.0.1", listener.getsockname()[1], local_hostname="client.example.com")
print("two recipients:", client.sendmail("s@example.com", ["a@example.com", "b@example.com"], "Subject: 1\r\n\r\n1\r\n"))
try:
    print("next message:", client.sendmail("t@example.com", ["c@example.com"], "Subject: 2\r\n\r\n2\r\n"))
except smtplib.SMTPResponseException as error:
    print("next message:", type(error).__name__, error.smtp_code, error.smtp_error.decode())
PY
python3 --version
python3 "$tmp/run.py" | tee "$tmp/seen"
cat >"$tmp/expected" <<'TXT'
two recipients: {}
next message: SMTPSenderRefused 452 4.2.2 <b> mailbox full
TXT
diff "$tmp/expected" "$tmp/seen"
