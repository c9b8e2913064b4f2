/**
 * A kind of rewriting one node: `accept` says which, `make` gives the nodes that stand for it, or nothing.
 *
 * @param exact the same numbers, bit for bit
 */
export const rewrite = (name, accept, make, exact = false) => ({
  name,
  exact,
  apply(s) {
    const node = s.pickNode((n) => accept(n, s));
    const nodes = node && make(s, node);
    if (!nodes) return undefined;
    s.replace(node, nodes);
    return s.describe(node);
  },
});
