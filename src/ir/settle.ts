/** Results that are made of others' results, along chains that may be as long as the graph. */

/** What must be known first, in order, and how the result is made then. */
export interface Step<K, T> {
  readonly needs: readonly K[];
  readonly make: () => T;
}

/**
 * The result for `start`, kept in `known` with everything it needs. What recursion would make is made in the same order, but
 * on a list: the stack ends at some ten thousand calls.
 *
 * @param step asked once for each key, when it is its turn; its `make` may put other results into `known` too
 */
export function settle<K, T>(start: K, known: Map<K, T>, step: (key: K) => Step<K, T>): T {
  if (known.has(start)) return known.get(start) as T;
  const stack: { readonly key: K; step?: Step<K, T> }[] = [{ key: start }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    if (known.has(top.key)) stack.pop();
    else if (top.step) {
      known.set(top.key, top.step.make());
      stack.pop();
    } else {
      top.step = step(top.key);
      for (let i = top.step.needs.length - 1; i >= 0; i--) {
        const key = top.step.needs[i] as K;
        if (!known.has(key)) stack.push({ key });
      }
    }
  }
  return known.get(start) as T;
}

/** A step that needs nothing. */
export function at<T>(make: () => T): Step<never, T> {
  return { needs: [], make };
}
