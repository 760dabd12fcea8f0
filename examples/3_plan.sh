#!/usr/bin/env bash
# Which blocks belong on which device: three unequal devices and an aggregator are profiled, the plan is printed beside
# those of simpler rules, and the same model is trained by the plan and with the model cut in the middle everywhere.
#
#   ./examples/3_plan.sh
#
# The devices are this machine, made 1, 8 and 24 times slower by waiting (--slowdown). Expected: the planned run's step
# is shorter than that of the even split. The picture of the plan is runs/plan/plan.svg, both reports are in
# runs/plan/planned and runs/plan/even. Under two minutes on 2 cores once built.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
./setup.sh
bin=build/release/bin
out=runs/plan
data=idx:/usr/share/datasets/fashion-mnist
if [ ! -d /usr/share/datasets/fashion-mnist ]; then
  echo "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)" >&2
  exit 1
fi
rm -rf "$out"
mkdir -p "$out/logs" "$out/profiles"

devices=(quick slow slowest)
slowdowns=(1 8 24)
work=(--model lenet5 --threads 1)
steps=20

echo "Profiles of three devices and the aggregator"
profile() {
  local program=$1 name=$2
  shift 2
  # Each device has 16 of the 48 examples of a joined batch.
  "$bin/$program" profile "${work[@]}" --data "$data" --batch-size 16 --budget 3 --largest-drift 0.5 --name "$name" \
    --out "$out/profiles/$name.json" "$@" > "$out/logs/profile-$name.log" 2>&1 ||
    { cat "$out/logs/profile-$name.log" >&2; exit 1; }
}
for i in 0 1 2; do
  # The loopback interface of this machine.
  profile tandem-edge "${devices[i]}" --slowdown "${slowdowns[i]}" --link up=4000,down=4000,latency=0ms
done
profile tandem-aggregator server

"$bin/tandem" plan --profiles "$out/profiles" --plot "$out/plan.svg" --explain
echo
echo "The same problem by other rules, time of a step:"
predicted() {
  "$bin/tandem" plan --profiles "$out/profiles" --planner "$1" --json | sed -n 's/^  "objective": \([0-9.]*\).*/\1/p'
}
for planner in exact common neurosurgeon; do printf '  %-14s %8.1f ms\n' "$planner" "$(predicted $planner)"; done

source examples/processes.sh
arguments=()
for device in "${devices[@]}"; do arguments+=(--device "$device"); done
"$bin/tandem" provision --out "$out/fleet" --endpoint tcp://127.0.0.1:5555 "${arguments[@]}" > "$out/logs/provision.log"

train() {
  local name=$1 cut=$2
  "$bin/tandem-aggregator" --config "$out/fleet/aggregator/aggregator.toml" --endpoint 'tcp://127.0.0.1:*' \
    --endpoint-file "$out/logs/$name.endpoint" "${work[@]}" --clients 3 --rounds 3 --local-steps "$steps" \
    --batch-size 48 --cut "$cut" --run-dir "$out/$name" --quiet > "$out/logs/$name.log" 2>&1 &
  local aggregator=$!
  children+=("$aggregator")
  await_endpoint "$out/logs/$name.endpoint" "$aggregator" || { cat "$out/logs/$name.log" >&2; exit 1; }
  for i in 0 1 2; do
    "$bin/tandem-edge" --config "$out/fleet/${devices[i]}/edge.toml" --endpoint "$(cat "$out/logs/$name.endpoint")" \
      --data "$data" --shard "$i/3" --threads 1 --slowdown "${slowdowns[i]}" --quiet > "$out/logs/$name-${devices[i]}.log" 2>&1 &
    children+=("$!")
  done
  wait "$aggregator" || { cat "$out/logs/$name.log" >&2; exit 1; }
}
# Of the rounds but the first, whose batches are read for the first time.
measured() {
  sed -n 's/.*"event":"round".*"seconds":\([0-9.e-]*\).*/\1/p' "$out/$1/metrics.jsonl" | tail -n 2 |
    awk -v steps="$steps" '{ sum += $1 } END { printf "%.1f", 1000 * sum / NR / steps }'
}

echo
echo "Three rounds of $steps steps by the plan, and with two of the five blocks on each device"
train planned "per-client:$out/profiles"
train even 2
planned=$(measured planned)
even=$(measured even)
printf '  by the plan    %8.1f ms a step, predicted %.1f ms\n' "$planned" "$(predicted exact)"
printf '  even split     %8.1f ms a step\n' "$even"
echo "picture: $out/plan.svg, reports: $out/planned/report.html, $out/even/report.html"
if ! awk -v a="$planned" -v b="$even" 'BEGIN { exit !(a > 0 && a < b) }'; then
  echo "the planned run is not faster than the even split" >&2
  exit 1
fi
