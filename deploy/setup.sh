#!/usr/bin/env bash
# Set up this checkout: `run` (what the program needs), `dev` (plus linters), `test` (plus servers, browser, peers);
# `peers` makes a second environment beside it, for foreign DLMS stacks whose pins clash with ours.
# Each step is done once; a failed step says which command failed and what to do.
set -u
cd "$(dirname "$0")/.." || exit 1
want="${1:-run}"
stamps=.setup
mkdir -p "$stamps"

fail() {
  printf '\nset-up stopped: %s\n  failed command: %s\n  what to do: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    fail "Debian packages are missing and there is neither root nor sudo" "$*" "run it as root, then start again"
  fi
}

debian() { # install those of the named packages that are not there yet
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ "${#missing[@]}" -eq 0 ] && return 0
  echo "installing Debian packages: ${missing[*]}"
  as_root apt-get update -q >"$stamps/apt.log" 2>&1 ||
    fail "the package lists could not be read" "apt-get update" "look at $stamps/apt.log; is the network there?"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
    >>"$stamps/apt.log" 2>&1 ||
    fail "a Debian package could not be installed" "apt-get install ${missing[*]}" "look at $stamps/apt.log"
}

python=""
for candidate in python3.11 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python="$candidate"
    break
  fi
done
[ -n "$python" ] || fail "Python 3.11 or newer is not there" "python3.11 --version" "apt-get install python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv

if [ "$want" = peers ] || [ "$want" = test ]; then
  peer="dlms-cosem==25.1.0"
  [ -x .venv-peers/bin/python ] || "$python" -m venv .venv-peers ||
    fail "the peers' environment could not be made" "$python -m venv .venv-peers" "apt-get install python3-venv"
  if [ ! -e "$stamps/$peer" ] || ! .venv-peers/bin/python -c 'import dlms_cosem' 2>/dev/null; then
    echo "installing $peer into .venv-peers"
    .venv-peers/bin/python -m pip install --disable-pip-version-check -q "$peer" >"$stamps/peers.log" 2>&1 ||
      fail "a foreign stack could not be installed" "pip install $peer" "look at $stamps/peers.log"
    touch "$stamps/$peer"
  fi
  [ "$want" = test ] || exit 0
fi

if [ "$want" = test ]; then
  debian mosquitto influxdb victoria-metrics socat chromium fonts-noto-core systemd nginx-light caddy libfaketime postgresql-15 curl
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv ||
  fail "the virtual environment could not be made" "$python -m venv .venv" "apt-get install python3-venv"

extra="[captures]"
[ "$want" = run ] || extra="[dev]"
stamp="$stamps/pip$extra-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ] || ! .venv/bin/python -c 'import gateway' 2>/dev/null; then
  echo "installing Python packages into .venv (first time: about a minute)"
  .venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".$extra" \
    >"$stamps/pip.log" 2>&1 ||
    { tail -n 5 "$stamps/pip.log" >&2; fail "a Python package could not be installed" \
      "pip install -c constraints.txt -e .$extra" "look at $stamps/pip.log; is the network there?"; }
  touch "$stamp"
fi

# Bytecode of our own modules, which pip does not write for a checkout: `--help` compiles nothing, wherever it runs.
.venv/bin/python -m compileall -q gateway mapping protocols || true # what does not compile is said; lint fails on it
