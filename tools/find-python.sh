#!/bin/sh
# Print the newest Python that can create the virtual environment: 3.11 or later, with venv and pip.
# PYTHON=/path/to/python overrides the search.
set -eu

suits() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for python in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    if suits "$python"; then
        command -v "$python"
        exit 0
    fi
done

echo "planner needs Python 3.11 or later with the venv module; found none." >&2
echo "Install one (on Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3 ..." >&2
exit 1
