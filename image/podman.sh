#!/usr/bin/env bash
# Installs podman and debootstrap on Debian or Ubuntu, as root. Where podman has no settings yet, it gets some that
# do for machines whose control groups are of both versions and whose limits root itself may not raise.
set -euo pipefail

apt-get update
apt-get install --yes --no-install-recommends podman buildah runc debootstrap uidmap
settings=/etc/containers/containers.conf
if [[ -e $settings ]]; then
  echo "\`$settings\` is left as it is"
  exit 0
fi
mkdir -p "$(dirname "$settings")"
files=$(ulimit -Hn) processes=$(ulimit -Hu)
[[ $processes != unlimited && $processes -le 32768 ]] || processes=32768
[[ $files != unlimited ]] || files=1048576
cat >"$settings" <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
runtime = "runc"
END
echo "wrote \`$settings\`"
