#!/usr/bin/env bash
# What all programs share on the command line: wrong words, exit statuses, configurations, --quiet, --json, old names,
# Ctrl-C outside of training, installation.
#
#   bash tests/examples/command_line_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
fixtures=$source/tests/pipeline/fixtures
model=$fixtures/tiny-ip2p
export OMP_NUM_THREADS=1
all=(convert_pairs edit_image evaluate inpaint invert_and_edit make_pairs make_triplets prompt_to_prompt sdedit small_world
  text2live text_to_image train_editor train_small_editor)

# The errors of the last run, and nothing else, are TEXT and a hint.
only_error() {
  [ "$(cat stderr)" = "$1"$'\n'"Run with --help for more information." ] || fail "expected only the error '$1'"
}
# silent STREAM: the last run printed nothing there.
silent() { [ ! -s "$1" ] || fail "expected nothing on $1"; }

cp -r "$model" editor
cp -r "$model" sd && rm -r sd/unet && cp -r "$fixtures/tiny-sd/unet" sd/unet
red_disc photo.png
edit=(edit_image --model editor --image photo.png --prompt "make it snowy" --steps 2 --resolution 64 --device cpu)

echo "== every program"
for program in "${all[@]}"; do
  run 0 "$program" --version
  [ "$(cat stdout)" = 0.1.0 ] || fail "expected the version of $program"
  run 0 "$program" --help
  says "Usage: $program [OPTIONS]"
  for text in --config --save-config --quiet "Exit status: 0 success, 1 error, 2 wrong usage, 130 interrupted"; do
    says "$text"
  done
  run 2 "$program" --stepz 3
  grep -q "^$program: " stderr || fail "expected the name of $program before its error"
  says "unknown option '--stepz'"
  grep -q "is required" stderr && fail "expected the unknown option of $program before any that is missing"
  run 0 "$program" --help-json
  python3 -m json.tool < stdout > /dev/null || fail "expected JSON from --help-json of $program"
done

echo "== unknown options and words"
run 2 edit_image --model editor --image photo.png --promt "make it snowy" --out out.png
only_error "edit_image: unknown option '--promt'; did you mean --prompt?"
run 2 "${edit[@]}" --out out.png --negative rain
says "unknown option '--negative'; did you mean --negative-prompt?"
run 2 "${edit[@]}" --out out.png --text_scale=3
says "unknown option '--text_scale'; did you mean --text-scale?"
run 2 "${edit[@]}" --out out.png --scale 3
says "did you mean --image-scale?"
run 2 "${edit[@]}" --out out.png --zebra
says "unknown option '--zebra'; --help lists all"
run 2 "${edit[@]}" --out out.png snowy day
says "expected an option, found 'snowy'; a text of several words needs quotes"
run 2 edit_image --model editor --image --prompt "make it snowy" --out out.png
says "--image: expected a value, found the option --prompt"
run 2 train_small_editor editr --photographs photographs
says "unknown subcommand 'editr'; did you mean editor?"
run 2 make_triplets train --triplts human.jsonl --model tiny --out out
says "unknown option '--triplts'; did you mean --triplets?"
run 2 make_triplets measure --layers 3
says "unknown option '--layers'"
grep -q "did you mean --layers" stderr && fail "expected no option of another subcommand"
[ ! -e out.png ] || fail "expected no picture after wrong usage"

echo "== options given twice"
run 2 "${edit[@]}" --out out.png --steps 3
only_error "edit_image: --steps was given twice: '2' and '3'"
run 2 inpaint --model sd --image photo.png --image other.png --mask photo.png --prompt "a cat" --out out.png
says "--image was given twice: 'photo.png' and 'other.png'"
run 2 "${edit[@]}" --out out.png --seed 1 --seed 2 --seed 3
says "--seed was given 3 times: '1', '2', '3'"
run 0 "${edit[@]}" --out twice.png --full-size --full-size
# Lists take several values and may be repeated.
for strengths in "--strength 0.5 1" "--strength 0.5 --strength 1"; do
  # shellcheck disable=SC2086
  run 0 sdedit --model sd --image photo.png --prompt "a hill" --out row.png --steps 2 --resolution 64 --device cpu $strengths
  [ "$(size_of row.png | cut -d ' ' -f 1)" = 208 ] || fail "expected the photograph and two pictures beside each other"
done

