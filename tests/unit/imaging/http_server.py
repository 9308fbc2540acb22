"""HTTP server for test_fetch: python3 http_server.py FOLDER LOG [CERT KEY]; prints its port.

Serves the files of FOLDER with ETag and Range; the first part of the path says how:
  plain/  as it should be          norange/  ignores Range
  cut/    a request without Range is cut after half of the body
  dead/   each request is cut after 100 kB; only the first one without Range sends so much
  changed/  another ETag each time  noetag/   neither ETag nor Last-Modified
  slow/   64 KiB every 20 ms
  redirect/URL  302 to it          loop       302 to itself
  status/N  an empty answer with that status
Each request is a line of LOG: method, path, Range, status.
An absolute URL (we are somebody's proxy) is served by its path.
"""
import hashlib
import http.server
import ssl
import sys
import time
import urllib.parse

FOLDER, LOG = sys.argv[1], sys.argv[2]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    n_changed = 0

    def log_message(self, *args):
        pass

    def note(self, status):
        with open(LOG, "a", encoding="ascii") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('Range', '-')} {status}\n")

    def answer_empty(self, status, *headers):
        self.note(status)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def etag(self, how, body):
        if how == "noetag":
            return None
        if how == "changed":
            Handler.n_changed += 1
            return f'"changed-{Handler.n_changed}"'
        return '"' + hashlib.sha256(body).hexdigest()[:16] + '"'

    def start_of(self, how, body, etag):
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not wanted or how == "norange" or (condition and condition != etag):
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    def send_head(self, body, start, etag):
        status = 200 if start is None else 206
        self.note(status)
        self.send_response(status)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body) - (start or 0)))
        self.end_headers()

    def send_body(self, how, body, start):
        rest = body[start or 0:]
        if how == "cut" and start is None:
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
        elif how == "dead":
            self.wfile.write(rest[:100000] if start is None else b"")
            self.close_connection = True
        elif how == "slow":
            for at in range(0, len(rest), 65536):
                self.wfile.write(rest[at : at + 65536])
                time.sleep(0.02)
        else:
            self.wfile.write(rest)

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path if "://" in self.path else self.path
        how, _, name = path.lstrip("/").partition("/")
        if how == "redirect":
            return self.answer_empty(302, ("Location", urllib.parse.unquote(name)))
        if how == "loop":
            return self.answer_empty(302, ("Location", "/loop"))
        if how == "status":
            return self.answer_empty(int(name))
        try:
            with open(f"{FOLDER}/{name.split('?')[0]}", "rb") as file:
                body = file.read()
        except OSError:
            return self.answer_empty(404)
        etag = self.etag(how, body)
        if etag and self.headers.get("If-None-Match") == etag:
            return self.answer_empty(304, ("ETag", etag))
        start = self.start_of(how, body, etag)
        if start is not None and start >= len(body):
            return self.answer_empty(416)
        self.send_head(body, start, etag)
        try:
            self.send_body(how, body, start)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that go away are what this is for


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
