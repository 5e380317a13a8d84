"""What the pages' commands need to run in a test: what stands for what, smaller sizes, and what does not run and why.

A page with commands must have a row in PAGES; an entry that a page no longer needs is an error.
"""
import dataclasses

TINY_EDITOR = "tests/pipeline/fixtures/tiny-ip2p"
TINY_GPT2 = "tests/language/fixtures/tiny-gpt2"
PHOTOGRAPH = "docs/images/quickstart.jpg"
TRIPLETS = "examples/13_evaluate/coco_mini_edits.jsonl"

# Names on the pages that stand for files of the reader -> files of the repository, or functions of stand_ins.py that make
# them. Each is made where a page's commands mention it.
NAMES = {
    "in.jpg": PHOTOGRAPH,
    "holiday.jpg": PHOTOGRAPH,
    "photo.jpg": PHOTOGRAPH,
    "cat.jpg": PHOTOGRAPH,
    "horse.jpg": PHOTOGRAPH,
    "mask.png": "mask",
    "tokenizer": TINY_GPT2,
    "training/model": "models/small-editor",
    "watercolour.safetensors": "tests/nn/fixtures/lora-kohya.safetensors",
    "sharper.safetensors": "tests/nn/fixtures/lora-peft.safetensors",
    "cat-toy.safetensors": "tests/text/fixtures/embedding-cat-toy.safetensors",
    "human-written-prompts.jsonl": TRIPLETS,
    "triplets.jsonl": "triplets",
    "edits.jsonl": TRIPLETS,
    "captions.txt": "captions",
    "photographs": "photographs",
    "photos": "photos",
    "clip-filtered-dataset": "pairs",
}

# Names on the Hugging Face Hub -> the models that a server on this machine has under them.
HUB = {
    "timbrooks/instruct-pix2pix": TINY_EDITOR,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "text_to_image_model",
    "openai/clip-vit-large-patch14": "clip_model",
    "openai/clip-vit-base-patch32": "clip_model",
    "openai-community/gpt2": TINY_GPT2,
}

# Scripts that install, download or build -> functions of stand_ins.py that do in a moment what the page relies on.
SCRIPTS = {
    "scripts/build.sh": "build",  # each target must exist
    "scripts/photographs.sh": "fetch_photographs",  # a photograph of the repository, under the names of the real ones
}

# Programs that the pages compile from their own C++ -> the programs that the tests have compiled from the same blocks.
COMPILED = {"snow": "docs_docs_tutorials_first_edit_1", "fading": "docs_fading"}

# Programs of the reader's own.
MADE_BY_READERS = {"./my_trainer", "build/snow", "build/fading"}

# Options of programs that are not ours.
FOREIGN_OPTIONS = {
    "--preset", "--build", "--install", "--prefix", "--target", "--component",  # cmake
    "--no-python", "--standalone", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id",
    "--max-restarts",  # torchrun
    "--nodes", "--ntasks-per-node", "--gpus-per-task",  # srun
    "--benchmark_filter",
    "--retry", "--retry-delay", "--retry-connrefused",  # curl
    "--type",  # stable-diffusion.cpp
}


@dataclasses.dataclass
class Page:
    """How the commands of a page run."""

    # Beginning of a command -> options that it is given on top; where the page gives one, this value counts. $SERVICE is the
    # address of a service on this machine that answers as OpenAI's completions do.
    sizes: dict = dataclasses.field(default_factory=dict)
    # Beginning of a command -> why it does not run here.
    not_run: dict = dataclasses.field(default_factory=dict)
    # Language of a block that the reader saves -> under which name.
    saved: dict = dataclasses.field(default_factory=dict)
    # First line of a block without a language, or of text, that is not the output of the commands before it -> what it is.
    no_output: dict = dataclasses.field(default_factory=dict)
    # Names that the page's commands make themselves, although NAMES has them.
    made: tuple = ()
    # Programs of others without which the page is skipped.
    takes: tuple = ()


EDIT = "--steps 2 --resolution 64"
PAIRS = "--resolution 64 --steps 1 --samples 1 --keep-pairs 1 --least-image -1 --least-caption -1 --least-direction -1 --least-change 0"
BUILDS = "builds the whole project"
INSTALLS = "installs packages"
MACHINES = "takes several machines"
GPU = "takes a GPU and its compiler"
SERVES = "serves until it is stopped; tests/studio/browser_test.py opens it"
CHAIN = "takes twenty minutes; tests/examples/paper_in_a_box_test.sh runs it with small numbers"

