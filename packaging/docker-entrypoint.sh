#!/bin/bash
# docker-entrypoint.sh aggregator|edge FLAG ...   runs tandem-aggregator or tandem-edge with a JSON log and a status
#                                                 endpoint, whose address it leaves for the health check
# docker-entrypoint.sh COMMAND ...                runs tandem COMMAND: provision, simulate, report, ...
set -euo pipefail

# given FLAG ARGUMENT ...: whether the command line or the configuration file that it names has the flag.
given() {
  local flag=$1 config='' previous='' argument
  shift
  for argument in "$@"; do
    if [[ $argument == "--$flag" || $argument == "--$flag="* ]]; then return 0; fi
    if [[ $argument == --config=* ]]; then config=${argument#--config=}; fi
    if [[ $previous == --config ]]; then config=$argument; fi
    previous=$argument
  done
  [[ -r $config ]] && grep -Eq "^[[:space:]]*$flag[[:space:]]*=" "$config"
}

case ${1:-help} in
  aggregator | edge)
    program=tandem-$1
    shift
    # Who gives a flag decides; a flag may be given once.
    if ! given log-format "$@"; then set -- "$@" --log-format=json; fi
    if ! given status-endpoint "$@"; then
      set -- "$@" --status-endpoint="${TANDEM_STATUS_ENDPOINT:-127.0.0.1:9100}"
    fi
    file=${TANDEM_STATUS_FILE:-}
    if [[ -n $file ]] && ! given status-endpoint-file "$@"; then
      # That of an earlier start must not be asked. Where nothing can be written the check asks the default.
      rm -f "$file" 2>/dev/null || true
      if [[ -w ${file%/*} ]]; then set -- "$@" --status-endpoint-file="$file"; fi
    fi
    exec "$program" "$@"
    ;;
  help) exec tandem --help ;;
  *) exec tandem "$@" ;;
esac
