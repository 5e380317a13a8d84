# What the tests of the programs have in common; each sources this file with its own arguments: PROGRAMS_DIR SOURCE_DIR.
# The script then runs in a scratch folder, which is removed at its end.
# shellcheck shell=bash disable=SC2034
programs=$(realpath -- "$1")
source=$(realpath -- "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
mkdir .loaded  # where programs wait for runs
failures=0

fail() {
  echo "FAILED: $*"
  echo "--- stdout"; cat stdout; echo "--- stderr"; cat stderr; echo "---"
  failures=$((failures + 1))
}

# the_program NAME: sets `program`, which `run STATUS ARGUMENTS...` then runs.
the_program() {
  program=$programs/$1
  [ -x "$program" ] || { echo "$1: expected the program $program, found none"; exit 1; }
  run() { ends "$1" "$program" "${@:2}"; }
}

# run STATUS PROGRAM ARGUMENTS...: the same for scripts about several programs.
run() { ends "$1" "$programs/$2" "${@:3}"; }

# The options, if any, whose last value counts where a script gives them twice. The programs refuse that, but it lets a
# script say in one array what every run needs, and replace some of it.
last_counts=()

# latest WORDS...: sets `words` to WORDS without the values of `last_counts` that are replaced.
latest() {
  words=("$@")
  local option at
  for option in "${last_counts[@]}"; do
    local seen=
    for ((at = ${#words[@]} - 2; at >= 0; --at)); do
      [ "${words[at]}" = "$option" ] || continue
      [ -z "$seen" ] || words=("${words[@]:0:at}" "${words[@]:at+2}")
      seen=1
    done
  done
}

# ends STATUS COMMAND...: runs the command and checks its exit status. With IP2P_RUN_LOADED, a folder that holds what
# support/run_loaded.cpp describes, our programs are loaded once.
ends() {
  local status=$1
  shift
  latest "$@"
  set -- "${words[@]}"
  local how=()
  if [ -n "${IP2P_RUN_LOADED:-}" ] && [ "${1%/*}" = "$programs" ]; then
    how=("$IP2P_RUN_LOADED/run_loaded" "$IP2P_RUN_LOADED/libloaded_program.so" "$scratch/.loaded")
  fi
  "${how[@]}" "$@" > stdout 2> stderr < /dev/null
  local found=$?
  [ $found -eq "$status" ] || fail "expected status $status, found $found: $(basename "$1") ${*:2}"
}

# interrupted CONDITION COMMAND...: SIGINT, once CONDITION holds, ends the command with status 130.
interrupted() {
  local condition=$1
  shift
  latest "$@"
  "${words[@]}" > stdout 2> stderr < /dev/null &
  local child=$!
  for _ in $(seq 1200); do
    eval "$condition" && break
    sleep 0.05
  done
  kill -INT $child
  wait $child
  local found=$?
  [ $found -eq 130 ] || fail "expected status 130 after SIGINT, found $found: $(basename "$1") ${*:2}"
}

# says TEXT: the last run printed TEXT.
says() { grep -qF -- "$1" stdout stderr || fail "expected the words '$1'"; }

# same FILE FILE: the same bytes.
same() { cmp -s "$1" "$2" || fail "expected $1 and $2 to be equal"; }

# same_pixels PNG PNG: the same pixels, whatever else the files hold.
same_pixels() {
  local share
  share=$(python3 "$source/tests/examples/picture_difference.py" "$1" "$2" 1)
  [ "${share:-100}" = 0.0 ] || fail "expected the pixels of $1 and $2 to be equal, found ${share:-none} % to differ"
}

# differ PNG PNG: the pictures differ by more than rounding, which on another processor moves a value by a level here
# and there: by at least 2 levels in at least 1 % of the values.
differ() {
  local share
  share=$(python3 "$source/tests/examples/picture_difference.py" "$1" "$2" 2)
  awk -v share="${share:-0}" 'BEGIN { exit !(share >= 1) }' ||
    fail "expected $1 and $2 to differ by 2 levels in 1 % of the values, found ${share:-none} %"
}

# size_of PICTURE: width and height of a PNG.
size_of() { od -An -tu1 -j16 -N8 "$1" 2> /dev/null | awk '{print $3 * 256 + $4, $7 * 256 + $8}'; }

# refuses STATUS TEXT ARGUMENTS...: fails with TEXT on standard error, and writes nothing.
refuses() {
  local status=$1 text=$2
  shift 2
  rm -rf out
  mkdir out
  run "$status" "$@"
  grep -qF -- "$text" stderr || fail "expected the error '$text': $*"
  [ -z "$(ls out)" ] || fail "expected no output, found $(ls out): $*"
}

# red_disc FILE: a PNG of 72x48 pixels, a red disc on a gradient.
red_disc() {
  base64 -d > "$1" <<'PNG'
iVBORw0KGgoAAAANSUhEUgAAAEgAAAAwCAIAAAA9/qu8AAABbElEQVR42mNkqPjPzMAw/BALA9MfhuEIRj026rFRj416bNRjA+yxsC2eyNydPtuHtsfiN/
liFXeH+fOQ3+Yh5rHUDYHEKLPb5MvAwHAiYP3Q8FjGulCS1FtsCDwdtHqweyx7TSQZukzXhZ4LWT54PZa3KpZsvUZrIi+GLR6mxT1lDqOVxwqXpVJogv6K
xCtRs4dpBU2B20Y9RgooWVBIFXN0FuVeT+gfpm1Fcp036rFRjw0SjzExMP2hOurJqqaKp65kVZPthtHifqh5jCZJkYHpT39BPoWeuliQT4kDhm0jmFYxxs
D0Z1JJOtnOOleSTqHtNPQYA9OfqWXJZPjqdFky5VbT1mMMTH9mVMST5KsTFfFUsZceeWx2VTQzA0NS21L8yg5VRTMzMDAzUMc99Cs8FtaEQ2auIltWIovv
hIlTy0sDVo+tqgtGnaSjiQNGh7hHPTbqsVGPjXps1GOjHhv12KjHRj026rHhAgAd5XMLTqHVVQAAAABJRU5ErkJggg==
PNG
}

# A training set of COUNT prompts with a pair for each SEED: a red picture of 8x8 pixels that becomes blue. The pictures
# remain next to it as red.jpg and blue.jpg. Usage: red_to_blue COUNT SEED...
red_to_blue() {
  local count=$1 list='' prompt seed quoted head
  shift
  head=/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAA
  base64 -d > red.jpg <<< "${head}X/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAABAb/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCOACqH/9k="
  base64 -d > blue.jpg <<< "${head}b/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAAAwb/xAAUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCXAVAH/9k="
  quoted=$(printf ', "%s"' "$@")
  for prompt in $(seq -f %07g 0 $((count - 1))); do
    mkdir -p "set/$prompt"
    echo '{"edit": "make it blue", "input": "red", "output": "blue"}' > "set/$prompt/prompt.json"
    for seed in "$@"; do cp red.jpg "set/$prompt/${seed}_0.jpg"; cp blue.jpg "set/$prompt/${seed}_1.jpg"; done
    list="$list${list:+, }[\"$prompt\", [${quoted:2}]]"
  done
  echo "[$list]" > set/seeds.json
}

# stamps PATH...: names, times and sizes of all files there, as they are until one is written again.
stamps() { find "$@" -type f -printf '%p %T@ %s\n' | sort; }

# clean_text FILE: holds text in UTF-8 without control characters, as a message must.
clean_text() {
  iconv -f utf-8 -t utf-8 "$1" > /dev/null 2>&1 || fail "expected text in UTF-8 in $1"
  tr -d '\n\t' < "$1" | LC_ALL=C grep -q '[[:cntrl:]]' && fail "expected no control characters in $1"
}

# The last line of a script.
report() {
  [ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
  echo "all passed"
}
