#!/usr/bin/env bash
# Many devices with skewed data, a few of them in each round: 100 simulated ones, then 20 real edge processes over
# CURVE on this machine. Plain federated learning of LeNet on Fashion-MNIST, Dirichlet(0.5), seeded draws.
#
#   ./examples/2_many_clients.sh
#
# Expected: 100 clients, 10 a round, reach at least 60 % in 20 rounds; the run of 20 processes and its simulation
# end with the same weights to the bit. About 2 minutes on 2 cores once built; 20 edges take 4 GiB of memory.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
./setup.sh
bin=build/release/bin
out=runs/many-clients
data=idx:/usr/share/datasets/fashion-mnist
if [ ! -d /usr/share/datasets/fashion-mnist ]; then
  echo "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)" >&2
  exit 1
fi
rm -rf "$out"
mkdir -p "$out/logs"

setting=(--algorithm federated --model lenet5 --batch-size 32 --learning-rate 0.02 --optimizer sgd:momentum=0.9 --threads 1
  --eval-data "$data")
split=(--data "$data" --partition dirichlet:0.5)

echo "100 simulated clients, 10 a round"
"$bin/tandem" simulate "${setting[@]}" "${split[@]}" --clients 100 --clients-per-round 10 --rounds 20 \
  --run-dir "$out/hundred" --quiet

echo
echo "20 edge processes, 5 a round"
edges=20
few=(--clients "$edges" --clients-per-round 5 --rounds 4)
devices=()
for i in $(seq -w 1 "$edges"); do devices+=(--device "client-$i"); done
"$bin/tandem" provision --out "$out/fleet" --endpoint tcp://127.0.0.1:5555 "${devices[@]}" > "$out/logs/provision.log"
source examples/processes.sh
"$bin/tandem-aggregator" --config "$out/fleet/aggregator/aggregator.toml" --endpoint 'tcp://127.0.0.1:*' \
  --endpoint-file "$out/logs/endpoint" "${setting[@]}" "${few[@]}" --run-dir "$out/processes" --quiet &
aggregator=$!
children+=("$aggregator")
await_endpoint "$out/logs/endpoint" "$aggregator" || { wait "$aggregator"; exit 1; }
for i in $(seq -w 1 "$edges"); do
  "$bin/tandem-edge" --config "$out/fleet/client-$i/edge.toml" --endpoint "$(cat "$out/logs/endpoint")" \
    "${split[@]}" --shard "$((10#$i - 1))/$edges" --threads 1 --quiet > "$out/logs/client-$i.log" 2>&1 &
  children+=("$!")
done
wait "$aggregator"
"$bin/tandem" simulate "${setting[@]}" "${split[@]}" "${few[@]}" --run-dir "$out/simulated" --quiet > "$out/logs/simulated.log"

accuracy() { sed -n 's/.*"eval_accuracy": \([0-9.]*\),.*/\1/p' "$1/summary.json"; }
awk -v reached="$(accuracy "$out/hundred")" 'BEGIN { exit !(reached >= 0.6) }' ||
  { echo "100 clients reached only $(accuracy "$out/hundred"), expected 0.6" >&2; exit 1; }
cmp "$out/processes/model.safetensors" "$out/simulated/model.safetensors" ||
  { echo "20 processes and their simulation differ" >&2; exit 1; }
echo "100 clients reached $(accuracy "$out/hundred"); 20 processes and their simulation agree to the bit"
