#!/usr/bin/env bash
# The main job, from nothing: build, keys, one aggregator and four edges as separate processes over CURVE on
# loopback, split-federated training of a CNN on all of Fashion-MNIST, accuracy, report.
#
#   ./examples/quickstart.sh [--seed N] [--rounds N]
#
# Expected: at least 90 % on the 10,000 test images after 5 rounds, in under 3 minutes on 2 cores once built.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seed=1
rounds=5
while [ $# -gt 0 ]; do
  case "$1" in
    --seed) seed="${2:?--seed needs a number}"; shift 2 ;;
    --rounds) rounds="${2:?--rounds needs a number}"; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown argument \"$1\"; see --help" >&2; exit 2 ;;
  esac
done

./setup.sh
bin=build/release/bin
run=runs/quickstart
fleet=runs/quickstart-fleet
edges=4

data=idx:/usr/share/datasets/fashion-mnist
normalize=0.2860/0.3530
if [ ! -d /usr/share/datasets/fashion-mnist ]; then
  echo "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist): the same job on synthetic images instead."
  data="synthetic:images,examples=60000,test-examples=10000"
  normalize=0.5/0.25
fi

rm -rf "$run" "$fleet"
mkdir -p "$run/logs"
devices=()
for i in $(seq 1 "$edges"); do devices+=(--device "edge-$i"); done
"$bin/tandem" provision --out "$fleet" --endpoint tcp://127.0.0.1:5555 "${devices[@]}" > "$run/logs/provision.log"

source examples/processes.sh

# Port * lets the system choose a free one; the aggregator writes the address it got for the edges to use.
"$bin/tandem-aggregator" --config "$fleet/aggregator/aggregator.toml" \
  --endpoint 'tcp://127.0.0.1:*' --endpoint-file "$run/logs/endpoint" \
  --model cnn --cut 2 --clients "$edges" --rounds "$rounds" --seed "$seed" \
  --batch-size 64 --optimizer sgd:momentum=0.9,weight-decay=0.0001 --learning-rate 0.03 \
  --lr-schedule cosine --augment crop:1,flip --normalize "$normalize" \
  --eval-data "$data" --threads 1 --run-dir "$run" &
aggregator=$!
children+=("$aggregator")

await_endpoint "$run/logs/endpoint" "$aggregator" || { wait "$aggregator"; exit 1; }
endpoint=$(cat "$run/logs/endpoint")
for i in $(seq 1 "$edges"); do
  "$bin/tandem-edge" --config "$fleet/edge-$i/edge.toml" --endpoint "$endpoint" \
    --data "$data" --shard "$((i - 1))/$edges" --threads 1 > "$run/logs/edge-$i.log" 2>&1 &
  children+=("$!")
done

status=0
wait "$aggregator" || status=$?
if [ "$status" -ne 0 ]; then
  echo "quickstart.sh: the aggregator ended with status $status; the edges' logs are in $run/logs" >&2
  exit "$status"
fi
echo "summary: $run/summary.json"
