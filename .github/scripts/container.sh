#!/usr/bin/env bash
# Runs one verb of Tunesmith in its image, as the user of this runner, and says how it ended.
#
# In: GITHUB_WORKSPACE and the other variables of a step; RECIPE, IMAGE, VERB (train by default, validate or plan),
# SET (`key=value` lines), ARGS (further arguments, one a line), DATA (directories, one a line, mounted read-only),
# OUTPUTS (directory for runs and caches, ~/tunesmith by default), GPUS (all by default; none for no GPU), SHM_SIZE;
# HF_TOKEN and WANDB_API_KEY where there are any.
# Out, in GITHUB_OUTPUT: container, directory (the run is in a folder of it), key, exit-code. Ends with that code.
#
# Each directory has the same path inside as outside, so that every path in a message leads somewhere; but for caches,
# which the image has its place for.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

SECONDS_TO_SAVE=300 # that a run gets for its last checkpoint

mountable() { # what it is, its path: a directory whose name no option of docker can misread
  [[ $2 =~ ^/[A-Za-z0-9._/@+-]+$ ]] ||
    refuse "$1 \`$2\` is no absolute path of letters, digits and \`. _ - @ +\`"
  [[ -d $2 ]] || refuse "$1 \`$2\` is no directory of this runner"
}

verb=${VERB:-train}
[[ $verb == train || $verb == validate || $verb == plan ]] ||
  refuse "\`$verb\` is no verb for a workflow: write \`train\`, \`validate\` or \`plan\`"
[[ -n ${IMAGE:-} ]] || refuse 'no image is given: set `image`, such as `ghcr.io/owner/tunesmith:0.1.0`'
[[ $IMAGE =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || refuse "\`$IMAGE\` is no name of an image"
command -v docker >/dev/null || refuse 'this runner has no `docker`: install it, and put the user of the runner into its group'
recipe_given
mountable 'the workspace' "$GITHUB_WORKSPACE"

outputs=${OUTPUTS:-$HOME/tunesmith}
[[ $outputs == /* ]] || refuse "\`outputs\` is an absolute path of the runner, not \`$outputs\`"
case "$(realpath --canonicalize-missing -- "$outputs")/" in
  "$(realpath "$GITHUB_WORKSPACE")"/*)
    refuse "\`$outputs\` is inside of the workspace, which the next checkout empties: choose another \`outputs\`" ;;
esac

# The same recipe with the same overrides finds its folder again, whichever run of the workflow it is.
overrides=${SET:-}
stem=${RECIPE%.y*ml}
key="$(tr -c 'A-Za-z0-9\n' - <<<"$stem")-$( { cat -- "$GITHUB_WORKSPACE/$RECIPE"; printf '\0%s' "$overrides"; } |
  sha256sum | cut -c1-12)"
directory=$outputs/runs/${GITHUB_REPOSITORY:-local}/$key
name=tunesmith-${GITHUB_RUN_ID:-0}-${GITHUB_RUN_ATTEMPT:-1}-${key: -12}
mkdir -p "$directory" "$outputs/cache" 2>/dev/null ||
  refuse "the user \`$(id -un)\` of the runner cannot write to \`$outputs\`: choose another \`outputs\`, or give it to that user"
mountable '`outputs`' "$directory"

lines "$overrides"
arguments=("${LINES_FOUND[@]/#/--set=}")
lines "${ARGS:-}"
arguments+=("${LINES_FOUND[@]}")
lines "${DATA:-}"
data=("${LINES_FOUND[@]}")

same() { printf 'type=bind,source=%s,target=%s%s' "$1" "$1" "${2:-}"; }

options=(
  --rm --init --name "$name" --label "tunesmith.run=$directory" --stop-timeout "$SECONDS_TO_SAVE"
  --entrypoint tunesmith --user "$(id -u):$(id -g)"
  --read-only --tmpfs "/tmp:exec,mode=1777" --cap-drop ALL --security-opt no-new-privileges
  --workdir "$GITHUB_WORKSPACE" --mount "$(same "$GITHUB_WORKSPACE" ",readonly")"
  --env NO_COLOR=1 --mount "type=bind,source=$outputs/cache,target=/cache"
)
for each in "${data[@]}"; do
  mountable '`data`' "$each"
  options+=(--mount "$(same "$each" ",readonly")")
done
if [[ $verb == train ]]; then
  options+=(--mount "$(same "$directory")" --shm-size "${SHM_SIZE:-16g}")
  arguments+=("--set=output.directory=$directory")
  for variable in HF_TOKEN WANDB_API_KEY; do # by name: a value would stand in the list of processes
    [[ -z ${!variable:-} ]] || options+=(--env "$variable")
  done
  if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
    touch "$GITHUB_STEP_SUMMARY"
    options+=(--mount "$(same "$GITHUB_STEP_SUMMARY")" --env GITHUB_STEP_SUMMARY)
  fi
else
  options+=(--network none)
  arguments+=(--format github)
fi
if [[ $verb == train && ${GPUS:-all} != none ]]; then
  options+=(--gpus "${GPUS:-all}")
fi

output container "$name"
output directory "$directory"
output key "$key"

# A runner that was lost leaves its container behind: it is told to save a checkpoint, from which this one goes on.
if [[ $verb == train ]]; then
  for left in $(docker ps --quiet --filter "label=tunesmith.run=$directory"); do
    annotate notice "an earlier run of \`$RECIPE\` was still going on: it is stopped, and this one goes on from its checkpoint"
    docker stop -t "$SECONDS_TO_SAVE" "$left" >/dev/null
  done
fi

told=
# shellcheck disable=SC2329 # the trap calls it
stop() { # once: the runner sends a second signal after a few seconds
  [[ -z $told ]] || return 0
  told=yes
  docker kill --signal TERM "$name" >/dev/null 2>&1 || true
}
trap stop INT TERM

summary_bytes() { stat --format %s -- "${GITHUB_STEP_SUMMARY:-/dev/null}" 2>/dev/null || echo 0; }
before=$(summary_bytes)
# What a model writes is printed too, and must not be taken for a command of the workflow.
resume=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
[[ $verb != train ]] || printf '::stop-commands::%s\n' "$resume"
docker run "${options[@]}" "$IMAGE" "$verb" "${arguments[@]}" -- "$RECIPE" </dev/null &
client=$!
code=0
wait "$client" || code=$?
while kill -0 "$client" 2>/dev/null; do # a signal ended the waiting, and not the run
  code=0
  wait "$client" || code=$?
done
[[ $verb != train ]] || printf '\n::%s::\n' "$resume"
trap - INT TERM
output exit-code "$code"

again='*Re-run failed jobs*'
case $code in
  0) exit 0 ;;
  2) message="the recipe or the data is wrong: the lines above say where" ;;
  3) message="trained, and safe in \`$directory\`, but not pushed. Correct \`HF_TOKEN\` or the repository, then $again: it pushes and does not train. By hand on the runner: \`tunesmith push\` with the folder in there" ;;
  4) message="out of memory: \`tunesmith plan\` says what takes it" ;;
  75) message="interrupted with a checkpoint saved: $again goes on from there" ;;
  125 | 126 | 127) message="docker could not start \`$IMAGE\`: the lines above say why" ;;
  137) message="the container was killed, mostly for want of memory. $again goes on from the newest checkpoint" ;;
  *) message="failed with exit code $code: the lines above say why" ;;
esac
annotate error "$message"
# Who was killed or never started has written no summary.
if [[ -n ${GITHUB_STEP_SUMMARY:-} && $(summary_bytes) == "$before" ]]; then
  printf '## Tunesmith\n\n%s\n' "$message" >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"