# A text is taken as it is, even in brackets.
run 0 prompt_to_prompt --model sd --source "a cat" --prompt "[a dog, a cow]" --out row.png --steps 2 --width 64 --height 64 \
  --device cpu --json
grep -qF '"prompt":["[a dog, a cow]"]' stdout || fail "expected the text in brackets"

echo "== configurations"
mkdir -p settings/pictures
cp photo.png settings/pictures/in.png
cat > settings/run.toml <<'TOML'
# All that a run needs, and paths beside this file.
model = "../editor"
image = 'pictures/in.png'
prompt = "a \"snowy\" day, # 1"
out = "out.png"
steps = 2
resolution = 64
seed = 1_7
device = "cpu"
background = "#80ff00"  # a comment
lora = [
  # none
]
full-size = false
TOML
run 0 edit_image --config settings/run.toml
[ "$(tail -n 1 stdout)" = settings/out.png ] || fail "expected the picture beside the configuration"
run 1 edit_image --config settings/run.toml --out first.png --save-config saved/first.toml
says "saved: expected a folder to write into, found none"
[ ! -e first.png ] || fail "expected no picture where the configuration cannot be written"
mkdir saved
run 0 edit_image --config settings/run.toml --out first.png --seed 18 --save-config saved/first.toml
grep -qxF 'image = ["../settings/pictures/in.png"]' saved/first.toml || fail "expected paths relative to the file: $(cat saved/first.toml)"
grep -qxF 'prompt = ["a \"snowy\" day, # 1"]' saved/first.toml || fail "expected the prompt: $(cat saved/first.toml)"
grep -qxF 'seed = 18' saved/first.toml || fail "expected what the command line said: $(cat saved/first.toml)"
grep -qxF 'quality = 95' saved/first.toml || fail "expected the defaults, too: $(cat saved/first.toml)"
run 0 edit_image --prompt 'a "snowy" day, # 1' --model editor --image photo.png --steps 2 --resolution 64 --seed 18 \
  --device cpu --out typed.png
same_pixels first.png typed.png
(cd / && "$programs/edit_image" --config "$scratch/saved/first.toml" --out "$scratch/again.png") > stdout 2> stderr ||
  fail "expected the run of the saved configuration from another folder"
same first.png again.png
run 0 edit_image --config saved/first.toml --out again.png --save-config saved/again.toml
diff <(grep -v '^out = ' saved/first.toml) <(grep -v '^out = ' saved/again.toml) > /dev/null ||
  fail "expected the same configuration after a round trip"
run 0 edit_image --config settings/run.toml --out other.png --seed 19
differ first.png other.png
# What excludes or needs other options comes back, too.
run 0 text_to_image --model sd --prompt "a hill" --steps 2 --width 64 --height 64 --walk-to 3 --device cpu --out walk.png \
  --save-config walk.toml
run 0 text_to_image --config walk.toml --out walk-again.png
same walk.png walk-again.png
run 0 edit_image --config settings/run.toml --out marked.png --plain-prompts --compare --save-config flags.toml
grep -qxF 'plain-prompts = true' flags.toml || fail "expected the flag: $(cat flags.toml)"
run 0 edit_image --config flags.toml --out flags.png
same marked.png flags.png
[ -s flags-compare.png ] || fail "expected --compare with its default name from the configuration"
# bad TEXT LINE: a configuration with LINE in addition is refused with TEXT.
bad() {
  { cat settings/run.toml; printf '%s\n' "$2"; } > settings/bad.toml
  run 2 edit_image --config settings/bad.toml --out never.png
  says "settings/bad.toml, line $(wc -l < settings/bad.toml): $1"
  [ ! -e never.png ] || fail "expected no picture"
}
bad "unknown key 'sampelr'; did you mean --sampler?" 'sampelr = "euler"'
bad "Error while parsing key-value pair: cannot redefine existing integer" 'steps = 3'
bad "expected a number, true, false, a text or a list of these" 'negative-prompt = 2026-11-29'
bad "unknown table [train]" '[train]
steps = 3'
bad "save-config is for the command line only" 'save-config = "x.toml"'
bad "Error while parsing string" 'negative-prompt = "rain'
bad "Error while parsing key-value pair: expected a comment or whitespace, saw 'é'" 'guidance = 1 é'
run 2 edit_image --config nowhere.toml --out never.png
says "--config: 'nowhere.toml': no such file"
run 1 edit_image --config /proc/self/mem
says "--config: cannot read '/proc/self/mem': Input/output error"
sed 's/^steps = 2/steps = "two"/' settings/run.toml > settings/text.toml
run 2 edit_image --config settings/text.toml --out never.png
says "--steps: expected a whole number from 1 to 10000, found 'two'"
# Subcommands have a table each.
red_to_blue 3 1
mkdir photographs && for n in 1 2 3 4 5 6; do cp photo.png "photographs/$n.png"; done
cat > small.toml <<'TOML'
[edits]
photographs = "photographs"
resolution = 32
[editor]
rate = 0.1
TOML
run 0 train_small_editor edits --config small.toml --out edits.png --save-config edits.toml
grep -qxF '[edits]' edits.toml || fail "expected the subcommand's table: $(cat edits.toml)"
run 0 train_small_editor edits --config edits.toml --out edits-again.png
same edits.png edits-again.png
run 0 evaluate --config "$source/examples/13_evaluate/small-editor.toml" --help

