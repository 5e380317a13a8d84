#!/usr/bin/env bash
# Checks that every C++ file is formatted as .clang-format says, and that clang-tidy finds nothing in the library.
#
#   scripts/lint.sh            both; takes minutes, nearly all of them in clang-tidy
#   scripts/lint.sh format     clang-format alone, in seconds
#   scripts/lint.sh fix        formats the files
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-all}
case "$what" in
  all|format|fix) ;;
  *) echo "lint: expected \`format\`, \`fix\` or nothing, found \`$what\`" >&2; exit 2 ;;
esac
export IP2P_LINT_TOOLS=1
scripts/dependencies.sh >/dev/null

# Prints the name of tool $1. Other versions format differently and check different things.
tool() {
  local name
  for name in "$1-14" "$1"; do
    if command -v "$name" >/dev/null && "$name" --version | grep -q 'version 14\.'; then echo "$name"; return; fi
  done
  echo "lint: expected $1 of version 14 (Debian's package $1-14), found none" >&2
  return 1
}

format=$(tool clang-format)
mapfile -t files < <(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh')
if [ "$what" = fix ]; then exec "$format" -i "${files[@]}"; fi
if ! messages=$("$format" --dry-run --Werror "${files[@]}" 2>&1); then
  echo "lint: not formatted as .clang-format says (\`scripts/lint.sh fix\` formats them):" >&2
  sed -n 's/:[0-9]*:[0-9]*: error: code should be clang-formatted.*//p' <<<"$messages" | sort -u >&2
  exit 1
fi
[ "$what" = all ] || exit 0

# All headers and the library's own instantiations as one unit, because LibTorch's headers take most of the time.
tidy=$(tool clang-tidy)
[ -f build/release/user_flags.txt ] || scripts/build.sh --configure
unit=build/release/lint.cpp
{ git ls-files 'include/*.hpp' | sed 's|^include/|#include "|; s|$|"|'
  git ls-files 'src/*.cpp' | sed 's|^|#include "../../|; s|$|"|'; } >"$unit"
mapfile -t flags <build/release/user_flags.txt
"$tidy" --quiet --warnings-as-errors='*' "$unit" -- "${flags[@]}"
