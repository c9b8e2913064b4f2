/** JSON Schemas of this package, compiled once. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv, type ValidateFunction } from 'ajv';

/** Folder of package.json, from the sources as well as from dist/. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}

const compiled = new Map<string, ValidateFunction>();

/** Validator of schemas/<name>.schema.json. */
export function schemaOf(name: string): ValidateFunction {
  let validate = compiled.get(name);
  if (!validate) {
    const text = readFileSync(join(packageRoot(), 'schemas', `${name}.schema.json`), 'utf8');
    validate = new Ajv({ allErrors: false, strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false }).compile(JSON.parse(text));
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
