# For the examples that start programs in the background, to be sourced: `children` holds their process ids, and they end
# with the script, however it ends.

children=()
stop_children() {
  for child in "${children[@]}"; do kill "$child" 2> /dev/null || true; done
  wait 2> /dev/null || true
}
trap stop_children EXIT
trap 'exit 130' INT TERM

# await_endpoint FILE PROCESS: waits until the aggregator has written its address; fails when it ends instead.
await_endpoint() {
  until [ -s "$1" ]; do
    kill -0 "$2" 2> /dev/null || return 1
    sleep 0.1
  done
}
