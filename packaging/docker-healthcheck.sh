#!/bin/bash
# Asks /healthz of the status endpoint that the program wrote down, or else of the default one; exits 0 when it answers
# 200, else prints why and exits 1.
set -euo pipefail

endpoint=${TANDEM_STATUS_ENDPOINT:-127.0.0.1:9100}
if [[ -s ${TANDEM_STATUS_FILE:-} ]]; then endpoint=$(<"$TANDEM_STATUS_FILE"); fi
exec 3<>"/dev/tcp/${endpoint%:*}/${endpoint##*:}"
printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
answer=$(timeout 4 cat <&3)
if [[ $answer == HTTP/1.?\ 200\ * ]]; then exit 0; fi
printf '%s\n' "${answer##*$'\n\r\n'}"
exit 1
