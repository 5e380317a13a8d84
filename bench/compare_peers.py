#!/usr/bin/env python3
"""Times our library against diffusers, OpenVINO and stable-diffusion.cpp: one run, one machine, the same threads and
weights.

    scripts/build.sh ip2p_bench
    $(tests/parity/venv.sh) tests/parity/full_size.py --make-only
    $(tests/parity/venv.sh) bench/compare_peers.py [--sizes 256 512] [--dtypes fp32 bf16] [--peers eager channels-last compile openvino]
                                                   [--build-sd-cpp | --sd-cpp PATH] [--out bench/results/peers.md]

The weights are those of a folder of Stable Diffusion 1.5's size with InstructPix2Pix's eight input channels, random and
seeded. Every measurement is a process of its own, which gives its peak memory; the programs take turns, so that other
load on the machine affects all of them. Times are the smallest of --repeat processes, each of which reports the median
of its own repetitions after one that is not counted (a whole edit is not repeated within its process).

A step of ours is a run's: what depends only on the text is computed once for all steps, and of three branches, the two
that see the photograph share what comes before the first text. The other programs have neither.

OpenVINO comes from PyPI (pip install openvino into the same environment). Its models are converted from diffusers' once,
into build/peers/openvino, and compiled for the exact sizes of a measurement.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
STEPS = 10
PROMPT = "make it a snowy evening"
DTYPES = ["fp32", "bf16"]
PEERS = ["eager", "channels-last", "compile"]  # modes of diffusers
OPENVINO = "openvino"
SD_CPP_TYPES = ["f16", "f32"]
PARTS = ["text", "vae-encode", "vae-decode", "unet-1", "unet-3", "edit"]
TITLES = {
    "text": "text encoder, 2 prompts",
    "vae-encode": "VAE encode",
    "vae-decode": "VAE decode",
    "unet-1": "UNet step, 1 branch",
    "unet-3": "UNet step, 3 branches",
    "edit": f"edit, {STEPS} steps",
}


def run_measured(command, environment, timeout):
    """(exit status, standard output, seconds, peak resident memory in GiB) of one process."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        begin = time.time()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        usage = None
        while usage is None:
            pid, status, resources = os.wait4(process.pid, os.WNOHANG)
            if pid:
                usage = resources
            elif time.time() - begin > timeout:
                process.kill()
                _, status, usage = os.wait4(process.pid, 0)
            else:
                time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - begin
        output.seek(0)
        errors.seek(0)
        text, error_text = output.read(), errors.read()
    if process.returncode != 0:
        reason = "timed out" if seconds >= timeout else (error_text.strip().splitlines() or ["no message"])[-1]
        return process.returncode, reason[:300], seconds, usage.ru_maxrss / 2**20
    return 0, text, seconds, usage.ru_maxrss / 2**20


# --------------------------------------------------------------------------------------------- the process of diffusers


def repeated(function, least_seconds=3.0, least=3, most=50):
    """Median seconds of the calls after the first, which is not counted, and the seconds of the first."""
    begin = time.perf_counter()
    function()
    first = time.perf_counter() - begin
    times = []
    while len(times) < least or (sum(times) < least_seconds and len(times) < most):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
        if sum(times) > 120:
            break
    return statistics.median(times), first


def openvino_network(job):
    """A network of the model's folder as a function of tensors: (module, example inputs)."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    class Call(torch.nn.Module):
        def __init__(self, network, call):
            super().__init__()
            self.network, self.call = network, call

        def forward(self, *inputs):
            return self.call(self.network, *inputs)

    folder = job["model"]
    name = job["network"]
    if name == "text":
        text = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=torch.float32).eval()
        return Call(text, lambda m, ids: m(ids)[0]), (torch.ones(2, 77, dtype=torch.int64),)
    if name == "unet":
        unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", dtype=torch.float32).eval()
        example = (torch.randn(3, 8, 32, 32), torch.tensor([500.0]), torch.randn(3, 77, 768))
        return Call(unet, lambda m, x, t, c: m(x, t, c, return_dict=False)[0]), example
    vae = AutoencoderKL.from_pretrained(f"{folder}/vae", dtype=torch.float32).eval()
    if name == "vae-encode":
        return Call(vae, lambda m, x: m.encode(x).latent_dist.mode()), (torch.randn(1, 3, 256, 256),)
    return Call(vae, lambda m, z: m.decode(z, return_dict=False)[0]), (torch.randn(1, 4, 32, 32),)


def convert_to_openvino(job):
    """Writes one network in OpenVINO's format, with weights in fp32 and sizes left open."""
    import openvino
    import torch

    module, example = openvino_network(job)
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=example)
    openvino.save_model(model, job["file"], compress_to_fp16=False)


