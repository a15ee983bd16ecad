#!/bin/sh
# One text, asked of the base and of several adapters: sh examples/classify.sh ["a text" [adapter…]]
set -eu
url=${PAPILLON_URL:-http://localhost:8080}
text=${1:-Please cancel my subscription}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- demo-router globex-cloud meadow-pharmacy

quoted=$(printf '%s' "$text" | sed 's/\\/\\\\/g; s/"/\\"/g')
for model in "$@"; do
  answer=$(curl -sS "$url/v1/classify" -H 'Content-Type: application/json' \
    -d "{\"model\": \"$model\", \"input\": \"$quoted\", \"top_k\": 1}")
  label=$(printf '%s' "$answer" | sed -n 's/.*"index":0,"label":"\([^"]*\)".*/\1/p')
  printf '%-20s %s\n' "$model" "${label:-$answer}"
done
