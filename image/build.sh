#!/usr/bin/env bash
# Builds the image. In, all of it optional: ENGINE; IMAGE, its name; BASE_IMAGE, DEVEL_IMAGE, ACCELERATOR,
# WITH_FLASH_ATTN, FLASH_ATTN_WHEEL, FLASH_ATTN_CUDA_ARCHS, MAX_JOBS, WITH_VLLM and PIP_INDEX_URL as the Dockerfile
# has them. Arguments go to the engine's `build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=engine.sh
source image/engine.sh
# shellcheck source-path=SCRIPTDIR source=labels.sh
source image/labels.sh

labels "${BASE_IMAGE:-$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)}"
arguments=("${LABELS[@]}")
for name in BASE_IMAGE DEVEL_IMAGE ACCELERATOR WITH_FLASH_ATTN FLASH_ATTN_WHEEL FLASH_ATTN_CUDA_ARCHS MAX_JOBS \
  WITH_VLLM PIP_INDEX_URL; do
  [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name=${!name}")
done
image=${IMAGE:-localhost/tunesmith:$VERSION}
build "${arguments[@]}" --tag "$image" "$@" .
echo "built \`$image\` with $ENGINE"
