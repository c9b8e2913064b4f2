/** What goes wrong while models run, as values. Exit code 4: the run itself failed, not a threshold and not the user's options. */
import { PdropError } from '../../diagnostics.js';

/** A session or a run failed; the message names the model, the sample and the tensor where they are known. */
export class RunFault extends PdropError {
  readonly exitCode = 4;
}

/** Something is wrong with one sample; others may still be good (`--keep-going`). */
export class SampleFault extends RunFault {}

/** Ctrl-C, after the sample at hand: exit code 130, as shells have it. */
export class Interrupted extends PdropError {
  readonly exitCode = 130;
  constructor(resumable: boolean) {
    super({
      code: 'PD530',
      message: 'interrupted',
      hint: resumable ? 'run the same command again to go on where it stopped' : 'with --report <file> an interrupted run can be resumed',
    });
  }
}

/** What was noted of a sample, as an error again. */
export function faultOf({ code, message, culprit, hint }: { readonly code: string; readonly message: string; readonly culprit?: string | undefined; readonly hint: string }): RunFault {
  return new RunFault({ code, message, culprit, hint });
}

export function missingInput(sample: string, tensor: string, shape: string): SampleFault {
  return new SampleFault({
    code: 'PD511',
    message: `sample ${sample}: the model input "${tensor}" ${shape} is not in the sample and cannot be derived from it`,
    culprit: tensor,
    hint: `add "${tensor}" to the sample (docs/validate.md lists what is derived when it is missing)`,
  });
}

export function wrongDtype(sample: string, tensor: string, got: string, want: string): SampleFault {
  return new SampleFault({
    code: 'PD512',
    message: `sample ${sample}: "${tensor}" is ${got}, the model takes ${want}`,
    culprit: tensor,
    hint: `store "${tensor}" as ${want}`,
  });
}

export function wrongShape(sample: string, tensor: string, got: readonly number[], want: string): SampleFault {
  return new SampleFault({
    code: 'PD513',
    message: `sample ${sample}: "${tensor}" has shape [${got.join(', ')}], the model takes ${want}`,
    culprit: tensor,
    hint: 'check that the sample was made for this model (hidden size, batch dimension, number of tokens)',
  });
}

export function notFinite(sample: string, tensor: string, model: string, count: number, total: number): SampleFault {
  return new SampleFault({
    code: 'PD514',
    message: `sample ${sample}: ${count} of ${total} values of the output "${tensor}" of ${model} are NaN or infinite`,
    culprit: tensor,
    hint: 'if the original model does it too, its input or precision is at fault (fp16 overflow is common); if only the rewritten one does, report it',
  });
}

export function badSample(sample: string, reason: string, hint: string, cause?: unknown): SampleFault {
  return new SampleFault({ code: 'PD510', message: `sample ${sample}: ${reason}`, culprit: sample, hint }, cause === undefined ? undefined : { cause });
}

export function badPicture(sample: string, path: string, reason: string, cause?: unknown, kinds = 'PNG, JPEG, WebP, GIF, TIFF or AVIF'): SampleFault {
  return new SampleFault({ code: 'PD520', message: `sample ${sample}: the picture ${path} cannot be read: ${reason}`, culprit: path, hint: `give a picture that exists, as ${kinds}` }, cause === undefined ? undefined : { cause });
}

const OUT_OF_MEMORY = /out of memory|bad_alloc|failed to allocate|allocation fail|ENOMEM|not enough memory|OUT_OF_MEMORY|exceeds? .*limit of .*memory/i;

/** Turns what ONNX Runtime threw into a fault with a way forward. */
export function runtimeFault(error: unknown, what: { readonly model: string; readonly provider: string; readonly sample?: string | undefined; readonly creating?: boolean }): RunFault {
  if (error instanceof RunFault) return error;
  const reason = firstLine((error as Error).message ?? String(error));
  const where = what.sample === undefined ? '' : `sample ${what.sample}: `;
  if (OUT_OF_MEMORY.test(reason)) {
    return new RunFault(
      {
        code: 'PD503',
        message: `${where}out of memory in ${what.model} on ${what.provider}: ${reason}`,
        culprit: what.sample ?? what.model,
        hint: 'use a shorter sample, a provider with more memory, or turn off --baselines and --latency (each holds a second model)',
      },
      { cause: error },
    );
  }
  if (what.creating) {
    return new RunFault(
      {
        code: 'PD501',
        message: `no session for ${what.model} on ${what.provider}: ${reason}`,
        culprit: what.model,
        hint: 'run `pdrop-compile doctor` to see which providers work here; check that external data lies beside the model',
      },
      { cause: error },
    );
  }
  const tensor = /(?:input|output|for|node)[: ]+(?:name:? ?)?['"]?([\w./:-]+)['"]?/i.exec(reason)?.[1];
  return new (what.sample === undefined ? RunFault : SampleFault)(
    {
      code: 'PD502',
      message: `${where}${what.model} failed on ${what.provider}: ${reason}`,
      culprit: tensor ?? what.sample ?? what.model,
      hint: 'try the same sample on --ep cpu; if only the rewritten model fails, report it with the output of `pdrop-compile inspect --json`',
    },
    { cause: error },
  );
}

function firstLine(text: string): string {
  const line = text.split('\n').find((l) => l.trim() !== '') ?? text;
  return line.length > 400 ? `${line.slice(0, 400)}…` : line;
}
