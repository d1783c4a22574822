/** Log-probabilities of a CTC model, a row a step -> what was said. Column 0 is the blank. */

import { type Heard, indexOfLargest, rounded } from './detector';
import type { About } from './model-file';

// An utterance ends after so long a pause, or when it becomes as long as that.
const PAUSE_S = 1.0;
const LONGEST_S = 60.0;
const MOST_LOG_ODDS = 30.0;

/** Steps of a stream until a pause ends them; what is no speech before is forgotten. */
export class Utterance {
  private readonly pause: number;
  private readonly longest: number;
  private before = 0;
  private steps: Float32Array[] = [];
  private ids: number[] = [];
  private last = 0;
  private blanks = 0;

  constructor(
    private readonly about: About,
    private readonly stepS: number,
  ) {
    this.pause = rounded(PAUSE_S / stepS);
    this.longest = rounded(LONGEST_S / stepS);
  }

  /** What the best path says so far. */
  get text(): string {
    return spelled(this.about, this.ids).join(' ');
  }

  /** The utterance, if this step ends it. */
  push(step: Float32Array, threshold: number): Heard | undefined {
    this.steps.push(step);
    const best = indexOfLargest(step);
    if (best !== 0 && best !== this.last) this.ids.push(best);
    this.last = best;
    this.blanks = best === 0 ? this.blanks + 1 : 0;
    if (!this.ids.length) {
      if (this.steps.length > this.pause) {
        this.steps.shift();
        this.before++;
      }
      return undefined;
    }
    return this.blanks >= this.pause || this.steps.length >= this.longest ? this.end(threshold) : undefined;
  }

  /** The utterance so far, if anything was said. */
  end(threshold: number): Heard | undefined {
    const { steps, ids } = this;
    const firstS = this.before * this.stepS;
    this.before += steps.length;
    [this.steps, this.ids, this.last, this.blanks] = [[], [], 0, 0];
    if (!ids.length) return undefined;
    const heard = decode(this.about, steps, (steps.length + 1) * this.stepS, threshold);
    const [beginS, endS] = heard.spanS;
    return { ...heard, timeS: heard.text ? firstS + heard.timeS : 0, spanS: [firstS + beginS, firstS + endS] };
  }
}

/** The best path's words, its confidence, and where its first word begins. */
export function decode(about: About, steps: Float32Array[], durationS: number, threshold: number): Heard {
  const path = bestPath(steps, about.decision?.symbol_cost ?? 0);
  const begins = path.flatMap((column, step) => (column !== 0 && column !== path[step - 1] ? [step] : []));
  const ids = begins.map((step) => path[step]!);
  const confidence = confidenceOf(logLikelihood(steps, ids), about.decision?.utterance_confidence ?? [1, 0]);
  if (confidence < threshold || !ids.length) return { text: '', confidence, timeS: 0, spanS: [0, durationS] };
  const { first_s, step_s } = about.steps!;
  const [before, behind] = about.decision?.word_edges ?? [0, 0];
  const at = (step: number, more: number) =>
    Math.min(Math.max(0, first_s + (step - 0.5) * step_s + more), durationS);
  const timeS = at(begins[0]!, before);
  const end = at(path.findLastIndex((column) => column !== 0) + 1, behind);
  return { text: spelled(about, ids).join(' '), confidence, timeS, spanS: [timeS, Math.max(timeS, end)] };
}

/** A column for each step: the most probable path, less a cost for each symbol that begins. */
export function bestPath(steps: Float32Array[], cost: number): number[] {
  const columns = steps[0]?.length ?? 0;
  const entry = Array.from({ length: columns }, (_, column) => (column ? cost : 0));
  let score: number[] = [];
  const from = steps.map((step, number) => {
    const before = score.length ? indexOfLargest(score) : -1;
    const stays = entry.map((price, column) => before < 0 || score[column]! >= score[before]! - price);
    const came = entry.map((price, column) => (before < 0 ? -price : stays[column] ? score[column]! : score[before]! - price));
    score = came.map((value, column) => value + step[column]!);
    return stays.map((stay, column) => (stay || number === 0 ? column : before));
  });
  const path = new Array<number>(steps.length);
  let column = score.length ? indexOfLargest(score) : 0;
  for (let step = steps.length - 1; step >= 0; step--) {
    path[step] = column;
    column = from[step]![column]!;
  }
  return path;
}

/** The natural logarithm of the symbols' probability over all paths (Graves et al. 2006). */
export function logLikelihood(steps: Float32Array[], ids: number[]): number {
  const columns = [0, ...ids.flatMap((id) => [id, 0])];
  let forward = columns.map((_, place) => (place ? -Infinity : 0));
  for (const step of steps) {
    const before = forward;
    forward = columns.map((column, place) => {
      const skips = place > 2 && column !== 0 && column !== columns[place - 2];
      const ways = logAdd(before[place]!, place ? before[place - 1]! : -Infinity);
      return logAdd(ways, skips ? before[place - 2]! : -Infinity) + step[column]!;
    });
  }
  return logAdd(forward.at(-1)!, ids.length ? forward.at(-2)! : -Infinity);
}

function logAdd(one: number, other: number): number {
  const most = Math.max(one, other);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(-Math.abs(one - other)));
}

/** The probability of being right, from slope and offset of log-odds. */
function confidenceOf(logProbability: number, [slope, offset]: [number, number]): number {
  const given = Math.min(logProbability, -1e-13);
  const odds = given - Math.log(-Math.expm1(given));
  return 1 / (1 + Math.exp(-(slope * Math.min(Math.max(odds, -MOST_LOG_ODDS), MOST_LOG_ODDS) + offset)));
}

/** The words that symbols, counted from 1, spell: each is one, or letters with `|` between. */
function spelled(about: About, ids: number[]): string[] {
  const symbols = ids.map((id) => about.labels[id - 1]!);
  if (about.head.symbols !== 'characters') return symbols;
  return symbols.join('').normalize('NFC').split('|').filter(Boolean);
}
