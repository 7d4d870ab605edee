#!/usr/bin/env bash
# Lets a container that a cancelled step left behind save its checkpoint, and ends it. In: CONTAINER, its name.
# GitHub gives the steps after a cancellation five minutes altogether.
set -euo pipefail

[[ -n ${CONTAINER:-} ]] || exit 0
for left in $(docker ps --quiet --filter "name=^${CONTAINER}\$"); do
  echo "stopping ${CONTAINER}, which saves a checkpoint"
  docker stop -t 240 "$left"
done