def openvino_worker(job):
    """Times one part as OpenVINO computes it; the whole edit has diffusers' scheduler and tokenizer around it."""
    import numpy
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": job["threads"], "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[job["dtype"]]}  # fmt: skip
    random = numpy.random.default_rng(1)
    size, part = job["size"], job["part"]
    side = (size or 0) // 8

    def network(name, *shapes):
        model = core.read_model(job["files"][name])
        model.reshape({tensor.any_name: shape for tensor, shape in zip(model.inputs, shapes)})
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        return lambda *inputs: request.infer(dict(enumerate(inputs)))[0]

    def noise(*shape):
        return random.standard_normal(shape, dtype=numpy.float32)

    def tokenizer():
        from transformers import CLIPTokenizer

        tokens = CLIPTokenizer.from_pretrained(f"{job['model']}/tokenizer")
        return lambda texts: tokens(texts, padding="max_length", max_length=77, return_tensors="np").input_ids

    if part == "text":
        tokenize, text = tokenizer(), network("text", [2, 77])
        seconds, _ = repeated(lambda: text(tokenize([PROMPT] * 2)))
    elif part.startswith("vae"):
        shape = [1, 3, size, size] if part == "vae-encode" else [1, 4, side, side]
        vae, given = network(part, shape), noise(*shape)
        seconds, _ = repeated(lambda: vae(given))
    elif part.startswith("unet"):
        branches = int(part[-1])
        unet = network("unet", [branches, 8, side, side], [1], [branches, 77, 768])
        given = noise(branches, 8, side, side), numpy.array([500], numpy.float32), noise(branches, 77, 768)
        seconds, _ = repeated(lambda: unet(*given))
    else:
        import torch
        from diffusers import EulerAncestralDiscreteScheduler

        begin = time.perf_counter()
        tokenize, text = tokenizer(), network("text", [2, 77])
        encode, decode = network("vae-encode", [1, 3, size, size]), network("vae-decode", [1, 4, side, side])
        unet = network("unet", [3, 8, side, side], [1], [3, 77, 768])
        scheduler = EulerAncestralDiscreteScheduler.from_pretrained(f"{job['model']}/scheduler")
        load_seconds = time.perf_counter() - begin
        photo = noise(1, 3, size, size)
        begin = time.perf_counter()
        prompt, negative = text(tokenize([PROMPT, ""]))
        context = numpy.stack([prompt, negative, negative])
        condition = encode(photo).copy()
        images = numpy.concatenate([condition, condition, numpy.zeros_like(condition)])
        scheduler.set_timesteps(STEPS)
        x = torch.from_numpy(noise(1, 4, side, side)) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t).numpy()
            given = numpy.concatenate([numpy.concatenate([scaled] * 3), images], 1)
            full, image, null = torch.from_numpy(unet(given, numpy.array([float(t)], numpy.float32), context).copy())
            guided = null + 7.5 * (full - image) + 1.5 * (image - null)
            x = scheduler.step(guided[None], t, x).prev_sample
        decode(x.numpy() / 0.18215)
        print(json.dumps({"seconds": time.perf_counter() - begin, "load_s": load_seconds}))
        return
    print(json.dumps({"seconds": seconds}))


