#!/usr/bin/env bash
# Makes a Debian base for an image that needs no GPU, without a registry: debootstrap's smallest Debian, imported.
# Root only. In: the name of the base; ENGINE; MIRROR. The certificates that this machine trusts go into it, since the
# build may reach its package index through them alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=engine.sh
source image/engine.sh
name=${1:?the name of the base}
certificates=/etc/ssl/certs/ca-certificates.crt

[[ $(id -u) == 0 ]] || { echo 'error: debootstrap makes a root file system, which takes root' >&2; exit 1; }
command -v debootstrap >/dev/null || {
  echo 'error: debootstrap is not installed' >&2
  echo 'hint: `apt-get install debootstrap`, or name another base in `BASE_IMAGE`' >&2
  exit 1
}
[[ $ENGINE != buildah ]] || { echo 'error: buildah imports no archive; set `ENGINE` to docker or podman' >&2; exit 1; }
root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT
# Python 3.11 is Debian 12's: torch without CUDA is locked for it.
debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}" >&2
changes=()
if [[ -s $certificates ]]; then
  cp "$certificates" "$root$certificates"
  for variable in PIP_CERT SSL_CERT_FILE; do changes+=(--change "ENV $variable=$certificates"); done
fi
tar --directory "$root" --create . | "$ENGINE" import "${changes[@]}" - "$name"
