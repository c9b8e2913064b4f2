/** processor_config.json of a folder of onnxruntime-genai: the operations that make of a picture what the vision encoder takes, one after another. */
import { UsageError } from '../../../../diagnostics.js';
import { objectOf } from '../../../../disk/model-config.js';
import { readRegularText } from '../../../../disk/small-files.js';
import { badSample } from '../../../running/faults.js';
import type { HostTensor } from '../../../running/tensor.js';
import type { Picture } from '../pictures.js';
import { Attributes, NotFollowed, UnfitPicture } from './attributes.js';
import { OPERATIONS, type Run } from './operations.js';

interface Step {
  readonly name: string;
  readonly type: string;
  /** Whose results it takes: ":*" all of the step before, ":1" one of them, "name:1" one of an earlier step. */
  readonly inputs: readonly string[];
  readonly run: Run;
}

type Json = Readonly<Record<string, unknown>>;

const MOST_STEPS = 16;

export class Transforms {
  readonly #path: string;
  readonly #steps: readonly Step[];
  /** Results that a step asks for by name: the others are not kept. */
  readonly #asked: ReadonlySet<string>;

  private constructor(path: string, steps: readonly Step[]) {
    this.#path = path;
    this.#steps = steps;
    this.#asked = new Set(steps.flatMap((step) => step.inputs));
  }

  /** @throws {UsageError} PD521 when the file is missing, or asks for what is not done here */
  static read(path: string): Transforms {
    let json: unknown;
    try {
      json = JSON.parse(readRegularText(path));
    } catch (error) {
      throw refused(path, `the file cannot be read: ${(error as Error).message}`, error);
    }
    const transforms = objectOf(objectOf(json)?.processor)?.transforms;
    if (!Array.isArray(transforms) || transforms.length === 0 || transforms.length > MOST_STEPS) throw refused(path, `processor.transforms is no list of 1 to ${MOST_STEPS} operations`);
    const steps = transforms.map((t: unknown) => stepOf(path, objectOf(objectOf(t)?.operation) ?? {}));
    if (steps.some(({ type }, i) => (type === 'DecodeImage') !== (i === 0))) throw refused(path, `pictures are decoded first, and once, and the operations are ${steps.map((step) => step.type).join(', ')}`);
    return new Transforms(path, steps);
  }

  /**
   * What the last operation makes of one picture (8 bits, RGB): its results, without an axis for pictures.
   *
   * @throws {UsageError} PD521 when operations do not fit together; {SampleFault} PD510 when the picture does not fit them
   */
  of(sample: string, picture: Picture, path: string): readonly HostTensor[] {
    const known = new Map<string, HostTensor>();
    let results: readonly HostTensor[] = [{ dtype: 'uint8', dims: [picture.height, picture.width, 3], data: rgb(picture) }];
    for (const [i, step] of this.#steps.entries()) {
      const before = results;
      try {
        results = step.run(i === 0 ? before : step.inputs.flatMap((spec) => found(spec, before, known)));
      } catch (error) {
        if (error instanceof UnfitPicture) throw badSample(sample, `operation "${step.name}" (${step.type}) of ${this.#path} cannot take ${path}: ${error.message}`, 'give another picture, or "inputs" that were made elsewhere', error);
        throw error instanceof NotFollowed ? refused(this.#path, `operation "${step.name}" (${step.type}): ${error.message}`, error) : error;
      }
      for (const [k, result] of results.entries()) if (this.#asked.has(`${step.name}:${k}`)) known.set(`${step.name}:${k}`, result);
    }
    return results;
  }
}

function stepOf(path: string, operation: Json): Step {
  const type = String(operation.type ?? '');
  const name = String(operation.name ?? type);
  const known = Object.hasOwn(OPERATIONS, type) ? OPERATIONS[type] : undefined;
  if (!known) throw refused(path, `operation "${name}": "${type}" is not done here (but ${Object.keys(OPERATIONS).join(', ')})`);
  const { inputs = [':*'] } = operation;
  try {
    if (!Array.isArray(inputs) || !inputs.every((spec) => typeof spec === 'string')) throw new NotFollowed('its inputs are no list of names');
    if (operation.attrs !== undefined && objectOf(operation.attrs) !== operation.attrs) throw new NotFollowed('its attributes are no object');
    const attributes = new Attributes(objectOf(operation.attrs) ?? {});
    const run = known(attributes);
    attributes.close();
    return { name, type, inputs, run };
  } catch (error) {
    throw error instanceof NotFollowed ? refused(path, `operation "${name}" (${type}): ${error.message}`, error) : error;
  }
}

function found(spec: string, before: readonly HostTensor[], known: ReadonlyMap<string, HostTensor>): readonly HostTensor[] {
  if (spec === ':*') return before;
  const tensor = spec.startsWith(':') ? before[Number(spec.slice(1))] : known.get(spec);
  if (!tensor) throw new NotFollowed(`its input "${spec}" is no result of an operation before it`);
  return [tensor];
}

/** Three channels a pixel: a grey one has the same in all. */
function rgb({ data, width, height, channels }: Picture): Uint8Array {
  if (channels === 3) return data;
  const out = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) out[i * 3 + c] = data[i * channels + Math.min(c, channels - 1)] as number;
  return out;
}

function refused(path: string, why: string, cause?: unknown): UsageError {
  return new UsageError(
    { code: 'PD521', message: `pictures cannot be prepared as onnxruntime-genai prepares them: ${why}`, culprit: path, hint: 'give samples with inputs of their own (docs/validate.md): embeddings that were made elsewhere, with input_ids' },
    cause === undefined ? undefined : { cause },
  );
}
