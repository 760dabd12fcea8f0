#!/bin/bash
# docker-entrypoint.sh aggregator|edge FLAG ...   runs tandem-aggregator or tandem-edge with a JSON log and the status
#                                                 endpoint that the health check asks
# docker-entrypoint.sh COMMAND ...                runs tandem COMMAND: provision, simulate, report, ...
set -euo pipefail

case ${1:-help} in
  aggregator | edge)
    program=tandem-$1
    shift
    # A flag may be given once; who gives it decides.
    for flag in --log-format=json --status-endpoint="${TANDEM_STATUS_ENDPOINT:-127.0.0.1:9100}"; do
      if [[ " $* " != *" ${flag%%=*}"[\ =]* ]]; then set -- "$@" "$flag"; fi
    done
    exec "$program" "$@"
    ;;
  help) exec tandem --help ;;
  *) exec tandem "$@" ;;
esac
