/**
 * Nodes that have been decoded before. A compiler reads what it is about to write; most of its nodes are written as they were read,
 * byte for byte and in their order, and equal bytes need not be decoded twice.
 */
import { type Graph, Node } from '../ir/graph.js';
import type { DecodedNode } from './decode.js';
import type { NodeRecord } from './records.js';

export class KnownNodes {
  readonly #nodes: readonly Node[];
  #at = 0;

  /** @param graph whose nodes are asked for in their order */
  constructor(graph: Graph) {
    this.#nodes = graph.nodes;
  }

  /**
   * What the next record decodes to, with the record that the node was read from: its bytes are the same. Undefined where they are not, or
   * where `full` is not at hand.
   */
  take(full: Uint8Array | undefined): DecodedNode | undefined {
    const node = this.#nodes[this.#at++];
    const record = node?.record as NodeRecord | undefined;
    if (!node || !record || !full || !(record.full instanceof Uint8Array) || node.subgraphs.length > 0 || node.changedAttributes.size > 0) return undefined;
    if (!equal(full, record.full)) return undefined;
    const again = new Node(node.opType, node.domain, record.name, node.attributes);
    again.form = node.form;
    again.record = record;
    return { node: again, inputs: record.inputNames, outputs: record.outputNames, graphs: NO_GRAPHS };
  }
}

const NO_GRAPHS: DecodedNode['graphs'] = [];

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  // Node compares at once; a web page goes byte by byte.
  if (typeof Buffer !== 'undefined') return Buffer.compare(a, b) === 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
