#!/usr/bin/env python3
"""A completions service that fails in a different way at each address.

Prints the port that it listens on, on 127.0.0.1, and serves until its standard input closes.
POST /<behaviour>/<run>/v1/completions or .../v1/chat/completions     as the behaviour says
POST /log/<run>                                                       what the run has sent so far, as JSON
"""

import http.server
import json
import sys
import threading
import time
from email.utils import formatdate

requests = {}
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def completion(self, body, text=None, reason="stop"):
        chat = self.path.endswith("/chat/completions")
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        text = f"echo {prompt}" if text is None else text
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        self.answer(200, {"choices": [{"index": 0, "finish_reason": reason, **choice}],
                          "usage": {"completion_tokens": 3}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, behaviour, run, *_ = self.path.split("/")
        key = self.headers.get("Authorization", "")
        with lock:
            log = requests.setdefault(run, [])
            if behaviour == "log":
                self.answer(200, log)
                return
            body = json.loads(body)
            log.append({"time": time.monotonic(), "key": key, "path": self.path, "body": body})
            number = len(log)
        try:
            getattr(self, behaviour)(body, number, key)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def fine(self, body, number, key):
        self.completion(body)

    def stops(self, body, number, key):
        self.completion(body, "one\n%%\ntwo\nEND and more")

    def long(self, body, number, key):
        self.completion(body, "one", "length")

    def filtered(self, body, number, key):
        self.completion(body, "", "content_filter")

    def slow(self, body, number, key):
        time.sleep(3)
        self.completion(body)

    def busy(self, body, number, key):
        if number <= 2:
            self.answer(429, {"error": {"message": "too many requests"}}, [("Retry-After", "1")])
        else:
            self.completion(body)

    def dated(self, body, number, key):
        if number == 1:
            self.answer(503, {"error": "closed"}, [("Retry-After", formatdate(time.time() + 2, usegmt=True))])
        else:
            self.completion(body)

    def patient(self, body, number, key):
        self.answer(429, {"error": {"message": "come back tomorrow"}}, [("Retry-After", "3600")])

    def spent(self, body, number, key):
        self.answer(429, {"error": {"message": "you have no money", "code": "insufficient_quota"}})

    def broken(self, body, number, key):
        self.answer(500, {"error": {"message": f"the engine fell over with {key}"}})

    def flaky(self, body, number, key):
        if number <= 2:
            self.answer(500, b"")
        else:
            self.completion(body)

    def cut(self, body, number, key):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices"')
        self.wfile.flush()
        self.connection.close()

    def silent(self, body, number, key):
        self.connection.close()

    def garbage(self, body, number, key):
        self.answer(200, f"<html>{key}</html>".encode())

    def half(self, body, number, key):
        if number == 1:
            self.answer(200, b'{"choices": [{"text": "x"')
        else:
            self.completion(body)

    def strange(self, body, number, key):
        self.answer(200, {"choices": [], "note": "z" * 150 + key})

    def refused(self, body, number, key):
        self.answer(401, {"error": {"message": f"Incorrect API key provided: {key}. " + "y" * 300}})

    def forbidden(self, body, number, key):
        self.answer(403, key.encode())

    def missing(self, body, number, key):
        self.answer(404, {"error": {"message": f"The model {body['model']} does not exist"}})

    def moved(self, body, number, key):
        self.answer(302, b"", [("Location", "/fine/elsewhere/v1/completions")])

    def huge(self, body, number, key):
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b" " * (1 << 20))


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
