/** Facts about a fixture's decoder, for tests that edit it at a given layer. */
import { analyseDecoder } from '../../src/analyse/decoder.js';
import type { DecoderFacts } from '../../src/analyse/facts.js';
import { FileSource } from '../../src/disk/files.js';
import { readModel } from '../../src/onnx/read.js';
import { fixturePath } from './proto.js';

export async function factsOf(path: string): Promise<DecoderFacts> {
  const source = new FileSource(path);
  try {
    return analyseDecoder(await readModel(source));
  } finally {
    source.close();
  }
}

/** Name of the hidden states that enter a layer. */
export async function layerEntry(fixture: string, layer: number): Promise<string> {
  const facts = await factsOf(fixturePath(fixture));
  return facts.layers[layer]?.cut.values[0]?.name as string;
}
