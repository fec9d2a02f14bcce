#!/bin/bash
# Installs what is missing of the system packages that qgjob's demo and tests use (Debian, Ubuntu).
#   install-system.sh demo   the Android tools, Java and a C compiler: enough for "make demo"
#   install-system.sh        also chromium, PostgreSQL, Redis and ShellCheck: what "make test" needs
# Asks nothing. When nothing is missing it does nothing and needs no rights.
set -euo pipefail

want=${1:-all}
case $want in
  all | demo) ;;
  *)
    echo "usage: install-system.sh [demo]" >&2
    exit 2
    ;;
esac

# Rust and Node are prerequisites: which version and by which tool is for the owner of the machine to say.
if ! command -v cargo > /dev/null; then
  echo "install-system.sh: cargo is missing; install Rust first (https://rustup.rs)" >&2
  exit 1
fi
node_major=$(node --version 2> /dev/null | sed 's/^v//; s/\..*//' || true)
if [ "${node_major:-0}" -lt 20 ] || ! command -v npm > /dev/null; then
  echo "install-system.sh: Node 20 or newer with npm is needed, found: $(node --version 2> /dev/null || echo none)" >&2
  exit 1
fi

missing=()
# needs PACKAGE COMMAND...: the package is missing when one of its commands is.
needs() {
  local package=$1 tool
  shift
  for tool in "$@"; do
    if ! command -v "$tool" > /dev/null; then
      missing+=("$package")
      return
    fi
  done
}

needs adb adb
needs aapt aapt
needs apksigner apksigner
needs zipalign zipalign
[ -f /usr/share/android-framework-res/framework-res.apk ] || missing+=(android-framework-res)
needs default-jdk-headless java keytool
needs build-essential cc c++ make
needs pkg-config pkg-config
needs git git
needs curl curl
needs python3 python3
[ -f /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ "$want" = all ]; then
  needs chromium chromium
  # Debian keeps the PostgreSQL server's programs off PATH.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || missing+=(postgresql)
  needs redis-server redis-server
  needs shellcheck shellcheck
  # Debian keeps what a virtual environment needs apart from Python.
  python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
fi

if [ ${#missing[@]} -eq 0 ]; then
  echo "system packages: all there"
  exit 0
fi
echo "system packages missing: ${missing[*]}"
if ! command -v apt-get > /dev/null; then
  echo "install-system.sh: there is no apt-get here; install these by your system's own means" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2> /dev/null; then
    echo "install-system.sh: needs root or sudo without a password. Run this and try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
# A machine that has just started often holds apt's lock for its own updates: wait for it.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" < /dev/null