PAGES = {
    "CONTRIBUTING.md": Page(not_run={"scripts/dependencies.sh": INSTALLS, "cmake --preset": BUILDS, "ctest": BUILDS}),
    "README.md": Page(sizes={"edit_image": EDIT}, not_run={"scripts/test.sh": BUILDS}),
    "docs/explanation/results.md": Page(not_run={"python3 examples/14_paper_in_a_box": CHAIN}),
    "docs/explanation/sampler-orders.md": Page(not_run={"build/release/tests/tests_tensor": "takes matplotlib"}),
    "docs/how-to/check-a-gpu.md": Page(not_run={
        "scripts/device_pack.sh": GPU,
        "scripts/device_check.sh build/device": GPU,
        "scripts/device_check.sh build/release/tests": "takes minutes; CTest runs the program as device/check",
    }),
    "docs/how-to/compare-editors.md": Page(
        sizes={
            "evaluate --config examples/13_evaluate/paper.toml":
                "--resolution 64 --limit 1 --resamples 20 "
                "--curve 'instruct model=editor image-scale=1:2.2:0.6 steps=2 name=a' "
                "--curve 'sdedit model=sd strength=0.5,1 steps=2 name=b' "
                "--curve 'prompt-to-prompt model=sd fraction=0,1 steps=2 name=c'",
            "evaluate --config comparison.toml":
                "--resolution 64 --limit 1 --resamples 20 "
                "--curve 'instruct model=editor image-scale=1:2.2:0.6 steps=2 name=published' "
                "--curve 'instruct model=mine sampler=euler,heun steps=2 name=samplers'",
            "evaluate": "--resolution 64 --limit 1 --resamples 20",
        },
        saved={"toml": "comparison.toml"},
        takes=("gnuplot",)),
    "docs/how-to/edit-a-photograph.md": Page(
        sizes={"edit_image": EDIT}, no_output={"photo: in.jpg, 640x428": "of a photograph of another size"}),
    "docs/how-to/generate-and-control.md": Page(sizes={
        "text_to_image": "--steps 2 --width 64 --height 64", "sdedit": "--steps 4", "prompt_to_prompt": "--steps 2",
        "invert_and_edit": "--steps 2 --inner-steps 1 --resolution 64", "inpaint": "--steps 2",
    }),
    "docs/how-to/install.md": Page(not_run={
        "scripts/dependencies.sh": INSTALLS,
        "cmake": "tests/package installs the library and builds projects with it",
    }),
    "docs/how-to/make-pairs.md": Page(
        sizes={"make_pairs": PAIRS},
        not_run={"srun --nodes=4": MACHINES},
        no_output={
            "dataset/seeds.json": "a folder",
            "rank 0:": "a line of another run; tests/examples/make_pairs_test.sh looks for its like",
            "seconds a prompt": "a formula",
        }),
    "docs/how-to/make-triplets.md": Page(
        sizes={
            "make_triplets train --triplets human-written-prompts.jsonl --model": "--epochs 0.2",
            "make_triplets train --triplets human-written-prompts.jsonl --tokenizer":
                "--epochs 0.2 --layers 1 --hidden-size 32 --heads 2",
            "make_triplets measure": "--max-tokens 8",
            "make_triplets generate": "--max-tokens 8",
            "make_triplets generate --captions captions.txt --out triplets.jsonl --url": "--out asked.jsonl --url $SERVICE",
        },
        no_output={"captions ": "of a model that takes ten minutes to train", "Ford by": "of the same model"},
        made=("triplets.jsonl",)),
    "docs/how-to/serve-edits.md": Page(
        not_run={"studio --model models/small-editor --name": SERVES}, takes=("curl",)),
    "docs/how-to/text2live.md": Page(
        sizes={"text2live": "--resolution 48 --scales 3 --channels 4 --views 1 --steps 2 --sample-every 1"}),
    "docs/how-to/train-on-pairs.md": Page(no_output={"seeds.json": "a folder"}),
    "docs/how-to/train-on-several-gpus-or-machines.md": Page(not_run={
        "torchrun": MACHINES, "srun": MACHINES, "RANK=": "tests/parallel starts such processes",
    }),
    "docs/how-to/train-your-own-editor.md": Page(
        sizes={
            "train_small_editor": "--resolution 64",
            "train_editor": "--steps 1 --batch 2 --micro-batch 2 --samples 1 --sample-steps 1 --resolution 64 "
                            "--resize-smallest 64 --resize-largest 64",
            "edit_image": EDIT,
        },
        made=("training/model", "photographs")),
    "docs/how-to/use-lora-and-embeddings.md": Page(sizes={"edit_image": EDIT}),
    "docs/how-to/use-models-by-name.md": Page(
        sizes={"edit_image": EDIT}, no_output={"models--owner--name/": "a folder"}),
    "docs/how-to/write-a-policy.md": Page(
        saved={"cmake": "CMakeLists.txt", "cpp": "fading.cpp"},
        no_output={
            "error: static assertion": "tests/compile_fail looks for such messages",
            "LinearGuidancePolicy breaks": "tests/testing/conformance_test.cpp looks for such messages",
        }),
    "docs/reference/command-line.md": Page(not_run={"cmake": "tests/examples/command_line_test.sh installs the programs"}),
    "docs/reference/dependencies.md": Page(),
    "docs/reference/robustness.md": Page(not_run={
        "scripts/fuzz.sh": "takes minutes; CTest runs it as fuzz",
        "scripts/sanitizers.sh": "compiles all tests again",
        "scripts/faults.sh": "takes an hour; CTest runs a part of it",
        "scripts/kills.sh": "takes minutes; CTest runs a part of it",
        "python3 tests/studio/raw_http.py": "takes minutes; CTest runs a part of it",
        "bash tests/parallel/processes_test.sh": "CTest runs three others of its kind"}),
    "docs/tutorials/first-edit.md": Page(
        sizes={"edit_image --model timbrooks/instruct-pix2pix": EDIT},
        saved={"cmake": "CMakeLists.txt", "cpp": "snow.cpp"}),
    "docs/tutorials/paper-in-a-box.md": Page(not_run={"python3 examples/14_paper_in_a_box": CHAIN}),
    "docs/tutorials/studio.md": Page(not_run={"studio --model models/small-editor": SERVES}),
    "docs/tutorials/train-a-small-editor.md": Page(sizes={
        "train_small_editor autoencoder": "--steps 2 --resolution 64",
        "train_small_editor editor": "--steps 2 --coarse-steps 1 --resolution 64 --batch 2 --crops 2",
        "train_small_editor decoder": "--steps 2 --resolution 64 --batch 2 --crops 2",
        "train_small_editor evaluate": "--steps 1 --limit 1 --resolution 64",
        "edit_image": EDIT,
    }, made=("training/model", "photographs")),
    "models/small-editor/README.md": Page(),
}
