#!/usr/bin/env python3
"""ip2p studio from outside, with the small model: its pictures, its limits, and clients that are slow, broken or hostile.

    studio_test.py PROGRAMS_DIR SOURCE_DIR [TEST...]
"""
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pictures  # noqa: E402
from client import Service, form  # noqa: E402

PROGRAMS, SOURCE = map(pathlib.Path, sys.argv[1:3])
MODEL = SOURCE / "models/small-editor"
QUICK = {"instruction": "make it winter", "steps": 2, "seed": 7}


def small_photo(shade=0):
    """64 x 48 pixels with a gradient and a disc."""
    def pixel(x, y):
        inside = (x - 32) ** 2 + (y - 24) ** 2 < 200
        return (200, 40 + shade, 40) if inside else (4 * x, 5 * y, 120)
    return pictures.encode(64, 48, pixel)


def start(*options, **more):
    return Service(PROGRAMS / "studio", "--model", MODEL, "--resolution", 64, "--device", "cpu", "--dtype", "fp32", *options,
                   **more)


def program(name, *options):
    done = subprocess.run([str(PROGRAMS / name), "--model", str(MODEL), "--device", "cpu", "--dtype", "fp32",
                           "--resolution", "64", *map(str, options)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


class Pictures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = start("--batch", 4)
        cls.photo = small_photo()
        cls.folder = tempfile.TemporaryDirectory()
        cls.file = pathlib.Path(cls.folder.name) / "photo.png"
        cls.file.write_bytes(cls.photo)

    @classmethod
    def tearDownClass(cls):
        cls.service.__exit__()
        cls.folder.cleanup()

    def made_by(self, name, *options):
        out = pathlib.Path(self.folder.name) / "out.png"
        program(name, "--image", self.file, "--out", out, *options)
        return out.read_bytes()

    def test_a_job_makes_the_picture_of_edit_image(self):
        settings = {"instruction": "make it winter", "steps": 4, "seed": 11, "text_scale": 1.25, "image_scale": 1.1,
                    "sampler": "euler-ancestral", "schedule": "karras", "negative": "fog"}
        ours = self.service.edit(self.photo, settings)[0]
        theirs = self.made_by("edit_image", "--prompt", settings["instruction"], "--steps", 4, "--seed", 11, "--text-scale",
                              1.25, "--image-scale", 1.1, "--sampler", "euler-ancestral", "--schedule", "karras",
                              "--negative-prompt", "fog")
        self.assertLessEqual(pictures.largest_difference(ours, theirs), 1)
        mine, others = (json.loads(pictures.texts(png)["ip2p"]) for png in (ours, theirs))
        self.assertEqual(mine["options"].pop("max-megapixels"), 16)
        self.assertEqual(mine, others)

    def test_edit_image_makes_the_same_picture_again_from_the_settings_in_it(self):
        ours = self.service.edit(self.photo, QUICK)[0]
        like = pathlib.Path(self.folder.name) / "like.png"
        like.write_bytes(ours)
        out = pathlib.Path(self.folder.name) / "again.png"
        done = subprocess.run([str(PROGRAMS / "edit_image"), "--like", str(like), "--image", str(self.file), "--out",
                               str(out), "--model", str(MODEL), "--device", "cpu"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLessEqual(pictures.largest_difference(ours, out.read_bytes()), 1)
        status, found = self.service.json("POST", "/api/settings", ours)
        self.assertEqual(status, 200)
        self.assertEqual(found["settings"]["instruction"], "make it winter")
        self.assertEqual(found["settings"]["seed"], 7)
        self.assertEqual(self.service.edit(self.photo, found["settings"])[0], ours)
        self.assertEqual(self.service.json("POST", "/api/settings", self.photo)[0], 404)

    def test_full_size(self):
        large = pictures.encode(160, 120, lambda x, y: (x, 2 * y, 255 - x))
        self.file.with_name("large.png").write_bytes(large)
        ours = self.service.edit(large, {**QUICK, "full_size": True})[0]
        out = self.file.with_name("large-out.png")
        program("edit_image", "--image", self.file.with_name("large.png"), "--out", out, "--prompt", QUICK["instruction"],
                "--steps", 2, "--seed", 7, "--full-size")
        self.assertEqual(pictures.decode(ours)[:2], (160, 120))
        self.assertLessEqual(pictures.largest_difference(ours, out.read_bytes()), 1)

    def test_masks(self):
        mask = pictures.encode(64, 48, lambda x, y: (255, 255, 255) if x < 32 else (0, 0, 0))
        path = self.file.with_name("mask.png")
        path.write_bytes(mask)
        for full_size, size in ((False, "--model-size"), (True, "--full-size")):
            ours = self.service.edit(self.photo, {**QUICK, "full_size": full_size}, mask)[0]
            theirs = self.made_by("inpaint", "--mask", path, "--prompt", QUICK["instruction"], "--steps", 2, "--seed", 7, size)
            self.assertLessEqual(pictures.largest_difference(ours, theirs), 1, size)

    def test_seeds_and_sweeps_are_the_jobs_that_they_stand_for(self):
        loose = {**QUICK, "instruction": "make it neon"}  # of what is drawn here, seeds decide more than of winter
        many = self.service.edit(self.photo, {**loose, "count": 3})
        self.assertEqual(len(many), 3)
        for i, picture in enumerate(many):
            alone = self.service.edit(self.photo, {**loose, "seed": 7 + i})[0]
            self.assertLessEqual(pictures.largest_difference(picture, alone), 1)
        self.assertGreater(pictures.largest_difference(many[0], many[1]), 8)
        cells = self.service.edit(self.photo, {**QUICK, "grid": {"text_scale": [0.75, 1.5], "image_scale": [1, 1.2]}})
        for i, (text, image) in enumerate([(0.75, 1), (0.75, 1.2), (1.5, 1), (1.5, 1.2)]):
            alone = self.service.edit(self.photo, {**QUICK, "text_scale": text, "image_scale": image})[0]
            self.assertLessEqual(pictures.largest_difference(cells[i], alone), 1)

    def test_a_batch_of_different_jobs_is_each_of_them_alone(self):
        mask = pictures.encode(64, 48, lambda x, y: (255, 255, 255) if y < 24 else (0, 0, 0))
        jobs = [(small_photo(i), {"instruction": words, "steps": 3, "seed": 20 + i, "sampler": "euler-ancestral",
                                  "preview_every": 1 if i == 2 else 0}, mask if i == 1 else None)
                for i, words in enumerate(["make it winter", "make it night", "make it sepia", "make it fog"])]
        alone = [self.service.edit(*job)[0] for job in jobs]
        batches = self.service.metric("studio_batches_total")
        blocker = self.service.submit(self.photo, {**QUICK, "steps": 150})[1]["id"]
        names = [self.service.submit(*job)[1]["id"] for job in jobs]
        for name, expected in zip(names, alone):
            self.assertEqual(self.service.wait(name)["state"], "done")
            self.assertLessEqual(pictures.largest_difference(self.service.picture(name), expected), 1)
        self.assertEqual(self.service.wait(blocker)["state"], "done")
        self.assertEqual(self.service.metric("studio_batches_total") - batches, 2)

    def test_events(self):
        job = self.service.submit(self.photo, {**QUICK, "steps": 4, "preview_every": 1})[1]["id"]
        heard = list(self.service.events(job))
        names = [name for name, _ in heard]
        self.assertEqual(names[0], "state")
        self.assertEqual(names[-1], "done")
        for name in ("progress", "result"):
            self.assertIn(name, names)
        late = list(self.service.events(job))
        self.assertEqual([name for name, _ in late], ["state", "progress", "result", "done"])
        self.assertEqual(late[-1][1], heard[-1][1])

    def test_a_cancelled_job_leaves_its_batch(self):
        blocker = self.service.submit(self.photo, {**QUICK, "steps": 100})[1]["id"]
        stays = self.service.submit(self.photo, {**QUICK, "steps": 60, "seed": 1})[1]["id"]
        leaves = self.service.submit(self.photo, {**QUICK, "steps": 60, "seed": 2})[1]["id"]
        for name, data in self.service.events(leaves):
            if name == "progress" and data["step"] >= 2:
                break
        status, job = self.service.json("DELETE", f"/api/jobs/{leaves}")
        self.assertEqual((status, job["state"]), (200, "cancelled"))
        self.assertEqual(self.service.wait(stays)["state"], "done")
        self.assertLess(self.service.json("GET", f"/api/jobs/{leaves}")[1]["step"], 60)
        alone = self.service.edit(self.photo, {**QUICK, "steps": 60, "seed": 1})[0]
        self.assertLessEqual(pictures.largest_difference(self.service.picture(stays), alone), 1)
        self.assertEqual(self.service.wait(blocker)["state"], "done")

    def test_nothing_of_a_request_is_in_the_log_but_that_it_was_there(self):
        self.service.edit(self.photo, {**QUICK, "instruction": "make it winter, dear diary"})
        time.sleep(0.2)
        log = "".join(self.service.log)
        self.assertNotIn("dear diary", log)
        events = [json.loads(line) for line in self.service.log if line.startswith("{")]
        self.assertTrue(any(event["event"] == "job" and event["state"] == "done" for event in events))
        self.assertTrue(any(event["event"] == "request" and event["status"] == 202 for event in events))


class Requests(unittest.TestCase):
    """What is refused, and that the service goes on."""

    @classmethod
    def setUpClass(cls):
        cls.service = start("--max-megabytes", 2, "--max-megapixels", 1, "--patience", 2, "--max-steps", 300)
        cls.photo = small_photo()

    @classmethod
    def tearDownClass(cls):
        cls.service.__exit__()

    def works(self):
        self.assertEqual(self.service.json("GET", "/healthz"), (200, {"status": "ok"}))

    def refused(self, status, *request):
        found, answer = self.service.json(*request)
        error = answer["error"]
        self.assertEqual(found, status, error)
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertGreater(len(error["message"]), 8)
        return error

    def raw(self, data, seconds=10):
        """What the service sends back for these bytes."""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=seconds) as connection:
            connection.sendall(data)
            answer = b""
            while True:
                piece = connection.recv(65536)
                answer += piece
                if not piece:
                    return answer

    def test_wrong_forms(self):
        def post(fields):
            body, kind = form(fields)
            return "POST", "/api/jobs", body, {"Content-Type": kind}
        settings = ("settings", None, json.dumps(QUICK))
        image = ("image", "a.png", self.photo)
        self.assertEqual(self.refused(400, *post([image]))["param"], "settings")
        self.assertEqual(self.refused(400, *post([settings]))["param"], "image")
        self.assertEqual(self.refused(400, *post([image, settings, ("more", None, "x")]))["code"], "unknown_field")
        self.assertEqual(self.refused(400, *post([image, image, settings]))["param"], "image")
        for settings_text in ("", "{", "[]", "null", '{"instruction": 1}', '{"instruction": "x", "steps": "many"}',
                              '{"instruction": "x", "colour": "red"}', '{"instruction": "\udc80"}'.encode("utf-8", "surrogatepass")):
            self.refused(400, *post([image, ("settings", None, settings_text)]))
        self.assertEqual(self.refused(413, *post([("image", "a.png", b"x" * 2_100_000), settings]))["code"], "too_large")
        self.assertEqual(self.refused(413, *post([image, ("settings", None, " " * 100_000)]))["param"], "settings")
        self.works()

    def test_wrong_pictures(self):
        def post(image, mask=None):
            return self.service.submit(image, QUICK, mask)
        for content in (b"", b"x", b"\0" * 1000, b"GIF89a", self.photo[:100], self.photo[:-20],
                        self.photo[:200] + b"\xff" + self.photo[201:], b"\xff\xd8\xff\xe0" + b"\0" * 100,
                        b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\xff" * 50, b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
            status, answer = post(content)
            self.assertEqual(status, 400, answer)
            self.assertEqual(answer["error"]["code"], "not_a_picture")
        status, answer = post(pictures.file(30000, 30000, b"\0" * 1000))
        self.assertEqual(status, 400)
        self.assertIn("30000x30000 pixels are more than the limit of 1000000", answer["error"]["message"])
        for mask in (b"x", pictures.encode(10, 10, lambda x, y: (255, 255, 255)), self.photo[:-30]):
            self.assertEqual(post(self.photo, mask)[0], 400)
        self.refused(422, "POST", "/api/settings", b"nothing of ours")
        self.works()

    def test_wrong_paths_and_methods(self):
        for path in ("/nowhere", "/api", "/api/jobs/x", "/api/jobs/" + "0" * 32, "/api/jobs/" + "0" * 32 + "/events",
                     "/../../etc/passwd", "/api/jobs/..%2f..%2fetc%2fpasswd", "//etc/passwd", "/%00", "/page/index.html"):
            self.refused(404, "GET", path)
        self.refused(405, "GET", "/api/jobs")
        self.refused(405, "POST", "/api/model", b"x")
        self.refused(405, "PUT", "/", b"x")
        self.refused(405, "OPTIONS", "/api/jobs")
        self.works()

    def test_other_sites_may_not_ask(self):
        self.assertEqual(self.refused(403, "GET", "/api/model", None, {"Host": "evil.example"})["code"], "wrong_host")
        body, kind = form([("image", "a.png", self.photo), ("settings", None, json.dumps(QUICK))])
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            error = self.refused(403, "POST", "/api/jobs", body, {"Content-Type": kind, "Origin": origin})
            self.assertEqual(error["code"], "wrong_origin")
        own = {"Content-Type": kind, "Origin": f"http://127.0.0.1:{self.service.port}"}
        self.assertEqual(self.service.json("POST", "/api/jobs", body, own)[0], 202)

    def test_malformed_bytes(self):
        host = b"Host: localhost\r\n"
        multipart = b"Content-Type: multipart/form-data; boundary=b\r\n"
        cases = {
            b"\r\n\r\n": 400, b"GET\r\n\r\n": 400, b"GET / HTTP/9.9\r\n" + host + b"\r\n": 400, b"\xff" * 100 + b"\r\n\r\n": 400,
            b"GET / HTTP/1.1\r\n\r\n": 400, b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n": 403,
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + host + b"\r\n": 414,
            b"GET / HTTP/1.1\r\n" + host + b"X: a\n\r\n": 400,
            b"GET / HTTP/1.1\r\n" + host + b"".join(b"X%d: %s\r\n" % (i, b"a" * 1000) for i in range(100)) + b"\r\n": 431,
            b"BREW / HTTP/1.1\r\n" + host + b"\r\n": 405,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 99999999999\r\n" + multipart + b"\r\n": 413,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: x\r\n" + multipart + b"\r\n": 400,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 3\r\nContent-Type: text/plain\r\n\r\nabc": 400,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 3\r\nContent-Type: multipart/form-data\r\n\r\nabc": 400,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 6\r\n" + multipart + b"\r\n--b--\r": 400,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 5\r\n" + multipart + b"\r\nabcde": 400,
            b"POST /api/jobs HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n" + multipart + b"\r\nzz\r\n": 400,
            b"POST /api/settings HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"100000\r\n" + b"x" * 0x100000 + b"\r\n100000\r\n" + b"x" * 0x100000 + b"\r\n": 413,
            b"POST /api/settings HTTP/1.1\r\n" + host + b"\r\n": 411,
            b"POST /api/settings HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n": 400,
            b"POST /api/settings HTTP/1.1\r\n" + host + b"Content-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc": 415,
            b"GET /healthz HTTP/1.1\r\n" + host + b"Content-Length: 0\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\r\n\r\n": 400,
            b"POST /api/settings HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\nGET / HTTP/1.1\r\n\r\n": 400,
            b"GET /healthz HTTP/1.1\r\n" + host + b"Content-Length: 30\r\n\r\nGET /api/model HTTP/1.1\r\n\r\n": 200,
        }
        for data, status in cases.items():
            with self.subTest(data[:120]):
                answer = self.raw(data)
                self.assertRegex(answer[:40].decode("latin-1"), f"^HTTP/1.1 {status} ")
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
                if status != 200:
                    self.assertIn("message", json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"])
        self.works()

    def test_ranges_of_a_picture_are_not_given(self):
        job = self.service.submit(self.photo, QUICK)[1]["id"]
        self.service.wait(job)
        whole = self.service.picture(job)
        for wanted in ("0-3", "3-", "-3", "999999999-", "0-999999999", "0-3,5-6", "9-3", "x", ",".join(["0-"] * 2000)):
            status, _, content = self.service.ask("GET", f"/api/jobs/{job}/results/0", headers={"Range": f"bytes={wanted}"})
            self.assertEqual((status, content), (200, whole), wanted[:20])

    def test_a_form_may_come_byte_by_byte(self):
        body, kind = form([("image", "a.png", self.photo), ("settings", None, json.dumps(QUICK))])
        head = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in head.encode() + body:
                connection.sendall(bytes([byte]))
            self.assertEqual(connection.recv(12), b"HTTP/1.1 202")

    def test_one_connection_serves_requests_that_are_sent_together(self):
        requests = [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] * 3
        answers = self.raw(b"".join(requests) + requests[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertEqual(answers.count(b'{"status":"ok"}'), 4)

    def test_a_client_of_http_1_0_reads_events_without_chunks(self):
        job = self.service.submit(self.photo, QUICK)[1]["id"]
        answer = self.raw(b"GET /api/jobs/%s/events HTTP/1.0\r\nHost: localhost\r\n\r\n" % job.encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertNotIn(b"Transfer-Encoding", head)
        self.assertTrue(body.startswith(b"event: state\n"), body[:100])
        self.assertIn(b"event: done\n", body)

    def test_a_body_is_asked_for_where_a_client_waits_for_that(self):
        body, kind = form([("image", "a.png", self.photo), ("settings", None, json.dumps(QUICK))])
        head = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=10) as connection:
            connection.sendall(f"{head}Content-Type: {kind}\r\n\r\n".encode())
            self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(body)
            self.assertEqual(connection.recv(12), b"HTTP/1.1 202")
        self.assertTrue(self.raw(f"{head}Content-Type: text/plain\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 "))

    def test_slow_clients_are_let_go(self):
        host = b"Host: localhost\r\n"
        slow = []
        for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\n" + host,
                     b"POST /api/jobs HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n"
                     b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"):
            connection = socket.create_connection(("127.0.0.1", self.service.port), timeout=30)
            connection.sendall(data)
            slow.append(connection)

        def drip():  # a byte now and then is no better
            try:
                while True:
                    slow[2].sendall(b"X")
                    time.sleep(0.3)
            except OSError:
                pass
        thread = threading.Thread(target=drip)
        thread.start()
        self.works()
        for connection in slow:
            while connection.recv(1000):  # fails at the end of the connection's own timeout
                pass
        for connection in slow:
            connection.close()
        thread.join()
        self.works()

    def test_a_client_that_does_not_read_is_let_go(self):
        job = self.service.submit(self.photo, {**QUICK, "steps": 300, "preview_every": 1})[1]["id"]
        with socket.create_connection(("127.0.0.1", self.service.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /api/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n" % job.encode())
            self.assertEqual(self.service.wait(job)["state"], "done")
        self.works()


class Queues(unittest.TestCase):
    def test_a_full_queue_refuses_and_takes_turns(self):
        with start("--batch", 1, "--queue", 3, "--queue-each", 2) as service:
            photo = small_photo()

            def post(client, seed, steps=2):
                return service.submit(photo, {**QUICK, "steps": steps, "seed": seed}, headers={"X-Client": client})
            blocker = post("a", 1, 100)[1]["id"]
            while service.json("GET", f"/api/jobs/{blocker}")[1]["state"] == "queued":
                time.sleep(0.01)
            first, second = post("a", 2), post("a", 3)
            self.assertEqual([first[0], second[0]], [202, 202])
            self.assertEqual(post("a", 4)[0], 429)
            other = post("b", 5)
            self.assertEqual(other[0], 202)
            status, headers, _ = service.ask("POST", "/api/jobs", *form([("image", "a", photo), ("settings", None, "{}")])[:1],
                                             {"Content-Type": "multipart/form-data; boundary=x", "X-Client": "c"})
            self.assertEqual(status, 429)
            self.assertGreater(int(headers["retry-after"]), 0)
            places = [service.json("GET", f"/api/jobs/{job['id']}")[1]["position"] for _, job in (first, second, other)]
            self.assertEqual(sorted(places), [0, 1, 2])
            self.assertLess(places[2], places[1])
            service.json("DELETE", f"/api/jobs/{blocker}")
            for _, job in (first, second, other):
                self.assertEqual(service.wait(job["id"])["state"], "done")

    def test_a_token_is_needed_to_be_reached(self):
        done = subprocess.run([str(PROGRAMS / "studio"), "--model", str(MODEL), "--host", "0.0.0.0"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--token", done.stderr)
        with start("--host", "0.0.0.0", environment={"IP2P_STUDIO_TOKEN": "open sesame"}) as service:
            self.assertEqual(service.json("GET", "/api/model")[0], 401)
            self.assertEqual(service.json("GET", "/api/model", None, {"Authorization": "Bearer open sesam"})[0], 401)
            self.assertEqual(service.json("GET", "/api/model", None, {"Authorization": "Bearer open sesame"})[0], 200)
            self.assertEqual(service.ask("GET", "/")[0], 200)

    def test_results_expire_and_are_kept_where_asked_for(self):
        with tempfile.TemporaryDirectory() as folder, start("--expire", 1, "--keep", folder) as service:
            job = service.submit(small_photo(), {**QUICK, "count": 2})[1]["id"]
            service.wait(job)
            made = [service.picture(job, i) for i in range(2)]
            deadline = time.monotonic() + 10
            while service.ask("GET", f"/api/jobs/{job}")[0] == 200 and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertEqual(service.json("GET", f"/api/jobs/{job}/results/0")[0], 404)
            kept = sorted(pathlib.Path(folder).iterdir())
            self.assertEqual([path.name for path in kept], [f"{job}-0.png", f"{job}-1.png"])
            self.assertEqual([path.read_bytes() for path in kept], made)


class Stops(unittest.TestCase):
    def running(self, service, steps):
        job = service.submit(small_photo(), {**QUICK, "steps": steps})[1]["id"]
        while service.json("GET", f"/api/jobs/{job}")[1]["step"] == 0:
            time.sleep(0.01)
        return job

    def test_sigterm_finishes_what_runs(self):
        with start("--batch", 1, "--max-steps", 1000) as service:
            runs = self.running(service, 600)  # some seconds
            waits = service.submit(small_photo(), QUICK)[1]["id"]
            ends = []
            threads = [threading.Thread(target=lambda job=job: ends.append(service.wait(job)["state"])) for job in (runs, waits)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
            self.assertEqual(service.end(signal.SIGTERM), 0)
            for thread in threads:
                thread.join()
            self.assertEqual(sorted(ends), ["done", "failed"])

    def test_a_second_signal_cancels_it(self):
        with start("--batch", 1, "--max-steps", 10000) as service:
            job = self.running(service, 10000)
            ends = []
            thread = threading.Thread(target=lambda: ends.append(service.wait(job)["state"]))
            thread.start()
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            self.assertEqual(service.json("GET", "/healthz")[0], 503)
            self.assertEqual(service.submit(small_photo(), QUICK)[0], 503)
            self.assertEqual(service.end(signal.SIGTERM, seconds=60), 130)
            thread.join()
            self.assertEqual(ends, ["cancelled"])

    def test_an_idle_service_ends_at_once(self):
        with start() as service:
            self.assertEqual(service.ask("GET", "/")[0], 200)
            self.assertEqual(service.end(signal.SIGINT), 0)

    def test_a_port_that_is_taken_is_named(self):
        with start() as service:
            done = subprocess.run([str(PROGRAMS / "studio"), "--model", str(MODEL), "--port", str(service.port)],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"cannot listen on port {service.port}", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
