# shellcheck shell=bash
# Sourced by the other scripts: annotations of a workflow, and inputs that have one value a line.

escaped() { # a text as a workflow command takes it
  local text=${1//'%'/'%25'}
  text=${text//$'\r'/'%0D'}
  printf '%s' "${text//$'\n'/'%0A'}"
}

annotate() { # error|warning|notice, text
  printf '::%s title=Tunesmith::%s\n' "$1" "$(escaped "$2")"
}

refuse() { # what is wrong with the inputs; ends the step as a wrong recipe does
  annotate error "$1"
  exit 2
}

lines() { # text -> LINES_FOUND, one element a line that is not blank
  LINES_FOUND=()
  local line
  while IFS= read -r line; do
    line=${line%$'\r'}
    line="${line#"${line%%[![:space:]]*}"}"
    [[ -z $line ]] || LINES_FOUND+=("$line")
  done <<<"$1"
}

output() { # name, value: a result of this step
  [[ $2 != *$'\n'* ]] || refuse "the value of $1 has several lines"
  printf '%s=%s\n' "$1" "$2" >>"${GITHUB_OUTPUT:-/dev/null}"
}

recipe_given() { # RECIPE is a file of the workspace
  [[ -n ${RECIPE:-} ]] || refuse 'no recipe is given: set `recipe` to the path of a YAML file in the repository'
  local found root
  root=$(realpath "$GITHUB_WORKSPACE")
  found=$(realpath --quiet --canonicalize-existing -- "$root/$RECIPE") ||
    refuse "\`$RECIPE\` is not in the repository: set \`recipe\` to its path from the top, and check the repository out first"
  [[ $found == "$root"/* && -f $found ]] || refuse "\`$RECIPE\` is no file of the repository"
}
