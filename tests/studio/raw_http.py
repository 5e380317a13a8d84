#!/usr/bin/env python3
"""Malformed and mutated requests, over real sockets, to a running ip2p studio.

    raw_http.py PROGRAMS_DIR SOURCE_DIR [--requests N] [--seed SEED] [--only NUMBER]

A request is sound, wrong in a known way, or sound bytes that were mutated; it is sent whole, in pieces, byte by byte or cut
off, alone or with others in one connection. Each depends on the seed and its number alone: --only sends one again.

What has to hold:
- Whatever comes back are well-formed HTTP responses, each with a status other than 500. Errors are JSON with a sentence.
- Sound requests are answered as such, however they are cut into pieces.
- Wrong ones get one response, 4xx, and the connection ends: what followed them is not taken for another request.
- The service lives, its memory does not grow, all its connections end, and an edit has the bytes that it had at the
  beginning.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import re
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pictures  # noqa: E402
from client import Service, form  # noqa: E402

EDIT = {"instruction": "make it winter", "steps": 1, "seed": 7}
PHOTO = pictures.encode(24, 16, lambda x, y: (10 * x, 15 * y, 120))
PATIENCE = 2  # seconds that the service waits for a client
LIMIT = 1_000_000  # bytes of a request
EXPIRE = 20  # seconds that results are kept
HOST = b"Host: localhost\r\n"
ODD = [b"\0", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b":", b" ", b"\t", b"%", b"%00", b"%ff", b"\xff", b"\xc3\x28", b"\xed\xa0\x80",
       b"--", b"-1", b"4294967296", b"18446744073709551616", b"99999999999999999999999", b"0x10", b"1e309", b"NaN",
       b"chunked", b"HTTP/1.1", b"../", b"?", b"#", b";", b",", b'"', b"\\", b"{", b"[", b"A" * 300, b"A" * 9000, b"[" * 2000]


class Malformed(Exception):
    """A response that is none."""


Response = collections.namedtuple("Response", "status headers body")


def parse(data, heads):
    """The responses in these bytes. `heads`: whether those to HEAD, which have no bodies, may be among them."""
    responses = []
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        if not found:
            raise Malformed("a head without an end")
        first, *lines = head.split(b"\r\n")
        if not re.fullmatch(rb"HTTP/1\.1 [1-5][0-9][0-9] [ -~]+", first):
            raise Malformed(f"the first line {first[:80]}")
        status = int(first[9:12])
        headers = {}
        for line in lines:
            if not re.fullmatch(rb"[A-Za-z0-9-]+: [ -~]*", line):
                raise Malformed(f"the header {line[:80]}")
            name, _, value = line.decode().partition(": ")
            if name.lower() in headers:
                raise Malformed(f"{name} twice")
            headers[name.lower()] = value
        if status == 100:
            responses.append(Response(status, headers, b""))
            continue
        body, data = body_of(headers, data, heads)
        responses.append(Response(status, headers, body))
    return responses


def body_of(headers, data, heads):
    """(body, what follows it)."""
    if heads and (not data or data.startswith(b"HTTP/1.1 ")):
        return b"", data
    if headers.get("transfer-encoding") == "chunked":
        if "content-length" in headers:
            raise Malformed("chunks and a length")
        body = b""
        while True:
            line, found, data = data.partition(b"\r\n")
            if not found and headers["content-type"] == "text/event-stream":
                return body, b""  # of a client that has gone
            if not re.fullmatch(rb"[0-9a-f]+", line):
                raise Malformed(f"the chunk {line[:80]}")
            size = int(line, 16)
            if data[size:size + 2] != b"\r\n":
                raise Malformed("a chunk without an end")
            body, data = body + data[:size], data[size + 2:]
            if size == 0:
                return body, data
    if "content-length" not in headers:
        if headers.get("connection") != "close":
            raise Malformed("a body without a length")
        return data, b""
    size = int(headers["content-length"])
    if len(data) < size:
        raise Malformed(f"{len(data)} bytes of a body of {size}")
    return data[:size], data[size:]


def final(responses):
    """Without those that say that a body may be sent."""
    return [response for response in responses if response.status != 100]


def check(response):
    """Problems of a response."""
    if response.status >= 500 and response.status != 503:
        return [f"status {response.status}: {response.body[:300]}"]
    if response.status < 400 or not response.body:
        return []
    try:
        error = json.loads(response.body.decode())["error"]
        sound = set(error) == {"message", "type", "param", "code"} and len(error["message"]) > 8 and error["message"].isprintable()
    except (ValueError, KeyError, TypeError):
        sound = False
    return [] if sound else [f"expected an error in words, found {response.body[:300]}"]


# What is sent: bytes, what has to come back, and how. `expected` is a list of sets of statuses, one a response; "refused" for
# one response of 4xx after which nothing comes; None for whatever is well-formed.
Sent = collections.namedtuple("Sent", "data expected name")


class Requests:
    """Makes requests."""

    def __init__(self, service):
        self.service = service
        self.model = service.json("GET", "/v1/models")[1]["data"][0]["id"]
        self.lock, self.made = threading.Lock(), -1e9

    @property
    def known(self):
        """Identifier of a job that is done, and will not expire soon."""
        with self.lock:
            if time.monotonic() - self.made > EXPIRE / 4:
                self.job = self.submitted()
                self.made = time.monotonic()
            return self.job

    def submitted(self):
        while True:
            status, answer = self.service.submit(PHOTO, EDIT)
            if status == 202:
                self.service.wait(answer["id"])
                return answer["id"]
            time.sleep(0.01)

    def get(self, rng, path=None, headers=b"", version=b"1.1"):
        paths = ["/", "/healthz", "/metrics", "/api/model", "/api/openapi.yaml", "/v1/models", f"/v1/models/{self.model}",
                 f"/api/jobs/{self.known}", f"/api/jobs/{self.known}/results/0", f"/api/jobs/{self.known}/events"]
        path = path or rng.choice(paths).encode()
        return b"GET " + path + b" HTTP/" + version + b"\r\n" + HOST + headers + b"\r\n"

    def fields(self, rng):
        """(path, fields, statuses) of a form."""
        if rng.random() < 0.5:
            settings = dict(EDIT, seed=rng.randrange(100), preview_every=rng.randrange(2))
            fields = [("image", "a.png", PHOTO), ("settings", None, json.dumps(settings))]
            return b"/api/jobs", fields, {202, 429}
        fields = [("image", "a.png", PHOTO), ("prompt", None, "make it winter"), ("steps", None, "1"), ("seed", None, "7")]
        if rng.random() < 0.3:
            fields += [("stream", None, "true"), ("partial_images", None, "1")]
        rng.shuffle(fields)
        # Of a client that has closed its end, the edit is cancelled.
        return b"/v1/images/edits", fields, {200, 429, 503}

    def chunks(self, rng, body, odd=True):
        """The body in chunks of any sizes."""
        sent = b""
        while body:
            size = rng.choice([1, 2, 15, 16, 100, 5000])
            piece, body = body[:size], body[size:]
            digits = b"%x" % len(piece)
            if odd and rng.random() < 0.3:
                digits = rng.choice([digits.upper(), b"00" + digits, digits + b";a=b", digits + b' ; a="b c"'])
            sent += digits + b"\r\n" + piece + b"\r\n"
        return sent + b"0\r\n" + (b"Trailer: x\r\n" if odd and rng.random() < 0.2 else b"") + b"\r\n"

    def post(self, rng, path, kind, body, headers=b""):
        start = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Type: " + kind.encode() + b"\r\n" + headers
        if rng.random() < 0.5:
            return start + b"Transfer-Encoding: chunked\r\n\r\n" + self.chunks(rng, body)
        return start + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def upload(self, rng, headers=b""):
        path, fields, statuses = self.fields(rng)
        body, kind = form(fields)
        return self.post(rng, path, kind, body, headers), statuses

    def sound(self, rng):
        roll = rng.random()
        if roll < 0.12:
            data, statuses = self.upload(rng, rng.choice([b"", b"Expect: 100-continue\r\n"]))
            return Sent(data, [statuses], "an upload")
        if roll < 0.2:
            return Sent(self.post(rng, b"/api/settings", "image/png", PHOTO), [{404}], "a picture without settings")
        if roll < 0.3:
            headers = rng.choice([b"Range: bytes=0-3\r\n", b"Range: bytes=99999999-\r\n", b"Range: bytes=-5,0-1\r\n",
                                  b"Range: bytes=9-0\r\n", b"Accept-Encoding: gzip, br\r\n", b"If-None-Match: *\r\n",
                                  b"Range: bytes=" + b"0-," * 2500 + b"0-\r\n", b"X: " + b"a" * 9000 + b"\r\n",
                                  b"Connection: x, y\r\n", b"Upgrade: h2c\r\n", b"Cookie: \xc3\xa9\r\n"])
            return Sent(self.get(rng, headers=headers), [{200}], "a header without a meaning here")
        if roll < 0.35:
            return Sent(self.get(rng, version=b"1.0"), [{200}], "HTTP/1.0")
        if roll < 0.4:
            return Sent(self.get(rng).replace(b"GET", b"HEAD", 1), [{200}], "HEAD")
        if roll < 0.5:
            count = rng.randrange(2, 8)
            paths = [rng.choice([b"/", b"/healthz", b"/api/model", b"/v1/models"]) for _ in range(count)]
            return Sent(b"".join(self.get(rng, path) for path in paths), [{200}] * count, "several at once")
        if roll < 0.6:
            body = b"GET /healthz HTTP/1.1\r\n\r\n"
            data = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
            return Sent(data, [{200}], "a body that nobody asked for")
        return Sent(self.get(rng), [{200}], "a page")

    def wrong(self, rng):
        """One that has to be refused, and another behind it that has to be left alone."""
        name, data = rng.choice([self.wrong_head, self.wrong_length, self.wrong_chunks, self.wrong_form, self.wrong_value])(rng)
        return Sent(data, "refused", name)

    def wrong_head(self, rng):
        line, headers = b"GET / HTTP/1.1\r\n", HOST
        if rng.random() < 0.5:
            line = rng.choice([b"\r\n", b"GET\r\n", b"GET /\r\n", b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.1 \r\n", b"GET / HTTP/2.0\r\n",
                               b"GET / http/1.1\r\n", b"\xff\xfe / HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n", b"GET /%zz HTTP/1.1\r\n",
                               b"GET /\xc3\xa9 HTTP/1.1\r\n", b"GET / HTTP/1.1\n", b"BREW / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
                               b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n", b"A" * 40000, b"GET /nowhere HTTP/1.1\r\n",
                               b"PUT / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"])
        else:
            headers += rng.choice([b"A\r\n", b": a\r\n", b"A : b\r\n", b"A: b\r\n c\r\n", b"A: b\0\r\n", b"A: b\x1b[2J\r\n", b"A: b\n",
                                   b"A: b\rB: c\r\n", b"A\xc3\xa9: b\r\n", HOST, b"X: " + b"a" * 40000 + b"\r\n", b"Origin: null\r\n",
                                   b"".join(b"X%d: %s\r\n" % (i, b"a" * 100) for i in range(400))])
        return "a head", line + headers + b"\r\n"

    def wrong_length(self, rng):
        framing = rng.choice([b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5 5",
                              b"Content-Length: 5,5", b"Content-Length: ", b"Content-Length: 99999999999999999999999",
                              b"Content-Length: 4294967301", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 1e1",
                              b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                              b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked",
                              b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"X: no length",
                              b"Content-Length: 5\r\nContent-Encoding: gzip", b"Content-Length : 5", b"Content-Length: 5\n"])
        body = rng.choice([b"hello", b"5\r\nhello\r\n0\r\n\r\n", b""])
        return "a length", (b"POST /api/settings HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n" + body)

    def wrong_chunks(self, rng):
        body = rng.choice([b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"zz\r\n", b"\r\n",
                           b"ffffffffffffffff\r\nhello", b"5\r\nhello\r\n0\r\n: \n\r\n", b"7fffffff\r\nhello", b"0x5\r\nhello\r\n0\r\n\r\n",
                           b"5 5\r\nhello\r\n0\r\n\r\n", b"0" * 5000 + b"\r\n\r\n", b"5;" + b"a" * 70000, b"5\r\nhello\r\n5",
                           b"1\r\nx\r\n" * 200 + b"f423f\r\n", b"100000\r\n" + b"x" * 0x100000 + b"\r\n0\r\n\r\n"])
        return "chunks", b"POST /api/settings HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body

    def wrong_form(self, rng):
        part = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        body = rng.choice([b"", b"--b", b"--b--", b"--b--\r\n", b"x" * 5000, part, part + PHOTO, part + PHOTO + b"\r\n--b\r\n",
                           part + b"\r\n--bx--", part.replace(b'"image"', b'"image'), part.replace(b"image", b"im\0age"),
                           part.replace(b"image", b"\xff\xfe"), part.replace(b"image", b"a" * 8000), part.replace(b"form-data", b"x"),
                           part.replace(b'name="image"', b'name="' + b'";filename="' * 600 + b'"'), b"--b\r\nX: " + b"a" * 20000,
                           b"--b\r\n" + b"X: y\r\n" * 2000 + b"\r\n", b"--b\r\n\r\n\r\n--b--", b"--b" + b" " * 5000 + b"\r\n",
                           part + PHOTO + b"\r\n" + part + PHOTO + b"\r\n--b--\r\n",
                           part + PHOTO + b'\r\n--b\r\nContent-Disposition: form-data; name="settings"\r\n\r\n' + b"[" * 60000 + b"\r\n--b--"])
        kind = rng.choice([b"multipart/form-data; boundary=b"] * 6 +
                          [b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="b', b"text/plain",
                           b"multipart/form-data; boundary=" + b"b" * 5000, b"multipart/form-data; boundary=b\xff"])
        path = rng.choice([b"/api/jobs", b"/v1/images/edits"])
        head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Type: " + kind + b"\r\n"
        return "a form", head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def wrong_value(self, rng):
        """A form as it should be, with content that should not. Its connection may go on."""
        settings = rng.choice([b"{", b"null", b"[" * 60000, b'{"a":' * 10000, b'{"instruction":"\xff"}', b'{"instruction":"x\\ud800"}',
                               b'{"instruction":"x","steps":1e999}', b'{"instruction":"x","steps":-1}', b'{"instruction":"x","seed":NaN}',
                               b'{"instruction":"x","seed":18446744073709551616}', b'{"instruction":"x","text_scale":1e308}',
                               b'{"instruction":"x\\u0000"}', b'{"instruction":"' + b"x" * 50000 + b'"}', b'{"instruction":"x","grid":[]}',
                               b'\xef\xbb\xbf{}', b'{"instruction":"x","count":1e3}', b'{"instruction":"x","grid":{"text_scale":[NaN]}}'])
        if rng.random() < 0.5:
            fields = [("image", "a.png", PHOTO), ("settings", None, settings)]
            path = b"/api/jobs"
        else:
            field, value = rng.choice([("steps", "1e9"), ("steps", "\0"), ("seed", "-1"), ("n", "0x1"), ("size", "99999x99999"),
                                       ("size", "-16x16"), ("quality", "\xff"), ("output_format", "\x1b[2J"), ("partial_images", "4"),
                                       ("text_scale", "nan"), ("text_scale", "[" * 3000), ("stream", "maybe"), ("mask", "x")])
            fields = [("image", "a.png", PHOTO), ("prompt", None, "x"), (field, None, value)]
            path = b"/v1/images/edits"
        if rng.random() < 0.3:
            content = bytearray(PHOTO)
            content[rng.randrange(8, len(PHOTO) - 12)] ^= 1 << rng.randrange(8)
            fields[0] = ("image", "a.png", rng.choice([bytes(content), PHOTO[:rng.randrange(len(PHOTO))]]))
        body, kind = form(fields)
        return "a value", self.post(rng, path, kind, body, b"Connection: close\r\n")

    def mutated(self, rng):
        data = b"".join(rng.choice([self.sound, self.sound, self.wrong])(rng).data for _ in range(rng.choice([1, 1, 1, 2, 3])))
        data = bytearray(data[:200_000])
        for _ in range(rng.choice([1, 1, 2, 5, 20])):
            # Most of what matters is at the beginning.
            at = min(int(rng.expovariate(1 / 80)), len(data)) if rng.random() < 0.7 else rng.randrange(len(data) + 1)
            end = at + rng.choice([1, 2, 4, 16, 64])
            roll = rng.randrange(6)
            if roll == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif roll == 1:
                del data[at:end]
            elif roll == 2:
                data[at:at] = rng.choice(ODD)
            elif roll == 3:
                data[at:end] = rng.choice(ODD)
            elif roll == 4:
                data[at:at] = data[at:end] * rng.choice([1, 2, 50])
            else:
                del data[rng.randrange(len(data) + 1):]
        return Sent(bytes(data), None, "mutated bytes")

    def make(self, rng):
        roll = rng.random()
        return self.sound(rng) if roll < 0.25 else self.wrong(rng) if roll < 0.6 else self.mutated(rng)


class Campaign:
    def __init__(self, service, requests, seed):
        self.service, self.requests, self.seed = service, requests, seed
        self.lock = threading.Lock()
        self.statuses, self.problems = collections.Counter(), []
        self.answers = 0

    def send(self, connection, rng, data):
        """Sends in pieces. The service may refuse what it has seen of it, and close."""
        way = rng.random()
        try:
            if way < 0.5:
                connection.sendall(data)
                return
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([1, 2, 5, 20])))
            wait = 0 if way < 0.8 else 0.001 if way < 0.99 else 0.1  # all in all, less than the service's patience
            if way > 0.95 and len(data) < 500:
                cuts, wait = range(1, len(data)), 0
            if wait == 0.1:
                cuts = cuts[:5]
            for begin, end in zip([0, *cuts], [*cuts, len(data)]):
                connection.sendall(data[begin:end])
                time.sleep(wait)
        except OSError:
            pass

    def receive(self, connection, sent, ends):
        """(what comes back, whether the connection ended). Where the client keeps its end open, that is until all is there that
        is expected or, if nothing in particular is, until nothing comes."""
        data, start = b"", time.monotonic()
        connection.settimeout(60 if ends else 0.05)
        while time.monotonic() - start < 60:
            try:
                piece = connection.recv(1 << 16)
            except socket.timeout:
                if not ends and self.enough(sent, data):
                    return data, False
                continue
            except OSError:
                return data, True
            data += piece
            if not piece:
                return data, True
        return data, None

    def enough(self, sent, data):
        try:
            return len(final(parse(data, b"HEAD" in sent.data))) >= len(sent.expected or [1])
        except Malformed:
            return sent.expected is None and b"\r\n\r\n" in data

    def one(self, number):
        rng = random.Random(f"{self.seed} {number}")
        sent = self.requests.make(rng)
        connection = socket.create_connection(("127.0.0.1", self.service.port), timeout=60)
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ending = rng.random()
            if ending < 0.1:  # the client goes, in the middle or at the end, with or without reading
                self.send(connection, rng, sent.data[:rng.randrange(len(sent.data) + 1)])
                if rng.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return []
            self.send(connection, rng, sent.data)
            ends = ending < 0.85 or sent.expected == "refused"
            if ending < 0.85:
                try:
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # the service was first
            data, ended = self.receive(connection, sent, ends)
        return self.judge(sent, data, ended, ends)

    def judge(self, sent, data, ended, ends):
        if ended is None:
            return [f"no {'end of the connection' if ends else 'answer'} within 60 s"]
        try:
            responses = parse(data, b"HEAD" in sent.data) if ended or sent.expected else []
        except Malformed as problem:
            return [f"malformed: {problem}"]
        with self.lock:
            self.statuses.update(response.status for response in responses)
            self.answers += bool(responses)
        problems = [problem for response in responses for problem in check(response)]
        found = [response.status for response in final(responses)]
        if sent.expected == "refused":
            if len(found) != 1 or not 400 <= found[0] < 500 or not ended:
                problems.append(f"expected one refusal and the connection's end, found {found}")
        elif sent.expected is not None:
            if len(found) != len(sent.expected) or any(status not in good for status, good in zip(found, sent.expected)):
                problems.append(f"expected {sent.expected}, found {found}")
        elif ended and not found and sent.data:
            problems.append("expected an answer, found none")
        return problems

    def try_one(self, number):
        try:
            problems = self.one(number)
        except (OSError, ValueError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        if problems:
            sent = self.requests.make(random.Random(f"{self.seed} {number}"))
            with self.lock:
                self.problems.append(f"request {number}, {sent.name}: {'; '.join(problems)}\n  {sent.data[:400]}")

    def run(self, numbers, clients):
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            for _ in pool.map(self.try_one, numbers):
                if len(self.problems) >= 20 or self.service.process.poll() is not None:
                    pool.shutdown(cancel_futures=True)
                    break


def value_of(process, name):
    """A number of the process's status, such as VmRSS in KiB."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def sockets(process):
    found = 0
    for entry in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found += entry.readlink().as_posix().startswith("socket:")
        except OSError:
            pass  # closed meanwhile
    return found


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--only", type=int, default=None, help="send the request with this number alone")
    parser.add_argument("--growth", type=float, default=64, help="megabytes that memory may grow by after the first tenth")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with Service(given.programs / "studio", "--model", given.source / "models/small-editor", "--resolution", 64, "--device", "cpu",
                 "--dtype", "fp32", "--patience", PATIENCE, "--max-megabytes", LIMIT / 1e6, "--memory", 32, "--max-steps", 3,
                 "--max-results", 2, "--queue", 8, "--queue-each", 8, "--connections", 64, "--expire", EXPIRE) as service:
        first = service.edit(PHOTO, EDIT)[0]
        campaign = Campaign(service, Requests(service), seed)
        idle = sockets(service.process)
        numbers = range(given.requests) if given.only is None else [given.only]
        memory, start = [], time.monotonic()
        tenth = max(1, len(numbers) // 10)
        for begin in range(0, len(numbers), tenth):
            campaign.run(numbers[begin:begin + tenth], given.clients)
            if service.process.poll() is not None:
                campaign.problems.append(f"the service ended with status {service.process.returncode}: {''.join(service.log[-20:])}")
                break
            memory.append(value_of(service.process, "VmRSS") / 1024)
            print(f"{begin + len(numbers[begin:begin + tenth])} requests, {memory[-1]:.0f} MB", flush=True)
            if len(campaign.problems) >= 20:
                break
        seconds = time.monotonic() - start
        if service.process.poll() is None:
            deadline = time.monotonic() + 30
            while sockets(service.process) > idle and time.monotonic() < deadline:
                time.sleep(0.1)
            if sockets(service.process) > idle:
                campaign.problems.append(f"expected {idle} sockets once all is over, found {sockets(service.process)}")
            if service.edit(PHOTO, EDIT)[0] != first:
                campaign.problems.append("expected an edit with the same bytes as before")
            if memory[-1] > memory[0] + given.growth:
                campaign.problems.append(f"expected memory not to grow, found {[round(value) for value in memory]} MB")
            if service.end() != 0:
                campaign.problems.append(f"expected the service to end, found status {service.process.returncode}")
    for problem in campaign.problems:
        print(problem)
    statuses = ", ".join(f"{count} of {status}" for status, count in sorted(campaign.statuses.items()))
    print(f"{len(numbers)} requests in {seconds:.0f} s, {campaign.answers} connections answered: {statuses}; "
          f"{len(campaign.problems)} problems")
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
