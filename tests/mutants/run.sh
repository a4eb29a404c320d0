#!/bin/sh
# Tests of the tests: each patch in tests/mutants puts one bug into a scratch copy of the tree, and the command in its
# first line (`# test: <command>`) must then fail. A bug that does not apply, does not compile or is not noticed fails
# this run. Called by `make mutants`.
set -u
only=${1:-*}
root=$(pwd)
work=$root/target/mutants
tree=$work/tree
log=$work/log
mkdir -p "$work"
rm -rf "$tree"
mkdir "$tree"
# New times (-m): the target directory is kept, and may hold a mutant that is newer than the sources.
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T - 2>/dev/null |
    tar -C "$tree" -xmf -
cd "$tree" || exit 1
# The copy lies inside the repository: git must not look for one above it.
export GIT_CEILING_DIRECTORIES="$work"

# Every command with its own RUSTFLAGS has a target directory of its own, or each would throw away what the other built.
target_of() {
    case $1 in
        RUSTFLAGS=*) echo "$work/target-flags" ;;
        *) echo "$work/target" ;;
    esac
}

try() { # try COMMAND: runs it; a test that hangs has failed
    CARGO_TARGET_DIR=$(target_of "$1") timeout 900 sh -c "$1" >"$log" 2>&1 </dev/null
}

built() { # built COMMAND: compiles what the command would run
    case $1 in
        *" -- "*) try "${1%% -- *} --no-run" ;;
        *) try "$1 --no-run" ;;
    esac
}

total=0 bad=0 sound=""
say() {
    printf '%-44s %s\n' "$1" "$2"
    case $2 in caught*) ;; *) bad=$((bad + 1)) ;; esac
}

for patch in tests/mutants/$only.patch; do
    [ -e "$patch" ] || { echo "no patch fits tests/mutants/$only.patch" >&2; exit 1; }
    name=$(basename "$patch" .patch)
    total=$((total + 1))
    command=$(sed -n '1s/^# test: //p' "$patch")
    if [ -z "$command" ]; then
        say "$name" "BROKEN: its first line is not '# test: <command>'"
        continue
    fi
    # A command that fails without the bug, or runs nothing, proves nothing. Each one is tried once.
    case $sound in
        *"|$command|"*) ;;
        *)
            if ! try "$command"; then
                tail -n 30 "$log"
                say "$name" "BROKEN: '$command' fails without the bug"
                continue
            fi
            if ! grep -q '^test result: ok\. [1-9]' "$log"; then
                say "$name" "BROKEN: '$command' runs no test (for ignored ones: -- --include-ignored)"
                continue
            fi
            sound="$sound|$command|"
            ;;
    esac
    if ! git apply "$patch" 2>"$log"; then
        cat "$log"
        say "$name" "BROKEN: does not apply"
        continue
    fi
    begun=$(date +%s)
    if ! built "$command"; then
        grep -m 3 '^error' "$log"
        say "$name" "BROKEN: does not compile"
    elif try "$command"; then
        say "$name" "SURVIVED: $command"
    else
        say "$name" "caught in $(($(date +%s) - begun)) s"
    fi
    git apply -R "$patch" || exit 1
done
echo "$total seeded bugs, $bad not caught"
[ "$bad" -eq 0 ]
