#!/usr/bin/env bash
# Builds the image of a tagged release and pushes it with its SBOM and the record of its build.
# In: GITHUB_REPOSITORY, GITHUB_REF_NAME (`v` and the version), GITHUB_SHA, GITHUB_ACTOR, RUNNER_TEMP,
# REGISTRY_TOKEN; FLASH_ATTN_WHEEL, the address of a wheel, where flash attention is not to be built.
# Out, in GITHUB_OUTPUT: name and digest of the image.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

# shellcheck source-path=SCRIPTDIR/../.. source=image/labels.sh
source image/labels.sh
[[ $GITHUB_REF_NAME == "v$VERSION" ]] || refuse "the tag \`$GITHUB_REF_NAME\` is not that of version \`$VERSION\`"
name=ghcr.io/${GITHUB_REPOSITORY,,}

printf '%s' "$REGISTRY_TOKEN" | docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin
# A tag may be moved, and a digest not: what the tags of the Dockerfile stand for today is what is built on and noted.
bases=()
for base in BASE_IMAGE DEVEL_IMAGE; do
  tag=$(sed -n "s/^ARG $base=//p" Dockerfile)
  digest=$(docker buildx imagetools inspect "$tag" --format '{{.Manifest.Digest}}')
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || refuse "the registry tells no digest of \`$tag\`"
  bases+=("$base=$tag@$digest")
done
labels "${bases[0]#*=}"
flash=(--build-arg WITH_FLASH_ATTN=1)
if [[ -n ${FLASH_ATTN_WHEEL:-} ]]; then
  flash=(--build-arg WITH_FLASH_ATTN=wheel --build-arg "FLASH_ATTN_WHEEL=$FLASH_ATTN_WHEEL")
fi

# The builder that comes with docker cannot attach an SBOM.
docker buildx create --use --driver docker-container
docker buildx build --push --platform linux/amd64 --sbom=true --provenance=mode=max \
  --label "org.opencontainers.image.source=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY" \
  "${LABELS[@]}" "${bases[@]/#/--build-arg=}" "${flash[@]}" \
  --tag "$name:$VERSION" --metadata-file "$RUNNER_TEMP/image.json" .

digest=$(sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$RUNNER_TEMP/image.json")
[[ $digest == sha256:* ]] || refuse 'the build told no digest of its image'
output name "$name"
output digest "$digest"
printf '## %s\n\n    docker pull %s@%s\n\nIts SBOM: `docker buildx imagetools inspect %s@%s --format "{{json .SBOM}}"`\n' \
  "$VERSION" "$name" "$digest" "$name" "$digest" >>"$GITHUB_STEP_SUMMARY"
