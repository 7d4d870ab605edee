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
# The Dockerfile names its bases by digest. A tag that has moved since is mostly a base with mended packages.
for base in BASE_IMAGE DEVEL_IMAGE; do
  pinned=$(sed -n "s/^ARG $base=//p" Dockerfile)
  [[ $pinned =~ ^[^@]+:[^@]+@sha256:[0-9a-f]{64}$ ]] || refuse "\`$base\` of the Dockerfile is not pinned: \`$pinned\`"
  today=$(docker buildx imagetools inspect "${pinned%@*}" --format '{{.Manifest.Digest}}') || today=
  [[ $today == "${pinned#*@}" ]] ||
    annotate warning "\`${pinned%@*}\` is \`${today:-not there}\` today; the Dockerfile pins \`${pinned#*@}\`"
done
labels "$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)"
flash=(--build-arg WITH_FLASH_ATTN=1)
if [[ -n ${FLASH_ATTN_WHEEL:-} ]]; then
  flash=(--build-arg WITH_FLASH_ATTN=wheel --build-arg "FLASH_ATTN_WHEEL=$FLASH_ATTN_WHEEL")
fi

# The builder that comes with docker cannot attach an SBOM.
docker buildx create --use --driver docker-container
docker buildx build --push --platform linux/amd64 --sbom=true --provenance=mode=max \
  --label "org.opencontainers.image.source=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY" \
  "${LABELS[@]}" "${flash[@]}" \
  --tag "$name:$VERSION" --metadata-file "$RUNNER_TEMP/image.json" .

digest=$(sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$RUNNER_TEMP/image.json")
[[ $digest == sha256:* ]] || refuse 'the build told no digest of its image'
output name "$name"
output digest "$digest"
printf '## %s\n\n    docker pull %s@%s\n\nIts SBOM: `docker buildx imagetools inspect %s@%s --format "{{json .SBOM}}"`\n' \
  "$VERSION" "$name" "$digest" "$name" "$digest" >>"$GITHUB_STEP_SUMMARY"
