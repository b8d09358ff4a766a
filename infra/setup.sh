#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs: system libraries, .venv, pinned Python packages.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "rayloom needs Python 3.11 or newer, $PYTHON is $("$PYTHON" -V 2>&1); set PYTHON=/path/to/python3.11" >&2
  exit 2
}

# What libOpen3D.so asks the system for, and the Debian package that has it.
declare -A LIBRARIES=(
  [libusb-1.0.so.0]=libusb-1.0-0 [libGL.so.1]=libgl1 [libEGL.so.1]=libegl1 [libgomp.so.1]=libgomp1
  [libX11.so.6]=libx11-6
)
missing=()
known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
for library in "${!LIBRARIES[@]}"; do
  grep -q "$library" <<<"$known" || missing+=("${LIBRARIES[$library]}")
done
"$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  if ((EUID == 0)); then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive $install
  elif sudo -n true 2>/dev/null; then
    sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive $install
  else
    echo "open3d needs system libraries that are not here. Install them, then run make again:" >&2
    echo "  sudo $install" >&2
    exit 2
  fi
fi

[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
# torch comes through pip, which also finds a wheel lying on this machine; uv takes a tenth of the time for the rest.
.venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt uv torch
.venv/bin/uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --editable '.[demo,tracking,dev]'
# Peers that tests compare models with, without what they would draw in: timm needs of torchvision only names. A torch
# for GPUs brings its own triton; elsewhere this one runs kernels in its interpreter.
peers="timm agent-attention-pytorch vit-pytorch einops"
.venv/bin/python -c "import triton" 2>/dev/null || peers="$peers triton==3.6.0"
.venv/bin/uv pip install --quiet --python .venv/bin/python --constraint constraints.txt --no-deps $peers
# Once for all: where PYTHONDONTWRITEBYTECODE is set, as in many images, every start would compile torch again. Some
# packages bring files for other Pythons, which do not compile and are never imported.
.venv/bin/python -m compileall -qq -j 0 .venv/lib/python3.*/site-packages || true
