#!/usr/bin/env bash
# A SLURM of two nodes on this machine, for tests: `cluster.sh start DIRECTORY`, `cluster.sh stop DIRECTORY`.
#
# Everything of it is in DIRECTORY, and listens on the loopback interface alone. Jobs of the partition `urgent` preempt
# those of `train`, which get GraceTime to save. `cluster.sh install` gets SLURM from Debian or Ubuntu; needs root.
set -euo pipefail

install() {
  command -v slurmctld munged >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends -qq slurm-wlm munge >/dev/null
}

alive() { [[ -s $1 ]] && kill -0 "$(<"$1")" 2>/dev/null; }

start() {
  local at=$1 port
  mkdir -p "$at"/{state,spool.n1,spool.n2,log,run,dev}
  # Devices that nobody computes on, so that jobs are given some.
  for number in 0 1; do mknod "$at/dev/nvidia$number" c 1 3; done
  port=$((20000 + RANDOM % 10000))
  cat >"$at/slurm.conf" <<CONF
ClusterName=tunesmith
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that is queued again waits for so long.
AuthInfo=socket=$at/run/munge.sock,cred_expire=5
StateSaveLocation=$at/state
SlurmdSpoolDir=$at/spool.%n
SlurmctldPidFile=$at/run/slurmctld.pid
SlurmdPidFile=$at/run/slurmd.%n.pid
SlurmctldLogFile=$at/log/slurmctld.log
SlurmdLogFile=$at/log/slurmd.%n.log
SlurmctldPort=$port
SlurmdTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=20
MinJobAge=3600
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
PlugStackConfig=$at/plugstack.conf
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$(nproc) RealMemory=6000 Gres=gpu:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$(nproc) RealMemory=6000 Gres=gpu:2
PartitionName=train Nodes=n1,n2 Default=YES MaxTime=01:00:00 PriorityTier=1 GraceTime=180
PartitionName=urgent Nodes=n1,n2 MaxTime=01:00:00 PriorityTier=2 PreemptMode=OFF
CONF
  for node in n1 n2; do printf 'NodeName=%s Name=gpu File=%s\n' "$node" "$at/dev/nvidia[0-1]"; done >"$at/gres.conf"
  printf 'Constrain%s=no\n' Cores Devices RAMSpace >"$at/cgroup.conf"
  : >"$at/plugstack.conf"
  (umask 077; head -c 128 /dev/urandom >"$at/munge.key")
  munged --force --key-file="$at/munge.key" --socket="$at/run/munge.sock" --pid-file="$at/run/munged.pid" \
    --log-file="$at/log/munged.log" --seed-file="$at/run/munge.seed"
  export SLURM_CONF=$at/slurm.conf
  slurmctld -f "$SLURM_CONF" -c
  for node in n1 n2; do slurmd -f "$SLURM_CONF" -N "$node"; done
  for _ in {1..120}; do
    [[ $(sinfo --noheader --partition train --states idle --format %D 2>/dev/null) != 2 ]] || return 0
    sleep 0.5
  done
  tail "$at"/log/* >&2
  return 1
}

stop() {
  for name in slurmd.n1 slurmd.n2 slurmctld munged; do
    ! alive "$1/run/$name.pid" || kill "$(<"$1/run/$name.pid")"
  done
}

"$@"