echo "== old names"
run 0 convert_pairs --folder set --out shards
says "note: --folder is now called --pairs; its old name will go with the next version"
run 2 convert_pairs --folder set --pairs set --out shards
says "--pairs was given twice: 'set' and 'set'"
run 0 convert_pairs --help
grep -q -- "--folder" stdout && fail "expected no old name in the help"
printf 'folder = "set"\nout = "more"\n' > old.toml
run 0 convert_pairs --config old.toml
says "note: old.toml, line 1: folder is now called pairs"
run 2 small_world clip --scenes set --tokenizer "$model/tokenizer" --out out --width 0
says "--hidden-size"
run 2 train_editor --model sd --data set --out out --clip 1 --schedule linear --keep 3 --crop 32 --prediction v_prediction --dryrun
for name in pairs max-grad-norm lr-schedule keep-checkpoints resolution prediction-type; do says "is now called --$name"; done
says "unknown option '--dryrun'; did you mean --dry-run?"

echo "== --quiet and --json"
run 0 "${edit[@]}" --out quiet.png --quiet
silent stdout
silent stderr
last_counts=(--model --prompt)
run 0 "${edit[@]}" --out quiet.png --quiet --prompt "$(printf 'the %.0s' $(seq 200))"
says "warning: prompt: only the first"
run 1 "${edit[@]}" --out quiet.png --quiet --model nowhere
says "nowhere"
run 0 "${edit[@]}" --out json.png --json --seed 5 --compare
python3 - stdout <<'PYTHON' || fail "expected one line of JSON"
import json, os, sys
lines = open(sys.argv[1]).read().splitlines()
assert len(lines) == 1, lines
result = json.loads(lines[0])
assert result["program"] == "edit_image" and result["version"] == "0.1.0"
assert [file["file"] for file in result["written"]] == ["json.png", "json-compare.png"], result
assert result["written"][0] == {"file": "json.png", "bytes": os.path.getsize("json.png"), "width": 64, "height": 64}, result
settings = result["settings"]
assert (settings["steps"], settings["seed"], settings["resolution"]) == (2, 5, 64), settings
assert settings["prompt"] == "make it snowy" and settings["device"] == "cpu" and settings["sampler"], settings
assert result["seconds"]["total"] >= result["seconds"]["edit"] > 0, result
PYTHON
says "model: "
run 0 "${edit[@]}" --out json.png --json --quiet
[ "$(wc -l < stdout)" = 1 ] || fail "expected the line of JSON with --quiet"
silent stderr
run 1 "${edit[@]}" --out json.png --json --model nowhere
silent stdout
last_counts=()
draw=(--model sd --steps 2 --device cpu --json)
run 0 text_to_image "${draw[@]}" --prompt "a hill" --width 64 --height 64 --out a.png
grep -q '"program":"text_to_image"' stdout || fail "expected a line of JSON"
run 0 sdedit "${draw[@]}" --image photo.png --prompt "a hill" --strength 0.5 1 --resolution 64 --out a.png
grep -q '"strength":\[0.5,1.0\]' stdout || fail "expected the strengths as a list"
run 0 prompt_to_prompt "${draw[@]}" --source "a cat" --prompt "a dog" --width 64 --height 64 --out a.png
grep -q '"source":"a cat","prompt":\["a dog"\]' stdout || fail "expected the prompts as a list"
run 0 invert_and_edit "${draw[@]}" --image photo.png --source "a cat" --prompt "a dog" --inner-steps 0 --resolution 64 --out a.png
grep -q '"inner-steps":0' stdout || fail "expected the settings"
run 0 inpaint "${draw[@]}" --image photo.png --mask photo.png --prompt "a dog" --resolution 64 --out a.png
grep -q '"mask":"photo.png"' stdout || fail "expected the mask"
run 0 train_small_editor evaluate --photographs photographs --model "$source/models/small-editor" --resolution 64 --steps 1 \
  --phrasings 1 --limit 1 --quiet
