/** Writes docs/errors.md from the codes in the source: `npm run errors`. */
import { writeFileSync } from 'node:fs';
import { errorsPage } from '../dist/src/cli/codes.js';

writeFileSync(new URL('../docs/errors.md', import.meta.url), errorsPage());
console.log('errors: docs/errors.md is up to date');
