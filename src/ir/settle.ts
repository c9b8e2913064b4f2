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
  const stack: { readonly key: K; step: Step<K, T> | undefined }[] = [{ key: start, step: undefined }];
  while (stack.length > 0) {
    const top = stack[stack.length - 1] as (typeof stack)[number];
    if (known.has(top.key)) {
      stack.pop();
      continue;
    }
    if (top.step === undefined) {
      top.step = step(top.key);
      const { needs } = top.step;
      for (let i = needs.length - 1; i >= 0; i--) if (!known.has(needs[i] as K)) stack.push({ key: needs[i] as K, step: undefined });
      if (stack[stack.length - 1] !== top || known.has(top.key)) continue;
    }
    known.set(top.key, top.step.make());
    stack.pop();
  }
  return known.get(start) as T;
}

/** A step that needs nothing. */
export function at<T>(make: () => T): Step<never, T> {
  return { needs: [], make };
}