def worker(job):
    if "network" in job:
        return convert_to_openvino(job)
    if job["peer"] == OPENVINO:
        return openvino_worker(job)
    import torch

    torch.set_num_threads(job["threads"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job["dtype"]]
    layout = torch.contiguous_format if job["peer"] == "eager" else torch.channels_last
    size, part, folder = job["size"], job["part"], job["model"]
    compiled = (lambda module: torch.compile(module)) if job["peer"] == "compile" else (lambda module: module)
    generator = torch.Generator("cpu").manual_seed(1)

    def noise(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    def placed(tensor):
        return tensor.contiguous(memory_format=layout)

    result = {}
    with torch.inference_mode() if part != "edit" else torch.no_grad():
        if part == "text":
            from transformers import CLIPTextModel, CLIPTokenizer

            tokenizer = CLIPTokenizer.from_pretrained(f"{folder}/tokenizer")
            model = compiled(CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=dtype).eval())

            def call():
                ids = tokenizer([PROMPT] * 2, padding="max_length", max_length=77, return_tensors="pt").input_ids
                return model(ids).last_hidden_state

        elif part.startswith("vae"):
            from diffusers import AutoencoderKL

            vae = AutoencoderKL.from_pretrained(f"{folder}/vae", dtype=dtype).eval().to(memory_format=layout)
            vae.encoder, vae.decoder = compiled(vae.encoder), compiled(vae.decoder)
            images, latents = placed(noise(1, 3, size, size)), placed(noise(1, 4, size // 8, size // 8))
            if part == "vae-encode":
                call = lambda: vae.encode(images).latent_dist.mode()  # noqa: E731
            else:
                call = lambda: vae.decode(latents).sample  # noqa: E731
        elif part.startswith("unet"):
            from diffusers import UNet2DConditionModel

            branches = int(part[-1])
            unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", dtype=dtype).eval().to(memory_format=layout)
            unet = compiled(unet)
            x = placed(noise(branches, 8, size // 8, size // 8))
            context = noise(branches, 77, 768)
            timestep = torch.tensor(500.0)
            call = lambda: unet(x, timestep, encoder_hidden_states=context).sample  # noqa: E731
        else:
            from diffusers import StableDiffusionInstructPix2PixPipeline
            from PIL import Image

            begin = time.perf_counter()
            pipe = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, dtype=dtype, safety_checker=None)
            pipe.set_progress_bar_config(disable=True)
            pipe.unet.to(memory_format=layout)
            pipe.vae.to(memory_format=layout)
            result["load_s"] = time.perf_counter() - begin
            pixels = (torch.randn(size, size, 3, generator=generator) * 40 + 128).clamp(0, 255).to(torch.uint8)
            image = Image.fromarray(pixels.numpy())
            if job["peer"] == "compile":
                pipe.unet = torch.compile(pipe.unet)
                begin = time.perf_counter()
                pipe(PROMPT, image=image, num_inference_steps=2, generator=generator)
                result["compile_s"] = time.perf_counter() - begin
            begin = time.perf_counter()
            pipe(PROMPT, image=image, num_inference_steps=STEPS, generator=generator)
            result["seconds"] = time.perf_counter() - begin
            print(json.dumps(result))
            return
        result["seconds"], first = repeated(call)
        if job["peer"] == "compile":
            result["compile_s"] = first
    print(json.dumps(result))


# ----------------------------------------------------------------------------------------------------- the measurements


def environment_of(arguments):
    variables = dict(os.environ)
    variables["OMP_NUM_THREADS"] = str(arguments.threads)
    variables["MKL_NUM_THREADS"] = str(arguments.threads)
    variables["IP2P_BENCH_MODEL"] = str(arguments.model)
    variables["TOKENIZERS_PARALLELISM"] = "false"
    return variables


def benchmark_name(part, size, dtype):
    kind = DTYPES.index(dtype)
    if part == "text":
        return f"model/text_encode/prompts:2/dtype:{kind}"
    if part.startswith("unet"):
        return f"model/unet_step/pixels:{size}/branches:{part[-1]}/dtype:{kind}"
    name = {"vae-encode": "vae_encode", "vae-decode": "vae_decode", "edit": f"edit_{STEPS}_steps"}[part]
    return f"model/{name}/pixels:{size}/dtype:{kind}"


def measure_ours(arguments, part, size, dtype):
    command = [
        str(arguments.bench), f"--benchmark_filter=^{benchmark_name(part, size, dtype)}(/|$)",
        "--benchmark_format=json", "--benchmark_min_time=3",
    ]  # fmt: skip
    status, text, _, peak = run_measured(command, environment_of(arguments), arguments.timeout)
    if status != 0:
        return {"error": text}
    runs = json.loads(text)["benchmarks"] if text.strip() else []  # it prints nothing if no name matches
    if not runs:
        return {"error": "the benchmark program does not have this part and size"}
    if runs[0].get("error_occurred"):
        return {"error": runs[0]["error_message"]}
    scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[runs[0]["time_unit"]]
    result = {"seconds": runs[0]["real_time"] * scale, "peak": peak}
    if "load_s" in runs[0]:
        result["load_s"] = runs[0]["load_s"]
    return result


def measure_diffusers(arguments, part, size, dtype, peer):
    job = {"model": str(arguments.model), "part": part, "size": size, "dtype": dtype, "peer": peer,
           "threads": arguments.threads}  # fmt: skip
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(job)]
    status, text, _, peak = run_measured(command, environment_of(arguments), arguments.timeout)
    if status != 0:
        return {"error": text}
    return {**json.loads(text.strip().splitlines()[-1]), "peak": peak}


def measure_openvino(arguments, part, size, dtype):
    """One part by OpenVINO; what it needs is converted first, in processes that are not measured."""
    needed = ["text", "vae-encode", "vae-decode", "unet"] if part == "edit" else ["unet" if "unet" in part else part]
    folder = REPO / "build" / "peers" / "openvino"
    folder.mkdir(parents=True, exist_ok=True)
    job = {"model": str(arguments.model), "peer": OPENVINO}
    files = {}
    for network in needed:
        files[network] = str(folder / f"{network}.xml")
        if not Path(files[network]).exists():
            scratch = folder / f"{network}.unfinished.xml"
            order = json.dumps({**job, "network": network, "file": str(scratch)})
            command = [sys.executable, str(Path(__file__).resolve()), "--worker", order]
            status, text, _, _ = run_measured(command, environment_of(arguments), arguments.timeout)
            if status != 0:
                return {"error": f"conversion: {text}"}
            scratch.with_suffix(".bin").rename(folder / f"{network}.bin")
            scratch.rename(files[network])
    order = json.dumps({**job, "files": files, "part": part, "size": size, "dtype": dtype,
                        "threads": arguments.threads})  # fmt: skip
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", order]
    status, text, _, peak = run_measured(command, environment_of(arguments), arguments.timeout)
    if status != 0:
        return {"error": text}
    return {**json.loads(text.strip().splitlines()[-1]), "peak": peak}


def measure_sd_cpp(arguments, size, kind):
    """A whole edit by stable-diffusion.cpp with weights of this kind; the times of its parts come from its log."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as scratch:
        photo = Path(scratch) / "photo.png"
        Image.effect_noise((size, size), 40).convert("RGB").save(photo)
        command = [
            str(arguments.sd_cpp), "--model", str(arguments.model), "-r", str(photo), "-p", PROMPT, "-W", str(size),
            "-H", str(size), "--steps", str(STEPS), "--cfg-scale", "7.5", "--img-cfg-scale", "1.5",
            "--sampling-method", "euler_a", "--threads", str(arguments.threads), "--type", kind,
            "-o", str(Path(scratch) / "out.png"), "-v",
        ]  # fmt: skip
        status, text, seconds, peak = run_measured(command, environment_of(arguments), arguments.timeout)
    if status != 0:
        return {"error": text}
    found = re.search(r"generate_image completed in ([0-9.]+)s", text)
    sampling = re.search(r"sampling completed, taking ([0-9.]+)s", text)
    if not found or not sampling:
        return {"error": "its log does not tell the time of the edit"}
    return {"seconds": float(found[1]), "step_s": float(sampling[1]) / STEPS, "load_s": seconds - float(found[1]),
            "peak": peak}  # fmt: skip


def build_sd_cpp(arguments):
    """Builds stable-diffusion.cpp's program from the sources in its PyPI package. (path or None, what to report)"""
    folder = REPO / "build" / "peers" / "sd-cpp"
    program = folder / "build" / "bin" / "sd-cli"
    if program.exists():
        return program, "built before"
    folder.mkdir(parents=True, exist_ok=True)
    package = "stable-diffusion-cpp-python"
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package,
                    "-d", str(folder), package], check=True)  # fmt: skip
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    source = next(folder.glob("*/vendor/stable-diffusion.cpp"))
    begin = time.time()
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DSD_BUILD_EXAMPLES=ON", "-DSD_WEBP=OFF",
               "-DSD_WEBM=OFF", *arguments.sd_cpp_cmake.split()]  # fmt: skip
    try:
        with open(folder / "build.log", "w") as log:
            subprocess.run(["cmake", "-S", str(source), "-B", str(folder / "build"), *options], check=True, stdout=log,
                           stderr=log)  # fmt: skip
            subprocess.run(["cmake", "--build", str(folder / "build"), "--target", "sd-cli", "--parallel",
                            str(arguments.threads)], check=True, stdout=log, stderr=log,
                           timeout=arguments.sd_cpp_limit)  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"not built within {arguments.sd_cpp_limit / 60:.0f} minutes"
    except subprocess.CalledProcessError:
        return None, f"does not build (see {folder / 'build.log'})"
    return program, f"{archive.name.removesuffix('.tar.gz')}, built in {time.time() - begin:.0f} s"


