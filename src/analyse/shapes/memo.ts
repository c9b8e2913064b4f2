/**
 * Layers repeat, and an op gives equal facts of equal facts. Within an evaluation equal facts are one object, and what a form (op and
 * attributes) has given of facts is remembered: of a decoder's layers only the first is worked out.
 */
import type { AttributeValue, Node } from '../../ir/graph.js';
import { Call, type HandlerTable } from './call.js';
import { ConstantFact } from './constant-fact.js';
import type { Known } from './lanes.js';
import type { Fact } from './types.js';

export type Handler = HandlerTable[string];

/** Up to how many inputs are followed. */
const MOST_INPUTS = 16;
/** Contents of up to this many elements are part of a key; larger ones are hashed and compared. */
export const MOST_ELEMENTS = 32;

/** So many facts of one key are told apart. */
const MOST_ALIKE = 8;

/** What a node makes of facts: its op's handler, and its attributes. */
export class Form {
  constructor(
    readonly handler: Handler,
    /** Nodes of this form are interchangeable. */
    readonly shared: boolean,
    /** What every node of this form gives: a small constant. */
    readonly fixed?: Fact | undefined,
  ) {}
}

/** Keeps what many graphs have in common; emptied when it is too much, which costs only sharing. */
class Pool<T> {
  private readonly known = new Map<string, T>();

  get(key: string, make: () => T): T {
    let found = this.known.get(key);
    if (found === undefined) {
      if (this.known.size >= 4096) this.known.clear();
      found = make();
      this.known.set(key, found);
    }
    return found;
  }
}

const forms = new Pool<Form>();
const constants = new Pool<Form>();

/** The form of a node, kept with it; null when there is no handler. */
export function formOf(node: Node, handlerOf: (node: Node) => Handler | undefined): Form | null {
  if (node.form === undefined) node.form = findForm(node, handlerOf);
  return node.form as Form | null;
}

function findForm(node: Node, handlerOf: (node: Node) => Handler | undefined): Form | null {
  const handler = handlerOf(node);
  if (handler === undefined) return null;
  const { attributes, opType, inputs, outputs } = node;
  // By op, kept with what nodes share: a weak map of so many is gone through in every collection of garbage.
  attributes.forms ??= new Map<string, Form>();
  const ofThese = attributes.forms as Map<string, Form>;
  const constant = outputs.length === 1 && node.is('Constant');
  const followed = inputs.length > 0 && inputs.length <= MOST_INPUTS;
  // There is a handler, so neither name holds a separator.
  const op = node.domain === '' && outputs.length === 1 && (followed || constant) ? opType : `${node.domain}:${opType}:${outputs.length}:${followed}`;
  let form = ofThese.get(op);
  if (form === undefined) {
    form = constant ? decodedForm(node, handler) : newForm(op, followed ? signatureOf(attributes) : undefined, handler);
    ofThese.set(op, form);
  }
  return form;
}

/** @param signature undefined where nodes of the form are not interchangeable */
function newForm(op: string, signature: string | undefined, handler: Handler): Form {
  return signature === undefined ? new Form(handler, false) : forms.get(`${op}${signature}`, () => new Form(handler, true));
}

function decodedForm(node: Node, handler: Handler): Form {
  const fact = handler(new Call(node, [], { integers: MOST_ELEMENTS, floats: MOST_ELEMENTS }, () => undefined)) as Fact;
  const key = fact.data && keyOf(fact);
  return key ? constants.get(key, () => new Form(handler, false, fact)) : new Form(handler, false);
}

/** Undefined where an attribute is a tensor or a graph. */
function signatureOf(attributes: ReadonlyMap<string, AttributeValue>): string | undefined {
  let signature = '';
  for (const [name, { kind, value }] of attributes) {
    if (kind === 'tensor' || kind === 'graph' || kind === 'other') return undefined;
    const text = typeof value === 'object' ? (value.length > MOST_ELEMENTS ? undefined : JSON.stringify(value.map(exact))) : kind === 'string' ? JSON.stringify(value) : exact(value);
    if (text === undefined) return undefined;
    signature += `,${name.length}:${name}:${kind}:${text}`;
  }
  return signature;
}

