/** Sound as it comes -> answers of a file that carries its state (`speechrnn export --streaming`). */

import type { Engine, Values } from './engine';
import type { About } from './model-file';
import { type Source, joined } from './windows';

// More frames than are counted, until the end is known; and how far calls are counted.
const ENDLESS = 2 ** 30;
const MOST_CALLS = 2 ** 16;

/** The answers of `speechrnn/runtime/streaming.py`, call by call; export/README.md has the tensors. */
export class Stream implements Source {
  private readonly streaming: NonNullable<About['streaming']>;
  private waiting = new Float32Array(0);
  private carried: Record<string, Values> = {};
  private begun = false;
  private position = 0;
  private heard = 0;
  private forgotten = 0;

  constructor(
    private readonly engine: Engine,
    private readonly about: About,
  ) {
    this.streaming = about.streaming!;
  }

  async feed(samples: Float32Array): Promise<Float32Array[]> {
    this.heard += samples.length;
    this.waiting = joined(this.waiting, samples);
    if (!this.begun && this.waiting.length < this.streaming.context) return [];
    this.begin();
    const answers = [];
    while (this.waiting.length >= this.streaming.chunk) answers.push(...(await this.answer(ENDLESS)));
    return answers;
  }

  async finish(): Promise<Float32Array[]> {
    const { chunk, context, steps, frames } = this.streaming;
    if (!this.heard) return [];
    const hop = chunk / frames;
    const total = 1 + Math.floor(Math.max(0, this.heard - context - hop) / hop) - this.forgotten * frames;
    const last = Math.ceil((total * steps) / frames);
    this.waiting = joined(this.waiting, new Float32Array(context + chunk));
    this.begin();
    const answers = [];
    while (this.firstStep() < last) {
      if (this.waiting.length < chunk) this.waiting = joined(this.waiting, new Float32Array(chunk));
      const made = await this.answer(total);
      answers.push(...made.slice(0, made.length - Math.max(0, this.firstStep() - last)));
    }
    return answers;
  }

  private begin(): void {
    if (this.begun) return;
    const { context, states } = this.streaming;
    this.carried = { samples: { data: this.waiting.slice(0, context), shape: [1, context] } };
    states.forEach((shape, number) => {
      this.carried[`state_${number}`] = { data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape };
    });
    this.waiting = this.waiting.slice(context);
    this.begun = true;
  }

  /** The step that the next call begins with. */
  private firstStep(): number {
    return this.position * this.streaming.steps + this.streaming.first_step;
  }

  private async answer(frames: number): Promise<Float32Array[]> {
    const { signature, chunk } = this.streaming;
    const first = this.firstStep();
    const answered = await this.engine.run(signature, {
      waveform: { data: this.waiting.slice(0, chunk), shape: [1, chunk] },
      position: { data: Int32Array.of(this.position), shape: [] },
      num_frames: { data: Int32Array.of(frames), shape: [] },
      ...this.carried,
    });
    this.waiting = this.waiting.slice(chunk);
    if (frames === ENDLESS && this.position >= MOST_CALLS) this.forgotten++;
    else this.position++;
    for (const name of Object.keys(this.carried)) this.carried[name] = answered[name]!;
    const { data, shape } = answered[this.about.output.name]!;
    return rows(data as Float32Array, shape.at(-1)!).slice(Math.max(0, -first));
  }
}

function rows(values: Float32Array, columns: number): Float32Array[] {
  return Array.from({ length: values.length / columns }, (_, row) => values.slice(row * columns, (row + 1) * columns));
}