# ------------------------------------------------------------------------------------------------------------ the table


def cell(result):
    if result is None:
        return ""
    if "error" in result:
        return "failed"
    seconds = result["seconds"]
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def gib(result):
    return "" if result is None or "error" in result else f"{result['peak']:.2f}"


def write_table(path, rows, columns, notes):
    """Seconds, the ratio of the best peer of the row to ours (above 1: ours is faster), and the peak memory of each."""
    lines = ["# Our library and its peers", "", *notes, "", "## Seconds", ""]
    head = ["part", "pixels", "dtype", *columns, "best peer / ours"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        results = row["results"]
        peers = [results[c]["seconds"] for c in columns[1:] if c in results and "error" not in results[c]]
        ours = results.get("ip2p", {"error": ""})
        ratio = f"{min(peers) / ours['seconds']:.2f}" if peers and "error" not in ours else ""
        lines.append("| " + " | ".join([TITLES[row["part"]], str(row["size"] or ""), row["dtype"],
                                        *(cell(results.get(c)) for c in columns), ratio]) + " |")  # fmt: skip
    lines += ["", "## Peak resident memory, GiB", ""]
    head = ["part", "pixels", "dtype", *columns]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join([TITLES[row["part"]], str(row["size"] or ""), row["dtype"],
                                        *(gib(row["results"].get(c)) for c in columns)]) + " |")  # fmt: skip
    loads, compiles, errors = [], [], []
    for row in rows:
        where = f"{TITLES[row['part']]}, {row['size'] or ''} {row['dtype']}"
        for column, result in row["results"].items():
            if "load_s" in result:
                loads.append(f"| {row['size']} | {row['dtype']} | {column} | {result['load_s']:.1f} |")
            if "compile_s" in result:
                compiles.append(f"- {where}: {result['compile_s']:.0f} s")
            if "error" in result:
                errors.append(f"- {where}, {column}: {result['error']}")
    if loads:
        lines += ["", "## Loading the model, seconds", "", "| pixels | dtype | program | load |", "|---|---|---|---|", *loads]
    if compiles:
        lines += ["", "## First call under torch.compile", "", *compiles]
    if errors:
        lines += ["", "## Not measured", "", *errors]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def processor():
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    name = re.search(r"model name\s*:\s*(.*)", text)
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{f}\b", text)]
    return f"{name[1] if name else platform.processor()} ({', '.join(flags)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REPO / "build/parity/sd15-ip2p-random")
    parser.add_argument("--bench", type=Path, default=REPO / "build/release/bench/ip2p_bench")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=[*PEERS, OPENVINO],
                        help="modes of diffusers, and openvino")  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=1, help="processes per measurement; the fastest counts")
    parser.add_argument("--timeout", type=float, default=1800, help="maximum seconds per process")
    parser.add_argument("--sd-cpp", type=Path, help="stable-diffusion.cpp's sd-cli")
    parser.add_argument("--build-sd-cpp", action="store_true", help="build sd-cli from its PyPI package")
    parser.add_argument("--sd-cpp-limit", type=float, default=600, help="maximum seconds for that build")
    parser.add_argument("--sd-cpp-cmake", default="", help="more CMake arguments for that build, separated by spaces")
    parser.add_argument("--out", type=Path, default=REPO / "build/peers/peers.md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(json.loads(arguments.worker))
        return
    if not (arguments.model / "model_index.json").exists():
        raise SystemExit(f"{arguments.model} holds no model: run tests/parity/full_size.py --make-only")
    if not arguments.bench.exists():
        raise SystemExit(f"{arguments.bench} is not built: run scripts/build.sh ip2p_bench")

    import diffusers
    import torch

    notes = [
        f"{datetime.date.today()}, {processor()}, {arguments.threads} threads. diffusers {diffusers.__version__}, PyTorch "
        f"{torch.__version__}. SD1.5's size, 8 input channels, random weights. Seconds; ratios above 1: ours is faster.",
    ]
    if OPENVINO in arguments.peers:
        from importlib.metadata import version

        notes += ["", f"OpenVINO {version('openvino')}."]
    if arguments.build_sd_cpp and not arguments.sd_cpp:
        arguments.sd_cpp, told = build_sd_cpp(arguments)
        notes += ["", f"stable-diffusion.cpp: {told}."]
    modes = [peer for peer in arguments.peers if peer != OPENVINO]
    columns = ["ip2p", *(f"diffusers {peer}" for peer in modes)]
    if OPENVINO in arguments.peers:
        columns += ["OpenVINO"]
    if arguments.sd_cpp:
        columns += [f"stable-diffusion.cpp {kind}" for kind in SD_CPP_TYPES]

    rows = []
    for part in arguments.parts:
        for size in arguments.sizes if part != "text" else [None]:
            for dtype in arguments.dtypes:
                row = {"part": part, "size": size, "dtype": dtype, "results": {}}
                rows.append(row)
                programs = [("ip2p", lambda: measure_ours(arguments, part, size, dtype))]
                for peer in modes:
                    programs.append(
                        (f"diffusers {peer}", lambda peer=peer: measure_diffusers(arguments, part, size, dtype, peer))
                    )
                if OPENVINO in arguments.peers:
                    programs.append(("OpenVINO", lambda: measure_openvino(arguments, part, size, dtype)))
                if arguments.sd_cpp and part == "edit":
                    for kind in SD_CPP_TYPES:
                        programs.append(
                            (f"stable-diffusion.cpp {kind}", lambda kind=kind: measure_sd_cpp(arguments, size, kind))
                        )
                for _ in range(arguments.repeat):
                    for column, measure in programs:
                        result = measure()
                        best = row["results"].get(column)
                        if best is None or "error" in best or result.get("seconds", 1e9) < best["seconds"]:
                            row["results"][column] = result
                        print(f"{part} {size or ''} {dtype} {column}: {json.dumps(result)}", file=sys.stderr, flush=True)
                        write_table(arguments.out, rows, columns, notes)
                        arguments.out.with_suffix(".json").write_text(json.dumps({"notes": notes, "rows": rows}, indent=1))
    print(arguments.out.read_text())


if __name__ == "__main__":
    main()
