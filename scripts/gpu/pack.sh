#!/usr/bin/env bash
# Packs Node, the built package with its dependencies and, on Debian, the Vulkan loader into <folder> (default gpu-pack),
# compressed and in pieces of at most 60 MiB, for a machine that can reach nothing. There: bash scripts/gpu/unpack.sh <folder>.
# The CUDA provider: put libonnxruntime_providers_{shared,cuda}.so of the onnxruntime-gpu wheel of the same version into
# <folder>/cuda before packing, or beside libonnxruntime on the machine itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-gpu-pack}
mkdir -p "$out"
npm run build --silent
node=$(command -v node)
ort=node_modules/onnxruntime-node
platform=linux/x64
list=(bin dist schemas package.json scripts/gpu)
while IFS= read -r d; do list+=("$d"); done < <(npm ls --omit=dev --all --parseable 2>/dev/null | sed -n "s#^$PWD/##p" | grep '^node_modules/' | grep -v '/onnxruntime-node$')
tar -cf - "${list[@]}" "$ort/package.json" "$ort/dist" "$ort/lib" "$ort"/bin/napi-v*/"$platform" | xz -T0 -2 | split -b 60M - "$out/package.tar.xz."
xz -T0 -2 -c "$node" | split -b 60M - "$out/node.xz."
if command -v apt-get >/dev/null; then (cd "$out" && apt-get download libvulkan1 2>/dev/null || echo 'libvulkan1 could not be downloaded: the machine needs a Vulkan loader for webgpu'); fi
if [[ -d $out/cuda ]]; then tar -C "$out/cuda" -cf - . | xz -T0 -2 | split -b 60M - "$out/cuda.tar.xz."; fi
ls -l "$out"
