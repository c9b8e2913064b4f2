/** Checking JSON against the published schemas (schemas/*.schema.json). ajv is loaded when something is checked. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Ajv, ValidateFunction } from 'ajv';
import { UsageError } from '../diagnostics.js';
import { packageRoot } from './own-files.js';
import type { Plan } from '../plan/plan.js';

const load = createRequire(import.meta.url);
const compiled = new Map<string, ValidateFunction>();

/** References of one schema to another, relative to its id. */
const OTHER = /"\$ref": ?"([\w-]+)[#"]/g;

function textOf(name: string): string {
  return readFileSync(join(packageRoot(), 'schemas', `${name}.schema.json`), 'utf8');
}

/** Validator of schemas/<name>.schema.json. */
export function schemaOf(name: string): ValidateFunction {
  let validate = compiled.get(name);
  if (!validate) {
    const text = textOf(name);
    const { Ajv: AjvClass } = load('ajv') as { Ajv: typeof Ajv };
    const ajv = new AjvClass({ allErrors: false, strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false });
    for (const other of new Set([...text.matchAll(OTHER)].map((m) => m[1] as string))) ajv.addSchema(JSON.parse(textOf(other)) as object);
    validate = ajv.compile(JSON.parse(text) as object);
    compiled.set(name, validate);
  }
  return validate;
}

/** The most telling of a failed validation's errors: the deepest path. */
export function schemaComplaint(validate: ValidateFunction): string {
  const errors = [...(validate.errors ?? [])].sort((a, b) => b.instancePath.length - a.instancePath.length);
  const e = errors[0];
  if (!e) return 'does not match the schema';
  const extra = e.keyword === 'additionalProperties' ? ` ("${(e.params as { additionalProperty: string }).additionalProperty}")` : '';
  return `${e.instancePath || 'the document'} ${e.message ?? 'is wrong'}${extra}`;
}

/** @throws {UsageError} PD017 when `value` does not match the named schema. */
export function requireSchema<T>(name: string, value: unknown, culprit: string): T {
  const validate = schemaOf(name);
  if (!validate(value)) {
    throw new UsageError({
      code: 'PD017',
      message: `${culprit} is not a valid ${name}: ${schemaComplaint(validate)}`,
      culprit,
      hint: `see schemas/${name}.schema.json`,
    });
  }
  return value as T;
}

export function requirePlan(value: unknown, culprit: string): Plan {
  return requireSchema<Plan>('plan', value, culprit);
}
