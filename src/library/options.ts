/** Options of the library's `compile` and `compileFolder`. */
import type { ExternalDataMode } from '../disk/external-files.js';
import type { FolderOptions } from '../folder/compile-folder.js';
import type { Runtime } from '../folder/layout.js';
import type { MarksProof } from '../marks/prove.js';
import type { Plan } from '../plan/plan.js';
import type { PlanOptions } from '../plan/options.js';
import type { RewriteOptions } from '../rewrite/rewrite.js';

/** Options of `compile`; planning options keep their command-line names. */
export interface CompileOptions extends PlanOptions, RewriteOptions {
  /** Output path. Default: `<input>.pdrop.onnx` beside the input. */
  readonly output?: string | undefined;
  /** Where external data goes. Default `auto`. */
  readonly externalData?: ExternalDataMode | undefined;
  /** Replace existing files. Default false. */
  readonly force?: boolean | undefined;
  /** Follow links of external data out of the model's folder. Default false. */
  readonly allowExternalLinks?: boolean | undefined;
  /** Where the report goes, as JSON; in place together with the model, or not at all. */
  readonly report?: string | undefined;
  /** Files that were read for these options: an output may not replace them. */
  readonly alsoReads?: readonly string[] | undefined;
  /** Do everything but write. Default false. */
  readonly dryRun?: boolean | undefined;
  /** A plan, or the path of a plan file, to replay instead of making one. */
  readonly plan?: Plan | string | undefined;
  /** For `marks`: the embedding graph they are proved against. Default: the only one beside the decoder. */
  readonly embed?: string | undefined;
  /** For `marks`: the vision encoder that puts them on. Default: the only one beside the decoder. */
  readonly vision?: string | undefined;
  /** Where the marked vision encoder goes. Default: `<vision>.pdrop.onnx` beside it. */
  readonly visionOutput?: string | undefined;
  /** Image tokens of the prompt that costs are reported for. Default: what the config beside the model says, else 576. */
  readonly imageTokens?: number | undefined;
  /** Text tokens of that prompt. Default 64. */
  readonly textTokens?: number | undefined;
  /** What the result runs in. Default `generic`; `transformers.js` marks image tokens in band. */
  readonly runtime?: Runtime | undefined;
  /** Marks that are proved already, against all the tables of a folder: the vision encoder is someone else's business then. */
  readonly proved?: MarksProof | undefined;
  /** Run the vision encoder before and after marking, and report what changed. Default true; needs onnxruntime-node. */
  readonly measure?: boolean | undefined;
  /** From which file size on the weights are copied while the graph is compiled. Default 256 MiB. */
  readonly copyFirstBytes?: number | undefined;
  /** Bytes written so far and in all, for long copies. */
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** Options of `compileFolder`. */
export interface CompileFolderOptions extends Omit<CompileOptions, 'embed' | 'vision' | 'visionOutput' | 'proved' | 'plan' | 'output'>, Pick<FolderOptions, 'only' | 'runtime'> {
  /** The output folder. Default: `<folder>-pdrop` beside the input. */
  readonly output?: string | undefined;
  readonly plan?: Plan | string | undefined;
}
