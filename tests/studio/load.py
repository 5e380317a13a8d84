#!/usr/bin/env python3
"""Many clients of ip2p studio at once, half of them broken, slow or impatient. No job may be lost or mixed up with another,
memory may not grow, and /healthz has to answer meanwhile.

    load.py PROGRAMS_DIR SOURCE_DIR [--clients 200] [--requests 2000]

Every client has photographs of its own, so a picture that belongs to another job differs from what the job makes alone.
"""
import argparse
import concurrent.futures
import http.client
import json
import multiprocessing
import pathlib
import random
import resource
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pictures  # noqa: E402
from client import Service, form  # noqa: E402

WORDS = ["make it winter", "make it night", "make it sepia", "make it red", "make it green", "make it fog"]


def photo_of(number):
    """A photograph unlike those of other numbers."""
    colour = (number * 37 % 256, number * 101 % 256, number * 53 % 256)
    return pictures.encode(64, 48, lambda x, y: colour if (x // 8 + y // 8 + number) % 3 == 0 else (4 * x, 5 * y, 128))


def settings_of(number):
    return {"instruction": WORDS[number % len(WORDS)], "steps": 1 + number % 2, "seed": number,
            "preview_every": number % 3 % 2}


class Load:
    def __init__(self, service, options):
        self.service, self.options = service, options
        self.lock = threading.Lock()
        self.counts, self.made, self.problems = {}, {}, []
        self.begun = multiprocessing.Value("i", 0)
        self.finished = multiprocessing.Event()

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def submit(self, number, client):
        """The job's identifier. A full queue is waited for."""
        kind = number % self.options.kinds
        while True:
            status, answer = self.service.submit(photo_of(kind), settings_of(kind), headers={"X-Client": f"client-{client}"})
            if status == 202:
                return answer["id"]
            if status != 429:
                raise RuntimeError(f"{status} {answer}")
            self.count("429")
            time.sleep(random.uniform(0.05, 0.5))

    def good(self, number, client):
        job = self.submit(number, client)
        end = self.service.wait(job)
        if end["state"] != "done" or end["id"] != job or end["results"][0]["seed"] != settings_of(number % self.options.kinds)["seed"]:
            return self.problem(f"job {number}: {end}")
        picture = self.service.picture(job)
        with self.lock:
            self.made.setdefault(number % self.options.kinds, []).append(picture)
        self.count("done")

    def cancelled(self, number, client):
        job = self.submit(number, client)
        time.sleep(random.uniform(0, 0.2))
        state = self.service.json("DELETE", f"/api/jobs/{job}")[1]["state"]
        if state not in ("cancelled", "done") or self.service.wait(job)["state"] != state:
            self.problem(f"job {number}: expected an end, found {state}")
        self.count(state + " by its client")

    def broken(self, number, client):
        """A request that is cut off, or is none."""
        body, kind = form([("image", "a.png", photo_of(0)), ("settings", None, json.dumps(settings_of(0)))])
        head = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        data = [b"\xff\xfe" * 50 + b"\r\n\r\n", head.encode() + body[:random.randrange(len(body))], b"GET / HTTP/1.1\r\nHo",
                head.replace("localhost", "evil.example").encode() + body][number // 6 % 4]
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=60) as connection:
            connection.sendall(data)
            if number // 6 % 2:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
        self.count("broken")

    def slow(self, number, client):
        """Sends drop by drop, or follows a job and reads nothing, or goes away in the middle."""
        until = time.monotonic() + self.options.seconds_slow
        if number // 6 % 2:
            connection = socket.create_connection(("127.0.0.1", self.service.port), timeout=60)
            try:
                connection.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n")
                while time.monotonic() < until:
                    connection.sendall(b"X")
                    time.sleep(0.1)
            except OSError:
                pass
            connection.close()
        else:
            job = self.submit(number, client)
            connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
            connection.request("GET", f"/api/jobs/{job}/events")
            time.sleep(self.options.seconds_slow)
            connection.close()
            if self.service.wait(job)["state"] != "done":
                self.problem(f"job {number}: a client that does not read ended it")
        self.count("slow")

    def client(self, client):
        while True:
            with self.begun.get_lock():
                if self.begun.value == self.options.requests:
                    return
                number = self.begun.value
                self.begun.value += 1
            kind = [self.good, self.good, self.good, self.cancelled, self.broken, self.slow][number % 6]
            try:
                kind(number, client)
            except Exception as error:  # noqa: BLE001: whatever it was, it is a failure of the service
                self.problem(f"request {number} ({kind.__name__}): {type(error).__name__}: {error}")

    def watch(self, seen):
        """A process of its own: threads of this one wait for each other longer than the service takes to answer."""
        memory, health, problems = [], [], []
        while not self.finished.wait(0.05):
            began = time.monotonic()
            status = self.service.ask("GET", "/healthz", seconds=60)[0]
            health.append(time.monotonic() - began)
            if status != 200:
                problems.append(f"/healthz: {status}")
            pages = int(pathlib.Path(f"/proc/{self.service.process.pid}/statm").read_text().split()[1])
            memory.append((self.begun.value, pages * resource.getpagesize()))
        seen.send((memory, health, problems))

    def run(self):
        seen, of_watcher = multiprocessing.Pipe(duplex=False)
        watcher = multiprocessing.Process(target=self.watch, args=(of_watcher,))
        watcher.start()
        with concurrent.futures.ThreadPoolExecutor(self.options.clients) as pool:
            for _ in pool.map(self.client, range(self.options.clients)):
                pass
        self.finished.set()
        self.memory, self.health, problems = seen.recv()
        self.problems += problems
        watcher.join()

    def check(self):
        """Compares the pictures with those that the jobs make alone."""
        different = 0
        for kind, made in sorted(self.made.items()):
            alone = self.service.edit(photo_of(kind), settings_of(kind))[0]
            for picture in made:
                difference = pictures.largest_difference(picture, alone)
                different = max(different, difference)
                if difference > 1:
                    self.problem(f"a picture of job kind {kind} differs from what it is alone by {difference} levels")
        warm, counted = self.options.warm, self.options.requests - self.options.warm
        first = [bytes_ for begun, bytes_ in self.memory if warm < begun <= warm + counted / 4]
        last = [bytes_ for begun, bytes_ in self.memory if begun > warm + counted * 3 / 4]
        health = sorted(self.health)
        p99 = health[int(len(health) * 0.99)]
        growth = statistics.median(last) / statistics.median(first) - 1 if first and last else 0
        print(f"{self.counts}")
        print(f"pictures differ from those made alone by at most {different} levels")
        print(f"memory: {statistics.median(first) / 1e6:.0f} MB in the first quarter, {statistics.median(last) / 1e6:.0f} MB in "
              f"the last ({100 * growth:+.1f} %); /healthz: median {1e3 * statistics.median(health):.1f} ms, "
              f"p99 {1e3 * p99:.1f} ms")
        if growth > self.options.growth:
            self.problem(f"memory grew by {100 * growth:.0f} %")
        if self.options.p99 and p99 > self.options.p99:
            self.problem(f"/healthz: p99 is {p99:.2f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--warm", type=int, default=500, help="requests before those over which memory is compared")
    parser.add_argument("--kinds", type=int, default=60, help="jobs that differ")
    parser.add_argument("--seconds-slow", type=float, default=4)
    parser.add_argument("--growth", type=float, default=0.25, help="of memory that is allowed, 0.25 for a quarter")
    parser.add_argument("--p99", type=float, metavar="S", help="fails if /healthz takes longer")
    options = parser.parse_args()
    options.requests += options.warm
    began = time.monotonic()
    with Service(options.programs / "studio", "--model", options.source / "models/small-editor", "--resolution", 64,
                 "--device", "cpu", "--dtype", "fp32", "--batch", 8, "--queue", 64, "--queue-each", 8, "--patience", 10,
                 "--expire", 4, "--memory", 64) as service:
        load = Load(service, options)
        load.run()
        taken = time.monotonic() - began
        load.check()
        waiting, running = service.metric("studio_jobs_waiting"), service.metric("studio_results_running")
        if waiting or running:
            load.problem(f"{waiting} jobs wait and {running} results run after the end")
        batches, results = service.metric("studio_batches_total"), service.metric("studio_results_total")
        print(f"{options.requests} requests of {options.clients} clients in {taken:.1f} s; {results:.0f} pictures in "
              f"{batches:.0f} batches")
        status = service.end()
        if status != 0:
            load.problem(f"the service ended with status {status}")
    if sum(count for what, count in load.counts.items() if what != "429") + len(load.problems) < options.requests:
        load.problem(f"of {options.requests} requests, these came to an end: {load.counts}")
    for problem in load.problems[:20]:
        print("FAILED:", problem)
    sys.exit(1 if load.problems else 0)


if __name__ == "__main__":
    main()
