/**
 * What can go wrong, as values: a user error (exit 2), a refusal of the model (exit 3), an internal bug (exit 70).
 * Every one carries a code, the culprit, the reason and a way forward.
 */

export interface DiagnosticDetail {
  /** Stable identifier, e.g. `PD301`. */
  readonly code: string;
  /** One sentence: what is wrong. */
  readonly message: string;
  /** The node, value, file or option at fault. */
  readonly culprit?: string | undefined;
  /** What the user can do about it. */
  readonly hint: string;
}

/** Common base; `exitCode` is what the command line exits with. */
export abstract class PdropError extends Error {
  abstract readonly exitCode: number;
  readonly code: string;
  readonly culprit: string | undefined;
  readonly hint: string;
  constructor(detail: DiagnosticDetail, options?: ErrorOptions) {
    super(detail.message, options);
    this.name = new.target.name;
    this.code = detail.code;
    this.culprit = detail.culprit;
    this.hint = detail.hint;
  }
  toJSON(): DiagnosticDetail {
    return { code: this.code, message: this.message, culprit: this.culprit, hint: this.hint };
  }
}

/** Wrong options, unreadable or unwritable paths: exit code 2. */
export class UsageError extends PdropError {
  readonly exitCode = 2;
}

/** The model cannot be compiled as asked: exit code 3. */
export class Refusal extends PdropError {
  readonly exitCode = 3;
}

/** Our fault: exit code 70. */
export class InternalError extends PdropError {
  readonly exitCode = 70;
  constructor(message: string, culprit?: string, options?: ErrorOptions) {
    super(
      {
        code: 'PD900',
        message,
        culprit,
        hint: 'this is a bug in pdrop-compile: run again with PDROP_DEBUG=1 and report the output with `pdrop-compile inspect --json` of the model',
      },
      options,
    );
  }
}

/** How a node is called in messages: its name, or its first output's, and its op. */
export function describeNode(node: { readonly name: string; readonly opType: string; readonly domain: string; readonly outputs: readonly ({ readonly name: string } | null)[] }): string {
  const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
  const label = node.name || node.outputs.find((o) => o !== null)?.name || '(unnamed)';
  return `${op} "${label}"`;
}