grep -q "| right edit nearest |" stdout || fail "expected the table with --quiet"
silent stderr
mkdir large && example="$source/docs/images/quickstart.jpg" && cp "$example" large/1.jpg && cp "$example" large/2.jpg
run 0 train_small_editor evaluate --photographs large --model "$source/models/small-editor" --resolution 64 --steps 1 \
  --phrasings 1 --variations 0 --families sepia --full-size 1 --quiet
grep -q "| all | .* | 0 of 1 |" stdout || fail "expected the measurements at full size"
run 1 train_small_editor evaluate --photographs large --model "$source/models/small-editor" --resolution 64 --steps 1 \
  --phrasings 1 --variations 0 --families sepia --full-size 100
says "--full-size: expected a held-out photograph of at least 100 megapixels, found none"

echo "== Ctrl-C outside of training"
stopped() {
  interrupted 'grep -q "photograph 1 of" stderr' "$programs/train_small_editor" "$@"
  says "nothing was written"
}
for n in $(seq 7 400); do cp photo.png "photographs/$n.png"; done
stopped pairs --photographs photographs --out interrupted --resolution 512
[ ! -e interrupted ] || fail "expected no folder after SIGINT"
stopped edits --photographs photographs --out interrupted.png --resolution 1024
[ ! -e interrupted.png ] || fail "expected no picture after SIGINT"
stopped autoencoder --photographs photographs --out interrupted --resolution 768
[ ! -e interrupted ] || fail "expected no folder after SIGINT"
stopped evaluate --photographs photographs --model "$source/models/small-editor" \
  --out interrupted --resolution 64
[ ! -e interrupted ] || fail "expected no folder after SIGINT"

echo "== installation"
if [ -e "$programs/../cmake_install.cmake" ]; then
  cmake --install "$programs/.." --prefix "$scratch/prefix" --component programs > stdout 2> stderr ||
    fail "expected the programs to be installed"
  run_installed() { ends 0 "$scratch/prefix/bin/$1" "${@:2}"; }
  run_installed edit_image --version
  [ -e prefix/share/man/man1/edit_image.1 ] || fail "expected a man page"
  grep -qF -- '.B \-\-image \fIPATH' prefix/share/man/man1/edit_image.1 || fail "expected the options on the man page"
  # What each shell offers for the last of the words.
  completed_by_bash() {
    bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_$1"; printf "%s\n" "${COMPREPLY[@]}"' \
      bash "prefix/share/bash-completion/completions/$1" "$@"
  }
  completed_by_zsh() {
    zsh -f "$source/tests/examples/complete.zsh" "$scratch/prefix/share/zsh/site-functions" "$@"
  }
  completed_by_fish() {
    fish --no-config -c 'source $argv[1]; complete -C "$argv[2..]"' "prefix/share/fish/vendor_completions.d/$1.fish" "$@" |
      cut -f 1
  }
  # offers WORDS EXPECTED...: completion of the last of WORDS is EXPECTED, in any order.
  offers() {
    local words=$1
    shift
    # shellcheck disable=SC2086
    "completed_by_$shell" $words > stdout 2> stderr
    [ ! -s stderr ] || fail "expected completion by $shell without errors: $words"
    [ "$(sed '/^$/d' stdout | sort)" = "$(printf '%s\n' "$@" | sed '/^$/d' | sort)" ] ||
      fail "expected $shell to complete '$words' as: $*"
  }
  for shell in bash zsh fish; do
    command -v $shell > /dev/null || { echo "skipped: completion by $shell, which is not here"; continue; }
    offers "edit_image --model editor --neg" --negative-prompt
    offers "edit_image --noise c" counter cuda
    offers "train_small_editor auto" autoencoder
    offers "train_small_editor editor --coarse-st" --coarse-steps
    offers "train_small_editor evaluate --coa" ""
  done
else
  echo "skipped: installation: $programs is not in a build folder"
fi

report
