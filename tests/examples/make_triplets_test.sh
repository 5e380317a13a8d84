#!/usr/bin/env bash
# The program make_triplets from outside: usage, training that resumes, generation by a model and by a service.
#
#   bash tests/examples/make_triplets_test.sh PROGRAMS_DIR SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/support.sh"
the_program make_triplets
last_counts=(--rate)
tiny=$source/tests/language/fixtures/tiny-gpt2
server=
cleanup() { [ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$scratch"; }
trap cleanup EXIT

for colour in red blue green black white grey pink brown gold teal red2 blue2 green2 black2 white2 grey2 pink2 brown2 gold2 teal2; do
  echo "{\"input\": \"a $colour cat\", \"edit\": \"make it a dog\", \"output\": \"a $colour dog\"}"
done > human.jsonl
printf 'a silver cat\na bronze cat\na silver cat\n' > captions.txt

echo "== usage and errors"
run 0 --help
run 0 train --help
for option in --triplets --out --model --tokenizer --layers --lora --longest --epochs --batch --rate --rename --seed; do says "$option"; done
run 0 generate --help
for option in --captions --out --model --url --chat --key-variable --tries --batch --blocked-words --seed; do says "$option"; done
run 2
run 2 train --data human.jsonl --out model
run 2 train --data human.jsonl --out model --model "$tiny" --tokenizer "$tiny"
run 2 generate --captions captions.txt --out out.jsonl
run 2 generate --captions captions.txt --out out.jsonl --model "$tiny" --chat
run 1 train --data none.jsonl --out model --model "$tiny"
says "cannot open 'none.jsonl'"
run 1 generate --captions captions.txt --out nowhere/out.jsonl --model "$tiny"
says "nowhere: expected a folder to write into"
run 1 generate --captions captions.txt --out out.jsonl --model nowhere
says "cannot open the model 'nowhere': there is no such file or folder"

echo "== training from nothing, whole and as a LoRA"
new="--triplets human.jsonl --tokenizer $tiny --layers 2 --hidden-size 32 --heads 2 --context 64 --batch 6 --rate 5e-3"
run 0 train $new --out half --epochs 60
says "18 triplets, 2 held out, 0 longer than 64 tokens left out"
says "180 updates of 6"
run 0 measure --data human.jsonl --model half --temperature 0
says "2 samples of 2 held-out captions"
says "with exactly one delimiter:                               100.0 % (2)"
says "make it a dog"
run 0 train --data human.jsonl --model half --out lora --lora 2 --epochs 1
grep -q "resumed at" stdout && fail "expected a fresh run"
cmp -s half/model.safetensors lora/model.safetensors && fail "expected other weights after the LoRA"
for name in config.json vocab.json merges.txt; do [ -s "lora/$name" ] || fail "expected lora/$name"; done
stamps half > before
run 0 train $new --out half --epochs 60
says "complete already, after 180 updates: half"
run 1 train $new --out half --epochs 61 --rate 1e-3
says "half/training: belongs to a run with other settings: --epochs: had 60, given 61; --rate: had 5e-3, given 1e-3"
stamps half | cmp -s - before || fail "expected nothing to be written"
run 0 train $new --out half --epochs 61 --change
says "resumed at update 180"
head -n 9 human.jsonl > long.jsonl
echo "{\"input\": \"$(printf 'a cat and %.0s' $(seq 60))a dog\", \"edit\": \"b\", \"output\": \"c\"}" >> long.jsonl
cat human.jsonl >> long.jsonl
run 0 measure --data long.jsonl --model half --temperature 0
says "2 samples of 2 held-out captions; 1 too long for the model left out"
run 1 measure --data human.jsonl --model half --longest 1
says "expected held-out triplets that fit into the model, found none"
printf '\377\330\377\340\0\020JFIF\nrest' > photo.jpg
for options in "train --data photo.jpg --out never/model --model $tiny" "measure --data photo.jpg --model half" \
  "generate --captions photo.jpg --out never.jsonl --model half" \
  "generate --captions captions.txt --blocked-words photo.jpg --out never.jsonl --model half"; do
  # shellcheck disable=SC2086
  run 1 $options
  says "photo.jpg:1: expected text in UTF-8"
  clean_text stderr
done
run 1 train --data human.jsonl --out never/model --model "$tiny" --longest 1
says "human.jsonl: expected triplets of at most 1 tokens (--longest) to train on and to hold out, found none"
run 2 train $new --out never/model --layers 1001
says "--layers"
ls | grep never && fail "expected no files of runs that failed"

echo "== generation"
run 0 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 3
says "duplicate_captions   1"
cp out.jsonl first.jsonl
run 0 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 3
cmp -s out.jsonl first.jsonl || fail "expected the same file again"
head -n 2 out.jsonl.journal > cut; printf '{"unit":1,"by' >> cut; mv cut out.jsonl.journal
run 0 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 3
cmp -s out.jsonl first.jsonl || fail "expected the same file after an interruption"
stamps out.jsonl* > before
cp -r half elsewhere && cp captions.txt same.txt
run 0 generate --captions same.txt --out out.jsonl --model elsewhere --batch 1 --seed 3
run 1 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 4 --tries 2
says "belongs to a run with other settings: --seed: had 3, given 4; --tries: had 4, given 2"
stamps out.jsonl* | cmp -s - before || fail "expected nothing to be written"
head -n 2 out.jsonl.journal > cut; mv cut out.jsonl.journal
run 0 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 4 --change
grep -q '"step":3' out.jsonl.run.json || fail "expected where the new settings begin: $(cat out.jsonl.run.json)"
run 0 generate --captions captions.txt --out out.jsonl --model half --batch 1 --seed 4

echo "== a service"
mkfifo input
python3 "$source/tests/language/misbehaving_server.py" < input > port &
server=$!
exec 7> input
for _ in $(seq 100); do [ -s port ] && break; sleep 0.1; done
address=http://127.0.0.1:$(cat port)
run 0 generate --captions captions.txt --out service.jsonl --url "$address/stops/1/v1" --chat --service-model any
says "2 requests, 0 of them retries"
[ "$(head -n 1 service.jsonl)" = '{"caption":"a silver cat","edit":"one","output":"two"}' ] || fail "expected a triplet"
export IP2P_KEY=sk-secret
run 1 generate --captions captions.txt --out refused.jsonl --url "$address/refused/2/v1" --key-variable IP2P_KEY
says "HTTP 401: Incorrect API key provided: Bearer [key]"
grep -q sk-secret stdout stderr && fail "expected the key to stay secret"
run 1 generate --captions captions.txt --out service2.jsonl --url http://127.0.0.1:9/v1
says "gave up after"
ls | grep -E '^(refused|service2)' && fail "expected nothing of a service that did not answer"
run 0 generate --captions captions.txt --out service2.jsonl --url "$address/stops/4/v1"
echo two > blocked.txt
run 0 generate --captions captions.txt --out blocked.jsonl --url "$address/stops/3/v1" --blocked-words blocked.txt
says "moderated            8"
says "given_up             2"
exec 7>&-

report
