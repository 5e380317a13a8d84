#!/usr/bin/env python3
"""A software bill of materials of what is installed here: CycloneDX 1.5 as JSON.

    sbom.py [--out FILE]        to FILE or standard output
    sbom.py --check PAGE        fails unless the table in PAGE names what scripts/dependencies.sh installs, and no more

It lists the Debian packages that scripts/dependencies.sh names and the libraries that they depend on, from dpkg and
the copyright files, and LibTorch with what is unpacked beside it, from the wheels' METADATA. Parts that are not installed
are left out and named on standard error.
"""
import argparse
import datetime
import email.parser
import json
import os
import pathlib
import re
import subprocess
import sys
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts/dependencies.sh"


def shell_list(name):
    """The words of an array in scripts/dependencies.sh."""
    found = re.search(rf"^{name}=\((.*?)\)", SCRIPT.read_text(), re.M | re.S)
    if not found:
        sys.exit(f"{SCRIPT}: expected the list {name}")
    return found[1].split()


def torch_version():
    return re.search(r"^torch_version=(\S+)", SCRIPT.read_text(), re.M)[1]


def wheels():
    """(name, version, accepted SHA-256 sums) of each wheel that scripts/dependencies.sh unpacks."""
    for name in ("libtorch_wheel", "cuda_runtime_wheel", "cupti_wheel"):
        requirement, *sums = shell_list(name)
        package, version = requirement.replace("$torch_version", torch_version()).split("==")
        yield package, version, [word.removeprefix("--hash=sha256:") for word in sums]


# Debian ----------------------------------------------------------------------------------------------------------------


def installed(names):
    """name -> (version, architecture, names it depends on) of those packages that are installed."""
    fields = "${binary:Package}\t${db:Status-Status}\t${Version}\t${Architecture}\t${Depends}\n"
    try:
        answer = subprocess.run(["dpkg-query", "-W", "-f", fields, *names], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    found = {}
    for line in answer.stdout.splitlines():
        name, status, version, architecture, depends = line.split("\t")
        if status == "installed":
            first = [part.split("|")[0].split("(")[0].split(":")[0].strip() for part in depends.split(",")]
            found[name.split(":")[0]] = (version, architecture, [part for part in first if part])
    return found


def licences_of(package):
    """Short names in a machine-readable copyright file, or those of the common licences that another one refers to."""
    path = pathlib.Path("/usr/share/doc") / package / "copyright"
    if not path.exists():
        return []
    text = path.read_text(errors="replace")
    names = re.findall(r"^License:[ \t]*(\S[^\n]*)$", text, re.M)
    if not names:
        names = re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", text)
    return sorted({name.strip().rstrip(".") for name in names})


def licence_entries(names):
    return [{"license": {"name": name}} for name in names]


def distribution():
    try:
        release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', pathlib.Path("/etc/os-release").read_text(), re.M))
    except OSError:
        return "debian", ""
    return release.get("ID", "debian"), release.get("VERSION_ID", "")


def debian_components(absent):
    wanted = shell_list("packages")
    found = installed(wanted)
    absent += [name for name in wanted if name not in found]
    libraries = {name for _, _, depends in found.values() for name in depends if name.startswith("lib")} - set(found)
    found |= installed(sorted(libraries)) if libraries else {}
    name_of_system, version_of_system = distribution()
    for package, (version, architecture, depends) in sorted(found.items()):
        reference = f"pkg:deb/{name_of_system}/{package}@{version}?arch={architecture}" + (
            f"&distro={name_of_system}-{version_of_system}" if version_of_system else "")
        yield {"type": "library" if package.startswith("lib") or package == "catch2" else "application",
               "bom-ref": reference, "name": package, "version": version, "purl": reference,
               "licenses": licence_entries(licences_of(package)),
               "scope": "required" if package.startswith("lib") else "excluded"}, depends


# Wheels ----------------------------------------------------------------------------------------------------------------


def libtorch_home(given):
    if given:
        return given
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return cache / "ip2p" / f"libtorch-{torch_version()}"


def wheel_components(home, absent):
    for package, version, sums in wheels():
        info = home / f"{package.replace('-', '_')}-{version}.dist-info"
        if not (info / "METADATA").exists():
            absent.append(f"{package} {version} ({info})")
            continue
        metadata = email.parser.Parser().parsestr((info / "METADATA").read_text(errors="replace"))
        licence = metadata["License-Expression"] or metadata["License"] or ""
        files = sorted(str(path.relative_to(home)) for path in info.glob("licenses/**/*") if path.is_file())
        yield {"type": "library", "bom-ref": f"pkg:pypi/{package}@{version}", "name": package, "version": version,
               "purl": f"pkg:pypi/{package}@{version}", "licenses": licence_entries([licence.strip()] if licence else []),
               "scope": "required",
               "properties": [{"name": "ip2p:accepted-wheel-sha256", "value": digest} for digest in sums]
               + [{"name": "ip2p:license-file", "value": file} for file in files]}, []


# The bill --------------------------------------------------------------------------------------------------------------


def project_version():
    return re.search(r'version = "([0-9.]+)', (ROOT / "include/ip2p/version.hpp").read_text())[1]


def bill(home):
    absent = []
    parts = [*debian_components(absent), *wheel_components(home, absent)]
    references = {component["name"]: component["bom-ref"] for component, _ in parts}
    version = project_version()
    ours = f"pkg:generic/ip2p@{version}"
    direct = [references[name] for name in [*shell_list("packages"), *(name for name, _, _ in wheels())]
              if name in references]
    for name in absent:
        print(f"sbom: not installed here: {name}", file=sys.stderr)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": f"urn:uuid:{uuid.uuid4()}", "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "library", "bom-ref": ours, "name": "ip2p", "version": version, "purl": ours,
                          "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": [component for component, _ in parts],
        "dependencies": [{"ref": ours, "dependsOn": direct}] + [
            {"ref": component["bom-ref"], "dependsOn": [references[name] for name in depends if name in references]}
            for component, depends in parts]}


def check(page):
    """The first cells of the tables name each part, in backquotes."""
    cells = re.findall(r"^\| (`[^|]*`) \|", page.read_text(), re.M)
    listed = {name for cell in cells for name in re.findall("`([^`]+)`", cell)}
    wanted = set(shell_list("packages")) | {name for name, _, _ in wheels()}
    problems = [f"{page}: expected a row for `{name}`" for name in sorted(wanted - listed)]
    problems += [f"{page}: `{name}` is not among what scripts/dependencies.sh installs" for name in sorted(listed - wanted)]
    print("\n".join(problems) or f"{len(listed)} parts in {page}")
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--check", type=pathlib.Path, metavar="PAGE")
    parser.add_argument("--libtorch", type=pathlib.Path, help="folder with the unpacked wheels")
    given = parser.parse_args()
    if given.check:
        return check(given.check)
    text = json.dumps(bill(libtorch_home(given.libtorch)), indent=1) + "\n"
    if given.out:
        given.out.write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
