#!/usr/bin/env bash
# Calls the Open Inference routes with curl: examples/curl.sh http://127.0.0.1:3000
set -euo pipefail
url=${1:-http://127.0.0.1:3000}
photo=$(dirname "$0")/../tests/data/photos/plastic_bottle.jpg

curl -sf "$url/v2/health/ready" && echo
curl -sf "$url/v2/models/sentiment" && echo
curl -sf "$url/v2/models/sentiment/infer" -d '{
  "id": "42",
  "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["정말 재미있어요", "돈이 아깝다"]}]
}' && echo
printf '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}, "data": ["%s"]}]}' \
    "$(base64 -w0 "$photo")" | curl -sf "$url/v2/models/yolo/infer" -d @- && echo
