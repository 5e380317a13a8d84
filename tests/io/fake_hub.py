#!/usr/bin/env python3
"""Plays the Hugging Face Hub and the store that it redirects to, well or badly, for the models in a folder.

    fake_hub.py FOLDER

FOLDER/owner/name/... are the files of the models; there is one revision, main. Prints the ports of the Hub and of the store
on 127.0.0.1, and serves until its standard input closes. The endpoint is http://127.0.0.1:PORT/BEHAVIOUR/RUN, where RUN is
any word; /log/RUN answers what the run has asked for, as JSON. Files whose names end in .safetensors or .bin are large ones:
named by their SHA-256, and sent by the store. The others are sent by the Hub, and named as git names them.
"""
import hashlib
import http.server
import json
import pathlib
import sys
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"
root = pathlib.Path(sys.argv[1])
log, counts, lock = {}, {}, threading.Lock()


def is_large(path):
    return path.suffix in (".safetensors", ".bin")


def name_of(path):
    data = path.read_bytes()
    if is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code="", message=""):
        headers = [("X-Error-Code", code)] if code else []
        self.answer(status, b"{}", headers + ([("X-Error-Message", message)] if message else []))

    def count(self, *what):
        """How often this has been asked for, this time included."""
        with lock:
            counts[self.run, *what] = counts.get((self.run, *what), 0) + 1
            return counts[self.run, *what]

    def handle_request(self):
        url = urllib.parse.urlsplit(self.path)
        behaviour, self.run, rest = (urllib.parse.unquote(url.path).lstrip("/") + "//").split("/", 2)
        rest = rest.rstrip("/")
        if behaviour == "log":
            with lock:
                return self.answer(200, json.dumps(log.get(self.run, [])).encode())
        with lock:
            log.setdefault(self.run, []).append({
                "server": self.server.role, "method": self.command, "path": rest,
                "token": self.headers.get("Authorization", ""), "range": self.headers.get("Range", "")})
        self.behaviour = behaviour
        try:
            if self.server.role == "store":
                self.store(rest)
            elif rest.startswith("api/models/"):
                self.api(rest[len("api/models/"):])
            elif rest.startswith("api/resolve-cache/"):
                self.small_file(root / rest[len("api/resolve-cache/"):])
            else:
                self.resolve(rest)
        except (BrokenPipeError, ConnectionResetError):
            pass

    do_GET = do_HEAD = handle_request

    def api(self, rest):
        token = self.headers.get("Authorization", "")
        if self.behaviour == "busy" and self.count("api") <= 2:
            return self.error(503 if self.count("busy") == 1 else 429)
        if self.behaviour == "down":
            return self.error(500)
        if self.behaviour == "private" and token != f"Bearer {TOKEN}":
            return self.error(401, "RepoNotFound", "Repository not found")
        if self.behaviour == "bad_token":
            return self.error(401, "", f"Invalid credentials in Authorization header: {token}")
        if self.behaviour == "forbidden":
            return self.error(403, "", f"Your account is blocked, {token}")
        if self.behaviour == "not_a_hub":
            return self.answer(200, b"<html>Please log in to the network</html>")
        if self.behaviour == "loop":
            return self.answer(307, b"", [("Location", self.path)])
        if self.behaviour == "elsewhere":
            return self.answer(307, b"", [("Location", "file:///etc/passwd")])
        kind = "tree" if "/tree/" in rest else "revision"
        name, _, revision = rest.partition(f"/{kind}/")
        folder = root / name
        if not folder.is_dir():
            return self.error(404, "RepoNotFound", "Repository not found")
        if revision not in ("main", "refs/pr/4", COMMIT):
            return self.error(404, "RevisionNotFound", "Invalid rev id")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if kind == "tree":
            entries = []
            for path in files:
                entry = {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size,
                         "oid": hashlib.sha1(str(path).encode()).hexdigest() if is_large(path) else name_of(path)}
                if is_large(path):
                    entry["lfs"] = {"oid": name_of(path), "size": path.stat().st_size, "pointerSize": 134}
                entries.append(entry)
            return self.answer(200, json.dumps(entries).encode(), [("Content-Type", "application/json")])
        siblings = [{"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size} for path in files]
        if self.behaviour == "mirror":
            siblings = [{"rfilename": entry["rfilename"]} for entry in siblings]
        if self.behaviour == "huge":
            siblings = [{**entry, "size": 1 << 60} for entry in siblings]
        if self.behaviour == "hostile":
            siblings += [{"rfilename": name} for name in (
                "../../evil", "/tmp/evil", "unet/../../../evil/config.json", "unet\\..\\evil", "a\0b", 7, None)]
            siblings += ["evil", {"name": "evil"}]
        if self.behaviour == "token_name":
            siblings = [{"rfilename": entry["rfilename"].replace("model.", f"{token[7:]}.")} for entry in siblings]
        self.answer(200, json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}).encode(),
                    [("Content-Type", "application/json")])

    def resolve(self, rest):
        name, _, place = rest.partition("/resolve/")
        revision, _, file = place.partition("/")
        path = root / name / file
        if self.behaviour == "gated" and self.headers.get("Authorization", "") != f"Bearer {TOKEN}":
            return self.error(401 if not self.headers.get("Authorization") else 403, "GatedRepo", "Access is restricted")
        if not path.is_file() or (self.behaviour == "no_file" and file == "vae/config.json"):
            return self.error(404, "EntryNotFound", "Entry not found")
        headers = [("X-Repo-Commit", COMMIT)]
        if not is_large(path):
            if self.behaviour == "relative":
                return self.answer(307, b"", headers + [
                    ("Location", f"/{self.behaviour}/{self.run}/api/resolve-cache/{name}/{file}")])
            return self.small_file(path)
        etag = name_of(path)
        if self.behaviour == "hostile_etag":
            etag = "../../../evil"
        if self.behaviour == "token_etag":
            etag = self.headers["Authorization"]
        if self.behaviour == "mirror":
            etag = f"mirror-{etag[:10]}"
        if self.behaviour == "huge":
            headers += [("X-Linked-Size", str(1 << 60))]
        else:
            headers += [("X-Linked-Size", str(path.stat().st_size))]
        port = self.server.store_port
        place = f"http://127.0.0.1:{port}/{self.behaviour}/{self.run}/{name}/{file}?signature=secret"
        self.answer(302, b"", headers + [("X-Linked-Etag", f'"{etag}"'), ("ETag", '"of-the-pointer"'), ("Location", place)])

    def small_file(self, path):
        headers = [("X-Repo-Commit", COMMIT), ("ETag", f'W/"{name_of(path)}"')]
        self.part(path.read_bytes(), headers)

    def part(self, data, headers=()):
        wanted = self.headers.get("Range", "")
        begin = int(wanted[len("bytes="):-1]) if wanted else 0
        if not wanted or self.behaviour == "no_ranges":
            return self.answer(200, data, headers)
        if begin >= len(data):
            return self.answer(416, b"", [("Content-Range", f"bytes */{len(data)}")])
        said = 0 if self.behaviour == "other_range" else begin
        self.answer(206, data[begin:], [*headers, ("Content-Range", f"bytes {said}-{len(data) - 1}/{len(data)}")])

    def store(self, rest):
        data = (root / rest).read_bytes()
        number = self.count(rest) if self.command == "GET" else 0
        b = self.behaviour
        if b == "expired" and number == 1:
            return self.error(403)
        if b == "damaged" or (b == "damaged_once" and number == 1):
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        if b == "longer":
            return self.answer(200, data + b"more")
        if b == "shorter":
            return self.answer(200, data[:-7])
        begin = int(self.headers.get("Range", "bytes=0-")[len("bytes="):-1])
        if b in ("cut", "no_ranges", "other_range") and number <= 2 or b == "always_cut" and number <= 100:
            end = min(len(data), begin + (0 if b == "always_cut" and begin > 0 else 1000))
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            self.wfile.write(data[begin:end])
            self.wfile.flush()
            self.close_connection = True
            return
        if b == "stalls" and number == 1 or b == "slow":
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            piece = 1000 if b == "stalls" else max(1, len(data) // 20)
            for place in range(begin, len(data), piece):
                self.wfile.write(data[place:place + piece])
                self.wfile.flush()
                time.sleep(3 if b == "stalls" else 0.05)
            return
        self.part(data)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # connections that the other side has cut


servers = []
for role in ("store", "hub"):
    server = Server(("127.0.0.1", 0), Handler)
    server.role = role
    server.store_port = servers[0].server_address[1] if servers else 0
    servers.append(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdout.write(f"{servers[1].server_address[1]} {servers[0].server_address[1]}\n")  # in one write, buffered or not
sys.stdout.flush()
sys.stdin.read()
