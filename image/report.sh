#!/usr/bin/env bash
# Shows the size of an image, of each of its layers, and its labels. In: the image's name; ENGINE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=engine.sh
source image/engine.sh
[[ $ENGINE != buildah ]] || { echo 'error: buildah tells no sizes of layers; set `ENGINE` to docker or podman' >&2; exit 1; }
image=${1:?the name of an image}

"$ENGINE" image inspect "$image" --format '{{.Size}}' |
  awk -v image="$image" '{ printf "%s: %.2f GB, without compression\n\nlayers, newest first\n", image, $1 / 1e9 }'
"$ENGINE" history --no-trunc --format '{{.Size}}|{{.CreatedBy}}' "$image" |
  sed -e 's/#(nop) //' -e 's,/bin/sh -c ,,' -e 's/[[:space:]]\{1,\}/ /g' | awk -F '|' '
    $1 !~ /^0 ?B$/ { step = substr($0, length($1) + 2); printf "  %9s  %s\n", $1, (length(step) > 96 ? substr(step, 1, 95) "…" : step) }'
echo
echo labels
"$ENGINE" image inspect "$image" --format '{{range $name, $value := .Config.Labels}}  {{$name}}={{$value}}{{"\n"}}{{end}}' |
  grep -v '^$'