function exact(value: string | number | bigint): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/** What a form has given, by the facts it was given, one after another. Most steps have one next step. */
export class Step {
  results: readonly (Known | undefined)[] | undefined;
  private key: Known | null | undefined;
  private only: Step | undefined;
  private others: Map<Known | null, Step> | undefined;

  /** The step for the next input; null is an input that is not connected. */
  next(fact: Known | null): Step {
    if (this.only === undefined) {
      this.key = fact;
      this.only = new Step();
      return this.only;
    }
    if (this.key === fact) return this.only;
    this.others ??= new Map();
    let step = this.others.get(fact);
    if (step === undefined) {
      step = new Step();
      this.others.set(fact, step);
    }
    return step;
  }
}

/** What forms have given. */
export class Steps {
  private readonly firsts = new Map<Form, Step>();

  start(form: Form): Step {
    let step = this.firsts.get(form);
    if (step === undefined) {
      step = new Step();
      this.firsts.set(form, step);
    }
    return step;
  }
}

/** Facts of evaluations with the same limits, equal ones the same object, and what forms gave of those of one lane. */
export class Memo {
  readonly alone = new Steps();
  private readonly facts = new Map<string, Fact>();
  /** Facts with many elements, which have a key in common now and then. */
  private readonly large = new Map<string, Fact[]>();

  /** The one object for all facts that say what this one says. */
  one(fact: Fact): Fact {
    const key = fact instanceof ConstantFact ? fact.key(keyOf) : keyOf(fact);
    if (key === null) return fact;
    if (key.includes('#')) return this.oneOfLarge(key, fact);
    const known = this.facts.get(key);
    if (known !== undefined) return known;
    this.facts.set(key, fact);
    return fact;
  }

  private oneOfLarge(key: string, fact: Fact): Fact {
    const alike = this.large.get(key);
    if (alike === undefined) {
      this.large.set(key, [fact]);
      return fact;
    }
    for (let i = 0; i < alike.length; i++) if (sameElements(alike[i] as Fact, fact)) return alike[i] as Fact;
    // A graph may make as many as it likes that differ where nobody looks.
    if (alike.length < MOST_ALIKE) alike.push(fact);
    return fact;
  }
}

/** What a fact says, in full, or with a hash of many elements; null when it cannot be told from another. */
function keyOf(fact: Fact): string | null {
  const { shape } = fact;
  // An initializer's contents are decoded when asked for, and never for this where they are many.
  if (fact instanceof ConstantFact && fact.holdsData && fact.elementCount > MOST_ELEMENTS) return null;
  const { data, partial } = fact;
  let key = `${fact.dtype}`;
  if (shape === null) key += '?';
  else for (let i = 0; i < shape.length; i++) key += shape[i] === null ? ',?' : `,${shape[i]}`;
  const elements = data ?? partial;
  if (elements === undefined) return key;
  key += data ? ';' : ':';
  if (elements.length > MOST_ELEMENTS) return `${key}#${hashOf(elements)}`;
  for (let i = 0; i < elements.length; i++) {
    const e = elements[i] as number;
    // Written alike, and not the same.
    if (e === 0 && Object.is(e, -0)) return null;
    key += `${e},`;
  }
  return key;
}

/** Of some of the elements, spread over all of them: contents are compared where it is the same. */
function hashOf(elements: readonly number[]): number {
  const step = (elements.length >> 5) | 1;
  let hash = elements.length;
  for (let i = 0; i < elements.length; i += step) hash = (hash * 31 + (((elements[i] as number) * 4096) | 0)) | 0;
  return hash;
}

function sameElements(a: Fact, b: Fact): boolean {
  const x = a.data ?? a.partial;
  const y = b.data ?? b.partial;
  if (x === y) return true;
  if (x?.length !== y?.length) return false;
  for (let i = 0; x && i < x.length; i++) {
    const p = x[i] as number;
    // Numbers that are alike and not 0 are the same; of the rest `Object.is` knows −0 and NaN.
    if ((p !== y?.[i] || p === 0) && !Object.is(p, y?.[i])) return false;
  }
  return true;
}
