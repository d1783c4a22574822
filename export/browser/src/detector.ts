/** Answers -> events: averaged, held against a threshold, silent for a while after each. */

import type { WindowConfig } from './model-file';

/** What was heard: a command, at the middle of its window; or an utterance, at its first word. */
export interface Heard {
  text: string;
  confidence: number;
  timeS: number;
  /** Begin and end of the window, or of the words. */
  spanS: [number, number];
}

// Windows that are averaged, as speechrnn/decoding/detect.py has it.
const SMOOTHING = 2;

/** Raises events from the answers to windows as they come. */
export class Detector {
  private readonly recent: Float32Array[] = [];
  private readonly smoothing: number;
  private readonly silent: number;
  private windows = 0;
  private quietBefore = 0;

  constructor(
    private readonly labels: string[],
    private readonly windowS: number,
    private readonly hopS: number,
    private readonly firstS: number,
    windows: WindowConfig,
  ) {
    this.smoothing = Math.max(1, rounded((SMOOTHING * windows.hopS) / hopS));
    // A word stays in windows for as long as one is, and in means of them for a hop longer.
    this.silent = Math.max(1, Math.ceil((windows.windowS + (SMOOTHING - 1) * windows.hopS) / hopS - 1e-9));
  }

  push(probabilities: Float32Array, threshold: number): Heard | undefined {
    this.recent.push(probabilities);
    if (this.recent.length > this.smoothing) this.recent.shift();
    const window = this.windows++;
    const sum = (label: number) => this.recent.reduce((all, answer) => all + answer[label]!, 0);
    const mean = this.labels.map((_, label) => sum(label) / this.recent.length);
    const best = indexOfLargest(mean);
    const [text, confidence] = [this.labels[best]!, mean[best]!];
    if (window < this.quietBefore || !(confidence >= threshold) || !isCommand(text)) return undefined;
    this.quietBefore = window + this.silent;
    const beginS = this.firstS + window * this.hopS;
    const spanS: [number, number] = [beginS, beginS + this.windowS];
    return { text, confidence, timeS: Math.max(0, beginS + this.windowS / 2), spanS };
  }
}

/** Whether a label may raise an event: `_silence_` and `_unknown_` are no commands. */
export function isCommand(label: string): boolean {
  return !(label.startsWith('_') && label.endsWith('_'));
}

/** To the nearest whole number, halves to the even one, as Python and IEEE 754 round. */
export function rounded(value: number): number {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

export function indexOfLargest(values: ArrayLike<number>): number {
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index]! > values[best]!) best = index;
  return best;
}
