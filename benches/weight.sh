#!/usr/bin/env bash
# How heavy genmake is as a build dependency, beside what people use in build scripts: crates, and CPU seconds to build them.
#
# Each is the only dependency of an empty crate, built anew as cargo builds build scripts: without optimization, without debug
# information. Prints a Markdown table; the ratio is to tonic-prost-build. Fetches what is not in cargo's cache. With arguments only those:
#   benches/weight.sh genmake tonic-prost-build
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 CARGO_TERM_QUIET=true
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(genmake prost-build tonic-prost-build)

declare -A crates cpu
for name in "${names[@]}"; do
    crate=$work/$name
    mkdir -p "$crate/src"
    touch "$crate/src/lib.rs"
    case $name in
        genmake) dependency="genmake = { path = \"$root\", default-features = false }" ;;
        # The versions of genmake's own lock, where it has them.
        *) dependency="$name = \"*\"" ;;
    esac
    printf '[package]\nname = "weight"\nedition = "2024"\n[dependencies]\n%s\n[workspace]\n' "$dependency" >"$crate/Cargo.toml"
    cp "$root/Cargo.lock" "$crate/"
    cargo fetch --manifest-path "$crate/Cargo.toml"
    crates[$name]=$(cargo tree --manifest-path "$crate/Cargo.toml" --prefix none --edges normal,build --format '{p}' | sed 's/ (.*//' | sort -u | wc -l)
    crates[$name]=$((crates[$name] - 1)) # the empty one
    rm -rf "$CARGO_TARGET_DIR"
    # User and system time of cargo and of all that it runs.
    TIMEFORMAT='%U %S'
    spent=$({ time cargo build --offline --manifest-path "$crate/Cargo.toml" >&2; } 2>&1 | tail -n 1)
    cpu[$name]=$(awk '{ printf "%.1f", $1 + $2 }' <<<"$spent")
done

echo "| as a build dependency | crates | CPU seconds | ratio |"
echo "| --- | ---: | ---: | ---: |"
for name in "${names[@]}"; do
    ratio=$(awk -v a="${cpu[$name]}" -v b="${cpu[tonic-prost-build]:-${cpu[$name]}}" 'BEGIN { printf "%.2f", a / b }')
    echo "| $name | ${crates[$name]} | ${cpu[$name]} | $ratio |"
done
