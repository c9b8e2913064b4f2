/** Which token ids stand for an image. */

/**
 * One id, or all that are negative: the processor of Phi-3-vision, and onnxruntime-genai's for it, put −1 for each token of the first
 * picture, −2 for the second.
 */
export type ImageTokenId = number | 'negative';

/** Whether `token` stands for an image. */
export function isImageToken(id: ImageTokenId, token: number): boolean {
  return id === 'negative' ? token < 0 : token === id;
}

/** A token that stands for an image. */
export function anImageToken(id: ImageTokenId): number {
  return id === 'negative' ? -1 : id;
}

/** A token that does not. */
export function anotherToken(id: ImageTokenId): number {
  return id === 'negative' ? 0 : id > 0 ? id - 1 : 1;
}
