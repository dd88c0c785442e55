# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# curl.sh -- transfers from files and from a web server of our own on the loopback interface.
what="file:// and 40 parallel transfers from a local web server, compressed and uploaded"
packages="curl python3"
commands="curl python3 sha256sum"
witnesses=curl
speed=quick

version() { curl --version | sed -n '1s/curl \([^ ]*\).*/\1/p'; }

serve() {
    cat >server.py <<'PY'
import gzip, http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, *headers):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        n = int(self.path.rsplit("/", 1)[1])
        body = f"{n} ".encode() * (20000 + n * 100)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            self.answer(gzip.compress(body, mtime=0), ("Content-Encoding", "gzip"))
        else:
            self.answer(body)

    def do_POST(self):
        self.answer(b"got %d\n" % len(self.rfile.read(int(self.headers["Content-Length"]))))

    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

server = Server(("127.0.0.1", 0), Handler)
with open("port.new", "w") as file:
    file.write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
PY
    python3 server.py &
    server=$!
    local tries
    for tries in $(seq 1200); do
        [ ! -e port ] || return 0
        sleep 0.1
    done
    echo "the web server did not come up after $tries tries" >&2
    return 1
}

workload() {
    seq 500000 >big
    curl -sS "file://$PWD/big" | sha256sum
    serve
    local url
    url=http://127.0.0.1:$(cat port)
    mkdir got
    curl -sS --no-progress-meter -Z --parallel-max 8 --compressed "$url/[1-40]" -o 'got/#1'
    (cd got && sha256sum -- *)
    curl -sS "$url/7" | sha256sum
    curl -sS --data-binary @big "$url/up"
    kill "$server"
    wait "$server" || true
    curl -sS "file://$PWD/none" || echo "status $?"
}
