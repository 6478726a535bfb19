# shellcheck shell=bash
# Common to all lints: `NAME [ROOT]` looks at the tracked files of ROOT (default: this repository), prints
# `file:line: what is wrong` for each finding and fails if there was any.

root=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
cd "$root" || exit 1
n_findings=0

# tracked [PATTERN…]: the repository's files, less those deleted from the work tree. Outside git, all but build/.
tracked() {
    local file
    if git -c safe.directory='*' rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git -c safe.directory='*' ls-files -- "$@" | while read -r file; do
            if [[ -f $file && ! -L $file ]]; then
                echo "$file"
            fi
        done
    else
        echo "lint: $root is not a git work tree" >&2
        exit 77
    fi
}

# finding FILE:LINE SENTENCE
finding() {
    printf '%s: %s\n' "$1" "$2"
    n_findings=$((n_findings + 1))
}

# findings SENTENCE: one finding for each FILE:LINE:TEXT on stdin.
findings() {
    local file line text
    while IFS=: read -r file line text; do
        finding "$file:$line" "$1: ${text#"${text%%[![:space:]]*}"}"
    done
}

finish() {
    if ((n_findings > 0)); then
        printf '%d findings\n' "$n_findings"
        exit 1
    fi
    exit 0
}
