# shellcheck shell=bash
# Sourced: finds what builds and runs images here. In: ENGINE, one of docker, podman and buildah, where there are several.
# Out: ENGINE, and `build` with the arguments of `docker build`.

answers() { # an engine: docker is a client whose server may not be there
  command -v "$1" >/dev/null || return 1
  [[ $1 != docker ]] || docker info >/dev/null 2>&1
}

if [[ -n ${ENGINE:-} ]]; then
  answers "$ENGINE" || {
    echo "error: \`$ENGINE\` cannot be used here" >&2
    echo "hint: \`$ENGINE info\` says why; or leave \`ENGINE\` out, and what is there is taken" >&2
    exit 1
  }
else
  for ENGINE in docker podman buildah ''; do
    [[ -z $ENGINE ]] || ! answers "$ENGINE" || break
  done
  [[ -n $ENGINE ]] || {
    echo 'error: none of docker, podman and buildah can be used here' >&2
    echo 'hint: start docker, or install podman: on Debian and Ubuntu `image/podman.sh` does, as root' >&2
    exit 1
  }
fi

build() {
  case $ENGINE in
    docker) DOCKER_BUILDKIT=1 docker build "$@" ;;
    podman) podman build --format docker "$@" ;; # what docker reads too
    buildah) buildah build --format docker --layers "$@" ;;
  esac
}
