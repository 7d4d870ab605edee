# shellcheck shell=bash
# Sourced: finds what builds and runs images here. In: ENGINE, one of docker, podman and buildah, where there are several.
# Out: ENGINE, and `build` with the arguments of `docker build`.

answers() { # an engine: docker is a client whose server may not be there
  command -v "$1" >/dev/null || return 1
  [[ $1 != docker ]] || docker info >/dev/null 2>&1
}

if [[ -z ${ENGINE:-} ]]; then
  for ENGINE in docker podman buildah ''; do
    [[ -z $ENGINE ]] || ! answers "$ENGINE" || break
  done
fi
if [[ -z $ENGINE ]] || ! command -v "$ENGINE" >/dev/null; then
  echo "error: ${ENGINE:-none of docker, podman and buildah} can be used here" >&2
  echo "hint: start docker, or install podman: on Debian and Ubuntu \`image/podman.sh\` does, as root" >&2
  exit 1
fi

build() {
  case $ENGINE in
    docker) DOCKER_BUILDKIT=1 docker build "$@" ;;
    podman) podman build --format docker "$@" ;; # what docker reads too
    buildah) buildah build --format docker --layers "$@" ;;
  esac
}
