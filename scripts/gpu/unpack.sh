#!/usr/bin/env bash
# On the GPU machine: sets up what pack.sh packed in <folder>, says what works (doctor), and measures.
#   bash scripts/gpu/unpack.sh gpu-pack [arguments of measure.mjs]
set -euo pipefail
pack=$(cd "${1:?folder made by pack.sh}" && pwd)
shift
home=${PDROP_GPU_HOME:-$PWD/gpu-run}
mkdir -p "$home/bin"
cat "$pack"/package.tar.xz.* | xz -dc | tar -C "$home" -xf -
cat "$pack"/node.xz.* | xz -dc >"$home/bin-node" && chmod +x "$home/bin-node"
ort=$(echo "$home"/node_modules/onnxruntime-node/bin/napi-v*/linux/x64)
for deb in "$pack"/*.deb; do [[ -e $deb ]] && dpkg-deb -x "$deb" "$home/debian"; done
if compgen -G "$pack/cuda.tar.xz.*" >/dev/null; then cat "$pack"/cuda.tar.xz.* | xz -dc | tar -C "$ort" -xf -; fi
export LD_LIBRARY_PATH="$home/debian/usr/lib/x86_64-linux-gnu:$ort:${LD_LIBRARY_PATH:-}"
# The driver's own description, where the vendor put it.
for icd in /usr/share/vulkan/icd.d/nvidia_icd.json /etc/vulkan/icd.d/nvidia_icd.json; do
  if [[ -z ${VK_DRIVER_FILES:-} && -e $icd ]]; then export VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd; fi
done
if [[ -z ${VK_DRIVER_FILES:-} ]] && library=$(ldconfig -p | sed -n 's/.*=> \(.*libGLX_nvidia\.so\.0\)$/\1/p' | head -1) && [[ -n $library ]]; then
  printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' "$library" >"$home/nvidia_icd.json"
  export VK_DRIVER_FILES=$home/nvidia_icd.json VK_ICD_FILENAMES=$home/nvidia_icd.json
fi
cd "$home"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
./bin-node bin/pdrop-compile.js doctor || true
exec ./bin-node scripts/gpu/measure.mjs "$@"
