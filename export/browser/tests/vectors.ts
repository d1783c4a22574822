/** export/vectors: what the Python runtime answers. */

import { readFileSync } from 'node:fs';
import { VECTORS } from './site';

export interface Vector {
  model: string;
  sound: string;
  samples: number;
  probabilities?: number[];
  log_probs?: number[][];
  text: string;
  confidence: number;
  threshold?: number;
  chunks?: number[];
  events?: { text: string; time_s: number; confidence: number }[];
}

const document = JSON.parse(readFileSync(`${VECTORS}vectors.json`, 'utf8')) as {
  models: Record<string, { file: string }>;
  vectors: Vector[];
};

export const MODELS_OF_VECTORS = document.models;
export const ALL = document.vectors;
export const STREAMED = ALL.filter((vector) => vector.events);
// Another WebAssembly, another order of sums. Where products quantise what comes in, a value between two
// integers is now and then rounded to the other one: 2.4e-3 in one of 16 vectors, the others within 2e-3.
export const TOLERANCE = 5e-3;
