# shellcheck shell=bash
# Sourced at the top of the tree: what the labels of an image say. Out: VERSION, and LABELS, arguments of a build.

VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=${GITHUB_SHA:-$(git rev-parse HEAD 2>/dev/null || true)}
if [[ -z ${GITHUB_SHA:-} && -n $revision && -n $(git status --porcelain 2>/dev/null) ]]; then
  revision+=-changed
fi
# shellcheck disable=SC2034 # for whoever sources this
LABELS=(
  --build-arg "VERSION=$VERSION" --build-arg "REVISION=$revision"
  --build-arg "LOCK_SHA256=$(cat requirements.lock "requirements-${ACCELERATOR:-cuda}.lock" | sha256sum | cut -d ' ' -f 1)"
)
