/** Does this browser compute what the machine computed that exported the file? */

import type { ModelFile } from './model-file';
import type { Recognizer } from './recognizer';

/** The difference of the confidence from the recorded one; undefined where none is recorded. */
export async function selftest({ about }: ModelFile, recognizer: Recognizer): Promise<number | undefined> {
  const recorded = about.selftest;
  if (!recorded || recognizer.ofSequences) return undefined;
  const expected = Math.max(...recorded.probabilities.flat());
  return Math.abs((await recognizer.transcribe(noise(recorded.samples))).confidence - expected);
}

/** Noise within -0.1..0.1, the same bits everywhere; export/README.md has its formula. */
function noise(samples: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length: samples }, () => {
    state = (Math.imul(1664525, state) + 1013904223) >>> 0;
    return ((state >>> 16) - 32768) / 327680;
  });
}
