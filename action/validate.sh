#!/usr/bin/env bash
# What action.yml runs: inputs come as PDROP_* variables, reports go to PDROP_REPORT_DIR, their paths to GITHUB_OUTPUT.
# Ends with the exit code of `pdrop-compile validate`: 0 passed, 1 something fell short, 2 usage, 3 refused,
# 4 samples failed, 70 internal error. With PDROP_FAIL=false the verdict alone (1, 4) does not fail the step.
set -euo pipefail

pdrop() { node "$PDROP_BIN" "$@"; }

# Words of a multi-line input: options and their values, separated by blanks or on lines of their own.
words=()
split() {
  words=()
  local line word rest
  while IFS= read -r line; do
    while [[ $line =~ ^[[:space:]]*([^[:space:]]+)(.*)$ ]]; do
      word=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
      words+=("$word")
      line=$rest
    done
  done <<<"$1"
}

dir=${PDROP_REPORT_DIR:-pdrop-report}
if [[ $dir == *[[:cntrl:]]* ]]; then
  echo '::error title=pdrop-compile validate::report-dir has a line break or another control character in it'
  exit 2
fi
mkdir -p "$dir"
# Only what an earlier run wrote may go: the folder can be one with files of the repository in it.
for file in report.json report.html junit.xml summary.md; do
  if [[ -s $dir/$file ]] && ! grep -aq pdrop-compile "$dir/$file"; then
    echo "::error title=pdrop-compile validate::there is a $file in report-dir that no earlier run wrote; give another folder"
    exit 2
  fi
done
rm -f "$dir"/report.json "$dir"/report.html "$dir"/junit.xml "$dir"/summary.md

if [[ -n ${PDROP_COMPILE:-} ]]; then
  split "$PDROP_COMPILE"
  pdrop compile "$PDROP_ORIGINAL" --output "$PDROP_REWRITTEN" --force "${words[@]}"
fi

arguments=(validate "$PDROP_ORIGINAL" "$PDROP_REWRITTEN" --report "$dir/report.json" --html "$dir/report.html" --junit "$dir/junit.xml" --summary "$dir/summary.md")
for name in embed ep generate baselines shard max-kl max-kl-p99 min-top1 max-ppl-ratio max-divergent min-accuracy max-accuracy-drop min-flops-cut min-cache-cut min-speedup require-ep; do
  variable="PDROP_$(tr 'a-z-' 'A-Z_' <<<"$name")"
  if [[ -n ${!variable:-} ]]; then arguments+=("--$name" "${!variable}"); fi
done
# A path may have blanks in it: one a line.
while IFS= read -r path; do
  if [[ -n ${path//[[:space:]]/} ]]; then arguments+=(--data "$path"); fi
done <<<"${PDROP_DATA:-}"
if [[ ${PDROP_BEAT_BASELINES:-} == true ]]; then arguments+=(--beat-baselines); fi
if [[ ${PDROP_KEEP_GOING:-} == true ]]; then arguments+=(--keep-going); fi
split "${PDROP_ARGS:-}"
if [[ ${#words[@]} -gt 0 ]]; then arguments+=("${words[@]}"); fi

# An output of the step: one line, whatever the value holds (the working directory's path is not ours).
output() { printf '%s=%s\n' "$1" "${2//[$'\r\n']/ }"; }

code=0
pdrop "${arguments[@]}" || code=$?

verdict=
if [[ -s $dir/report.json ]]; then
  verdict=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1], "utf8")).verdict' "$dir/report.json")
fi
if [[ -n ${GITHUB_STEP_SUMMARY:-} && -s $dir/summary.md ]]; then cat "$dir/summary.md" >>"$GITHUB_STEP_SUMMARY"; fi
if [[ -n ${GITHUB_OUTPUT:-} ]]; then
  where=$(cd "$dir" && pwd)
  {
    output verdict "$verdict"
    output exit-code "$code"
    output report "$where/report.json"
    output html "$where/report.html"
    output junit "$where/junit.xml"
    output summary "$where/summary.md"
  } >>"$GITHUB_OUTPUT"
fi
if [[ -n $verdict && $verdict != passed ]]; then node "$(dirname "${BASH_SOURCE[0]}")/annotations.mjs" "$dir/report.json"; fi
if [[ $code -ne 0 ]]; then
  why='the summary says what fell short'
  if [[ -z $verdict ]]; then why='there is no report, see the log'; fi
  echo "::error title=pdrop-compile validate::${verdict:-error} (exit code $code); $why"
fi
if [[ ${PDROP_FAIL:-true} == false && ($code -eq 1 || $code -eq 4) ]]; then exit 0; fi
exit "$code"
