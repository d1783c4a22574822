/** Sound as it comes -> answers to overlapping windows. As speechrnn/runtime/streaming.py has it. */

import { rounded } from './detector';
import type { Engine } from './engine';
import type { About, WindowConfig } from './model-file';

export interface Source {
  /** The answers that these samples, at the model's rate, complete. */
  feed(samples: Float32Array): Promise<Float32Array[]>;
  /** The answers that the end completes; nothing is fed behind it. */
  finish(): Promise<Float32Array[]>;
}

/** Of a model that needs the whole: overlapping windows, each answered to as it is full. */
export class Windows implements Source {
  private samples = new Float32Array(0);
  private dropped = 0;
  private windows = 0;
  private readonly length: number;

  constructor(
    private readonly engine: Engine,
    private readonly about: About,
    private readonly config: WindowConfig,
  ) {
    this.length = rounded(this.config.windowS * this.about.features.sample_rate_hz);
  }

  /** The next window's first sample among those that wait; rounding does not add up. */
  private get start(): number {
    return rounded(this.windows * this.config.hopS * this.about.features.sample_rate_hz) - this.dropped;
  }

  async feed(samples: Float32Array): Promise<Float32Array[]> {
    this.samples = joined(this.samples, samples);
    const answers = [];
    for (let start = this.start; start + this.length <= this.samples.length; start = this.start) {
      answers.push(await answerTo(this.engine, this.about, this.samples.slice(start, start + this.length)));
      this.windows++;
    }
    const done = Math.min(this.start, this.samples.length);
    this.samples = this.samples.slice(done);
    this.dropped += done;
    return answers;
  }

  async finish(): Promise<Float32Array[]> {
    return []; // what fills no window is not answered to
  }
}

/** The answer of a classifier to the whole of some samples: a probability for each label. */
export async function answerTo(engine: Engine, about: About, samples: Float32Array): Promise<Float32Array> {
  const answered = await engine.run(about.signature, { waveform: { data: samples, shape: [1, samples.length] } });
  return answered.probabilities!.data as Float32Array;
}

/** Samples, and those behind them. */
export function joined(one: Float32Array, other: Float32Array): Float32Array<ArrayBuffer> {
  const both = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
