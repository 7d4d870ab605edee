# shellcheck shell=bash
# Sourced at the top of the tree: VERSION, and `labels`, which writes what an image says of itself into LABELS, as
# arguments of a build. They are no arguments of the Dockerfile: podman and buildah would take old ones from their cache.

VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

labels() { # the base image
  local revision=${GITHUB_SHA:-} lock name=org.opencontainers.image
  if [[ -z $revision ]]; then
    revision=$(git rev-parse HEAD 2>/dev/null || true)
    [[ -z $revision || -z $(git status --porcelain 2>/dev/null) ]] || revision+=-changed
  fi
  lock=$(cat requirements.lock "requirements-${ACCELERATOR:-cuda}.lock" | sha256sum | cut -d ' ' -f 1)
  # shellcheck disable=SC2034 # for whoever sources this
  LABELS=(
    --label "$name.version=$VERSION" --label "$name.revision=$revision" --label "$name.base.name=$1"
    --label "tunesmith.lock.sha256=$lock"
  )
}
