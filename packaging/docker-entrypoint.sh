#!/bin/bash
# docker-entrypoint.sh aggregator|edge FLAG ...   runs tandem-aggregator or tandem-edge with a JSON log and a status
#                                                 endpoint, whose address it leaves for the health check
# docker-entrypoint.sh COMMAND ...                runs tandem COMMAND: provision, simulate, report, ...
set -euo pipefail

# value_of FLAG ARGUMENT ...: prints the flag's value on the command line, or else in the configuration file that the
# command line names; fails where neither has it.
value_of() {
  local flag=$1 config='' value='' previous='' argument
  shift
  for argument in "$@"; do
    if [[ $argument == "--$flag="* ]]; then value=${argument#*=}; fi
    if [[ $previous == "--$flag" ]]; then value=$argument; fi
    if [[ $argument == --config=* ]]; then config=${argument#*=}; fi
    if [[ $previous == --config ]]; then config=$argument; fi
    previous=$argument
  done
  if [[ -z $value && -r $config ]]; then
    value=$(sed -nE "s/^[[:space:]]*$flag[[:space:]]*=[[:space:]]*\"([^\"]*)\".*/\1/p" "$config")
  fi
  [[ -n $value ]] && printf '%s' "$value"
}

# without FLAG ARGUMENT ...: leaves the other arguments in `arguments`.
without() {
  local flag=$1
  shift
  arguments=()
  while (($# > 0)); do
    case $1 in
      "--$flag="*) ;;
      "--$flag") if (($# > 1)); then shift; fi ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
}

case ${1:-help} in
  aggregator | edge)
    program=tandem-$1
    shift
    # Who gives a flag decides; a flag may be given once.
    if ! value_of log-format "$@" >/dev/null; then set -- "$@" --log-format=json; fi
    status=$(value_of status-endpoint "$@") || status=${TANDEM_STATUS_ENDPOINT:-127.0.0.1:9100}
    file=${TANDEM_STATUS_FILE:-}
    if [[ -n $file && ,$status != *,file=* ]]; then
      # That of an earlier start must not be asked. Where nothing can be written the check asks the default.
      rm -f "$file" 2>/dev/null || true
      if [[ -w ${file%/*} ]]; then status+=,file=$file; fi
    fi
    # A relative path in a configuration file is relative to it, so what has a file already stays where it is.
    if [[ ,$(value_of status-endpoint "$@") != *,file=* ]]; then
      without status-endpoint "$@"
      set -- "${arguments[@]}" --status-endpoint="$status"
    fi
    exec "$program" "$@"
    ;;
  help) exec tandem --help ;;
  *) exec tandem "$@" ;;
esac
