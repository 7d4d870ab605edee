#!/usr/bin/env bash
# Builds an image without CUDA and runs what is in tests/image against it. In: ENGINE; BASE_IMAGE, a Debian 12, made
# by image/debian.sh unless it is given; IMAGE, to test one that is built. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=engine.sh
source image/engine.sh
[[ $ENGINE != buildah ]] || { echo 'error: buildah runs no image; set `ENGINE` to docker or podman' >&2; exit 1; }

if [[ -z ${IMAGE:-} ]]; then
  if [[ -z ${BASE_IMAGE:-} ]]; then
    BASE_IMAGE=localhost/tunesmith-debian:12
    "$ENGINE" image inspect "$BASE_IMAGE" >/dev/null 2>&1 || image/debian.sh "$BASE_IMAGE"
  fi
  # pip may be set up to find the wheel where a build cannot look.
  compgen -G 'wheels/torch-*+cpu-*.whl' >/dev/null ||
    .venv/bin/python -m pip download --quiet --no-deps --require-hashes --requirement requirements-cpu.lock \
      --dest wheels || echo 'the build asks for the wheel of torch itself'
  IMAGE=localhost/tunesmith-test:latest
  export BASE_IMAGE IMAGE ACCELERATOR=cpu WITH_FLASH_ATTN=0
  image/build.sh
fi
image/report.sh "$IMAGE"
export ENGINE IMAGE
exec .venv/bin/pytest tests/image "$@"
