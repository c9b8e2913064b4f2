/** All kinds of meaning-preserving mutations. `exact`: not a bit of any output may change. */
import { CONSTANTS } from './constants.mjs';
import { NOOPS } from './noops.mjs';
import { OPERANDS } from './operands.mjs';
import { PRODUCTS } from './products.mjs';
import { SHAPES } from './shapes.mjs';
import { STRUCTURE } from './structure.mjs';

export const KINDS = [...NOOPS, ...OPERANDS, ...CONSTANTS, ...SHAPES, ...PRODUCTS, ...STRUCTURE];
