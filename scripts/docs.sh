#!/usr/bin/env bash
# Builds the documentation site, guides and API reference together, into build/site (or the folder given); the last line is the
# path of its first page. Installs doxygen where it is missing. Log lines go to stderr.
#
#   IP2P_SKIP_APT=1   never call apt-get: ends with status 77 where doxygen is missing
set -euo pipefail
cd "$(dirname "$0")/.."
site=$(realpath -m "${1:-build/site}")

if ! command -v doxygen >/dev/null || ! command -v python3 >/dev/null; then
  if [ "${IP2P_SKIP_APT:-0}" = 1 ] || ! command -v apt-get >/dev/null; then
    echo "docs: doxygen is not installed" >&2
    exit 77
  fi
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends doxygen python3 >&2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && doxygen -l layout.xml)
python3 docs/site/pages.py . "$scratch/pages" "$scratch/layout.xml"

rm -rf "$site"
mkdir -p "$site"
{
  cat docs/site/Doxyfile
  cat <<SETTINGS
INPUT = include docs/site/namespaces.dox $scratch/pages
LAYOUT_FILE = $scratch/layout.xml
STRIP_FROM_PATH = include $scratch/pages
USE_MDFILE_AS_MAINPAGE = $scratch/pages/readme.md
IMAGE_PATH = docs/images
OUTPUT_DIRECTORY = $scratch
HTML_OUTPUT = $site
PROJECT_NUMBER = $(sed -n 's/.*version = "\(.*\)";/\1/p' include/ip2p/version.hpp)
WARN_LOGFILE = $scratch/warnings
HTML_EXTRA_STYLESHEET = docs/site/site.css
SETTINGS
} | doxygen - >&2
if [ -s "$scratch/warnings" ]; then
  sed "s|$scratch/||" "$scratch/warnings" >&2
  echo "docs: expected no warnings, found $(wc -l <"$scratch/warnings")" >&2
  exit 1
fi
printf '%s\n' "$site/index.html"
