"""A service that knows nothing of idempotency keys: each request charges once more."""

import itertools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

charges = itertools.count(1)


class Payments(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = f"charge {next(charges)}".encode()
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Payments)
print(f"127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
