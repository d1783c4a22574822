/** A model that hears: samples in, events out. */

import { Detector, type Heard, indexOfLargest } from './detector';
import { Engine } from './engine';
import { type About, type ModelFile, windowsOf } from './model-file';
import { Utterance, decode } from './sequences';
import { Stream } from './stream';
import { type Source, Windows, answerTo } from './windows';

export class Recognizer {
  threshold: number;
  private source!: Source;
  private detector!: Detector;
  private utterance!: Utterance;
  private unfilled = 0;

  private constructor(
    readonly about: About,
    readonly engine: Engine,
  ) {
    this.threshold = about.decision?.threshold ?? 0;
    this.reset();
  }

  static async open(file: ModelFile): Promise<Recognizer> {
    return new Recognizer(file.about, await Engine.open(file.model));
  }

  get rateHz(): number {
    return this.about.features.sample_rate_hz;
  }

  get ofSequences(): boolean {
    return this.about.output.name === 'log_probs';
  }

  /** The words so far of an utterance that goes on. */
  get soFar(): string {
    return this.utterance.text;
  }

  /** Forgets what was heard: the next samples begin anew. */
  reset(): void {
    const { streaming, steps } = this.about;
    const windows = windowsOf(this.about);
    const hopS = streaming ? streaming.chunk / streaming.steps / this.rateHz : windows.hopS;
    const windowS = streaming ? Math.max(1, streaming.pooled) * hopS : windows.windowS;
    const firstS = streaming ? (steps?.first_s ?? 0) - hopS / 2 : 0;
    this.source = streaming ? new Stream(this.engine, this.about) : new Windows(this.engine, this.about, windows);
    this.detector = new Detector(this.about.labels, windowS, hopS, firstS, windows);
    this.utterance = new Utterance(this.about, hopS);
    // The first answer that has all of its window is of so many steps.
    this.unfilled = streaming ? Math.max(0, streaming.pooled - 1) : 0;
  }

  /** The events that these samples complete, float32 within -1..1 at `rateHz`. */
  async feed(samples: Float32Array): Promise<Heard[]> {
    return this.events(await this.source.feed(samples));
  }

  /** The events that the end completes; the next samples begin anew. */
  async finish(): Promise<Heard[]> {
    const events = this.events(await this.source.finish());
    const last = this.utterance.end(this.threshold);
    this.reset();
    return last ? [...events, last] : events;
  }

  /** The answer to a recording as a whole; its text is empty where it is below the threshold. */
  async transcribe(samples: Float32Array): Promise<Heard> {
    const durationS = samples.length / this.rateHz;
    if (this.ofSequences) {
      const stream = new Stream(this.engine, this.about);
      const steps = [...(await stream.feed(samples)), ...(await stream.finish())];
      return decode(this.about, steps, durationS, this.threshold);
    }
    const probabilities = await answerTo(this.engine, this.about, samples);
    const best = indexOfLargest(probabilities);
    const confidence = probabilities[best]!;
    const text = confidence >= this.threshold ? this.about.labels[best]! : '';
    return { text, confidence, timeS: durationS / 2, spanS: [0, durationS] };
  }

  close(): void {
    this.engine.close();
  }

  private events(answers: Float32Array[]): Heard[] {
    const hearing = this.ofSequences ? this.utterance : this.detector;
    const filled = answers.slice(this.unfilled);
    this.unfilled -= answers.length - filled.length;
    return filled.map((answer) => hearing.push(answer, this.threshold)).filter((event) => event !== undefined);
  }
}
