#!/usr/bin/env bash
# Makes sure that what must be there before a virtual environment exists is there: `bootstrap.sh demo` or `bootstrap.sh test`.
# As root on Debian and Ubuntu it installs what is missing, after saying so; elsewhere, or with REPLICANT_NO_INSTALL=1, it
# names it and fails. PYTHON is the interpreter the environment will be made with (python3).
set -euo pipefail

purpose=${1:-}
case $purpose in
demo | test) ;;
*)
    echo "usage: $0 demo|test" >&2
    exit 2
    ;;
esac
python=${PYTHON:-python3}
packages=()

has() { command -v "$1" >/dev/null 2>&1; }

if ! has cargo && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    echo "bootstrap: cargo is missing: install Rust with rustup" >&2
    exit 1
fi
has cc || packages+=(gcc libc6-dev)

if has "$python"; then
    # ensurepip is what Debian leaves out of its Python; the last word is whether the C headers are there.
    read -r version system pip headers < <("$python" -S -c '
import importlib.util, os, sys, sysconfig
print("%d.%d" % sys.version_info[:2], sys.base_prefix == "/usr",
      importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None,
      os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))')
    case $version in
    2.* | 3.[0-9])
        echo "bootstrap: $python is Python $version: choose one of 3.10 or later with PYTHON=" >&2
        exit 1
        ;;
    esac
    if [ "$pip" = False ]; then
        if [ "$system" = False ]; then
            echo "bootstrap: $python has no ensurepip: choose another interpreter with PYTHON=" >&2
            exit 1
        fi
        packages+=("python$version-venv")
    fi
else
    version='' system=True headers=False
    packages+=(python3 python3-venv)
fi

if [ "$purpose" = test ]; then # mysqlclient comes as source only
    if [ "$headers" = False ]; then
        if [ "$system" = False ]; then
            echo "bootstrap: $python has no C headers (Python.h): choose another interpreter with PYTHON=" >&2
            exit 1
        fi
        packages+=("python${version:-3}-dev")
    fi
    has pkg-config || packages+=(pkg-config)
    has valgrind || packages+=(valgrind) # counts a decision's instructions
    if ! has pkg-config || ! { pkg-config --exists mysqlclient || pkg-config --exists mariadb || pkg-config --exists libmariadb; }; then
        packages+=(default-libmysqlclient-dev)
    fi
fi

[ ${#packages[@]} -eq 0 ] && exit 0

if [ -n "${REPLICANT_NO_INSTALL:-}" ] || [ "$(id -u)" -ne 0 ] || ! has apt-get; then
    echo "bootstrap: missing; install these (or what they are called here): ${packages[*]}" >&2
    exit 1
fi
echo "bootstrap: installing ${packages[*]} with apt-get" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >/dev/null
apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
