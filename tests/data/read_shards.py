#!/usr/bin/env python3
"""Reads pair shards as WebDataset does (a stream through tarfile, grouped by what stands before the first dot) and
compares all of it with the index. Prints the number of pairs.

    read_shards.py FOLDER
"""
import json
import pathlib
import sys
import tarfile
import zlib


def check(condition, what):
    if not condition:
        sys.exit(f"read_shards: {what}")


def main():
    folder = pathlib.Path(sys.argv[1])
    pairs = 0
    for shard in json.loads((folder / "shards.json").read_text())["shards"]:
        raw = (folder / shard["name"]).read_bytes()
        check(len(raw) == shard["bytes"], f"{shard['name']}: {len(raw)} bytes")
        check(zlib.crc32(raw) == int(shard["crc32"], 16), f"{shard['name']}: checksum")
        samples = {}
        with tarfile.open(folder / shard["name"], mode="r|") as tar:
            for member in tar:
                check(member.isreg(), f"{member.name}: is no file")
                key, extension = member.name.split(".", 1)
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
        keys = [f"{prompt}_{seed}" for prompt, seed, *_ in shard["pairs"]]
        check(list(samples) == keys and keys == sorted(keys), f"{shard['name']}: keys {list(samples)}")
        check(len(keys) == shard["count"], f"{shard['name']}: {len(keys)} pairs")
        for (prompt, seed, sizes, checksums), sample in zip(shard["pairs"], samples.values()):
            check(set(sample) == {"before.jpg", "after.jpg", "json"}, f"{prompt}/{seed}: entries {set(sample)}")
            parts = [sample["before.jpg"], sample["after.jpg"], sample["json"]]
            check([len(part) for part in parts] == sizes, f"{prompt}/{seed}: sizes")
            check([zlib.crc32(part) for part in parts] == checksums, f"{prompt}/{seed}: checksums")
            check(parts[0].startswith(b"\xff\xd8") and parts[1].startswith(b"\xff\xd8"), f"{prompt}/{seed}: no JPEG")
            words = json.loads(parts[2])
            check((words["prompt"], words["seed"]) == (prompt, seed), f"{prompt}/{seed}: found {words}")
            check({"edit", "input", "output"} <= set(words), f"{prompt}/{seed}: found {words}")
            pairs += 1
    print(pairs)


main()
