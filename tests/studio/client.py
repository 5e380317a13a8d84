"""What the tests of ip2p studio have in common: the program, and a client of its interface from Python's own library."""
import http.client
import json
import os
import signal
import subprocess
import threading
import uuid


class Service:
    """The program, on a free port or the one that is given; `with` ends it."""

    def __init__(self, program, *options, port=0, environment=None):
        environment = {"OMP_NUM_THREADS": "1", **os.environ, **(environment or {})}
        self.log = []
        self.process = subprocess.Popen([str(program), "--port", str(port), *map(str, options)], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        self.said = []
        self.threads = [threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)]
        self.threads[0].start()
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("http://"):
                self.address = line.strip().rstrip("/")
                self.port = int(self.address.rsplit(":", 1)[1])
                break
        else:
            self.process.wait()
            self.threads[0].join()
            raise RuntimeError(f"{program} ended: {''.join(self.said)}{''.join(self.log)}")
        self.threads.append(threading.Thread(target=lambda: self.said.extend(self.process.stdout), daemon=True))
        self.threads[-1].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def end(self, *signals, seconds=120):
        """Sends the signals, one after another, and returns the exit status."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def ask(self, method, path, body=None, headers=None, seconds=120):
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        status, _, content = self.ask(method, path, body, headers)
        return status, json.loads(content)

    def submit(self, image, settings, mask=None, headers=None):
        """(status, answer) of a new job."""
        fields = [("image", "photo.png", image), ("settings", None, json.dumps(settings))]
        if mask is not None:
            fields.append(("mask", "mask.png", mask))
        body, kind = form(fields)
        return self.json("POST", "/api/jobs", body, {"Content-Type": kind, **(headers or {})})

    def events(self, job, headers=None, seconds=120):
        """Yields (name, data) of a job's events."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", f"/api/jobs/{job}/events", headers=headers or {})
            yield from events_of(connection.getresponse())
        finally:
            connection.close()

    def wait(self, job, headers=None):
        """The job once it is over."""
        for name, data in self.events(job, headers):
            if name in ("done", "failed", "cancelled"):
                return data
        raise RuntimeError("the stream of events ended before the job")

    def picture(self, job, index=0):
        status, _, content = self.ask("GET", f"/api/jobs/{job}/results/{index}")
        if status != 200:
            raise RuntimeError(content)
        return content

    def edit(self, image, settings, mask=None):
        """The pictures of a job, from its request to its end."""
        status, answer = self.submit(image, settings, mask)
        if status != 202:
            raise RuntimeError(answer)
        job = self.wait(answer["id"])
        if job["state"] != "done":
            raise RuntimeError(job)
        return [self.picture(answer["id"], result["index"]) for result in job["results"]]

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[2].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return 0.0


def form(fields):
    """(body, content type) of a form. Fields are (name, name of the file or None, content)."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, file, content in fields:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if file is not None:
            body += f'; filename="{file}"\r\nContent-Type: application/octet-stream'.encode()
        body += b"\r\n\r\n" + (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def events_of(response):
    """Yields (name, data) of a stream of server-sent events."""
    name = None
    for line in response:
        line = line.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])
