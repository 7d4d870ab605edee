#!/usr/bin/env bash
# Checks a recipe where Tunesmith is installed, and shows each fault beside its line in a pull request.
# In: GITHUB_WORKSPACE, RECIPE (a path from its top), SET (`key=value` lines), DATA (directories of the machine that
# trains, one a line: a file that is missing below them is no fault here). Ends with 0, or with 2 for a wrong recipe.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=messages.sh
source "$(dirname "${BASH_SOURCE[0]}")/messages.sh"

recipe_given
lines "${SET:-}"
overrides=("${LINES_FOUND[@]/#/--set=}")
lines "${DATA:-}"
elsewhere=("${LINES_FOUND[@]}")

on_the_other_machine() { # whether a fault is of a file that this machine cannot see
  local message=${1#*::} directory
  message=${message#*::}
  for directory in "${elsewhere[@]}"; do
    directory=$(escaped "${directory%/}")
    case $message in
      "\`$directory/"*'` does not exist'* | "\`$directory\` does not exist"* | "no file matches \`$directory/"*) return 0 ;;
    esac
  done
  return 1
}

cd "$GITHUB_WORKSPACE"
code=0
found=$(tunesmith validate --format github "${overrides[@]}" -- "$RECIPE") || code=$?
if ((code != 0 && code != 2)); then
  printf '%s\n' "$found"
  exit "$code"
fi
faults=0 unseen=0
while IFS= read -r line; do
  [[ -n $line ]] || continue
  if on_the_other_machine "$line"; then
    unseen=$((unseen + 1))
  else
    faults=$((faults + 1))
    printf '%s\n' "$line"
  fi
done <<<"$found"
if ((unseen)); then
  annotate notice "$unseen paths of \`$RECIPE\` are looked for where it trains, since they are not on this machine"
fi
if ((faults)); then
  exit 2
fi
printf '`%s` is a good recipe\n' "$RECIPE"
