#!/usr/bin/env python3
"""Checks docs/reference/concepts.md against the headers.

    check_concepts.py COMPILER FLAGS_FILE ROOT

Every public concept has a section of its name, which begins with the header that declares it or one that includes that;
the skeleton of the section (its ```cpp blocks) compiles with that header and no other of ours; every type that ships for
a concept is named in the concept's section.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from extract_blocks import blocks_of  # noqa: E402

# The member by which a shipped type of each concept is recognised.
SIGNATURES = {
    "NoiseSource": r"at::Tensor normal\(at::IntArrayRef",
    "SchedulePolicy": r"std::vector<double> sigmas\(std::int64_t",
    "SamplerPolicy": r"at::Tensor sample\(Denoiser&&",
    "PredictionPolicy": r"Preconditioning preconditioning\(double",
    "GuidancePolicy": r"at::Tensor combine\(const at::Tensor& stacked",
    "AttentionPolicy": r"at::Tensor operator\(\)\(const AttentionSite&",
    "ExecutionPolicy": r"std::vector<at::Tensor> evaluate\(const Evaluation&",
    "GraphRecorder": r"Recording record\(at::Device",
    "AttentionRecorder": r"void record\(const AttentionSite&",
    "TokenEdit": r"TokenWeights weights\(std::int64_t",
    "PairFilter": r"Verdict operator\(\)\(const CandidatePair&",
    "UpsamplingPolicy": r"Image operator\(\)\(const Image& photo, const ModelEdit&",
    "DenoisingNetwork": r"ContextProjections project_context\(",
    "TextEncoder": r"at::Tensor encode\(std::span<const std::string>",
    "ImageCodec": r"at::Tensor encode\(const at::Tensor& images",
    "LanguageModel": r"std::vector<Completion> complete\(",
    "HttpTransport": r"HttpResponse post\(",
    "ModerationPolicy": r"bool allows\(const Triplet&",
    "Communicator": r"void all_reduce\(const at::Tensor&",
    "PairSource": r"EditPair get\(std::int64_t",
    "PictureSource": r"PairPictures get\(std::int64_t",
    "OptimiserPolicy": r"std::vector<OptimiserState> state\(\) const",
    "LearningRatePolicy": r"double operator\(\)\(std::int64_t(?: step)?\) const",
    "ConditioningDropoutPolicy": r"Dropped drop\(double",
    "LossWeightPolicy": r"double operator\(\)\(double(?: snr)?, const Preconditioning&",
}
LEFT_OUT = ("ip2p/testing/",)  # the kit
NOT_POLICIES = {
    "DiscreteSchedule",  # the noise levels of the training, from which schedules choose
    "ShardedOptimiser",  # divides the state of another optimiser
}


def public_texts(root):
    """The headers' texts without comments and namespace detail, by the names under which programs include them."""
    include = root / "include"
    texts = {}
    for path in sorted(include.glob("ip2p/**/*.hpp")):
        name = path.relative_to(include).as_posix()
        raw = path.read_text()
        # A namespace ends with an unindented brace, and so do the definitions in it; its own has a comment.
        raw = re.sub(r"^namespace detail \{.*?^\}  // namespace detail$", "", raw, flags=re.MULTILINE | re.DOTALL)
        texts[name] = re.sub(r"//[^\n]*", "", raw)
    return texts


def types_of(text):
    """(name, body) of each type that is defined at the outermost level."""
    return re.findall(r"^(?:class|struct) (\w+)[^;{]*\{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL)


def sections_of(page):
    """The number of the first line and the text of each section, by its title."""
    sections, title = {}, None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("## "):
            title = line[3:]
            sections[title] = (number, [])
        elif title:
            sections[title][1].append(line)
    return {title: (number, "\n".join(lines)) for title, (number, lines) in sections.items()}


def problems_of(root, page):
    """What is missing from the page, and the header that each section names."""
    texts, sections, found, headers = public_texts(root), sections_of(page), [], {}
    for title, (_, text) in sections.items():
        named = re.search(r"`(ip2p/[\w/]+\.hpp)`", text)
        if named:
            headers[title] = named.group(1)
    for header, text in texts.items():
        for concept in re.findall(r"^concept (\w+)", text, re.MULTILINE):
            if concept not in sections:
                found.append(f"{header}: expected a section '## {concept}' in {page.name}, found none")
            elif concept not in headers:
                found.append(f"{page.name}: {concept}: expected the section to name a header first, found none")
            elif f"ip2p::{concept}<" not in sections[concept][1]:
                found.append(f"{page.name}: {concept}: expected a skeleton with a static_assert of the concept")
    for header, text in texts.items():
        if header.startswith(LEFT_OUT):
            continue
        for name, body in types_of(text):
            for concept, signature in SIGNATURES.items():
                if re.search(signature, body) and name not in NOT_POLICIES:
                    if not re.search(rf"`{name}(?:<[^`]*>)?`", sections.get(concept, (0, ""))[1]):
                        found.append(f"{header}: expected `{name}` in the section {concept} of {page.name}, found none")
    return found, headers


def main():
    compiler, flags_file, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    flags = [line for line in pathlib.Path(flags_file).read_text().splitlines() if line]
    page = root / "docs/reference/concepts.md"
    found, headers = problems_of(root, page)
    starts = sorted((number, title) for title, (number, _) in sections_of(page).items())
    units = {}
    for start, word, lines in blocks_of(page):
        title = max(entry for entry in starts if entry[0] < start)[1]
        if word == "fragment" or title not in headers:
            continue
        unit = units.setdefault(headers[title], [])
        unit += [f"namespace section_{start} {{", f'#line {start} "{page.name}"', *lines, "}"]

    with tempfile.TemporaryDirectory() as scratch:
        # What all of them read of our dependencies is read once, where the compiler is g++; others pass the file over.
        scratch = pathlib.Path(scratch)
        shared = scratch / "precompiled.hpp"
        shared.write_text(f'#include "{(root / "cmake/precompiled.hpp").resolve()}"\n')
        subprocess.run([compiler, *flags, "-x", "c++-header", str(shared), "-o", f"{shared}.gch"], check=True)

        def compile_unit(entry):
            header, lines = entry
            source = scratch / (header.replace("/", "_") + ".cpp")
            source.write_text("\n".join([f"#include <{header}>", *lines]) + "\n")
            command = [compiler, *flags, "-include", str(shared), "-fsyntax-only", "-fdiagnostics-color=never"]
            result = subprocess.run([*command, str(source)], capture_output=True, text=True)
            return [] if result.returncode == 0 else [f"with {header} alone:\n{result.stderr}"]

        with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for problems in pool.map(compile_unit, units.items()):
                found += problems
    print("\n".join(found) if found else f"{len(headers)} sections, {len(units)} headers")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
