#!/usr/bin/env bash
# CompletionsClient with a service that others wrote: `transformers serve` with the tiny GPT-2 must give make_triplets the
# same answers, word for word, as the model in memory.
#
#   bash tests/parity/service_test.sh PROGRAMS_DIR [PYTHON]
# PYTHON needs transformers[serving], which tests/parity/venv.sh does not install (pip install fastapi openai uvicorn
# does); without it, the exit status is 77.
set -uo pipefail
program=$(realpath -- "$1")/make_triplets
python=${2:-${IP2P_PARITY_PYTHON:-$(realpath -- "$(dirname "$0")/../..")/build/venv/bin/python}}
tiny=$(realpath -- "$(dirname "$0")/../language/fixtures/tiny-gpt2")
"$python" -c 'import fastapi, openai, transformers, uvicorn' 2>/dev/null || { echo "skipped: no transformers[serving]"; exit 77; }
scratch=$(mktemp -d)
server=
cleanup() { [ -n "$server" ] && kill "$server" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"; }
trap cleanup EXIT
cd "$scratch" || exit 1

for number in $(seq 20); do
  echo "{\"input\": \"picture $number of a cat\", \"edit\": \"make it a dog\", \"output\": \"picture $number of a dog\"}"
done > human.jsonl
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
HF_HUB_OFFLINE=1 "$python" -c 'from transformers.cli.transformers import main; main()' serve \
  --host 127.0.0.1 --port "$port" --device cpu "$tiny" > server.log 2>&1 &
server=$!
for _ in $(seq 600); do
  (exec 9<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { echo "the server ended:"; cat server.log; exit 1; }
  sleep 0.2
done
greedy="--data human.jsonl --temperature 0 --frequency-penalty 0 --max-tokens 24"
"$program" measure $greedy --model "$tiny" > memory.txt 2> memory.err || { cat memory.err; exit 1; }
"$program" measure $greedy --url "http://127.0.0.1:$port/v1" --service-model "$tiny" > service.txt 2> service.err ||
  { cat service.err server.log; exit 1; }
grep -q '^2 requests, 0 of them second or later tries$' service.txt || { cat service.txt; exit 1; }
diff <(grep -v '^2 requests' service.txt) memory.txt || { echo "FAILED: expected the same words"; exit 1; }
"$program" measure $greedy --url "http://127.0.0.1:$port/v1" --service-model another > refused.txt 2>&1
[ $? -eq 1 ] && grep -q 'HTTP 400: .*Server is pinned to' refused.txt || { cat refused.txt; exit 1; }
echo "all passed"
