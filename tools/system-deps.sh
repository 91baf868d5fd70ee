#!/bin/sh
# Install the system programs that only some tests use. Tests that need one skip where it is missing, and say so.
set -eu

packages="chromium fonts-dejavu-core prometheus"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "system-deps: this is not a Debian system; install by hand what you want tested: $packages"
    exit 0
fi

missing=""
for package in $packages; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "system-deps: all present"
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "system-deps: needs root to install$missing; run: apt-get install$missing" >&2
    exit 1
fi

echo "system-deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # word splitting is meant: several packages, maybe no sudo
$as_root apt-get update -qq && $as_root apt-get install -qq --yes --no-install-recommends $missing >/dev/null
