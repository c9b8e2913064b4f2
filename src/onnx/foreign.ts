/** Files that are no ONNX, told by their first bytes: people give what lies beside the model. */

const ascii = (bytes: Uint8Array): string => String.fromCharCode(...bytes.subarray(0, 64));

const KINDS: readonly (readonly [RegExp | string, string, string])[] = [
  [/^version https:\/\/git-lfs/, 'a Git LFS pointer, not the file it stands for', 'run `git lfs pull`, or download the file itself'],
  [/^\s*<(!DOCTYPE|html|HTML)/i, 'an HTML page', 'the download got a page instead of the file: check the address and whether it needs a login'],
  [/^\s*<\?xml|^\s*<net /, 'XML, perhaps an OpenVINO model', 'give the ONNX export of the decoder'],
  [/^GGUF/, 'a GGUF file', 'export the decoder to ONNX from the original checkpoint'],
  [/^.{8}\{"/s, 'a safetensors file: weights without a graph', 'export the model to ONNX first'],
  [/^....ORTM/s, 'an ORT-format model', 'give the .onnx file it was converted from'],
  ['PK\u0003\u0004', 'a zip archive (perhaps a PyTorch checkpoint)', 'unpack it, or export the model to ONNX'],
  ['\u001f\u008b', 'a gzip archive', 'unpack it first'],
  ['\u0080\u0002', 'a Python pickle', 'export the model to ONNX first'],
  ['\u0080\u0003', 'a Python pickle', 'export the model to ONNX first'],
  ['\u0080\u0004', 'a Python pickle', 'export the model to ONNX first'],
  ['\u0080\u0005', 'a Python pickle', 'export the model to ONNX first'],
  ['\u0093NUMPY', 'a NumPy array', 'give the .onnx file of the decoder'],
  [/^\s*[{[]\s*["{[\]}]/, 'JSON', 'give the .onnx file of the decoder, not a configuration or a tokenizer'],
];

/** What the file is instead, and what to do about it; undefined where nothing is recognised. */
export function foreignFormat(head: Uint8Array): { readonly what: string; readonly hint: string } | undefined {
  const text = ascii(head);
  const kind = KINDS.find(([start]) => (typeof start === 'string' ? text.startsWith(start) : start.test(text)));
  return kind && { what: kind[1], hint: kind[2] };
}
