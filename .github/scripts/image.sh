#!/usr/bin/env bash
# Builds the image of a tagged release and pushes it with its SBOM and the record of its build.
# In: GITHUB_REPOSITORY, GITHUB_REF_NAME (`v` and the version), GITHUB_SHA, GITHUB_ACTOR, RUNNER_TEMP,
# REGISTRY_TOKEN. Out, in GITHUB_OUTPUT: name and digest of the image.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
[[ $GITHUB_REF_NAME == "v$version" ]] || refuse "the tag \`$GITHUB_REF_NAME\` is not that of version \`$version\`"
name=ghcr.io/${GITHUB_REPOSITORY,,}

printf '%s' "$REGISTRY_TOKEN" | docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin
# The builder that comes with docker cannot attach an SBOM.
docker buildx create --use --driver docker-container
docker buildx build --push --platform linux/amd64 --sbom=true --provenance=mode=max \
  --label "org.opencontainers.image.source=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY" \
  --label "org.opencontainers.image.revision=$GITHUB_SHA" --label "org.opencontainers.image.version=$version" \
  --tag "$name:$version" --metadata-file "$RUNNER_TEMP/image.json" .

digest=$(sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' "$RUNNER_TEMP/image.json")
[[ $digest == sha256:* ]] || refuse 'the build told no digest of its image'
output name "$name"
output digest "$digest"
printf '## %s\n\n    docker pull %s@%s\n' "$version" "$name" "$digest" >>"$GITHUB_STEP_SUMMARY"
