/** A graph as text: one node a line, names as they are, for people and for diff. */
import type { AttributeValue, Graph, Node, TensorType } from './graph.js';

export function printGraph(graph: Graph): string {
  const lines = [
    ...graph.inputs.map((v) => `input ${v.name}: ${printType(v.type)}`),
    ...graph.outputs.map((v) => `output ${v.name}: ${printType(v.type)}`),
    ...graph.nodes.map(printNode),
  ];
  return `${lines.join('\n')}\n`;
}

export function printNode(node: Node): string {
  const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
  const attributes = [...node.attributes].map(([k, a]) => `${k}=${printAttribute(a)}`).join(' ');
  return `${node.outputs.map((o) => o?.name ?? '_').join(', ')} = ${op}(${node.inputs.map((v) => v?.name ?? '_').join(', ')})${attributes ? ` {${attributes}}` : ''}`;
}

function printType(type: TensorType | undefined): string {
  return type ? `${type.elemType}[${type.dims?.map((d) => d ?? '?').join(', ') ?? '…'}]` : '?';
}

function printAttribute(a: AttributeValue): string {
  switch (a.kind) {
    case 'tensor':
      return `tensor[${a.value.dims.join(',')}]`;
    case 'graph':
      return `graph(${a.value.nodes.length} nodes)`;
    case 'other':
      return '…';
    default:
      return Array.isArray(a.value) ? `[${a.value.join(',')}]` : String(a.value);
  }
}
