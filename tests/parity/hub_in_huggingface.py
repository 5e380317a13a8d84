#!/usr/bin/env python3
"""Compares caches of models with those of the huggingface_hub package, over a server that plays the Hub (io/fake_hub.py).

    hub_in_huggingface.py HUB_FETCH

What we fetch, huggingface_hub finds without the network; what it fetches, we find; and each goes on from the other's.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import huggingface_hub  # noqa: F401
except ImportError:
    print("skipped hub_in_huggingface.py: no module huggingface_hub; tests/parity/venv.sh installs it")
    sys.exit(77)

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
TESTS = pathlib.Path(__file__).resolve().parent.parent
NAME = "someone/an-editor"
CHECK = """
import sys
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
name, *files = sys.argv[1:]
place = snapshot_download(name, local_files_only=True, allow_patterns=files)
for file in files:
    assert hf_hub_download(name, file, local_files_only=True) == f"{place}/{file}", file
report = scan_cache_dir()
assert not report.warnings, report.warnings
(repo,) = report.repos
assert repo.repo_id == name and repo.repo_type == "model", repo
(revision,) = repo.revisions
assert revision.refs == {"main"}, revision.refs
assert {str(file.file_path.relative_to(place)) for file in revision.files} == set(files)
print(place)
"""
FETCH = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:] or None))
"""


def run(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[:2]}: {done.stderr}"
    return done.stdout.strip().splitlines()[-1]


def requests_of(environment):
    import json
    import urllib.request
    base, _, word = environment["HF_ENDPOINT"].rpartition("/")
    with urllib.request.urlopen(f"{base.rpartition('/')[0]}/log/{word}") as answer:
        return [entry for entry in json.load(answer) if entry["server"] == "store" and entry["method"] == "GET"]


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        model = scratch / "models" / NAME
        shutil.copytree(TESTS / "pipeline/fixtures/tiny-ip2p", model)
        files = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
        (model / "README.md").write_text("not needed")
        server = subprocess.Popen([sys.executable, TESTS / "io/fake_hub.py", scratch / "models"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = server.stdout.readline().split()[0]

        def environment(number):
            plain = {key: value for key, value in os.environ.items()
                     if not key.startswith(("HF_", "HUGGING")) and not key.lower().endswith("_proxy")}
            return {**plain, "HF_HOME": str(scratch / f"home{number}"), "HF_HUB_DISABLE_TELEMETRY": "1",
                    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_ENDPOINT": f"http://127.0.0.1:{port}/fine/{number}"}

        try:
            # Ours, read by theirs.
            ours = environment(1)
            place = run([PROGRAM, NAME], ours)
            offline = {**ours, "HF_HUB_OFFLINE": "1"}
            assert run([sys.executable, "-c", CHECK, NAME, *files], offline) == place
            # Theirs on top of ours fetches no large file again, and leaves one that both find.
            assert len(requests_of(ours)) == 3
            assert run([sys.executable, "-c", FETCH, NAME], ours) == place
            assert len(requests_of(ours)) == 3, requests_of(ours)
            assert run([PROGRAM, NAME, "look"], offline) == place

            # Theirs, read by ours.
            theirs = environment(2)
            place = run([sys.executable, "-c", FETCH, NAME, *files], theirs)
            offline = {**theirs, "HF_HUB_OFFLINE": "1"}
            assert run([PROGRAM, NAME, "look"], offline) == place
            assert run([PROGRAM, NAME], offline) == place  # whole, so that nothing is asked for
            # A part of theirs, completed by ours.
            parts = environment(3)
            place = run([sys.executable, "-c", FETCH, NAME, "vae/*", "*.json"], parts)
            before = len(requests_of(parts))
            assert run([PROGRAM, NAME], parts) == place
            assert len(requests_of(parts)) == before + 2
            assert run([sys.executable, "-c", CHECK, NAME, *files], {**parts, "HF_HUB_OFFLINE": "1"}) == place
        finally:
            server.stdin.close()
            server.wait()
    print(f"{len(files)} files: huggingface_hub {huggingface_hub.__version__} and ip2p read each other's caches")


main()
